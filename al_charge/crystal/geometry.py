"""What no crystal can look like, refused before symmetry and neighbours are looked for in it."""

from __future__ import annotations

import numpy as np
from matscipy.neighbours import neighbour_list
from numpy.typing import ArrayLike

from al_charge.errors import InputError

SMALLEST_VOLUME = 1.0
"""angstrom^3 per atom; diamond, the densest, has 5.7."""
NEAREST = 0.5
"""angstrom between two atoms; those of a hydrogen molecule are 0.74 apart."""
LARGEST_LENGTH = 1000.0
"""angstrom; of a cell's vector."""
FARTHEST = 1000.0
"""Cells that an atom may be away from its own."""


def refuse_impossible(cell: ArrayLike, positions: ArrayLike, where: str) -> None:
    """Refuse a cell that is none, and atoms that are none, or lie on each other.

    Parameters
    ----------
    cell
        Vectors in angstrom as rows, shape (3, 3).
    positions
        angstrom, shape (n_atoms, 3).
    where
        The file or field, for errors.

    Raises
    ------
    InputError
        With what is impossible.
    """
    vectors, places = np.asarray(cell, dtype=float), np.asarray(positions, dtype=float)
    if not len(places):
        raise InputError("there is no atom in it", where=where)
    if not (np.isfinite(vectors).all() and np.isfinite(places).all()):
        raise InputError("its cell and positions are not all numbers", where=where)
    if np.linalg.norm(vectors, axis=1).max() > LARGEST_LENGTH:
        raise InputError(f"its cell is longer than {LARGEST_LENGTH:g} A", where=where)
    volume = abs(float(np.linalg.det(vectors)))
    if volume < SMALLEST_VOLUME * len(places):
        raise InputError(
            f"its cell of {volume:.3g} A^3 is no cell for {len(places)} atoms", where=where
        )
    if np.abs(np.linalg.solve(vectors.T, places.T)).max() > FARTHEST:
        raise InputError("atoms are far outside of its cell", where=where)
    pairs = neighbour_list("ij", positions=places, cell=vectors, pbc=[True] * 3, cutoff=NEAREST)
    if len(pairs[0]):
        one, other = pairs[0][0], pairs[1][0]
        raise InputError(
            f"atoms {one} and {other} lie on each other, less than {NEAREST:g} A apart", where=where
        )


def refuse_left_handed(cell: ArrayLike, where: str) -> None:
    """Refuse a cell that VASP does not take, a left-handed one.

    Raises
    ------
    InputError
        If the vectors a, b and c of the cell are no right-handed system.
    """
    if np.linalg.det(np.asarray(cell, dtype=float)) < 0.0:
        raise InputError(
            "the vectors of its cell are left-handed", where=where, remedy="exchange two of them"
        )
