"""Born relaxations some twenty times quicker: Newton steps from a geometry that is predicted.

Where ions relax to is regressed on the occupation, to second order, with all symmetry images of a
few hundred relaxed configurations. From there two or three steps with nearly exact second
derivatives are enough. Energy and convergence are those of the labeler; what does not go smoothly
is left to the labeler itself, from ideal sites.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import spglib
from born_derivatives import VOIGT, Floats, SiteModel, Sites, Waves
from exhaustive_hull import Job
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from al_charge.crystal.configuration import Configuration, ion_count, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.errors import AlChargeError
from al_charge.labelers.born.labeler import LARGEST_MOVE, _largest_move
from al_charge.labelers.born.model import BornModel
from al_charge.labelers.born.relaxation import STRESS_PER_FORCE, relax
from al_charge.labelers.protocol import Frame
from al_charge.search.random_occupation import random_occupation

REFRESH = 12
"""Evaluations between two with second derivatives."""
LOOKS = 60
"""Evaluations after which the labeler has to do it."""
LARGEST_STEP = 0.15
"""Largest move of an ion in one step, angstrom."""
FIRST_SHIFT = 0.3
"""Stiffness that is added where there is none, eV/angstrom^2; doubled until it is enough."""
ROUNDING = 1e-7
"""Error of energies, eV per cell: pairs come and go at the cut-off."""
SURPLUS = 1e-5
"""Energy that one more step would still take off at the end, eV per cell."""
NEAR = 0.7
"""An ion nearer than this to its ideal site, angstrom, is on that site and on no other."""
SURPRISE = 0.4
"""An ion that ends farther than this, angstrom, from where it was predicted may have left the
minimum that the labeler finds."""
RIDGE = 1.0
AVERAGED = 200
"""Random configurations over whose predicted geometries is averaged."""
LEARN = 40
"""Configurations of each composition whose relaxed geometries are learned from."""


def relaxed(job: Job, config: Configuration) -> tuple[Floats, Floats] | None:
    """Return displacements and strain by the labeler's own relaxation; none if ions leave."""
    atoms = to_atoms(job.host, config)
    model = BornModel([str(t) for t in atoms.arrays["species"]])
    cell = atoms.cell.array
    fmax = float(job.spec.labeler.fmax)
    try:
        last = relax(model, atoms.positions, cell, fmax=fmax)[-1]
    except AlChargeError:
        return None
    moves = np.zeros((len(job.host.structure), 3))
    moves[atoms.arrays["host_site"]] = last.positions @ np.linalg.inv(
        last.cell
    ) - atoms.get_scaled_positions(wrap=False)
    if np.linalg.norm(moves @ cell, axis=1).max() > LARGEST_MOVE:
        return None
    return moves, np.linalg.inv(cell) @ last.cell - np.eye(3)


