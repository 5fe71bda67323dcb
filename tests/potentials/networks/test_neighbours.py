"""Pairs of atoms, and what is kept of what was computed from them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

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
    for _ in range(2):
        for change in (lambda: salt.positions.__iadd__([[0.1, 0, 0], [0, 0, 0]]), salt.rattle):
            change()
            fresh = find_neighbours(salt, 7.5)
            lengths = np.linalg.norm(pairs.vectors(salt.positions, salt.cell.array), axis=1)
            expected = np.linalg.norm(fresh.vectors(salt.positions, salt.cell.array), axis=1)
            inside = lengths < 6.5
            np.testing.assert_allclose(
                np.sort(lengths[inside]), np.sort(expected[expected < 6.5]), atol=1e-12
            )
        salt.cell[2] *= 1.01


def test_vectors_are_computed_once_and_cannot_be_spoilt(salt: Atoms, pairs: Neighbours) -> None:
    first = pairs.vectors(salt.positions, salt.cell.array)
    assert pairs.vectors(salt.positions.copy(), salt.cell.array.copy()) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


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
