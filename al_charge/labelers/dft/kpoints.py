"""k-point grids: from a density that cells of every size share, and which of them are alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from ase import Atoms

Grid = tuple[int, int, int]
ALIKE = 1.2
"""Steps and densities of two grids may differ by this factor: those of one crystal at various
compositions differ by less, those of small grids that differ in one division by more."""


def kpoint_grid(atoms: Atoms, density: float) -> Grid:
    """Return the k-point grid of a cell.

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


def density_of(grid: Sequence[int], cell: ArrayLike) -> float:
    """Return the density of a grid.

    Parameters
    ----------
    grid
        Divisions along each axis.
    cell
        angstrom, shape (3, 3).

    Returns
    -------
    float
        k-points times cubic angstrom of the reciprocal cell.
    """
    volume = abs(np.linalg.det(np.asarray(cell, dtype=float)))
    return float(np.prod(grid) * volume / (2 * np.pi) ** 3)


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
    ratios = [
        *_steps(grid, cell) / _steps(other_grid, other_cell),
        density_of(grid, cell) / density_of(other_grid, other_cell),
    ]
    return bool(min(ratios) > 1 / ALIKE and max(ratios) < ALIKE)


def _steps(grid: Sequence[int], cell: ArrayLike) -> NDArray[np.float64]:
    """Return the lengths of the shortest steps of a grid, ascending, without the factor 2 pi."""
    from pymatgen.core.lattice import Lattice

    steps = np.linalg.inv(np.asarray(cell, dtype=float)).T / np.array(grid)[:, None]
    return np.sort(Lattice(steps).get_lll_reduced_lattice().abc)
