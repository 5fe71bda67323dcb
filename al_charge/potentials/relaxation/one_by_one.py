"""Relaxing ions and cell on a committee's mean, charge states fixed.

A quasi-Newton descent whose first guess of the stiffness is that of the pair terms, so that most
candidates need a dozen steps. It is guessed again where steps are no longer cut short, since that
of the start is not that of the minimum. Neighbour lists extend a little beyond the cutoff and are
reused until atoms have moved by that much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.potentials.committee import Committee, CommitteePrediction
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.relaxation.stiffness import pair_stiffness, symmetric, voigt

Array = NDArray[np.float64]

Progress = Callable[[int, int], None]
"""Called with the number of structures that are relaxed, and that of all."""

Watch = Callable[[Atoms, CommitteePrediction], None]
"""Called with a geometry on the way and what the committee predicts there."""

SKIN = 0.6
"""Distance in angstrom by which neighbour lists extend beyond the cutoff of the potentials."""
LONGEST_STEP = 0.1
"""angstrom that one atom, or one component of the scaled strain, moves in a step at most."""
LARGEST_RISE = 1e-4
"""eV that the energy may rise in a step before the step is taken back and halved."""
SMALLEST_STEP = 1e-3
"""Fraction of a step at which halving it ends."""
SMALLEST_MOVE = 1e-5
"""angstrom below which a step does not count as one."""
SMALLEST_GAIN = 1e-4
"""eV per atom that a step must gain while some displacement is at its limit: the minimum lies
elsewhere, and another relaxation may go on from there."""
VOLUME_RANGE = (0.5, 2.0)
SHORTEST_DISTANCE = 0.6
FARTHEST_MOVE = 1.2
"""Range of volumes relative to the start, least distance between atoms and largest displacement
(both in angstrom) of a structure that is still intact, which means the configuration that it began
as. Where a potential leads out of these limits, the relaxation ends with the step before."""


@dataclass(frozen=True)
class Relaxed:
    """Result of a relaxation.

    Attributes
    ----------
    atoms
        Relaxed structure with the arrays of the start.
    energy
        Committee mean, eV for the cell.
    spread
        Calibrated, eV for the cell.
    converged
        Whether forces and stress fell below the limit; false also where the potential led to a
        structure that was not intact, and the last intact one is here.
    steps
        Evaluations made.
    moments, charges
        Committee means there, Bohr magnetons and e, shape (n_atoms,); None where a member does not
        predict them.
    """

    atoms: Atoms
    energy: float
    spread: float
    converged: bool
    steps: int
    moments: Array | None = None
    charges: Array | None = None


def relax(
    committee: Committee,
    structures: Sequence[Atoms],
    *,
    fmax: float,
    max_steps: int,
    cell: bool = True,
    largest_displacement: float = np.inf,
    watch: Watch = lambda _, __: None,
) -> list[Relaxed]:
    """Relax ions and cell of every structure.

    Parameters
    ----------
    committee
        Whose mean energy falls.
    structures
        Starts, with ``species`` arrays; not modified.
    fmax
        Largest force left in eV/angstrom. The stress counts as the force on the strain
        divided by the cube root of the volume.
    max_steps
        Evaluations of each structure at most.
    cell
        False keeps every cell as it is and moves ions only.
    largest_displacement
        How far an atom may move from where it starts, angstrom, and a component of the strain
        times the cube root of the volume.
    watch
        Called with the start and with every geometry that a step was taken to.

    Returns
    -------
    list of Relaxed
        One per structure, in their order.
    """
    return [
        _relax(committee, atoms, fmax, max_steps, cell, largest_displacement, watch)
        for atoms in structures
    ]


def _relax(
    committee: Committee,
    start: Atoms,
    fmax: float,
    max_steps: int,
    cell: bool,
    largest_displacement: float,
    watch: Watch,
) -> Relaxed:
    surface = _Surface(committee, start, cell)
    here = surface.at(np.zeros(surface.size))
    watch(here.atoms, here.prediction)
    inverse = surface.inverse_stiffness(start)
    seen: list[tuple[Array, Array]] = []
    shrink, steps, intact, far = 1.0, 1, True, False
    while steps < max_steps and intact and here.largest > fmax and shrink > SMALLEST_STEP:
        wanted = -inverse @ here.gradient
        if far and _longest(wanted) <= LONGEST_STEP:
            inverse = surface.inverse_stiffness(here.atoms)
            for change in seen:  # without these, soft modes would be taken for relaxed
                inverse = _updated(inverse, *change)
            wanted = -inverse @ here.gradient
        far = _longest(wanted) > LONGEST_STEP
        step = wanted * (shrink * min(1.0, LONGEST_STEP / _longest(wanted)))
        proposed = here.point + step
        point = _clipped(proposed, largest_displacement)
        clipped = not np.array_equal(point, proposed)
        step = point - here.point
        if np.abs(step).max() < SMALLEST_MOVE:
            break  # all displacements at their limits, or no digits left
        there = surface.at(here.point + step)
        steps += 1
        intact = there.intact
        if not intact:
            break
        seen.append((step, there.gradient - here.gradient))
        inverse = _updated(inverse, *seen[-1])
        if there.prediction.energy > here.prediction.energy + LARGEST_RISE:
            shrink *= 0.5
            continue
        gained = here.prediction.energy - there.prediction.energy
        here, shrink = there, min(1.0, 2.0 * shrink)
        watch(here.atoms, here.prediction)
        if clipped and gained < SMALLEST_GAIN * len(start):
            break
    return Relaxed(
        atoms=here.atoms,
        energy=here.prediction.energy,
        spread=here.prediction.spread,
        converged=intact and here.largest <= fmax,
        steps=steps,
        moments=here.prediction.moments,
        charges=here.prediction.charges,
    )


@dataclass(frozen=True)
class _Place:
    """A point on the energy surface."""

    point: Array
    atoms: Atoms
    prediction: CommitteePrediction
    gradient: Array
    largest: float
    intact: bool


class _Surface:
    """Energy as a function of displacements and strain, one vector of 3 n_atoms + 6 lengths."""

    def __init__(self, committee: Committee, start: Atoms, strains: bool = True) -> None:
        self.committee = committee
        self.start = start
        self.strains = strains
        self.cell = np.array(start.cell, dtype=np.float64)
        self.volume = abs(float(np.linalg.det(self.cell)))
        self.length = self.volume ** (1.0 / 3.0)
        self.size = 3 * len(start) + 6
        self.pairs = self._find(start)
        self.pairs_at = start

    def _find(self, atoms: Atoms) -> Neighbours:
        return find_neighbours(atoms, self.committee.neighbour_cutoff + SKIN)

    def at(self, point: Array) -> _Place:
        """Evaluate a point."""
        deformation = np.eye(3) + symmetric(point[-6:] / self.length)
        atoms = self.start.copy()
        atoms.set_cell(self.cell @ deformation)
        atoms.positions = (self.start.positions + point[:-6].reshape(-1, 3)) @ deformation
        self._refresh(atoms)
        (prediction,) = self.committee.predict([atoms], [self.pairs])
        strain = self.volume * np.linalg.det(deformation) / self.length * prediction.stress
        pull = np.linalg.inv(deformation) @ strain
        forces = -prediction.forces @ deformation
        gradient = np.concatenate([forces.ravel(), voigt((pull + pull.T) / 2.0)])
        if not self.strains:
            gradient[-6:] = 0.0
        largest = max(
            float(np.sqrt((prediction.forces**2).sum(axis=1).max())),
            float(np.abs(gradient[-6:]).max()),
        )
        return _Place(
            point, atoms, prediction, gradient, largest, self._intact(point, atoms, gradient)
        )

    def _refresh(self, atoms: Atoms) -> None:
        """Find neighbours again once atoms may have come within the cutoff unnoticed."""
        old = self.pairs_at
        stretch = np.linalg.inv(old.cell) @ np.asarray(atoms.cell)
        moved = np.linalg.norm(atoms.positions - old.positions @ stretch, axis=1).max()
        shrunk = np.linalg.norm(stretch - np.eye(3), 2) * (self.committee.neighbour_cutoff + SKIN)
        if 2.0 * moved + shrunk > SKIN:
            self.pairs, self.pairs_at = self._find(atoms), atoms

    def _intact(self, point: Array, atoms: Atoms, gradient: Array) -> bool:
        if not np.isfinite(gradient).all():
            return False
        ratio = abs(float(np.linalg.det(np.asarray(atoms.cell)))) / self.volume
        vectors = self.pairs.vectors(atoms.positions, np.asarray(atoms.cell))
        shortest = float(np.linalg.norm(vectors, axis=1).min())
        farthest = float(np.linalg.norm(point[:-6].reshape(-1, 3), axis=1).max())
        return (
            VOLUME_RANGE[0] < ratio < VOLUME_RANGE[1]
            and shortest > SHORTEST_DISTANCE
            and farthest < FARTHEST_MOVE
        )

    def inverse_stiffness(self, atoms: Atoms) -> Array:
        """Return a guess of the inverse second derivative at a geometry, shape (size, size)."""
        inverse = pair_stiffness(self.committee, atoms, self.pairs, self.length)
        if not self.strains:
            inverse[-6:] = inverse[:, -6:] = 0.0
        return inverse


def _longest(step: Array) -> float:
    """Return how far the atom, or the strain, moves that moves farthest in a step."""
    atoms = np.sqrt((step[:-6].reshape(-1, 3) ** 2).sum(axis=1)).max()
    return max(float(atoms), float(np.abs(step[-6:]).max()), 1e-12)


def _clipped(point: Array, limit: float) -> Array:
    """Return a point with every displacement and strain (times a length) cut to a limit."""
    moved = point[:-6].reshape(-1, 3)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    kept = moved * np.minimum(1.0, limit / np.maximum(lengths, 1e-12))
    return np.concatenate([kept.ravel(), np.clip(point[-6:], -limit, limit)])


def _updated(inverse: Array, step: Array, change: Array) -> Array:
    """Return the BFGS update of an inverse stiffness; where curvature is negative, the old one."""
    along = float(step @ change)
    if along <= 1e-3 * np.linalg.norm(step) * np.linalg.norm(change):
        return inverse
    product = inverse @ change
    outer = np.outer(step, product)
    updated: Array = (
        inverse
        + (1.0 + float(change @ product) / along) / along * np.outer(step, step)
        - (outer + outer.T) / along
    )
    return updated
