"""Start geometries between the emptied host and the filled one."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.host import Host
from al_charge.crystal.parent import number_of_cells
from al_charge.errors import InputError

FARTHEST = 0.9
"""Largest distance in angstrom of a site from its place in the filled host, in the mean cell."""
_WHERE = "host.empty_structure"


def match_empty(
    full: Structure,
    empty: Structure,
    working_ion: str,
    mobile: NDArray[np.bool_] | None = None,
    kept: int = 0,
) -> Structure:
    """Return the emptied host with its sites in the order of the filled one.

    Parameters
    ----------
    full
        The parent, every working-ion site filled.
    empty
        The same crystal without working ions, or with those that cannot leave, its sites in any
        order; where its setting or origin differs, the mapping with the smallest displacements is
        used.
    working_ion
        Element of the working ion.
    mobile
        Which sites of ``full`` it fills and leaves, shape (n_sites,); None for all of its element.
    kept
        Working ions on these sites that the cell of ``empty`` may have, beside none.

    Returns
    -------
    Structure
        The emptied host's cell, its axes along those of ``full``, and its fractional coordinates in
        the periodic images nearest to those of ``full``. Working ions that it lacks keep those of
        ``full``, so that the structure has all sites.

    Raises
    ------
    InputError
        If the two are not the same crystal apart from the working ion.
    """
    full, empty = full.copy(), empty.copy()
    for structure in (full, empty):
        structure.remove_oxidation_states()
    elements = np.array([site.specie.symbol for site in full])
    mobile = elements == working_ion if mobile is None else mobile
    rest = Structure.from_sites([full[int(i)] for i in np.flatnonzero(~mobile)])
    inert, held = (
        sum(site.specie.symbol == working_ion for site in structure) for structure in (rest, empty)
    )
    ions = held - inert
    if ions > 0 and ions != kept:
        allowed = [f"with {inert} {working_ion}" if inert else f"without {working_ion}"]
        allowed += [f"with {inert + kept}, those of its lowest composition"] if kept else []
        raise InputError(
            f"it contains {f'{held} ' if inert or kept else ''}{working_ion}",
            where=_WHERE,
            remedy=f"give the host {', or '.join(allowed)}",
        )
    others, expected = (
        structure.copy().remove_species([working_ion]).composition for structure in (empty, rest)
    )
    if ions < 0 or others != expected:
        raise InputError(
            f"its cell holds {empty.formula}, the host without {working_ion} {rest.formula}",
            where=_WHERE,
            remedy="give the same cell, emptied",
        )
    places = np.flatnonzero(~mobile | (ions > 0))
    frame = Structure.from_sites([full[int(i)] for i in places])
    found = _nearest(frame, empty)
    if found is None:
        mapped = _mapped(rest, empty, [working_ion] if ions else [])
        found = _nearest(frame, mapped) if mapped is not None else None
    if found is None:
        raise InputError(
            "its sites do not match those of the host",
            where=_WHERE,
            remedy="give it in the setting and with the origin of 'structure'",
        )
    lattice, rows, coordinates = found
    everywhere = full.frac_coords.copy()
    everywhere[places[rows]] = coordinates
    return Structure(_aligned(lattice, full.lattice), elements.tolist(), everywhere)


def interpolated_host(
    host: Host, full: Structure, matched: Structure, n_ions: int, kept: int = 0
) -> Host:
    """Return a host with cell and sites interpolated between the emptied and the filled host.

    The emptied one stands for the composition that it has. The filled one stands for the highest of
    the host's window; where there is none, for all sites filled.

    Parameters
    ----------
    host
        The filled host.
    full
        The parent that the host was built from.
    matched
        What `match_empty` returned for it.
    n_ions
        Working ions in the supercell.
    kept
        Working ions that can leave and are in the cell of the emptied host.

    Returns
    -------
    Host
        The same sites in another geometry.
    """
    lowest = host.inert_ions + kept * number_of_cells(host.supercell)
    filled = host.inert_ions + host.most_ions
    highest = filled if host.window is None else host.ion_counts[-1]
    part = (n_ions - lowest) / (highest - lowest)
    cell = (1.0 - part) * matched.lattice.matrix + part * full.lattice.matrix
    coordinates = (1.0 - part) * matched.frac_coords + part * full.frac_coords
    elements = [site.specie.symbol for site in matched]
    between = Structure(Lattice(cell), elements, coordinates)
    return replace(host, structure=between.make_supercell(host.supercell, in_place=False))


def kept_ions(host: Host) -> int:
    """Return how many ions that can leave are in a parent cell at the lowest composition.

    Parameters
    ----------
    host
        A host.

    Returns
    -------
    int
        0 also where that is not a whole number.
    """
    ions, part = divmod(host.ion_counts[0] - host.inert_ions, number_of_cells(host.supercell))
    return 0 if part else ions


def _nearest(
    frame: Structure, empty: Structure
) -> tuple[Lattice, NDArray[np.int64], NDArray[np.float64]] | None:
    """Assign sites by distance; None if one lies too far from any of its element.

    Returned are the cell of the emptied host, and which sites of the frame its sites are on, with
    their coordinates.
    """
    from scipy.optimize import linear_sum_assignment

    lattice = Lattice((_aligned(empty.lattice, frame.lattice).matrix + frame.lattice.matrix) / 2)
    distances = lattice.get_all_distances(frame.frac_coords, empty.frac_coords)
    kinds = [[site.specie.symbol for site in structure] for structure in (frame, empty)]
    cost = distances + 1e3 * (np.array(kinds[0])[:, None] != np.array(kinds[1])[None, :])
    rows, columns = linear_sum_assignment(cost)
    if cost[rows, columns].max() > FARTHEST:
        return None
    coordinates = empty.frac_coords[columns]
    coordinates = coordinates + np.round(frame.frac_coords[rows] - coordinates)
    return empty.lattice, rows, coordinates


def _mapped(rest: Structure, empty: Structure, ignored: list[str]) -> Structure | None:
    """Return the emptied host in the setting and with the origin of the filled one.

    Ions of ignored elements are moved along.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher = StructureMatcher(
        ltol=0.3,
        stol=0.5,
        angle_tol=8,
        primitive_cell=False,
        scale=True,
        ignored_species=ignored,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapped: Structure | None = matcher.get_s2_like_s1(rest, empty)
    return mapped


def _aligned(lattice: Lattice, target: Lattice) -> Lattice:
    """Return a lattice rotated, or mirrored, so that its vectors lie close to the target's.

    Lengths and angles are kept, so fractional coordinates remain valid.
    """
    left, _, right = np.linalg.svd(lattice.matrix.T @ target.matrix)
    return Lattice(lattice.matrix @ left @ right)
