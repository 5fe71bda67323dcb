"""Roles of sites: which sites of a structure have which states."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.space_group import SYMPREC, spglib_cell
from al_charge.crystal.states import WORKING_ION, Ion, ions, number_states
from al_charge.errors import AlChargeError, InputError, did_you_mean

NAMED = "named"
"""Property of sites: the key under ``host.sites`` that names them, or nothing."""
_WYCKOFF = re.compile(r"([A-Z][a-z]?) +(\d+[A-Za-z])")


def with_roles(spec: HostSpec, structure: Structure) -> Structure:
    """Return a structure whose sites know by which key of ``host.sites`` they are named.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell, with the labels and in the order of its file.

    Returns
    -------
    Structure
        A copy with the property `NAMED`; the structure itself if ``sites`` is empty.

    Raises
    ------
    InputError
        If a key names no site, or two name the same.
    """
    if not spec.sites:
        return structure
    named = [""] * len(structure)
    wyckoff = wyckoff_positions(structure)
    for key in spec.sites:
        for site in _sites_of(key, structure, wyckoff):
            if named[site]:
                raise InputError(
                    f"'{named[site]}' and '{key}' name the same site",
                    where="host.sites",
                    remedy="give each site one role",
                )
            named[site] = key
    return structure.copy(site_properties={**structure.site_properties, NAMED: named})


def _sites_of(key: str, structure: Structure, wyckoff: list[str]) -> list[int]:
    """Return the indices of the sites that a key names: by index, Wyckoff position or label."""
    if key.isdigit():
        if int(key) < len(structure):
            return [int(key)]
        raise InputError(
            f"there is no site {key}",
            where="host.sites",
            remedy=f"sites have the numbers 0 to {len(structure) - 1}",
        )
    position = _WYCKOFF.fullmatch(key)
    names = wyckoff if position else [str(label) for label in structure.labels]
    wanted = f"{position[1]} {position[2]}" if position else key
    found = [site for site, name in enumerate(names) if name == wanted]
    if not found:
        known = list(dict.fromkeys(names))
        raise InputError(
            f"no site is '{key}'",
            where="host.sites",
            remedy=did_you_mean(wanted, known) or f"it has {', '.join(known)}",
        )
    return found


def wyckoff_positions(structure: Structure) -> list[str]:
    """Return the element and the Wyckoff position of every site, such as ``Li 4a``.

    Parameters
    ----------
    structure
        A structure.

    Returns
    -------
    list of str
        The number is the multiplicity in the conventional cell of the space group.

    Raises
    ------
    AlChargeError
        If spglib finds no symmetry.
    """
    dataset = spglib.get_symmetry_dataset(spglib_cell(structure), symprec=SYMPREC)
    if dataset is None:
        raise AlChargeError("spglib finds no symmetry", where="host.structure")
    cells = abs(np.linalg.det(dataset.std_lattice)) / structure.volume
    orbits = dataset.crystallographic_orbits
    sizes = np.round(np.bincount(orbits)[orbits] * cells).astype(int)
    elements = [
        "/".join(sorted({str(ion.symbol) for ion in site.species.elements})) for site in structure
    ]
    return [
        f"{element} {size}{letter}"
        for element, size, letter in zip(elements, sizes, dataset.wyckoffs, strict=True)
    ]


def mobile_sites(spec: HostSpec, structure: Structure) -> NDArray[np.bool_]:
    """Tell which sites the working ion fills and leaves.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell, as `with_roles` returns it.

    Returns
    -------
    ndarray of bool, shape (n_sites,)
        False for ions of its element that stay.
    """
    return np.array([not states for states in states_of_sites(spec, structure)[0]])


def bound_to_carbon(structure: Structure) -> NDArray[np.bool_]:
    """Tell which sites have a carbon atom as their nearest neighbour, as metals of cyanides have.

    Parameters
    ----------
    structure
        A structure without partly occupied sites.

    Returns
    -------
    ndarray of bool, shape (n_sites,)
        In carbonates and oxalates metals have oxygen nearer than carbon, and are not bound to it.
    """
    carbon = np.array([site.specie.symbol == "C" for site in structure])
    if not carbon.any():
        return carbon
    distances = structure.distance_matrix
    np.fill_diagonal(distances, np.inf)
    nearest: NDArray[np.bool_] = carbon[distances.argmin(axis=1)]
    return nearest


def states_of_sites(
    spec: HostSpec, structure: Structure
) -> tuple[list[tuple[int, ...]], dict[tuple[str, int], int]]:
    """Return the states that every site of a host may have.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The supercell, with the property `NAMED` if ``sites`` is not empty.

    Returns
    -------
    states
        For every site, as in `Configuration.occupation`, ascending; empty for sites of the working
        ion.
    unpaired
        Unpaired electrons by element and state.

    Raises
    ------
    InputError
        If an ion has no such spin state, a role is impossible on its site, or nothing moves or
        changes.
    """
    elements = [str(site.specie.symbol) for site in structure]
    compound = set(elements) if spec.spins == "usual" else None
    carbon = bound_to_carbon(structure)
    named = structure.site_properties.get(NAMED) or [""] * len(structure)
    roles: dict[tuple[str, bool, str], frozenset[Ion] | None] = {}
    for element, is_carbon, key in zip(elements, map(bool, carbon), named, strict=True):
        role = (element, is_carbon, key)
        if role not in roles:
            roles[role] = _ions_of(spec, element, key, compound, is_carbon)
    together: dict[str, set[Ion]] = defaultdict(set)
    for (element, _, _), some in roles.items():
        together[element] |= some or set()
    numbers = {element: number_states(some) for element, some in together.items()}
    states = {
        role: tuple(sorted(numbers[role[0]][ion] for ion in some or ()))
        for role, some in roles.items()
    }
    unpaired = {
        (element, state): ion.unpaired
        for element, some in numbers.items()
        for ion, state in some.items()
    }
    return [states[role] for role in zip(elements, map(bool, carbon), named, strict=True)], unpaired


def _ions_of(
    spec: HostSpec,
    element: str,
    key: str,
    compound: Collection[str] | None,
    carbon: bool,
) -> frozenset[Ion] | None:
    """Return the ions that a site may hold; None where the working ion comes and goes."""
    where = f"host.sites.{key}"
    if key:
        role = spec.sites[key]
    elif element == spec.working_ion and element not in spec.fixed:
        return None
    elif element in spec.redox:
        role, where = spec.redox[element], f"host.redox.{element}"
    else:
        role, where = (spec.fixed[element],), f"host.fixed.{element}"
    if role == (WORKING_ION,):
        if element == spec.working_ion:
            return None
        raise InputError(
            f"it is {element}, not {spec.working_ion}", where=where, remedy="give its states"
        )
    found = ions(element, role, compound, where, carbon=carbon)
    if not key and element in spec.redox and len(found) < 2:
        raise InputError(
            f"{element} needs at least two states",
            where="host.redox",
            remedy="an element with one state belongs in 'fixed'",
        )
    charges = {ion.charge for ion in found}
    if element == spec.working_ion and charges != {spec.working_ion_charge}:
        raise InputError(
            f"ions of {element} that stay have the charge of those that move",
            where=where,
            remedy=f"write {spec.working_ion_charge}, or '{WORKING_ION}'",
        )
    return found
