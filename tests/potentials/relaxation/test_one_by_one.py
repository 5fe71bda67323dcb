"""Relaxing on a committee's mean, against ASE's own optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from numpy.typing import NDArray

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.labelling import make_label
from al_charge.potentials.baseline.fit import Baseline, fit_baseline
from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.committee import Committee, CommitteePrediction
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.networks.neighbours import Neighbours
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.one_by_one import (
    SHORTEST_DISTANCE,
    VOLUME_RANGE,
    Relaxed,
    _Surface,
    relax,
)
from al_charge.potentials.vocabulary import Vocabulary

FMAX = 0.003
SETTINGS = PainnSettings(channels=2, layers=1, radial=4, cutoff="3 A")


class Counted(Committee):
    """A committee that counts what it is asked."""

    asked = 0

    def predict(
        self, structures: Sequence[Atoms], neighbours: Sequence[Neighbours] | None = None
    ) -> list[CommitteePrediction]:
        """Count the structures and predict."""
        self.asked += len(structures)
        return super().predict(structures, neighbours)


def linear(vocabulary: Vocabulary, baseline: Baseline) -> Potential:
    """Return a potential that is its baseline: the network counts nothing."""
    return Potential.fresh(
        SETTINGS, vocabulary, mean_neighbours=10.0, seed=0, baseline=baseline, scale=0.0
    )


def pair_potential(frames: Sequence[TrainingFrame], cutoff: float) -> Potential:
    """Return the pair terms of some cutoff in angstrom that fit frames best."""
    species = {str(token) for frame in frames for token in frame.atoms.arrays["species"]}
    vocabulary = Vocabulary.of(species, charge_aware=True)
    fit = fit_baseline(vocabulary, frames, pair_cutoff=cutoff, pair_intervals=round(3 * cutoff))
    return linear(vocabulary, fit)


def labelled(atoms: Atoms, folder: Path, group: str) -> list[TrainingFrame]:
    """Return the frames of a structure's relaxation by the ionic model."""
    found = []
    for frame in make_label(BornLabeler(BornSettings()), atoms, folder).reading.frames:
        geometry = atoms.copy()
        geometry.set_cell(frame.cell)
        geometry.positions = frame.positions
        found.append(TrainingFrame(geometry, frame.energy, frame.forces, frame.stress, group))
    return found