@dataclass(frozen=True, eq=False)
class Regression:
    """Displacements and strain as quadratic functions of the occupation.

    Attributes
    ----------
    by_site
        Coefficients, shape (n_features, n_sites, 3).
    by_cell
        Likewise of the strain, shape (n_features, 3, 3).
    """

    by_site: Floats
    by_cell: Floats

    @classmethod
    def learn(cls, job: Job, each: int, processes: int) -> Regression:
        """Relax some configurations of every composition, and fit to them."""
        rng = np.random.default_rng(0)
        configs = []
        for n_ions in job.host.ion_counts:
            some = enumerate_distinct(job.host, n_ions)
            configs += [some[i] for i in rng.permutation(len(some))[:each]]
        context = multiprocessing.get_context("spawn")
        with context.Pool(processes) as pool:
            found = pool.map(partial(relaxed, job), configs, chunksize=16)
        kept = [(c, one) for c, one in zip(configs, found, strict=True) if one is not None]
        moves, strains = (np.array(some) for some in zip(*(one for _, one in kept), strict=True))
        return cls.fit(job.host, [config for config, _ in kept], moves, strains)

    @classmethod
    def fit(
        cls, host: Host, configs: Sequence[Configuration], moves: Floats, strains: Floats
    ) -> Regression:
        """Fit to relaxed geometries and all their symmetry images.

        Parameters
        ----------
        host
            The cell.
        configs
            What was relaxed.
        moves
            Fractional displacements from ideal sites, shape (n_configs, n_sites, 3).
        strains
            Symmetric, shape (n_configs, 3, 3).
        """
        frac, lattice = host.structure.frac_coords, host.structure.lattice.matrix
        numbers = [site.specie.number for site in host.structure]
        operations = spglib.get_symmetry((lattice, frac, numbers), symprec=1e-3)
        spins = np.array([config.occupation for config in configs], dtype=float)
        present = np.ones((len(configs), len(frac)), dtype=bool)
        present[:, host.ion_sites] = spins[:, : len(host.ion_sites)] != VACANCY
        still = np.setdiff1d(np.arange(len(frac)), host.ion_sites)
        moves = moves - moves[:, still].mean(axis=1)[:, None] * present[:, :, None]
        rows, targets, weights, turned = [], [], [], []
        for turn, shift in zip(operations["rotations"], operations["translations"], strict=True):
            images = frac @ turn.T + shift
            away = images[:, None] - frac[None]
            away -= np.round(away)
            to = np.linalg.norm(away @ lattice, axis=2).argmin(axis=1)
            back = np.argsort(to)
            place = np.full(len(frac), -1)
            place[host.variable_sites] = np.arange(len(host.variable_sites))
            rows.append(quadratic(spins[:, place[back[host.variable_sites]]]))
            targets.append((moves @ turn.T)[:, back])
            weights.append(present[:, back])
            cartesian = lattice.T @ turn @ np.linalg.inv(lattice.T)
            turned.append(cartesian @ strains @ cartesian.T)
        x, y, w = (np.concatenate(some) for some in (rows, targets, weights))
        ridge = RIDGE * np.eye(x.shape[1])
        by_cell = np.linalg.solve(x.T @ x + ridge, x.T @ np.concatenate(turned).reshape(-1, 9))
        by_site = np.linalg.solve(x.T @ x + ridge, x.T @ y.reshape(len(y), -1))
        by_site = by_site.reshape(-1, len(frac), 3)
        for site in host.ion_sites:
            some = x[w[:, site]]
            by_site[:, site] = np.linalg.solve(some.T @ some + ridge, some.T @ y[w[:, site], site])
        return cls(by_site, by_cell.reshape(-1, 3, 3))

    def predict(self, config: Configuration) -> tuple[Floats, Floats]:
        """Return displacements and strain."""
        (x,) = quadratic(np.array([config.occupation], dtype=float))
        return np.tensordot(x, self.by_site, 1), np.tensordot(x, self.by_cell, 1)


def quadratic(states: Floats) -> Floats:
    """Return one, all states and all their products, shape (n, n_features)."""
    centred = states - np.where(states < 2, 0.0, 2.5)
    centred = np.where(states < 2, states, 2.0 * centred)
    i, j = np.triu_indices(states.shape[1], 1)
    one = np.ones((len(states), 1))
    return np.hstack([one, centred, centred[:, i] * centred[:, j]])


