"""Geometries that no crystal can have, refused before all else, and metals bound to carbon."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matscipy.neighbours import neighbour_list
from numpy.typing import ArrayLike, NDArray

from al_charge.errors import InputError

SMALLEST_VOLUME = 1.0
"""angstrom^3 per atom; diamond, with the most atoms per volume, has 5.7."""
NEAREST = 0.5
"""Smallest distance of two atoms in angstrom; in a hydrogen molecule it is 0.74."""
LARGEST_LENGTH = 1000.0
"""Largest length of a cell vector in angstrom."""
FARTHEST = 1000.0
"""Largest absolute fractional coordinate."""
LONGEST_BOND = 3.0
"""angstrom; metals have carbon at 1.9 to 2.2."""


def refuse_impossible(cell: ArrayLike, positions: ArrayLike, where: str) -> None:
    """Refuse a cell or positions that no crystal can have.

    Parameters
    ----------
    cell
        Vectors in angstrom as rows, shape (3, 3).
    positions
        angstrom, shape (n_atoms, 3).
    where
        File or field that errors name.

    Raises
    ------
    InputError
        If there are no atoms, a number is NaN or infinite, the cell is too long or too small for
        its atoms, or atoms overlap or lie far outside the cell.
    """
    vectors, places = np.asarray(cell, dtype=float), np.asarray(positions, dtype=float)
    if not len(places):
        raise InputError("it has no atoms", where=where)
    if not (np.isfinite(vectors).all() and np.isfinite(places).all()):
        raise InputError("its cell or positions contain NaN or infinite values", where=where)
    if np.linalg.norm(vectors, axis=1).max() > LARGEST_LENGTH:
        raise InputError(f"a cell vector is longer than {LARGEST_LENGTH:g} A", where=where)
    volume = abs(float(np.linalg.det(vectors)))
    if volume < SMALLEST_VOLUME * len(places):
        raise InputError(
            f"its cell of {volume:.3g} A^3 is too small for {len(places)} atoms", where=where
        )
    fractional = np.linalg.solve(vectors.T, places.T).T
    if np.abs(fractional).max() > FARTHEST:
        raise InputError("atoms lie far outside its cell", where=where)
    # Where many are in one place, their pairs would fill the memory.
    pairs = _sharing_a_place(vectors, fractional) or neighbour_list(
        "ij", positions=places, cell=vectors, pbc=[True] * 3, cutoff=NEAREST
    )
    if len(pairs[0]):
        one, other = pairs[0][0], pairs[1][0]
        raise InputError(
            f"atoms {one} and {other} overlap, less than {NEAREST:g} A apart", where=where
        )


def _sharing_a_place(
    vectors: NDArray[np.float64], fractional: NDArray[np.float64]
) -> tuple[list[int], list[int]] | None:
    """Return two atoms in a box whose longest diagonal is `NEAREST`; None if all are alone."""
    boxes = np.ceil(3.0 * np.linalg.norm(vectors, axis=1) / NEAREST).astype(np.int64)
    box = np.floor(fractional % 1.0 * boxes).astype(np.int64) % boxes
    number = np.ravel_multi_index(tuple(box.T), tuple(boxes))
    order = np.argsort(number, kind="stable")
    shared = np.flatnonzero(np.diff(number[order]) == 0)
    if not len(shared):
        return None
    first = shared[order[shared].argmin()]
    return [int(order[first])], [int(order[first + 1])]


def refuse_non_periodic(pbc: ArrayLike, where: str) -> None:
    """Refuse a structure that is not periodic along every axis of its cell.

    Parameters
    ----------
    pbc
        Whether it is, along each axis.
    where
        File or field that errors name.

    Raises
    ------
    InputError
        If it is not; everything here treats structures as crystals.
    """
    axes = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,))
    if not axes.all():
        told = " ".join("T" if periodic else "F" for periodic in axes)
        raise InputError(
            f"it is not periodic along every axis (pbc {told})",
            where=where,
            remedy="leave it out, or set pbc to T T T if it is a crystal",
        )


def refuse_left_handed(cell: ArrayLike, where: str) -> None:
    """Refuse a left-handed cell, which VASP does not accept.

    Parameters
    ----------
    cell
        Vectors as rows, shape (3, 3).
    where
        File or field that errors name.

    Raises
    ------
    InputError
        If the cell is left-handed.
    """
    if np.linalg.det(np.asarray(cell, dtype=float)) < 0.0:
        raise InputError(
            "the vectors of its cell are left-handed", where=where, remedy="exchange two of them"
        )


def bound_to_carbon(
    symbols: Sequence[str], cell: ArrayLike, fractional: ArrayLike
) -> NDArray[np.bool_]:
    """Tell which atoms have a carbon atom as their nearest neighbour, as metals of cyanides have.

    Parameters
    ----------
    symbols
        Element of every atom.
    cell
        Vectors in angstrom as rows, shape (3, 3).
    fractional
        Coordinates in units of them, shape (n_atoms, 3).

    Returns
    -------
    ndarray of bool, shape (n_atoms,)
        In carbonates and oxalates metals have oxygen nearer than carbon, and are not bound to it;
        nor is what has no neighbour within `LONGEST_BOND`.
    """
    carbon = np.array([symbol == "C" for symbol in symbols])
    if not carbon.any():
        return carbon
    vectors = np.asarray(cell, dtype=float)
    one, other, distances = neighbour_list(
        "ijd",
        positions=np.asarray(fractional) @ vectors,
        cell=vectors,
        pbc=[True] * 3,
        cutoff=LONGEST_BOND,
    )
    bound = np.zeros(len(carbon), dtype=bool)
    nearest_first = np.lexsort((distances, one))
    nearest_first = nearest_first[(one != other)[nearest_first]]  # without its own images
    atoms, first = np.unique(one[nearest_first], return_index=True)
    bound[atoms] = carbon[other[nearest_first[first]]]
    return bound
