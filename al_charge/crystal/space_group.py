"""Space groups of structures within a tolerance, and structures whose noise is removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.errors import AlChargeError

SYMPREC = 1e-2
"""Tolerance in angstrom within which sites of the parent count as symmetry-equivalent."""
LOOSER = (0.02, 0.05, 0.1)
"""Tolerances in angstrom at which a structure is searched for symmetry that it almost has."""
NOISE = (0.01, 0.02, 0.05, 0.1)
"""Noise in angstrom that is suggested for the field ``symmetrize``."""
STATES = "states"
"""Property of sites of one element that do not count as alike, because their states differ."""
FARTHEST = 4.0
"""Largest displacement of a site, and of the end of a cell vector, in units of the noise."""
_TIGHT = 1e-4
_FRACTION = 24  # elements of transformation matrices are multiples of 1/24


@dataclass(frozen=True)
class SpaceGroup:
    """The symmetry of a structure within a tolerance.

    Attributes
    ----------
    symbol
        Hermann-Mauguin symbol, such as ``Pnma``.
    operations
        Number of symmetry operations of the cell as it is given, translations included.
    tolerance
        Largest distance of equivalent sites, in angstrom.
    """

    symbol: str
    operations: int
    tolerance: float


def space_group(structure: Structure, tolerance: float = SYMPREC) -> SpaceGroup:
    """Return the space group of a structure.

    Parameters
    ----------
    structure
        Sites of one element count as alike, whatever their oxidation states are.
    tolerance
        Largest distance of equivalent sites, in angstrom.

    Returns
    -------
    SpaceGroup
        The symmetry that spglib finds.

    Raises
    ------
    AlChargeError
        If spglib finds none.
    """
    dataset = spglib.get_symmetry_dataset(spglib_cell(structure), symprec=tolerance)
    if dataset is None:
        raise AlChargeError("spglib finds no symmetry", where="host.structure")
    return SpaceGroup(dataset.international, len(dataset.rotations), tolerance)


def symmetrized(structure: Structure, noise: float) -> Structure:
    """Return a structure with the noise of its cell and its coordinates removed.

    It gets the highest symmetry to which it comes by small displacements: their root mean square
    over all coordinates is at most the noise, and no site and no end of a cell vector moves by more
    than `FARTHEST` times as much. The cell keeps its setting and its orientation.

    Parameters
    ----------
    structure
        Not modified.
    noise
        In angstrom.

    Returns
    -------
    Structure
        The same sites in the same order; a copy where there is no more symmetry to be had.
    """
    best, operations = structure.copy(), space_group(structure, 1e-5).operations
    for tolerance in (SYMPREC, *LOOSER, 2 * LOOSER[-1], 4 * LOOSER[-1]):
        found = _idealised(structure, tolerance)
        if found is None or found[1] > noise:
            continue
        symmetric = space_group(found[0], _TIGHT).operations
        if symmetric > operations:
            best, operations = found[0], symmetric
    return best


def almost(structure: Structure) -> tuple[SpaceGroup, float] | None:
    """Return symmetry that a structure has within a looser tolerance than `SYMPREC`.

    Parameters
    ----------
    structure
        Not modified.

    Returns
    -------
    SpaceGroup
        The highest, at the smallest tolerance.
    float
        Noise in angstrom, one of `NOISE`, for which `symmetrized` reaches it.
    None
        In place of both, if there is none.
    """
    known = space_group(structure).operations
    result = None
    for tolerance in LOOSER:
        idealised = _idealised(structure, tolerance)
        if idealised is None:
            continue
        found = space_group(structure, tolerance)
        enough = [noise for noise in NOISE if idealised[1] <= noise]
        if found.operations > known and enough:
            known, result = found.operations, (found, enough[0])
    return result


def spglib_cell(structure: Structure) -> tuple[list[list[float]], list[list[float]], list[int]]:
    """Return a structure as spglib takes it.

    Parameters
    ----------
    structure
        Sites with the same elements, in the same amounts, are of one kind.

    Returns
    -------
    list
        Cell vectors in angstrom.
    list
        Fractional coordinates.
    list
        A number for each site, equal for sites of one kind.
    """
    kinds: list[int] = _kinds(structure).tolist()
    return structure.lattice.matrix.tolist(), structure.frac_coords.tolist(), kinds


def _kinds(structure: Structure) -> NDArray[np.int64]:
    """Return a number for each site, equal for equal elements and states."""
    elements = [site.species.element_composition for site in structure]
    names = [
        " ".join(f"{el}{amount:.4f}" for el, amount in sorted(one.as_dict().items()))
        + str(site.properties.get(STATES, ""))
        for one, site in zip(elements, structure, strict=True)
    ]
    order = {name: number for number, name in enumerate(dict.fromkeys(names), start=1)}
    return np.array([order[name] for name in names])


def _idealised(structure: Structure, tolerance: float) -> tuple[Structure, float] | None:
    """Return a structure with the symmetry that it has within a tolerance, and its noise before.

    None where spglib finds no symmetry, or the result does not have it.
    """
    dataset = spglib.get_symmetry_dataset(spglib_cell(structure), symprec=tolerance)
    if dataset is None:
        return None
    # x_std = P x + p, and the rows of the standard cell M_std give the cell P^T M_std.
    matrix = np.round(dataset.transformation_matrix * _FRACTION) / _FRACTION
    if np.abs(matrix - dataset.transformation_matrix).max() > 1e-3:
        return None
    standard = Lattice(dataset.std_lattice)
    places = structure.frac_coords @ matrix.T + dataset.origin_shift
    other = _kinds(structure)[:, None] != np.array(dataset.std_types)[None, :]
    distances = standard.get_all_distances(places, dataset.std_positions) + 1e3 * other
    ideal = dataset.std_positions[distances.argmin(axis=1)]
    # The image nearest in fractional coordinates is the nearest one: displacements are small.
    ideal = ideal + np.round(places - ideal)
    moved = (ideal - places) @ np.linalg.inv(matrix).T
    cell = matrix.T @ dataset.std_lattice
    left, _, right = np.linalg.svd(cell.T @ structure.lattice.matrix)
    cell = cell @ left @ right
    steps = moved @ cell
    shift = steps.mean(axis=0)
    stretch = cell - structure.lattice.matrix
    noise = max(
        float(np.sqrt(((steps - shift) ** 2).mean())),
        float(np.linalg.norm(steps - shift, axis=1).max()) / FARTHEST,
        float(np.linalg.norm(stretch, axis=1).max()) / FARTHEST,
    )
    result = structure.copy()
    result.lattice = Lattice(cell)
    for site, step in zip(result, moved, strict=True):
        site.frac_coords = site.frac_coords + step - shift @ np.linalg.inv(cell)
    if space_group(result, _TIGHT).operations != len(dataset.rotations):
        return None
    return result, noise
