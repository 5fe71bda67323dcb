"""Start geometries between the empty host, without its working ion, and the filled one."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.host import Host
from al_charge.errors import InputError

FARTHEST = 0.9
"""Largest distance in angstrom of a site from its place in the filled host, in the mean cell."""
_WHERE = "host.empty_structure"


def match_empty(
    full: Structure, empty: Structure, working_ion: str, mobile: NDArray[np.bool_] | None = None
) -> Structure:
    """Return the empty host with its sites in the order of the filled one.

    Parameters
    ----------
    full
        The parent, every working-ion site filled.
    empty
        The same crystal without working ions, its sites in any order; where its setting or origin
        differs, the mapping with the smallest displacements is used.
    working_ion
        Element of the working ion.
    mobile
        Which sites of ``full`` it leaves, shape (n_sites,); None for all of its element.

    Returns
    -------
    Structure
        The empty host's cell, its axes along those of ``full``, and its fractional coordinates in
        the periodic images nearest to those of ``full``. Working ions keep theirs, so that the
        structure has all sites of ``full``.

    Raises
    ------
    InputError
        If the two are not the same crystal apart from the working ion.
    """
    full, empty = full.copy(), empty.copy()
    for structure in (full, empty):
        structure.remove_oxidation_states()
    elements = np.array([site.specie.symbol for site in full])
    rest = np.flatnonzero(elements != working_ion if mobile is None else ~mobile)
    frame = Structure.from_sites([full[int(i)] for i in rest])
    if working_ion in {site.specie.symbol for site in empty} - set(elements[rest]):
        raise InputError(
            f"it contains {working_ion}",
            where=_WHERE,
            remedy=f"give the host without {working_ion}",
        )
    if frame.composition != empty.composition:
        raise InputError(
            f"its cell holds {empty.formula}, the host without {working_ion} {frame.formula}",
            where=_WHERE,
            remedy="give the same cell, emptied",
        )
    found = _nearest(frame, empty)
    if found is None:
        mapped = _mapped(frame, empty)
        found = _nearest(frame, mapped) if mapped is not None else None
    if found is None:
        raise InputError(
            "its sites do not match those of the host",
            where=_WHERE,
            remedy="give it in the setting and with the origin of 'structure'",
        )
    lattice, coordinates = found
    everywhere = full.frac_coords.copy()
    everywhere[rest] = coordinates
    return Structure(_aligned(lattice, full.lattice), elements.tolist(), everywhere)


def interpolated_host(host: Host, full: Structure, matched: Structure, n_ions: int) -> Host:
    """Return a host with cell and sites interpolated between the empty and the filled host.

    Parameters
    ----------
    host
        The filled host.
    full
        The parent that the host was built from.
    matched
        What `match_empty` returned for it.
    n_ions
        Working ions in the supercell: those that never leave alone give the empty host, as many as
        there is room for the filled one.

    Returns
    -------
    Host
        The same sites in another geometry.
    """
    part = (n_ions - host.inert_ions) / host.most_ions
    cell = (1.0 - part) * matched.lattice.matrix + part * full.lattice.matrix
    coordinates = (1.0 - part) * matched.frac_coords + part * full.frac_coords
    elements = [site.specie.symbol for site in matched]
    between = Structure(Lattice(cell), elements, coordinates)
    return replace(host, structure=between.make_supercell(host.supercell, in_place=False))


def _nearest(frame: Structure, empty: Structure) -> tuple[Lattice, NDArray[np.float64]] | None:
    """Assign sites by distance; None if one lies too far from any of its element."""
    from scipy.optimize import linear_sum_assignment

    lattice = Lattice((_aligned(empty.lattice, frame.lattice).matrix + frame.lattice.matrix) / 2)
    distances = lattice.get_all_distances(frame.frac_coords, empty.frac_coords)
    kinds = [[site.specie.symbol for site in structure] for structure in (frame, empty)]
    cost = distances + 1e3 * (np.array(kinds[0])[:, None] != np.array(kinds[1])[None, :])
    rows, columns = linear_sum_assignment(cost)
    if cost[rows, columns].max() > FARTHEST:
        return None
    coordinates = empty.frac_coords[columns]
    coordinates = coordinates + np.round(frame.frac_coords - coordinates)
    return empty.lattice, coordinates


def _mapped(frame: Structure, empty: Structure) -> Structure | None:
    """Return the empty host in the setting and with the origin of the filled one."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=8, primitive_cell=False, scale=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapped: Structure | None = matcher.get_s2_like_s1(frame, empty)
    return mapped


def _aligned(lattice: Lattice, target: Lattice) -> Lattice:
    """Return a lattice rotated, or mirrored, so that its vectors lie close to the target's.

    Lengths and angles are kept, so fractional coordinates remain valid.
    """
    left, _, right = np.linalg.svd(lattice.matrix.T @ target.matrix)
    return Lattice(lattice.matrix @ left @ right)
