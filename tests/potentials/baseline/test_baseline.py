"""The energy baseline: references of species, and the splines of pairs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.potentials.baseline.fit import RIDGE, Baseline, fit_baseline, fit_references
from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.prediction import Prediction
from al_charge.potentials.vocabulary import Vocabulary

Array = NDArray[np.float64]

CUTOFF, INTERVALS = 6.0, 24
DEPTH, WIDTH, BOND = 0.8, 2.0, 2.3
"""Of the Morse potential between Na+ and O2-: eV, 1/angstrom, angstrom."""
VOCABULARY = Vocabulary.of(["Na+", "O2-"], charge_aware=True)
SODIUM, OXYGEN = 0, 1

# Atoms of Na+, Fe2+, Fe3+, P5+, Si4+ and O2- in neutral cells.
PHOSPHATE = np.array([[n, n, 4 - n, 4, 0, 16] for n in range(5)])
SILICATE = np.array([[n, n - 4, 8 - n, 0, 4, 16] for n in range(4, 9)])


def energies_of(counts: NDArray[np.int64], seed: int) -> Array:
    """Return energies of cells that species account for to within some meV per atom."""
    rng = np.random.default_rng(seed)
    own = np.array([-2.0, -9.0, -7.5, -8.0, -7.0, -5.5])
    energies: Array = counts @ own + 0.005 * counts.sum(axis=1) * rng.normal(size=len(counts))
    return energies


def morse(distances: Array) -> tuple[Array, Array]:
    """Return energy and slope of a pair."""
    decay = np.exp(-WIDTH * (distances - BOND))
    return DEPTH * ((1.0 - decay) ** 2 - 1.0), 2.0 * DEPTH * WIDTH * decay * (1.0 - decay)


def salt(seed: int, size: float = 1.0) -> Atoms:
    """Return four Na+ and four O2- on a rattled rock-salt lattice."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
    odd = grid.sum(axis=1) % 2
    species = np.where(odd, "O2-", "Na+")
    atoms = Atoms(np.where(odd, "O", "Na"), 2.4 * grid, cell=[4.8] * 3, pbc=True)
    atoms.rattle(0.15, seed=seed)
    atoms.set_cell(size * np.asarray(atoms.cell), scale_atoms=True)
    atoms.set_array("species", species)
    return atoms


def bound(seed: int, size: float) -> TrainingFrame:
    """Return a frame whose unlike ions attract each other by the Morse potential."""
    atoms = salt(seed, size)
    pairs = find_neighbours(atoms, 14.0)
    vectors = pairs.vectors(atoms.positions, np.asarray(atoms.cell))
    unlike = atoms.numbers[pairs.centres] != atoms.numbers[pairs.neighbours]
    distances = np.linalg.norm(vectors, axis=1)
    values, slopes = (unlike * part for part in morse(distances))
    pulls = vectors * (slopes / distances)[:, None]
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, pairs.centres, pulls)
    stress = vectors.T @ pulls / (2.0 * atoms.get_volume())
    return TrainingFrame(atoms, 0.5 * float(values.sum()), forces, stress, f"{seed}")


def evaluated(baseline: Baseline, atoms: Atoms) -> tuple[float, Array, Array]:
    """Return energy, forces and stress that the pair terms give."""
    assert baseline.pairs is not None
    pairs = find_neighbours(atoms, baseline.cutoff)
    edges = pairs.within(atoms.positions, atoms.cell.array, baseline.cutoff, single=True)
    species = VOCABULARY.index(atoms.arrays["species"])
    return baseline.pairs.evaluate(edges, species, atoms.get_volume())


def dimer(terms: PairTerms, distance: float, species: tuple[int, int]) -> tuple[float, Array]:
    """Return energy and forces of two atoms apart on their own."""
    pair = Neighbours(np.array([0, 1]), np.array([1, 0]), np.zeros((2, 3)))
    positions = np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])
    edges = pair.within(positions, np.eye(3), terms.cutoff, single=True)
    energy, forces, _ = terms.evaluate(edges, np.array(species), 1.0)
    return energy, forces


@pytest.fixture(scope="module")
def fitted() -> Baseline:
    """Return the baseline of twenty-one frames between small and large cells."""
    frames = [bound(seed, size) for seed, size in enumerate(np.linspace(0.9, 1.2, 21))]
    return fit_baseline(VOCABULARY, frames, pair_cutoff=CUTOFF, pair_intervals=INTERVALS)


def test_references_solve_the_ridge_equations() -> None:
    energies = energies_of(PHOSPHATE, 0)
    atoms = PHOSPHATE.sum(axis=1)
    fractions = PHOSPHATE / atoms[:, None]
    normal = fractions.T @ fractions + RIDGE * len(atoms) * np.eye(6)
    expected = np.linalg.solve(normal, fractions.T @ (energies / atoms))
    np.testing.assert_allclose(fit_references(PHOSPHATE, energies), expected, atol=1e-9)


