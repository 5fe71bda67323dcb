"""k-point grids: from a spacing that cells of every size share, and which of them are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from ase import Atoms

Grid = tuple[int, int, int]
ALIKE = 1.2
"""Steps of two grids, and their volumes, may differ by this factor: those of one crystal at various
compositions differ by less, those of small grids that differ in one division by more."""


def kpoint_grid(atoms: Atoms, spacing: float) -> Grid:
    """Return the k-point grid of a cell.

    A cell that is doubled along an axis has half of its divisions, or half of one more where
    they are odd.

    Parameters
    ----------
    atoms
        Whose cell it is for.
    spacing
        Largest distance of two points along an axis, 1/angstrom, the factor 2 pi included.

    Returns
    -------
    tuple of int
        Divisions along each axis, rounded up; the grid is centred on Gamma.
    """
    from ase.calculators.calculator import kptdensity2monkhorstpack

    # Rounding errors must not give axes of equal length different divisions.
    density = (1 - 1e-9) / spacing
    first, second, third = kptdensity2monkhorstpack(atoms, density, even=False)
    return int(first), int(second), int(third)


def grid_of_density(atoms: Atoms, density: float) -> Grid:
    """Return the k-point grid of a cell, by pymatgen's rule for a density of the whole grid.

    Divisions are rounded down, so that large cells may get much less than the density.

    Parameters
    ----------
    atoms
        Whose cell it is for.
    density
        k-points times cubic angstrom of the reciprocal cell.

    Returns
    -------
    tuple of int
        Divisions along each axis; the grid is centred on Gamma.
    """
    from pymatgen.core.structure import Structure
    from pymatgen.io.vasp.inputs import Kpoints

    make: Any = Kpoints.automatic_density_by_vol
    structure = Structure(
        atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions()
    )
    first, second, third = make(structure, density, force_gamma=True).kpts[0]
    return int(first), int(second), int(third)


def spacing_of(grid: Sequence[int], cell: ArrayLike) -> float:
    """Return the spacing of a grid.

    Parameters
    ----------
    grid
        Divisions along each axis.
    cell
        angstrom, shape (3, 3).

    Returns
    -------
    float
        Largest distance of two points along an axis, 1/angstrom, the factor 2 pi included.
    """
    return float(2 * np.pi * np.linalg.norm(_vectors(grid, cell), axis=1).max())


def are_alike(
    grid: Sequence[int], cell: ArrayLike, other_grid: Sequence[int], other_cell: ArrayLike
) -> bool:
    """Return whether two grids are the same for one crystal in two cells, but for a little strain.

    Parameters
    ----------
    grid
        Divisions along each axis of the one cell.
    cell
        angstrom, shape (3, 3).
    other_grid
        Divisions along each axis of the other cell.
    other_cell
        angstrom, shape (3, 3).

    Returns
    -------
    bool
        Whether they are as dense and their steps as long, whatever vectors the cells are given by.
    """
    ratios = _steps(grid, cell) / _steps(other_grid, other_cell)
    return bool(min(ratios) > 1 / ALIKE and max(ratios) < ALIKE)


def in_other_vectors(grid: Sequence[int], vectors: ArrayLike) -> Grid | None:
    """Return the divisions of a grid along other vectors of the same lattice.

    Parameters
    ----------
    grid
        Divisions along each axis of a cell, centred on Gamma.
    vectors
        That cell's vectors in units of the others, integers, shape (3, 3).

    Returns
    -------
    tuple of int or None
        None where the grid has no divisions along the other vectors: they are not the same ones in
        another order, and the divisions differ.
    """
    first, second, third = grid
    if first == second == third:
        return int(first), int(second), int(third)
    matrix = np.abs(np.asarray(vectors))
    if not (np.array_equal(matrix.sum(axis=0), [1, 1, 1]) and matrix.max() == 1):
        return None
    along = matrix.T @ np.array(grid)
    return int(along[0]), int(along[1]), int(along[2])


def _vectors(grid: Sequence[int], cell: ArrayLike) -> NDArray[np.float64]:
    """Return the steps of a grid, without the factor 2 pi, shape (3, 3)."""
    vectors: NDArray[np.float64] = np.linalg.inv(np.asarray(cell, dtype=float)).T
    vectors /= np.array(grid)[:, None]
    return vectors


def _steps(grid: Sequence[int], cell: ArrayLike) -> NDArray[np.float64]:
    """Return the volume of a step, and the lengths of the shortest ones, ascending."""
    from pymatgen.core.lattice import Lattice

    lattice = Lattice(_vectors(grid, cell))
    return np.array([lattice.volume, *sorted(lattice.get_lll_reduced_lattice().abc)])
