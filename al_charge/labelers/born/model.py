"""The ionic model: energy, forces and stress of ions with scaled formal charges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from al_charge.crystal.species import charge_of
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.born.ewald import (
    Array,
    Splitting,
    real_space_pairs,
    reciprocal_space,
    self_energy,
)
from al_charge.labelers.born.parameters import (
    CHARGE_SCALE,
    KNOWN_SPECIES,
    PAIRS,
    SHORT_RANGE_CUTOFF,
    PairParameters,
)
from al_charge.labelers.born.short_range import PairTable

COLLAPSE_DISTANCE = 0.8
"""Two ions nearer than this, in angstrom, are outside the model: the structure has collapsed."""


@dataclass(frozen=True)
class Evaluation:
    """What the model gives for one geometry.

    Attributes
    ----------
    energy
        eV for the cell, relative to free ions.
    forces
        eV/angstrom, shape (n_atoms, 3).
    stress
        eV/angstrom^3, symmetric, shape (3, 3), positive under tension.
    """

    energy: float
    forces: Array
    stress: Array


class BornModel:
    """The ionic model for a fixed list of ions.

    Parameters
    ----------
    species
        Species token of every ion.
    splitting
        Split of the Ewald sum; the default is converged far below 1e-6 eV.
    pairs
        Short-range parameters; none at all leaves the electrostatic energy.
    skin
        Extra reach of the pair list in angstrom, so that it can be kept while ions move.

    Raises
    ------
    InputError
        If a species has no parameters, or the charges do not sum to zero.
    """

    def __init__(
        self,
        species: list[str],
        splitting: Splitting | None = None,
        *,
        pairs: Mapping[tuple[str, str], PairParameters] = PAIRS,
        skin: float = 0.5,
    ) -> None:
        refuse_unknown(species)
        formal = np.array([charge_of(token) for token in species])
        if formal.sum():
            raise InputError(f"the charges sum to {formal.sum():+d} e", where="species")
        self.charges: Array = CHARGE_SCALE * formal
        self.splitting = splitting or Splitting()
        self._self_energy = self_energy(self.charges, self.splitting.alpha)
        self._table = PairTable(species, pairs)
        self._pairs = _PairList(max(self.splitting.real_cutoff, SHORT_RANGE_CUTOFF), skin)

    def evaluate(self, positions: Array, cell: Array) -> Evaluation:
        """Return energy, forces and stress.

        Parameters
        ----------
        positions
            angstrom, shape (n_atoms, 3).
        cell
            Lattice vectors as rows, angstrom, shape (3, 3).

        Returns
        -------
        Evaluation
            Of this geometry.

        Raises
        ------
        AlChargeError
            If two ions are nearer than `COLLAPSE_DISTANCE`.
        """
        fractional = positions @ np.linalg.inv(cell)
        energy, gradient, virial = reciprocal_space(fractional, cell, self.charges, self.splitting)
        i, j, vectors, distances = self._pairs.find(fractional, cell)
        if distances.size and distances.min() < COLLAPSE_DISTANCE:
            raise AlChargeError(
                f"two ions came within {distances.min():.2f} A: the structure collapsed",
                where="Born labeler",
            )
        pair_energy, slope = self._pair_terms(i, j, distances)
        energy += pair_energy.sum() + self._self_energy

        pulls = (slope / distances)[:, None] * vectors
        for axis in range(3):
            gradient[:, axis] += np.bincount(j, pulls[:, axis], len(positions))
            gradient[:, axis] -= np.bincount(i, pulls[:, axis], len(positions))
        virial = virial + pulls.T @ vectors
        stress = 0.5 * (virial + virial.T) / abs(float(np.linalg.det(cell)))
        return Evaluation(float(energy), -gradient, stress)

    def pair_stiffness(
        self, positions: Array, cell: Array, reach: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
        """Return the pairs within a distance and how stiff each is along its length.

        Parameters
        ----------
        positions
            angstrom, shape (n_atoms, 3).
        cell
            Lattice vectors as rows, angstrom, shape (3, 3).
        reach
            Largest distance of a pair, angstrom.

        Returns
        -------
        first, second : numpy.ndarray
            Indices of the ions, shape (n_pairs,).
        vectors : numpy.ndarray
            From first to second ion, angstrom, shape (n_pairs, 3).
        stiffness : numpy.ndarray
            Second derivative of the pair's energy, screened charges included, eV/angstrom^2, shape
            (n_pairs,).
        """
        i, j, vectors, distances = self._pairs.find(positions @ np.linalg.inv(cell), cell)
        near = distances < reach
        i, j, vectors, distances = i[near], j[near], vectors[near], distances[near]
        _, further = self._pair_terms(i, j, distances + 1e-4)
        _, nearer = self._pair_terms(i, j, distances - 1e-4)
        return i, j, vectors, (further - nearer) / 2e-4

    def _pair_terms(
        self, i: NDArray[np.int64], j: NDArray[np.int64], distances: Array
    ) -> tuple[Array, Array]:
        """Return energy (eV) and derivative (eV/angstrom) of every pair in real space."""
        energy, slope = self._table.evaluate(i, j, distances)
        real = np.flatnonzero(distances < self.splitting.real_cutoff)
        screened, screened_slope = real_space_pairs(
            distances[real], self.charges[i[real]] * self.charges[j[real]], self.splitting.alpha
        )
        energy[real] += screened
        slope[real] += screened_slope
        return energy, slope


def refuse_unknown(species: Sequence[str]) -> None:
    """Refuse species that the model has no parameters for.

    Parameters
    ----------
    species
        Species tokens.

    Raises
    ------
    InputError
        If there are any.
    """
    unknown = sorted(set(species) - set(KNOWN_SPECIES))
    if unknown:
        raise InputError(
            f"the Born labeler has no parameters for {', '.join(unknown)}",
            where="labeler",
            remedy=f"it knows {', '.join(KNOWN_SPECIES)}",
        )


class _PairList:
    """Pairs of ions within a cut-off, each once, kept while the ions have hardly moved."""

    def __init__(self, cutoff: float, skin: float) -> None:
        self.cutoff = cutoff
        self.skin = skin
        self._fractional: Array | None = None

    def find(
        self, fractional: Array, cell: Array
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Array, Array]:
        """Return first and second ion, vector (n_pairs, 3) and distance of every pair."""
        if self._outdated(fractional, cell):
            self._build(fractional, cell)
        vectors = (fractional[self._j] - fractional[self._i] + self._shifts) @ cell
        distances = np.sqrt(np.einsum("pi,pi->p", vectors, vectors))
        return self._i, self._j, vectors, distances

    def _outdated(self, fractional: Array, cell: Array) -> bool:
        """Say whether a pair that is not listed may have come within the cut-off.

        A pair now at d was at d F^-1 minus the two ions' moves, where F deforms the cell.
        """
        if self._fractional is None:
            return True
        moves = (fractional - self._fractional) @ self._cell
        furthest = float(np.sqrt((moves**2).sum(axis=1).max()))
        undeformed = np.linalg.norm(np.linalg.inv(cell) @ self._cell, 2)
        return bool(self.cutoff * undeformed + 2.0 * furthest > self.cutoff + self.skin)

    def _build(self, fractional: Array, cell: Array) -> None:
        i, j, shifts = neighbour_list(
            "ijS",
            positions=fractional @ cell,
            cell=cell,
            pbc=[True] * 3,
            cutoff=self.cutoff + self.skin,
        )
        forward = (shifts[:, 0] > 0) | (
            (shifts[:, 0] == 0) & ((shifts[:, 1] > 0) | ((shifts[:, 1] == 0) & (shifts[:, 2] > 0)))
        )
        once = (i < j) | ((i == j) & forward)
        self._i, self._j = i[once].astype(np.int64), j[once].astype(np.int64)
        self._shifts = shifts[once].astype(float)
        self._fractional, self._cell = fractional.copy(), cell.copy()
