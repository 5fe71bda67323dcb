"""Pairs of atoms, and what is kept of what was computed from them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours


@pytest.fixture
def salt() -> Atoms:
    """Rock salt, two atoms, whose images are among their neighbours."""
    return bulk("NaCl", "rocksalt", a=5.6)


@pytest.fixture
def pairs(salt: Atoms) -> Neighbours:
    """Its pairs, those of an atom and its own images among them."""
    return find_neighbours(salt, 7.0)


def test_vectors_follow_atoms_and_cell(salt: Atoms, pairs: Neighbours) -> None:
    """Also where the same arrays are changed in place."""
    cell = salt.cell.array
    for changed in (salt.positions[0], cell[2], salt.positions[1], cell[0]):
        changed *= 1.01
        changed += 0.01
        lengths = np.linalg.norm(pairs.vectors(salt.positions, cell), axis=1)
        expected = neighbor_list("d", salt, 6.5)  # ASE's own
        np.testing.assert_allclose(np.sort(lengths[lengths < 6.5]), np.sort(expected), atol=1e-12)


def test_vectors_are_computed_once_and_cannot_be_spoilt(salt: Atoms, pairs: Neighbours) -> None:
    first = pairs.vectors(salt.positions, salt.cell.array)
    assert pairs.vectors(salt.positions.copy(), salt.cell.array.copy()) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


def test_pairs_within_a_cutoff_are_those_that_ase_finds(salt: Atoms, pairs: Neighbours) -> None:
    """Wherever atoms have moved, and whatever cutoff was asked for before."""
    cell = salt.cell.array
    for stretch in (1.0, 1.01):
        cell *= stretch
        salt.positions[1] *= stretch**2
        for cutoff in (6.0, 5.0):
            edges = pairs.within(salt.positions, cell, cutoff)
            expected = neighbor_list("ijD", salt, cutoff)
            assert np.all(np.diff(edges.centres) >= 0)
            ours, ase = (
                sorted(zip(ends, others, np.round(arrows, 9).tolist(), strict=True))
                for ends, others, arrows in (
                    (edges.centres, edges.neighbours, edges.vectors),
                    expected,
                )
            )
            assert ours == ase
            single = pairs.within(salt.positions, cell, cutoff, single=True)
            whole = np.concatenate([single.places, pairs.opposites[single.places]])
            np.testing.assert_array_equal(np.sort(whole), edges.places)
            np.testing.assert_array_equal(single.centres, pairs.centres[single.places])
            np.testing.assert_array_equal(single.neighbours, pairs.neighbours[single.places])
            now = pairs.vectors(salt.positions, cell)
            np.testing.assert_array_equal(single.vectors, now[single.places])
            assert pairs.within(salt.positions, cell, cutoff) is edges


def test_single_pairs_and_their_opposites_are_all(salt: Atoms, pairs: Neighbours) -> None:
    both = np.concatenate([pairs.single, pairs.opposites[pairs.single]])
    np.testing.assert_array_equal(np.sort(both), np.arange(len(pairs.centres)))
    vectors = pairs.vectors(salt.positions, salt.cell.array)
    np.testing.assert_allclose(vectors[pairs.opposites], -vectors, atol=1e-12)


def test_opposites_among_some_pairs_are_of_those_pairs(salt: Atoms, pairs: Neighbours) -> None:
    lengths = np.linalg.norm(pairs.vectors(salt.positions, salt.cell.array), axis=1)
    for cutoff in (3.0, 5.0, 3.0):
        kept = np.flatnonzero(lengths < cutoff)
        np.testing.assert_array_equal(kept[pairs.opposites_within(kept)], pairs.opposites[kept])
    one, other = kept[0], kept[pairs.centres[kept] != pairs.centres[kept[0]]][0]
    four = np.array([one, pairs.opposites[one], other, pairs.opposites[other]])
    assert len({*four.tolist()}) == 4
    np.testing.assert_array_equal(pairs.opposites_within(four), [1, 0, 3, 2])
    four[:] = four[[0, 2, 1, 3]]  # in place
    np.testing.assert_array_equal(pairs.opposites_within(four), [2, 3, 0, 1])