@dataclass(frozen=True)
class NewtonJob(Job):
    """Labels configurations by Newton steps, and leaves the others to the labeler."""

    starts: Regression

    @cached_property
    def sites(self) -> Sites:
        """What lies on the sites."""
        return Sites(self.host)

    @cached_property
    def _waves(self) -> dict[int, Waves]:
        return {}

    def waves(self, n_ions: int) -> Waves:
        """Return second derivatives of the reciprocal sum at the mean geometry of a composition."""
        if n_ions not in self._waves:
            rng = np.random.default_rng(0)
            some = [random_occupation(self.host, n_ions, rng) for _ in range(AVERAGED)]
            moves, strain = (
                np.mean(one, axis=0) for one in zip(*map(self.starts.predict, some), strict=True)
            )
            cell = self.host.structure.lattice.matrix @ (np.eye(3) + strain)
            self._waves[n_ions] = Waves.at(self.host.structure.frac_coords + moves, cell)
        return self._waves[n_ions]

    @classmethod
    def learn(cls, job: Job, each: int, processes: int) -> NewtonJob:
        """Learn where configurations relax to from some of every composition."""
        return cls(job.spec, job.host, Regression.learn(job, each, processes))

    def label(self, config: Configuration) -> dict[str, Any]:
        """Return the energy of one configuration, or the record of the labeler."""
        energy, _ = self.newton(config)
        if energy is None:
            return self.steadily(config) | {"quick": False}
        found = energy / self.host.formula_units
        return {"energy_per_formula": found, "same_configuration": True, "quick": True}

    def steadily(self, config: Configuration) -> dict[str, Any]:
        """Relax as the labeler does, by its BFGS from ideal sites, with quicker energies."""
        atoms = self.start(config)
        fmax = float(self.spec.labeler.fmax)
        try:
            points = relax(
                SiteModel(self.sites, config), atoms.positions, atoms.cell.array, fmax=fmax
            )
        except AlChargeError as error:
            return {"error": str(error)}
        last = points[-1]
        exact = BornModel([str(t) for t in atoms.arrays["species"]])
        result = exact.evaluate(last.positions, last.cell)
        if abs(result.energy - last.result.energy) > SURPLUS:
            return super().label(config)  # an ion has come near others than those of its site
        if (move := _largest_move(points)) > LARGEST_MOVE:
            return {"error": f"an ion moved {move:.1f} A"}
        frame = Frame(last.positions, last.cell, result.energy, result.forces, result.stress)
        return {
            "energy_per_formula": result.energy / self.host.formula_units,
            "same_configuration": self._is_still(
                config, frame, tuple(str(t) for t in atoms.arrays["species"])
            ),
        }

    def newton(self, config: Configuration) -> tuple[float | None, dict[str, Any]]:
        """Return the relaxed energy in eV per cell; none if the labeler has to be asked."""
        kinds, charges = self.sites.kinds(config)
        ideal, lattice = self.host.structure.frac_coords, self.host.structure.lattice.matrix
        present, waves = kinds >= 0, self.waves(ion_count(self.host, config))
        moves, strain = self.starts.predict(config)
        start = ideal + moves * present[:, None]
        fmax = float(self.spec.labeler.fmax)

        def look(fractional: Floats, cell: Floats, *, curvature: bool) -> _Point:
            hessian = waves.hessian(charges) if curvature else np.empty((0, 0))
            found = self.sites.evaluate(fractional, cell, kinds, charges, hessian)
            return _Point(fractional, cell, *found, hessian)

        point = look(start, lattice @ (np.eye(3) + strain), curvature=True)
        history: list[tuple[Floats, Floats]] = []
        factor: Any = None
        tell: dict[str, Any] = {"looks": 1, "shift": 0.0, "surprise": 0.0}
        while True:
            if len(point.hessian):
                factor, shift = _factor(point.hessian, present)
                tell["shift"] = max(shift, tell["shift"])
                history = []
            slope = point.slope
            step = -_solved(factor, history, slope)
            if point.converged(fmax) and -0.5 * slope @ step < SURPLUS:
                break
            step /= max(1.0, np.abs(step[:-6]).max() / LARGEST_STEP)
            while True:
                if tell["looks"] == LOOKS:
                    return None, tell | {"why": "looks"}
                tell["looks"] += 1
                curvature = tell["looks"] % REFRESH == 0
                after = look(*point.moved(step), curvature=curvature)
                if after.energy <= point.energy + 1e-4 * slope @ step + ROUNDING:
                    break
                step *= 0.4
            history.append((step, after.slope - slope))
            point = after
            tell["surprise"] = np.linalg.norm((point.fractional - start) @ lattice, axis=1).max()
            if tell["surprise"] > SURPRISE:
                return None, tell | {"why": "surprise"}
        tell["farthest"] = np.linalg.norm((point.fractional - ideal) @ lattice, axis=1).max()
        tell |= {"moves": point.fractional - ideal, "cell": point.cell}
        if tell["farthest"] > NEAR:
            return None, tell | {"why": "far"}
        return point.energy, tell


