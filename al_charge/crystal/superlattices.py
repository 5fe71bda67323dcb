"""Superlattices of a lattice in exact integers: normal forms, cosets, and all distinct shapes.

A superlattice is given by three vectors in units of those of the lattice, as rows. The method is
that of Hart and Forcade, Phys. Rev. B 77, 224115 (2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import permutations, product
from math import comb

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.parent import Matrix

Integers = NDArray[np.int64]


def hermite(vectors: Iterable[Iterable[int]]) -> Matrix:
    """Return the Hermite normal form of the lattice that vectors generate.

    Parameters
    ----------
    vectors
        Three or more, in units of the lattice's; together they span space.

    Returns
    -------
    tuple of three rows
        Upper triangular, the diagonal positive, every number above it from 0 to below the one on
        the diagonal: equal for equal superlattices.
    """
    left = [[int(number) for number in vector] for vector in vectors]
    rows: list[list[int]] = []
    for column in range(3):
        while True:
            some = sorted((row for row in left if row[column]), key=lambda row: abs(row[column]))
            if len(some) < 2:
                break
            for row in some[1:]:
                _subtract(row, some[0], row[column] // some[0][column])
        pivot = some[0]
        left = [row for row in left if row is not pivot]
        if pivot[column] < 0:
            pivot = [-number for number in pivot]
        for row in rows:
            _subtract(row, pivot, row[column] // pivot[column])
        rows.append(pivot)
    return as_matrix(rows)


def as_matrix(rows: Iterable[Iterable[int]]) -> Matrix:
    """Return three vectors as a matrix.

    Parameters
    ----------
    rows
        The vectors.

    Returns
    -------
    tuple of three rows
        Of three numbers each.
    """
    (a, b, c), (d, e, f), (g, h, i) = (map(int, row) for row in rows)
    return (a, b, c), (d, e, f), (g, h, i)


def _subtract(row: list[int], other: list[int], times: int) -> None:
    for place in range(3):
        row[place] -= times * other[place]


def index_of(form: Matrix) -> int:
    """Return how many lattice points are in a cell of a superlattice.

    Parameters
    ----------
    form
        Its Hermite normal form.

    Returns
    -------
    int
        1 or more.
    """
    return form[0][0] * form[1][1] * form[2][2]


def points(form: Matrix) -> Integers:
    """Return one lattice point for each translation that a superlattice lacks.

    Parameters
    ----------
    form
        Its Hermite normal form.

    Returns
    -------
    ndarray of int, shape (index, 3)
        In the order of `places`; the origin is the first.
    """
    return np.array(list(product(*(range(form[axis][axis]) for axis in range(3)))))


def places(form: Matrix, vectors: Integers) -> Integers:
    """Return which of `points` lattice vectors are equal to, but for vectors of the superlattice.

    Parameters
    ----------
    form
        Hermite normal form of the superlattice.
    vectors
        Lattice vectors, shape (..., 3).

    Returns
    -------
    ndarray of int, shape (...)
        From 0 to below the index.
    """
    rest = np.array(vectors, dtype=np.int64)
    for axis, row in enumerate(form):
        rest -= (rest[..., axis] // row[axis])[..., None] * np.array(row)
    found: Integers = (rest[..., 0] * form[1][1] + rest[..., 1]) * form[2][2] + rest[..., 2]
    return found


def distinct_superlattices(index: int, rotations: Integers) -> list[Matrix]:
    """Return all superlattices of an index that no rotation maps onto each other.

    Parameters
    ----------
    index
        Lattice points in a cell.
    rotations
        Matrices of the lattice's point group, which act on columns, shape (n, 3, 3).

    Returns
    -------
    list of Hermite normal forms
        The first of its images stands for each; ascending.
    """
    left = set(_superlattices(index))
    found = []
    while left:
        first = min(left)
        found.append(first)
        left -= {hermite(np.array(first) @ rotation.T) for rotation in rotations}
    return found


def _superlattices(index: int) -> Iterator[Matrix]:
    for a, b in product(range(1, index + 1), repeat=2):
        c, rest = divmod(index, a * b)
        if rest == 0:
            for x, y, z in product(range(b), range(c), range(c)):
                yield (a, x, y), (0, b, z), (0, 0, c)


def compact(form: Matrix, cell: NDArray[np.float64]) -> Matrix:
    """Return the shortest vectors of a superlattice.

    Parameters
    ----------
    form
        Its Hermite normal form.
    cell
        Vectors of the lattice, angstrom, shape (3, 3).

    Returns
    -------
    tuple of three rows
        A Minkowski-reduced, right-handed cell of the superlattice in units of the lattice's
        vectors; each along the lattice vector that it is most like.
    """
    from ase.geometry import minkowski_reduce

    _, steps = minkowski_reduce(np.array(form) @ cell)
    rows = np.array(steps) @ np.array(form)
    turned = [
        rows[list(order)] * np.array(signs)[:, None]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]
    right_handed = [one for one in turned if np.linalg.det(one) > 0]
    best = max(right_handed, key=lambda one: (int(np.trace(one)), one.tolist()))
    return as_matrix(best)


def lattices_containing(form: Matrix) -> list[Matrix]:
    """Return all lattices that contain a superlattice.

    Parameters
    ----------
    form
        Hermite normal form of the superlattice.

    Returns
    -------
    list of Hermite normal forms
        The superlattice itself and the lattice among them, ascending.
    """
    found = new = {form}
    while new:
        new = {hermite([*one, point]) for one in new for point in points(form)} - found
        found = found | new
    return sorted(found)


def lattices_between(form: Matrix) -> list[tuple[Matrix, int]]:
    """Return the lattices that contain a superlattice, with their Moebius functions.

    Periodic functions of the superlattice that have no further period are counted by the sum over
    these lattices of the Moebius function times the number of functions with all their periods. It
    is zero but for lattices whose vectors, times a product of distinct primes, are all in the
    superlattice; these are products over primes p of (-1)^k p^(k (k-1) / 2), k the rank of the
    p-part (Hall, Quart. J. Math. 7, 134 (1936)).

    Parameters
    ----------
    form
        Hermite normal form of the superlattice.

    Returns
    -------
    list of tuple
        Hermite normal form, and Moebius function, of those where it is not zero; the superlattice
        itself first.
    """
    found = [(form, 1)]
    for prime in _primes(index_of(form)):
        # Points whose multiple by the prime is in the superlattice make a vector space.
        all_points = points(form)
        order = all_points[places(form, prime * all_points) == 0]
        spaces: dict[Matrix, int] = {form: 0}
        while True:
            grown = {hermite([*one, point]) for one in spaces for point in order} - spaces.keys()
            if not grown:
                break
            spaces |= {one: _rank(index_of(form) // index_of(one), prime) for one in grown}
        signed = {one: (-1) ** k * prime ** comb(k, 2) for one, k in spaces.items()}
        found = [
            (hermite([*one, *other]), sign * times)
            for one, sign in found
            for other, times in signed.items()
        ]
    return found


def _primes(number: int) -> list[int]:
    divisors = [d for d in range(2, number + 1) if number % d == 0]
    return [d for d in divisors if all(d % other or d == other for other in divisors)]


def _rank(number: int, prime: int) -> int:
    rank = 0
    while number > 1:
        number, rank = number // prime, rank + 1
    return rank