def test_references_of_dependent_counts_tend_to_the_smallest_solution() -> None:
    assert np.linalg.matrix_rank(PHOSPHATE) == 2
    energies = energies_of(PHOSPHATE, 0)
    atoms = PHOSPHATE.sum(axis=1)
    smallest = np.linalg.pinv(PHOSPHATE / atoms[:, None]) @ (energies / atoms)
    found = fit_references(PHOSPHATE, energies, ridge=1e-13)
    np.testing.assert_allclose(found, smallest, atol=1e-6)
    assert found[4] == 0.0


def test_a_second_host_leaves_the_first_as_it_was() -> None:
    first, second = energies_of(PHOSPHATE, 0), energies_of(SILICATE, 1)
    alone = fit_references(PHOSPHATE, first)
    both = fit_references(np.concatenate([PHOSPHATE, SILICATE]), np.concatenate([first, second]))
    assert np.abs(both).max() < 20.0
    for references, counts, energies in (
        (alone, PHOSPHATE, first),
        (both, PHOSPHATE, first),
        (both, SILICATE, second),
    ):
        left = (counts @ references - energies) / counts.sum(axis=1)
        assert np.abs(left).max() < 0.02
    moved = PHOSPHATE @ (both - alone) / PHOSPHATE.sum(axis=1)
    assert np.abs(moved).max() < 5e-4


def test_a_known_pair_potential_is_recovered(fitted: Baseline) -> None:
    assert fitted.pairs is not None
    distances = np.linspace(2.2, 4.5, 24)
    found = [dimer(fitted.pairs, d, (SODIUM, OXYGEN)) for d in distances]
    expected, slopes = morse(distances)
    np.testing.assert_allclose([energy for energy, _ in found], expected, atol=0.05)
    np.testing.assert_allclose([forces[0, 0] for _, forces in found], slopes, atol=0.1)
    for like in (SODIUM, OXYGEN):
        assert abs(dimer(fitted.pairs, 3.4, (like, like))[0]) < 0.05
    label = bound(100, 1.05)
    energy, forces, stress = evaluated(fitted, label.atoms)
    references = 4.0 * fitted.references.sum()
    assert energy + references == pytest.approx(label.energy, abs=0.02)
    assert label.stress is not None
    assert np.linalg.norm(forces - label.forces) < 0.05 * np.linalg.norm(label.forces)
    assert np.linalg.norm(stress - label.stress) < 0.05 * np.linalg.norm(label.stress)


def test_forces_and_stress_are_the_energys_derivatives(fitted: Baseline) -> None:
    atoms, h = salt(7, 1.02), 1e-4
    _, forces, stress = evaluated(fitted, atoms)
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        ends = []
        for sign in (1.0, -1.0):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * h
            ends.append(evaluated(fitted, moved)[0])
        assert forces[atom, axis] == pytest.approx(-(ends[0] - ends[1]) / (2 * h), abs=1e-6)
    for i, j in ((0, 0), (1, 2)):
        ends = []
        for sign in (1.0, -1.0):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            moved = atoms.copy()
            moved.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + strain), scale_atoms=True)
            ends.append(evaluated(fitted, moved)[0])
        slope = (ends[0] - ends[1]) / (2 * h * atoms.get_volume())
        assert stress[i, j] == pytest.approx(slope, abs=1e-7)


def test_stiffness_is_the_second_derivative_of_a_pair(fitted: Baseline) -> None:
    terms, h = fitted.pairs, 1e-4
    assert terms is not None
    pair = np.array([SODIUM]), np.array([OXYGEN])
    (block,) = terms.stiffness(np.array([[2.6, 0.0, 0.0]]), *pair)
    ahead, behind = (dimer(terms, 2.6 + s * h, (SODIUM, OXYGEN))[1][0, 0] for s in (1, -1))
    here = dimer(terms, 2.6, (SODIUM, OXYGEN))[1][0, 0]
    expected = np.diag([(ahead - behind) / (2 * h), here / 2.6, here / 2.6])
    np.testing.assert_allclose(block, expected, atol=1e-5)


def test_pairs_vanish_smoothly_at_the_cutoff(fitted: Baseline) -> None:
    terms = fitted.pairs
    assert terms is not None
    for distance in (CUTOFF, CUTOFF + 0.1, 2 * CUTOFF):
        energy, forces = dimer(terms, distance, (SODIUM, OXYGEN))
        assert energy == 0.0
        assert not forces.any()
    energy, forces = dimer(terms, CUTOFF - 1e-3, (SODIUM, OXYGEN))
    assert abs(energy) < 1e-9
    assert np.abs(forces).max() < 1e-5


