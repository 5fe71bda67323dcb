"""The parent structure of a host, from a file, and the supercells that are made of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag
from pymatgen.core.structure import Structure

from al_charge.crystal.bounded import limited
from al_charge.crystal.geometry import refuse_impossible, refuse_left_handed
from al_charge.crystal.strict_files import read_parent
from al_charge.errors import InputError, one_line

LARGEST_SUPERCELL = 1000
"""Largest number of sites in a supercell; symmetry and search would take hours on a larger one."""
_DOCUMENTS = (".json", ".mson", ".yaml", ".yml")

Step = Annotated[int, Field(ge=-100, le=100)]
Row = tuple[Step, Step, Step]
Repeats = tuple[int, int, int]
Matrix = tuple[Row, Row, Row]


def _form_of_supercell(value: Any) -> str:
    """Return whether a supercell is written as a matrix or as repeats."""
    rows = isinstance(value, list | tuple) and [isinstance(row, list | tuple) for row in value]
    return "matrix" if rows and all(rows) else "repeats"


Supercell = Annotated[
    Annotated[Repeats, Tag("repeats")] | Annotated[Matrix, Tag("matrix")],
    Discriminator(_form_of_supercell),
]
"""Repeats along a, b and c, or the supercell's vectors in units of the cell's, as rows."""


def read_structure(
    path: Path, where: str = "host.structure", *, disordered: bool = False
) -> Structure:
    """Read a parent structure from a CIF or POSCAR.

    Parameters
    ----------
    path
        A CIF or POSCAR, compressed or not.
    where
        Field that names the file, for errors.
    disordered
        Whether sites may be partly occupied, or by several elements.

    Returns
    -------
    Structure
        With oxidation states, if the file has them.

    Raises
    ------
    InputError
        If there is no such file, it cannot be read, it has partly occupied sites, or its geometry
        is impossible or left-handed.
    """
    if not path.is_file():
        raise InputError(f"no structure file {path}", where=where)
    if any(ending in path.name.lower() for ending in _DOCUMENTS):
        # Reading one imports and calls whatever it names.
        raise InputError(
            f"{path.name} is a document of pymatgen, not a structure file",
            where=where,
            remedy="give a CIF (.cif) or a POSCAR",
        )
    try:
        with limited(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Where a POSCAR names no elements, pymatgen would invent them.
            warnings.filterwarnings("error", "Elements in POSCAR cannot be determined")
            structure = read_parent(path)
            positions = structure.cart_coords
    except InputError as error:
        raise InputError(
            error.what, where=f"{where}: {error.where}", remedy=error.remedy
        ) from error
    except Exception as error:  # pymatgen's parsers raise whatever their format breaks
        raise InputError(
            f"cannot read {path.name} ({type(error).__name__}: {one_line(str(error))[:120]})",
            where=where,
            remedy="give a CIF (.cif) or a POSCAR",
        ) from error
    if not (structure.is_ordered or disordered):
        raise InputError(
            f"{path.name} has partly occupied sites",
            where=where,
            remedy="give a structure whose every site is occupied",
        )
    field = f"{where}: {path.name}"
    refuse_impossible(structure.lattice.matrix, positions, field)
    refuse_left_handed(structure.lattice.matrix, field)
    return structure


def number_of_cells(supercell: Repeats | Matrix) -> int:
    """Return the number of cells in a supercell.

    Parameters
    ----------
    supercell
        Repeats or a matrix.

    Returns
    -------
    int
        1 or more.

    Raises
    ------
    InputError
        If it has no volume, or is left-handed.
    """
    if any(isinstance(number, int) and number < 1 for number in supercell):
        raise InputError("repeats must be 1 or more", where="host.supercell")
    (a, b, c), (d, e, f), (g, h, i) = matrix_of(supercell)
    cells = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if cells < 1:
        raise InputError(
            f"the matrix has the determinant {cells}",
            where="host.supercell",
            remedy="exchange two rows" if cells else "give three rows that span a volume",
        )
    return cells


def matrix_of(supercell: Repeats | Matrix) -> Matrix:
    """Return a supercell as a matrix.

    Parameters
    ----------
    supercell
        Repeats or a matrix.

    Returns
    -------
    tuple of three rows
        The supercell's vectors in units of the cell's.
    """
    a, b, c = supercell
    if isinstance(a, int) and isinstance(b, int) and isinstance(c, int):
        return (a, 0, 0), (0, b, 0), (0, 0, c)
    assert not isinstance(a, int) and not isinstance(b, int) and not isinstance(c, int)
    return a, b, c


def repeated(structure: Structure, supercell: Repeats | Matrix) -> Structure:
    """Return the supercell of a structure.

    Parameters
    ----------
    structure
        Not modified.
    supercell
        Repeats or a matrix.

    Returns
    -------
    Structure
        With the labels and properties of the structure's sites.

    Raises
    ------
    InputError
        If the supercell would be too large, or for any reason of `number_of_cells`.
    """
    refuse_large(structure, supercell)
    return structure.make_supercell(supercell, in_place=False)


def refuse_large(structure: Structure, supercell: Repeats | Matrix) -> None:
    """Refuse a supercell with more than `LARGEST_SUPERCELL` sites.

    Parameters
    ----------
    structure
        One cell.
    supercell
        Repeats or a matrix.

    Raises
    ------
    InputError
        If it would be too large, or for any reason of `number_of_cells`.
    """
    sites = len(structure) * number_of_cells(supercell)
    if sites > LARGEST_SUPERCELL:
        raise InputError(
            f"the supercell would have {sites} sites",
            where="host.supercell",
            remedy=f"choose one of at most {LARGEST_SUPERCELL}",
        )