def shape(relaxed: Atoms) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cell and positions, angstrom, without drift and rotation."""
    fractions = relaxed.positions @ np.linalg.inv(np.asarray(relaxed.cell))
    upright = np.asarray(relaxed.cell.standard_form()[0])
    return upright, (fractions - fractions.mean(axis=0)) @ upright


@pytest.fixture(scope="module")
def structures(olivine: Host) -> list[Atoms]:
    """Return olivine with every number of Na in four sites, unrelaxed."""
    return [
        to_atoms(olivine, config)
        for n in olivine.ion_counts
        for config in enumerate_distinct(olivine, n)
    ]


@pytest.fixture(scope="module")
def starts(structures: list[Atoms]) -> list[Atoms]:
    """Return those of one, two and three Na that are relaxed here."""
    return [structures[k] for k in (1, 5, 9, -2)]


@pytest.fixture(scope="module")
def committee(structures: list[Atoms], tmp_path_factory: pytest.TempPathFactory) -> Committee:
    """Return pair terms of two cutoffs."""
    folder = tmp_path_factory.mktemp("born")
    labels = [labelled(atoms, folder, str(k)) for k, atoms in enumerate(structures)]
    frames = [frame for label in labels for frame in label]
    members = [pair_potential(frames, cutoff) for cutoff in (8.0, 7.0)]
    return Committee(members, spread_scale=2.0)


@pytest.fixture(scope="module")
def relaxed(committee: Committee, starts: list[Atoms]) -> list[Relaxed]:
    """Return all starts, relaxed."""
    return relax(committee, starts, fmax=FMAX, max_steps=300)


@pytest.mark.parametrize("which", [0, -1])
def test_it_finds_the_minimum_that_ase_finds(
    committee: Committee, starts: list[Atoms], relaxed: list[Relaxed], which: int
) -> None:
    atoms = starts[which].copy()
    atoms.calc = committee.calculator()
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=FMAX / 4, steps=500)
    ours = relaxed[which]
    assert ours.converged
    assert ours.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-3)
    (cell, positions), (expected_cell, expected) = shape(ours.atoms), shape(atoms)
    np.testing.assert_allclose(cell, expected_cell, rtol=0, atol=0.02)
    assert np.linalg.norm(positions - expected, axis=1).max() < 0.02


def test_what_it_says_holds_at_the_geometry_it_returns(
    committee: Committee, starts: list[Atoms], relaxed: list[Relaxed]
) -> None:
    assert len(relaxed) == len(starts)
    for start, found in zip(starts, relaxed, strict=True):
        before, after = committee.predict([start, found.atoms])
        assert found.converged
        assert 1 < found.steps < 300
        assert found.energy == pytest.approx(after.energy, abs=1e-6)
        assert found.spread == pytest.approx(after.spread, abs=1e-6)
        assert found.energy < before.energy
        assert np.linalg.norm(after.forces, axis=1).max() < FMAX + 1e-6
        volume = found.atoms.get_volume()
        assert np.abs(after.stress).max() * volume ** (2.0 / 3.0) < 2.0 * FMAX


def test_arrays_stay_and_the_start_is_not_touched(
    committee: Committee, olivine: Host, relaxed: list[Relaxed], starts: list[Atoms]
) -> None:
    first = to_atoms(olivine, enumerate_distinct(olivine, 1)[0])
    np.testing.assert_array_equal(starts[0].positions, first.positions)
    np.testing.assert_array_equal(starts[0].cell, first.cell)
    for start, found in zip(starts, relaxed, strict=True):
        assert set(found.atoms.arrays) == set(start.arrays)
        for name in set(start.arrays) - {"positions"}:
            np.testing.assert_array_equal(found.atoms.arrays[name], start.arrays[name])
        assert found.atoms.pbc.all()


def test_steps_are_the_evaluations_made(committee: Committee, starts: list[Atoms]) -> None:
    counted = Counted(committee.members)
    (full,) = relax(counted, starts[:1], fmax=0.05, max_steps=100)
    assert full.converged
    assert counted.asked == full.steps
    (short,) = relax(committee, starts[:1], fmax=0.05, max_steps=3)
    assert (short.converged, short.steps) == (False, 3)
    assert short.energy > full.energy
    (again,) = relax(committee, [full.atoms], fmax=0.051, max_steps=100)
    assert (again.converged, again.steps) == (True, 1)
    np.testing.assert_allclose(again.atoms.positions, full.atoms.positions, atol=1e-12)


def test_few_steps_lead_from_ideal_sites_to_where_no_energy_is_left(
    committee: Committee, structures: list[Atoms]
) -> None:
    """Small forces are not enough: in soft modes they leave energies that a hull would notice."""
    found = relax(committee, structures[1:-1], fmax=0.03, max_steps=100)
    lowest = relax(committee, [one.atoms for one in found], fmax=FMAX / 3, max_steps=100)
    left = [(one.energy - low.energy) / 4 for one, low in zip(found, lowest, strict=True)]
    assert np.mean(left) < 0.08e-3
    assert np.mean([one.steps for one in found]) < 10


def test_the_gradient_is_the_energys_derivative(committee: Committee, starts: list[Atoms]) -> None:
    """Away from the start as well, where displacements and strain depend on each other."""
    surface, h = _Surface(committee, starts[0]), 1e-4
    point = 0.3 * np.random.default_rng(0).uniform(-1.0, 1.0, size=surface.size)
    gradient = surface.at(point).gradient
    for k in (0, 31, *range(surface.size - 6, surface.size)):
        move = h * np.eye(surface.size)[k]
        ahead, behind = (surface.at(point + s * move).prediction.energy for s in (1.0, -1.0))
        assert gradient[k] == pytest.approx((ahead - behind) / (2 * h), abs=1e-3, rel=1e-4)


def test_neighbours_are_found_again_as_atoms_move(
    committee: Committee, starts: list[Atoms]
) -> None:
    surface = _Surface(committee, starts[0])
    point = np.zeros(surface.size)
    point[:-6] = 1.0 * np.random.default_rng(0).uniform(-1.0, 1.0, size=surface.size - 6)
    place = surface.at(point)
    (fresh,) = committee.predict([place.atoms])
    assert place.prediction.energy == pytest.approx(fresh.energy, abs=1e-9)
    np.testing.assert_allclose(place.prediction.forces, fresh.forces, atol=1e-9)


@pytest.mark.parametrize("strength", [-30.0, 30.0, 1e4, np.nan])
def test_a_potential_without_a_minimum_ends_unconverged_and_sound(
    starts: list[Atoms], strength: float
) -> None:
    """All atoms attract each other, or repel each other, or there is no number at all."""
    start = starts[0]
    vocabulary = Vocabulary.of(set(start.arrays["species"]), charge_aware=True)
    n = len(vocabulary)
    terms = PairTerms(6.0, np.tile(strength * np.linspace(1.0, 0.0, 21) ** 2, (n, n, 1)))
    committee = Committee([linear(vocabulary, Baseline(np.zeros(n), terms))])
    (found,) = relax(committee, [start], fmax=0.05, max_steps=200)
    assert not found.converged
    assert np.isfinite(found.atoms.positions).all()
    assert np.isfinite(np.asarray(found.atoms.cell)).all()
    assert VOLUME_RANGE[0] < found.atoms.get_volume() / start.get_volume() < VOLUME_RANGE[1]
    distances = found.atoms.get_all_distances(mic=True)
    assert distances[np.triu_indices(len(start), 1)].min() > SHORTEST_DISTANCE
    np.testing.assert_array_equal(found.atoms.arrays["species"], start.arrays["species"])


def test_ions_alone_relax_in_the_cell_they_have(committee: Committee, starts: list[Atoms]) -> None:
    start = starts[0]
    (free,) = relax(committee, [start], fmax=FMAX, max_steps=200)
    (fixed,) = relax(committee, [start], fmax=FMAX, max_steps=200, cell=False)
    assert np.array_equal(fixed.atoms.cell.array, start.cell.array)
    assert fixed.converged
    (there,) = committee.predict([fixed.atoms])
    assert np.linalg.norm(there.forces, axis=1).max() <= FMAX
    (before,) = committee.predict([start])
    assert free.energy < fixed.energy < before.energy


def test_nothing_moves_farther_than_the_largest_displacement(
    committee: Committee, starts: list[Atoms]
) -> None:
    start, limit = starts[0], 0.05
    (far,) = relax(committee, [start], fmax=FMAX, max_steps=200)
    (near,) = relax(committee, [start], fmax=FMAX, max_steps=200, largest_displacement=limit)
    deformation = np.linalg.solve(start.cell.array, near.atoms.cell.array)
    strain = (deformation - np.eye(3)) * start.get_volume() ** (1 / 3)
    moved = near.atoms.positions @ np.linalg.inv(deformation) - start.positions
    assert np.linalg.norm(moved, axis=1).max() == pytest.approx(limit, rel=1e-6)
    assert np.abs(strain).max() <= limit * (1 + 1e-6)
    assert not near.converged
    (before,) = committee.predict([start])
    assert far.energy < near.energy < before.energy
    (wide,) = relax(committee, [start], fmax=FMAX, max_steps=200, largest_displacement=5.0)
    assert wide.energy == far.energy


def test_the_stiffness_is_the_gradients_derivative(
    committee: Committee, relaxed: list[Relaxed]
) -> None:
    """In stiff modes, of ions and cell together: soft ones are taken for stiffer on purpose."""
    surface, h = _Surface(committee, relaxed[1].atoms), 1e-4
    values, modes = np.linalg.eigh(surface.inverse_stiffness(relaxed[1].atoms))
    strained = np.argmax(np.where(values < 0.5, np.linalg.norm(modes[-6:], axis=0), 0.0))
    for k in (0, 20, int(strained)):
        ahead, behind = (surface.at(s * h * modes[:, k]).gradient for s in (1.0, -1.0))
        change = (ahead - behind) / (2 * h)
        np.testing.assert_allclose(change, modes[:, k] / values[k], atol=0.05 / values[k])