@dataclass(frozen=True, eq=False)
class _Point:
    """A geometry with its energy in eV, and second derivatives or none."""

    fractional: Floats
    cell: Floats
    energy: float
    gradient: Floats
    virial: Floats
    hessian: Floats

    @cached_property
    def slope(self) -> Floats:
        """Derivatives by displacements and Voigt strains."""
        v = self.virial
        by_strain = [(v[a, b] + v[b, a]) / (1 + (a == b)) for a, b in VOIGT]
        return np.append(self.gradient.ravel(), by_strain)

    def converged(self, fmax: float) -> bool:
        """Say whether forces and stress are as small as the labeler wants them."""
        stress = np.abs(self.virial).max() / abs(np.linalg.det(self.cell))
        return bool(np.abs(self.gradient).max() <= fmax and stress <= STRESS_PER_FORCE * fmax)

    def moved(self, step: Floats) -> tuple[Floats, Floats]:
        """Return fractional coordinates and cell after displacements and then a strain."""
        strain = np.zeros((3, 3))
        for (a, b), value in zip(VOIGT, step[-6:], strict=True):
            strain[a, b] = strain[b, a] = value
        moves = step[:-6].reshape(-1, 3) @ np.linalg.inv(self.cell)
        return self.fractional + moves, self.cell @ (np.eye(3) + strain)


def _factor(hessian: Floats, present: NDArray[np.bool_]) -> tuple[Any, float]:
    """Return the Cholesky factor of second derivatives, stiffer by as much as it takes.

    Drift and empty sites get a stiffness of their own.
    """
    n = len(present)
    empty = np.flatnonzero(np.repeat(~present, 3))
    hessian[empty, empty] = 1.0
    for axis in range(3):
        hessian[axis : 3 * n : 3, axis : 3 * n : 3] += 10.0 / n
    shift = 0.0
    while True:
        try:
            return cho_factor(hessian, check_finite=False), shift
        except LinAlgError:
            more = max(shift, FIRST_SHIFT)
            hessian[np.diag_indices(3 * n)] += more
            shift += more


def _solved(factor: Any, history: list[tuple[Floats, Floats]], slope: Floats) -> Floats:
    """Return the inverse second derivatives times a slope, with the BFGS updates of all steps."""
    found, some = slope.copy(), []
    for step, change in reversed(history):
        curvature = step @ change
        if curvature > 1e-12:
            share = step @ found / curvature
            found -= share * change
            some.append((step, change, curvature, share))
    found = cho_solve(factor, found, check_finite=False)
    for step, change, curvature, share in reversed(some):
        found += (share - change @ found / curvature) * step
    return found


def main() -> None:
    """Hold Newton steps against the labeler, at every composition, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supercell", type=int, nargs=3, default=(1, 3, 1))
    parser.add_argument("--learn", type=int, default=LEARN)
    parser.add_argument("--each", type=int, default=10, help="configurations of a composition")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    plain = Job.of(tuple(arguments.supercell))
    job = NewtonJob.learn(plain, arguments.learn, arguments.processes)
    rng = np.random.default_rng(1)
    for n_ions in plain.host.ion_counts:
        some = enumerate_distinct(plain.host, n_ions)
        chosen = [some[i] for i in rng.permutation(len(some))[: arguments.each]]
        began = time.process_time()
        quick = [job.label(config) for config in chosen]
        middle = time.process_time()
        exact = [plain.label(config) for config in chosen]
        ended = time.process_time()
        apart = [
            1e3 * (one["energy_per_formula"] - other["energy_per_formula"])
            for one, other in zip(quick, exact, strict=True)
            if "error" not in one
        ]
        print(
            f"x = {plain.host.composition(n_ions)}: {len(chosen)} configurations, "
            f"{sum(not one['quick'] for one in quick)} left to the labeler; "
            f"{min(apart):+.4f} to {max(apart):+.4f} meV/f.u. apart; "
            f"{1e3 * (middle - began) / len(chosen):.0f} ms each, "
            f"{1e3 * (ended - middle) / len(chosen):.0f} by the labeler"
        )


if __name__ == "__main__":
    main()
