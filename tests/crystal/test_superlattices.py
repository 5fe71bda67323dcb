"""Superlattices against published numbers, and against what their definitions say."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase.geometry import is_minkowski_reduced
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.parent_crystal import primitive_cell
from al_charge.crystal.superlattices import (
    compact,
    distinct_superlattices,
    hermite,
    index_of,
    lattices_between,
    places,
    points,
)

FCC = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
BCC = [[0, 0, 0], [0.5, 0.5, 0.5]]
# Hart and Forcade, Phys. Rev. B 77, 224115 (2008), table I, from one cell up.
PUBLISHED = {
    "fcc": (Lattice.cubic(4.0), FCC, [1, 2, 3, 7, 5, 10, 7, 20, 14]),
    "bcc": (Lattice.cubic(4.0), BCC, [1, 2, 3, 7, 5, 10, 7, 20, 14]),
    "simple cubic": (Lattice.cubic(4.0), [[0, 0, 0]], [1, 3, 3, 9, 5, 13, 7, 24, 14]),
    "hexagonal": (Lattice.hexagonal(3.0, 5.0), [[0, 0, 0]], [1, 3, 5, 11, 7, 19, 11, 34, 23]),
    "tetragonal": (Lattice.tetragonal(3.0, 5.0), [[0, 0, 0]], [1, 5, 5, 17, 9, 29, 13, 51, 28]),
}
matrices = st.lists(st.integers(-4, 4), min_size=9, max_size=9).filter(
    lambda numbers: abs(round(np.linalg.det(np.reshape(numbers, (3, 3))))) > 0
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_distinct_shapes_are_as_many_as_published(name: str) -> None:
    lattice, sites, numbers = PUBLISHED[name]
    cell = primitive_cell(Structure(lattice, ["Cu"] * len(sites), sites))
    rotations = cell.operations[0]
    assert [len(distinct_superlattices(n, rotations)) for n in range(1, 10)] == numbers


@given(numbers=matrices, turns=st.lists(st.integers(-2, 2), min_size=3, max_size=3))
def test_normal_form_is_that_of_every_basis(numbers: list[int], turns: list[int]) -> None:
    rows = np.reshape(numbers, (3, 3))
    form = hermite(rows.tolist())
    other = np.array([[1, turns[0], turns[1]], [0, -1, turns[2]], [0, 0, 1]]) @ rows[[2, 0, 1]]
    assert hermite(other.tolist()) == form
    assert hermite([*form, *rows.tolist()]) == form
    assert index_of(form) == abs(round(np.linalg.det(rows)))
    array = np.array(form)
    assert (np.tril(array, -1) == 0).all() and (np.diag(array) > 0).all()
    assert all(0 <= array[i, j] < array[j, j] for i, j in ((0, 1), (0, 2), (1, 2)))


@given(numbers=matrices)
def test_places_differ_only_by_the_superlattice(numbers: list[int]) -> None:
    rows = np.reshape(numbers, (3, 3))
    form = hermite(rows.tolist())
    here = points(form)
    assert places(form, here).tolist() == list(range(index_of(form)))
    assert not here[0].any()
    for steps in product((-2, 0, 3), repeat=3):
        assert (places(form, here + np.array(steps) @ rows) == places(form, here)).all()


def test_compact_vectors_span_the_same_lattice() -> None:
    cell = Lattice.from_parameters(10.3, 6.0, 4.9, 90, 90, 90).matrix
    identity = np.eye(3, dtype=int)[None]
    for form in distinct_superlattices(6, identity):
        vectors = compact(form, cell)
        assert hermite(vectors) == form
        assert np.linalg.det(np.array(vectors)) == pytest.approx(6)
        rows = np.array(vectors) @ cell
        assert is_minkowski_reduced(rows[np.argsort(np.linalg.norm(rows, axis=1), kind="stable")])
    assert compact(hermite([[1, 0, 0], [0, 3, 0], [0, 0, 1]]), cell) == (
        (1, 0, 0),
        (0, 3, 0),
        (0, 0, 1),
    )


@pytest.mark.parametrize("diagonal", [(1, 1, 1), (2, 2, 1), (1, 6, 2), (2, 2, 2), (3, 3, 1)])
def test_moebius_function_counts_what_has_no_further_period(diagonal: tuple[int, int, int]) -> None:
    """Binary functions on the torus: all of them by listing, against inclusion and exclusion."""
    form = hermite(np.diag(diagonal).tolist())
    size = index_of(form)
    here = points(form)
    values = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    moved = [places(form, here + point) for point in here[1:]]
    aperiodic = (
        ~np.any([(values[:, one] == values).all(axis=1) for one in moved], axis=0)
        if (moved)
        else np.ones(2, dtype=bool)
    )
    lattices = lattices_between(form)
    assert lattices[0] == (form, 1)
    assert len({lattice for lattice, _ in lattices}) == len(lattices)
    assert sum(sign * 2 ** index_of(lattice) for lattice, sign in lattices) == aperiodic.sum()
