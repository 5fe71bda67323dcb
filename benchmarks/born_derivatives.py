"""Energy of the Born model with second derivatives, for ions that stay near the sites of a host.

Energies are those of the labeler's model to 1e-7 eV a cell. Pairs are those of ideal sites, found
once, and are summed by compiled code (numba); second derivatives of the reciprocal sum are taken
from a geometry nearby.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product
from math import cos, exp, pi, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.interpolate import CubicHermiteSpline

from al_charge.crystal.configuration import Configuration, species_of
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.species import charge_of
from al_charge.errors import AlChargeError
from al_charge.labelers.born import ewald
from al_charge.labelers.born.ewald import COULOMB
from al_charge.labelers.born.model import BornModel, Evaluation
from al_charge.labelers.born.parameters import (
    CHARGE_SCALE,
    PAIRS,
    SHORT_RANGE_CUTOFF,
)
from al_charge.labelers.born.short_range import pair_term

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SPLITTING = ewald.Splitting(real_cutoff=9.0, reach=4.5)
"""Neglects some 1e-9 of the interaction of neighbours, and takes a quarter of the wave vectors."""
STRETCHED = 1.02
"""Cut-off of wave vectors in the ideal cell over that of the splitting: relaxed cells differ."""
NEAREST, SPACING = 0.8, 0.004
"""Distances from which on pairs are tabulated, and how densely, angstrom."""
STIFF = 6.0
"""Pairs that are farther apart, angstrom, hardly add to second derivatives."""
SKIN = 0.6
"""Pairs up to so much beyond the cut-off on ideal sites are looked at, angstrom."""
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@njit(cache=True, fastmath=True)
def real_space(positions, images, kinds, pairs, table, cutoff, hessian):
    """Return energy, gradient and virial of all pairs; add second derivatives to ``hessian``.

    ``pairs`` are first site, second site and the image of the second; ``table`` has cubics of every
    two kinds. ``hessian`` is of displacements and then Voigt strains, (3 n + 6) squared, or empty.
    """
    n = len(positions)
    second = len(hessian) > 0
    energy = 0.0
    gradient, virial = np.zeros((n, 3)), np.zeros((3, 3))
    r, block, pull = np.zeros(3), np.zeros((3, 3)), np.zeros((6, 3))
    for p in range(len(pairs)):
        i, j = pairs[p, 0], pairs[p, 1]
        if kinds[i] < 0 or kinds[j] < 0:
            continue
        square = 0.0
        for a in range(3):
            r[a] = positions[j, a] - positions[i, a] + images[pairs[p, 2], a]
            square += r[a] * r[a]
        if square >= cutoff * cutoff:
            continue
        d = sqrt(square)
        place = (d - NEAREST) / SPACING
        if place < 0.0:
            return np.inf, gradient, virial
        cubic = table[kinds[i], kinds[j], int(place)]
        t = (place - int(place)) * SPACING
        energy += cubic[3] + t * (cubic[2] + t * (cubic[1] + t * cubic[0]))
        pulled = (cubic[2] + t * (2.0 * cubic[1] + t * 3.0 * cubic[0])) / d
        curve = 2.0 * cubic[1] + t * 6.0 * cubic[0]
        for a in range(3):
            gradient[j, a] += pulled * r[a]
            gradient[i, a] -= pulled * r[a]
            for b in range(3):
                virial[a, b] += pulled * r[a] * r[b]
        if not second or d > STIFF:
            continue
        for a in range(3):
            for b in range(3):
                block[a, b] = (curve - pulled) * r[a] * r[b] / square
            block[a, a] += pulled
        for a in range(3):
            for b in range(3):
                hessian[3 * i + a, 3 * i + b] += block[a, b]
                hessian[3 * j + a, 3 * j + b] += block[a, b]
                hessian[3 * i + a, 3 * j + b] -= block[a, b]
                hessian[3 * j + b, 3 * i + a] -= block[a, b]
            # How the vector changes with each strain, through the block.
            for c in range(3):
                pull[c, a] = r[c] * block[a, c]
            pull[3, a] = r[1] * block[a, 2] + r[2] * block[a, 1]
            pull[4, a] = r[0] * block[a, 2] + r[2] * block[a, 0]
            pull[5, a] = r[0] * block[a, 1] + r[1] * block[a, 0]
        for w in range(6):
            for a in range(3):
                hessian[3 * j + a, 3 * n + w] += pull[w, a]
                hessian[3 * i + a, 3 * n + w] -= pull[w, a]
                hessian[3 * n + a, 3 * n + w] += r[a] * pull[w, a]
            hessian[3 * n + 3, 3 * n + w] += r[1] * pull[w, 2] + r[2] * pull[w, 1]
            hessian[3 * n + 4, 3 * n + w] += r[0] * pull[w, 2] + r[2] * pull[w, 0]
            hessian[3 * n + 5, 3 * n + w] += r[0] * pull[w, 1] + r[1] * pull[w, 0]
    return energy, gradient, virial


@njit(cache=True, fastmath=True)
def wave_space(fractional, reciprocal, volume, charges, waves, most, alpha):
    """Return energy, gradient and virial of the reciprocal sum, as `ewald.reciprocal_space`.

    ``waves`` are integer multiples of the reciprocal vectors, one of every two that are opposite,
    those with the same first and second next to each other.
    """
    n = len(charges)
    # Phases along the three axes by multiple and ion, multiples from -most to most.
    real, imag = np.ones((3, 2 * most + 1, n)), np.zeros((3, 2 * most + 1, n))
    for axis in range(3):
        for i in range(n):
            angle = 2.0 * pi * fractional[i, axis]
            c, s = cos(angle), sin(angle)
            for m in range(most):
                x, y = real[axis, most + m, i], imag[axis, most + m, i]
                real[axis, most + m + 1, i] = x * c - y * s
                imag[axis, most + m + 1, i] = x * s + y * c
                real[axis, most - m - 1, i] = real[axis, most + m + 1, i]
                imag[axis, most - m - 1, i] = -imag[axis, most + m + 1, i]
    energy, virial = 0.0, np.zeros((3, 3))
    gradient = np.zeros((3, n))
    xr, xi, er, ei = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    k = np.zeros(3)
    for w in range(len(waves)):
        h = waves[w]
        if w == 0 or h[0] != waves[w - 1, 0] or h[1] != waves[w - 1, 1]:
            ar, ai = real[0, most + h[0]], imag[0, most + h[0]]
            br, bi = real[1, most + h[1]], imag[1, most + h[1]]
            for i in range(n):
                xr[i] = charges[i] * (ar[i] * br[i] - ai[i] * bi[i])
                xi[i] = charges[i] * (ar[i] * bi[i] + ai[i] * br[i])
        square = 0.0
        for a in range(3):
            k[a] = h[0] * reciprocal[0, a] + h[1] * reciprocal[1, a] + h[2] * reciprocal[2, a]
            square += k[a] * k[a]
        cr, ci = real[2, most + h[2]], imag[2, most + h[2]]
        sr = 0.0
        si = 0.0
        for i in range(n):
            er[i] = xr[i] * cr[i] - xi[i] * ci[i]
            ei[i] = xr[i] * ci[i] + xi[i] * cr[i]
            sr += er[i]
            si += ei[i]
        weight = COULOMB * 4.0 * pi / volume * exp(-square / (4.0 * alpha * alpha)) / square
        share = weight * (sr * sr + si * si)
        energy += share
        factor = share * (2.0 / square + 1.0 / (2.0 * alpha * alpha))
        for a in range(3):
            for b in range(3):
                virial[a, b] += factor * k[a] * k[b]
            virial[a, a] -= share
        sr *= 2.0 * weight
        si *= 2.0 * weight
        for i in range(n):
            slope = si * er[i] - sr * ei[i]
            gradient[0, i] += slope * k[0]
            gradient[1, i] += slope * k[1]
            gradient[2, i] += slope * k[2]
    return energy, gradient.T.copy(), virial


@dataclass(frozen=True, eq=False)
class Waves:
    """Second derivatives of the reciprocal sum for charges on sites that hardly move.

    Attributes
    ----------
    ions, mixed, strains
        By two displacements, a displacement and a strain, and two strains, for unit charges on
        every pair of sites; shapes (n, n, 3, 3), (n, n, 3, 6) and (n, n, 6, 6).
    """

    ions: Floats
    mixed: Floats
    strains: Floats

    @classmethod
    def at(cls, fractional: Floats, cell: Floats) -> Waves:
        """Make the tables for one geometry."""

        def weights(strain: Floats) -> Floats:
            deformation = np.eye(3)
            for (a, b), value in zip(VOIGT, strain, strict=True):
                deformation[a, b] = deformation[b, a] = (a == b) + value
            volume = abs(np.linalg.det(cell @ deformation))
            moved = box @ np.linalg.inv(deformation)
            return ewald._weights(moved, volume, SPLITTING.alpha)[0].ravel()

        def even(weight: Floats) -> Floats:
            return (cosine * weight) @ cosine.T + (sine * weight) @ sine.T

        def odd(weight: Floats) -> Floats:
            return (sine * weight) @ cosine.T - (cosine * weight) @ sine.T

        reciprocal = 2.0 * np.pi * np.linalg.inv(cell).T
        limits = SPLITTING.reciprocal_cutoff * np.linalg.norm(cell, axis=1) / (2.0 * np.pi)
        most = np.ceil(limits).astype(int)
        ranges = [np.arange(0, most[0] + 1), *(np.arange(-m, m + 1) for m in most[1:])]
        box = ewald._box(ranges, reciprocal)
        flat = weights(np.zeros(6))
        kept = np.flatnonzero(flat > 1e-9 * flat.max())
        vectors = box.reshape(-1, 3)[kept]
        phase = fractional @ cell @ vectors.T
        cosine, sine = np.cos(phase), np.sin(phase)
        n, h = len(fractional), 1e-3
        unit = h * np.eye(6)
        ions, mixed, strains = (np.zeros((n, n, *s)) for s in ((3, 3), (3, 6), (6, 6)))
        for a, b in combinations_with_replacement(range(3), 2):
            found = even(2.0 * flat[kept] * vectors[:, a] * vectors[:, b])
            ions[:, :, a, b] = ions[:, :, b, a] = found
        for v in range(6):
            change = ((weights(unit[v]) - weights(-unit[v])) / (2.0 * h))[kept]
            for a in range(3):
                mixed[:, :, a, v] = odd(-2.0 * change * vectors[:, a])
            for w in range(v + 1):
                change = weights(unit[v] + unit[w]) - weights(unit[v] - unit[w])
                change += weights(-unit[v] - unit[w]) - weights(unit[w] - unit[v])
                strains[:, :, v, w] = strains[:, :, w, v] = even(change[kept] / (4.0 * h * h))
        return cls(ions, mixed, strains)

    def hessian(self, charges: Floats) -> Floats:
        """Return second derivatives by displacements and Voigt strains."""
        n = len(charges)
        each = np.repeat(charges, 3)
        found = np.empty((3 * n + 6, 3 * n + 6))
        found[: 3 * n, : 3 * n] = self._flat[0] * each[:, None] * each
        own = found[: 3 * n, : 3 * n].reshape(3 * n, n, 3).sum(axis=1)
        for axis in range(3):
            for other in range(3):
                place = 3 * np.arange(n)
                found[place + axis, place + other] -= own[axis::3, other]
        both = np.multiply.outer(charges, charges).ravel()
        found[: 3 * n, 3 * n :] = each[:, None] * (self._flat[1] @ charges).reshape(3 * n, 6)
        found[3 * n :, 3 * n :] = (self._flat[2] @ both).reshape(6, 6)
        return found

    @cached_property
    def _flat(self) -> tuple[Floats, Floats, Floats]:
        """The tables in the order in which they are summed."""
        n = len(self.ions)
        ions = self.ions.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
        mixed = self.mixed.transpose(0, 2, 3, 1).reshape(18 * n, n)
        strains = self.strains.transpose(2, 3, 0, 1).reshape(36, n * n)
        return (
            np.ascontiguousarray(ions),
            np.ascontiguousarray(mixed),
            np.ascontiguousarray(strains),
        )


@dataclass(frozen=True, eq=False)
class Sites:
    """What lies on every site of a host, as the kernel wants it."""

    host: Host

    @cached_property
    def species(self) -> list[str]:
        """All species of the host."""
        pairs = zip(self.host.elements, self.host.states, strict=True)
        some = {self.host.token(e, s) for e, states in pairs for s in states if s != VACANCY}
        return sorted(some | set(species_of(self.host, self._any).values()))

    @cached_property
    def _any(self) -> Configuration:
        return enumerate_distinct(self.host, self.host.ion_counts[0])[0]

    @cached_property
    def table(self) -> Floats:
        """Cubics of screened charges and short-range terms, (n_kinds, n_kinds, n_intervals, 4)."""
        distances = np.arange(NEAREST, SPLITTING.real_cutoff + 2 * SPACING, SPACING)
        kinds, rows = self.species, []
        for one, other in product(kinds, kinds):
            charges = CHARGE_SCALE**2 * charge_of(one) * charge_of(other)
            products = np.full(len(distances), charges)
            energy, slope = ewald.real_space_pairs(distances, products, SPLITTING.alpha)
            if found := PAIRS.get((one, other)) or PAIRS.get((other, one)):
                near = distances < SHORT_RANGE_CUTOFF
                more, steeper = pair_term(found, distances[near])
                energy[near] += more
                slope[near] += steeper
            rows.append(CubicHermiteSpline(distances, energy, slope).c.T)
        return np.ascontiguousarray(np.reshape(rows, (len(kinds), len(kinds), -1, 4)))

    @cached_property
    def pairs(self) -> tuple[Ints, Floats]:
        """Pairs of ideal sites, each once: sites, and the number of the second's image; images."""
        cutoff = SPLITTING.real_cutoff + SKIN
        i, j, shifts, _ = self.host.structure.get_neighbor_list(cutoff, exclude_self=True)
        forward = [tuple(s) > (0, 0, 0) for s in shifts.astype(int).tolist()]
        once = (i < j) | ((i == j) & np.array(forward))
        images, number = np.unique(shifts[once].astype(int), axis=0, return_inverse=True)
        found = np.stack([i[once], j[once], number.ravel()], axis=1)
        return found.astype(np.int64), images.astype(float)

    @cached_property
    def wave_vectors(self) -> Ints:
        """Multiples of the reciprocal vectors within the cut-off, for cells not much smaller."""
        reciprocal = 2.0 * np.pi * np.linalg.inv(self.host.structure.lattice.matrix).T
        cutoff = STRETCHED * SPLITTING.reciprocal_cutoff
        most = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(reciprocal), axis=0)).astype(int)
        box = np.array([*product(*(range(-m, m + 1) for m in most))])
        forward = [tuple(one) > (0, 0, 0) for one in box.tolist()]
        near = np.linalg.norm(box @ reciprocal, axis=1) < cutoff
        return box[near & np.array(forward)]

    def kinds(self, config: Configuration) -> tuple[Ints, Floats]:
        """Return the kind on every site, -1 where none is, and its charge in e."""
        kinds = np.full(len(self.host.structure), -1)
        for site, token in species_of(self.host, config).items():
            kinds[site] = self.species.index(token)
        scaled = CHARGE_SCALE * np.array([*map(charge_of, self.species), 0])
        return kinds, scaled[kinds]

    def evaluate(
        self,
        fractional: Floats,
        cell: Floats,
        kinds: Ints,
        charges: Floats,
        hessian: Floats,
    ) -> tuple[float, Floats, Floats]:
        """Return energy, gradient and virial; add the pairs' part to second derivatives."""
        pairs, images = self.pairs
        energy, gradient, virial = wave_space(
            fractional,
            2.0 * np.pi * np.linalg.inv(cell).T,
            abs(np.linalg.det(cell)),
            charges,
            self.wave_vectors,
            int(np.abs(self.wave_vectors).max()),
            SPLITTING.alpha,
        )
        more, pulls, strained = real_space(
            fractional @ cell,
            images @ cell,
            kinds,
            pairs,
            self.table,
            SPLITTING.real_cutoff,
            hessian,
        )
        if len(hessian):
            n = len(kinds)
            for w, (a, b) in enumerate(VOIGT):
                hessian[a : 3 * n : 3, 3 * n + w] += pulls[:, b]
                if a != b:
                    hessian[b : 3 * n : 3, 3 * n + w] += pulls[:, a]
            hessian[3 * n :, : 3 * n] = hessian[: 3 * n, 3 * n :].T
        own = ewald.self_energy(charges, SPLITTING.alpha)
        return energy + more + own, gradient + pulls, virial + strained


class SiteModel(BornModel):
    """The labeler's model with the energies of this module, for ions in the order of their sites.

    Parameters
    ----------
    sites
        The sites of the host.
    config
        What lies on them.
    """

    def __init__(self, sites: Sites, config: Configuration) -> None:
        super().__init__(list(species_of(sites.host, config).values()))
        self._sites = sites
        self._kinds, self._charges = sites.kinds(config)

    def evaluate(self, positions: Floats, cell: Floats) -> Evaluation:
        """Return energy, forces and stress; see `BornModel.evaluate`."""
        present = self._kinds >= 0
        fractional = np.zeros((len(present), 3))
        fractional[present] = positions @ np.linalg.inv(cell)
        energy, gradient, virial = self._sites.evaluate(
            fractional, cell, self._kinds, self._charges, np.empty((0, 0))
        )
        if not np.isfinite(energy):
            raise AlChargeError("two ions are too near each other", where="Born labeler")
        stress = 0.5 * (virial + virial.T) / abs(float(np.linalg.det(cell)))
        return Evaluation(energy, -gradient[present], stress)
