"""Structures of other programs, placed on the sites of a host."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import match_sites
from al_charge.crystal.host import Host
from al_charge.errors import InputError

_LENGTHS, _SITES, _ANGLES = 0.3, 0.35, 8.0
"""Tolerances of pymatgen's matcher: cells of a host differ by tenths between its end members."""


@dataclass(frozen=True)
class Placed:
    """A structure on the sites of a host.

    Attributes
    ----------
    atoms
        In the order of the host's sites, with an array ``host_site``: their cell has the host's
        vectors, strained, and every atom is the image nearest to its site.
    order
        Index in the given structure of every atom.
    vectors
        The new cell vectors in units of the given ones, shape (3, 3); unimodular.
    inverted
        Whether all positions are inverted, as vectors (forces) must be: the given structure has the
        other hand.
    """

    atoms: Atoms
    order: NDArray[np.int64]
    vectors: NDArray[np.int64]
    inverted: bool


def place(host: Host, atoms: Atoms) -> Placed:
    """Place a structure on the sites of a host, whatever its origin, axes and order of atoms.

    Parameters
    ----------
    host
        The host.
    atoms
        Periodic, as large as the host's cell. Not modified.

    Returns
    -------
    Placed
        Cartesian axes are those of the given structure, but for an inversion.

    Raises
    ------
    InputError
        If it has other atoms than the host, or they lie on other sites.
    """
    _refuse_other_formula(host, atoms)
    moved = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    vectors, inverted = np.eye(3, dtype=np.int64), False
    try:
        sites = _centred(host, moved)
    except InputError:
        moved, vectors, inverted = _fitted(host, moved)
        sites = _centred(host, moved)
    order = np.argsort(sites)
    moved = moved[order]
    moved.set_array("host_site", sites[order])
    return Placed(moved, order, vectors, inverted)


def _centred(host: Host, atoms: Atoms) -> NDArray[np.int64]:
    """Return the sites of atoms, and move all of them together so that the framework lies on its.

    Each becomes the image nearest to its site.
    """
    framework = [symbol != host.working_ion for symbol in atoms.symbols]
    for _ in range(2):
        sites = match_sites(host, atoms)
        away = atoms.get_scaled_positions(wrap=False) - host.structure.frac_coords[sites]
        away -= np.round(away)
        away -= away[framework].mean(axis=0)
        atoms.set_scaled_positions(host.structure.frac_coords[sites] + away)
    return sites


def _refuse_other_formula(host: Host, atoms: Atoms) -> None:
    """Refuse what has other numbers of framework atoms than the host's cell."""
    ion = host.working_ion
    found = Counter(symbol for symbol in atoms.symbols if symbol != ion)
    wanted = Counter(element for element in host.elements if element != ion)
    if found == wanted:
        return
    if found.keys() == wanted.keys():
        ratios = {found[element] / wanted[element] for element in wanted}
        if len(ratios) == 1:
            units = host.formula_units * ratios.pop()
            raise InputError(
                f"its cell has {units:g} formula units, the host's {host.formula_units}",
                where="atoms",
            )
    formula = "".join(f"{el}{n if n > 1 else ''}" for el, n in sorted(found.items()))
    other = "".join(f"{el}{n if n > 1 else ''}" for el, n in sorted(wanted.items()))
    raise InputError(f"it has {formula or 'nothing'} where the host has {other}", where="atoms")


def _fitted(host: Host, atoms: Atoms) -> tuple[Atoms, NDArray[np.int64], bool]:
    """Return atoms in the host's vectors and origin, the vectors, and whether it is inverted."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(
        ltol=_LENGTHS, stol=_SITES, angle_tol=_ANGLES, primitive_cell=False, scale=True
    )
    frame = [i for i, element in enumerate(host.elements) if element != host.working_ion]
    wanted = Structure(
        host.structure.lattice,
        [host.elements[i] for i in frame],
        host.structure.frac_coords[frame],
    )
    kept = atoms[[symbol != host.working_ion for symbol in atoms.symbols]]
    found = Structure(
        kept.cell.array, kept.get_chemical_symbols(), kept.get_scaled_positions(wrap=False)
    )
    fitted = matcher.get_transformation(wanted, found)
    if fitted is None:
        raise InputError("its atoms do not lie on the sites of the host", where="atoms")
    matrix, shift, _ = fitted
    vectors = np.rint(np.asarray(matrix, dtype=float)).astype(np.int64)
    cell = vectors @ atoms.cell.array
    places = np.linalg.solve(cell.T, atoms.positions.T).T + np.asarray(shift, dtype=float)
    inverted = bool(np.linalg.det(cell) < 0)
    moved = Atoms(
        atoms.numbers, scaled_positions=places, cell=-cell if inverted else cell, pbc=True
    )
    return moved, vectors, inverted