def test_pairs_repel_where_there_are_no_data(fitted: Baseline) -> None:
    assert fitted.pairs is not None
    for species in ((SODIUM, OXYGEN), (SODIUM, SODIUM), (OXYGEN, OXYGEN)):
        near = [dimer(fitted.pairs, d, species)[0] for d in (0.3, 0.6, 0.9, 1.2)]
        assert np.all(np.diff(near) < -1.0)
        assert np.all(np.diff(near, 2) > 0.0)


def test_no_pair_cutoff_means_no_pairs() -> None:
    frames = [bound(seed, 1.0) for seed in range(3)]
    baseline = fit_baseline(VOCABULARY, frames, pair_cutoff=0.0, pair_intervals=INTERVALS)
    assert baseline.pairs is None
    assert baseline.cutoff == 0.0
    mean = np.mean([frame.energy for frame in frames])
    assert 4.0 * baseline.references.sum() == pytest.approx(mean, rel=1e-3)


def test_what_is_known_already_is_not_fitted_again(fitted: Baseline) -> None:
    frames = [bound(seed, size) for seed, size in enumerate((0.95, 1.0, 1.05))]
    known = [Prediction(f.energy, f.forces, f.stress) for f in frames if f.stress is not None]
    rest = fit_baseline(
        VOCABULARY, frames, pair_cutoff=CUTOFF, pair_intervals=INTERVALS, known=known
    )
    assert rest.pairs is not None
    assert np.abs(rest.references).max() < 1e-8
    assert abs(dimer(rest.pairs, 2.4, (SODIUM, OXYGEN))[0]) < 1e-8
    total = fitted.plus(rest)
    np.testing.assert_allclose(total.references, fitted.references, atol=1e-8)


def test_frames_without_weight_do_not_count(fitted: Baseline) -> None:
    """Such as labels in other spin states, which cost energy and have other forces."""
    frames = [bound(seed, size) for seed, size in enumerate(np.linspace(0.9, 1.2, 21))]
    others = [
        replace(frame, energy=frame.energy + 2.0, forces=1.5 * frame.forces, group=f"{k} other")
        for k, frame in enumerate(frames)
    ]
    fit = partial(
        fit_baseline, VOCABULARY, frames + others, pair_cutoff=CUTOFF, pair_intervals=INTERVALS
    )
    weights = np.repeat([1.0, 0.0], 21)
    assert fitted.pairs is not None
    for found, near in ((fit(weights=weights), True), (fit(weights=None), False)):
        assert found.pairs is not None
        same = np.allclose(found.pairs.coefficients, fitted.pairs.coefficients, atol=1e-3)
        moved = 4.0 * abs(found.references.sum() - fitted.references.sum())
        assert same is near
        assert bool(moved < 1e-3) is near


def test_weights_of_one_size_leave_references_where_they_were() -> None:
    """The ridge stands against the weights, not against the number of structures."""
    energies = energies_of(PHOSPHATE, 0)
    for size in (1.0, 0.1, 0.01):
        found = fit_references(PHOSPHATE, energies, np.full(len(PHOSPHATE), size))
        np.testing.assert_allclose(found, fit_references(PHOSPHATE, energies), atol=1e-8)


def test_a_group_tells_references_by_its_weightiest_frame() -> None:
    frames = [replace(bound(seed, 1.0), group="one") for seed in range(3)]
    fit = partial(fit_baseline, VOCABULARY, frames, pair_cutoff=0.0, pair_intervals=INTERVALS)
    for weights, place in ((None, 2), ([0.1, 1.0, 0.1], 1), ([1.0, 0.1, 1.0], 2)):
        found = fit(weights=None if weights is None else np.array(weights))
        energy = 4.0 * found.references.sum()
        assert energy == pytest.approx(frames[place].energy, rel=1e-3)
        others = [frame.energy for k, frame in enumerate(frames) if k != place]
        assert all(abs(energy - other) > 1e-2 for other in others)


def test_terms_on_other_knots_do_not_add(fitted: Baseline) -> None:
    other = Baseline(np.zeros(2), PairTerms(CUTOFF + 1.0, np.zeros((2, 2, INTERVALS + 3))))
    with pytest.raises(AlChargeError, match="another cutoff"):
        fitted.plus(other)


def test_a_new_row_has_its_parents_pairs_or_none(fitted: Baseline) -> None:
    child = fitted.with_rows([SODIUM, OXYGEN, SODIUM, None])
    assert child.pairs is not None
    assert fitted.pairs is not None
    for row, energy in (
        (2, dimer(fitted.pairs, 2.4, (SODIUM, OXYGEN))[0]),
        (3, 0.0),
    ):
        assert dimer(child.pairs, 2.4, (row, OXYGEN))[0] == energy
    assert list(child.references) == [*fitted.references, fitted.references[SODIUM], 0.0]
