"""Roles of sites: which sites of a structure have which states."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core.sites import PeriodicSite
from pymatgen.core.structure import Structure

from al_charge.crystal.geometry import bound_to_carbon
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.space_group import SYMPREC, spglib_cell
from al_charge.crystal.states import WORKING_ION, Ion, ions, number_states
from al_charge.errors import AlChargeError, InputError, did_you_mean

NAMED = "named"
"""Property of sites: the key under ``host.sites`` that names them, or nothing."""
_WYCKOFF = re.compile(r"([A-Z][a-z]?) +(\d+[A-Za-z])")
_SYMBOL = re.compile(r"[A-Z][a-z]?")

Names = list[dict[str, str]]
"""For every site, the keys under ``host.sites`` that name its elements, by element."""


def names_of(spec: HostSpec, structure: Structure) -> Names:
    """Return which keys of ``host.sites`` name which sites.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell, with the labels and in the order of its file.

    Returns
    -------
    list of dict
        For every site; empty where none does.

    Raises
    ------
    InputError
        If a key names no site, or two name the same.
    """
    names: Names = [{} for _ in structure]
    if not spec.sites:
        return names
    elements = [sorted({str(ion.symbol) for ion in site.species.elements}) for site in structure]
    positions = [
        [f"{element} {position}" for element in some]
        for some, position in zip(elements, wyckoff_positions(structure), strict=True)
    ]
    for key in spec.sites:
        found = (
            _by_index(int(key), elements)
            if key.isdigit()
            else _by_name(key, elements, positions)
            if _WYCKOFF.fullmatch(key)
            else _by_name(key, elements, [_labels(site) for site in structure])
        )
        for site, element in found:
            if other := names[site].get(element):
                raise InputError(
                    f"'{other}' and '{key}' name the same site",
                    where="host.sites",
                    remedy="give each site one role",
                )
            names[site][element] = key
    return names


def _labels(site: PeriodicSite) -> list[str]:
    """Return the labels of a site: one, or those of all elements that share it."""
    return str(site.label).split("/")


def _by_index(index: int, elements: list[list[str]]) -> list[tuple[int, str]]:
    """Return a site with its only element."""
    if index >= len(elements):
        raise InputError(
            f"there is no site number {index}",
            where="host.sites",
            remedy=f"they run from 0 to {len(elements) - 1}",
        )
    if len(elements[index]) > 1:
        raise InputError(
            f"{' and '.join(elements[index])} share site {index}",
            where="host.sites",
            remedy="name one of them by its label, or by element and Wyckoff position",
        )
    return [(index, elements[index][0])]


def _by_name(key: str, elements: list[list[str]], names: list[list[str]]) -> list[tuple[int, str]]:
    """Return the sites that have a name, each with those elements that it begins with, or all."""
    key = " ".join(key.split())
    symbol = _SYMBOL.match(key)
    found = [
        (site, element)
        for site, (some, known) in enumerate(zip(elements, names, strict=True))
        if key in known
        for element in some
        if symbol is None or symbol[0] not in some or symbol[0] == element
    ]
    if not found:
        every = list(dict.fromkeys(name for some in names for name in some))
        raise InputError(
            f"no site is called '{key}'",
            where="host.sites",
            remedy=did_you_mean(key, every) or f"the structure has {', '.join(every)}",
        )
    return found


def wyckoff_positions(structure: Structure) -> list[str]:
    """Return the Wyckoff position of every site, such as ``4a``.

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
    return [f"{size}{letter}" for size, letter in zip(sizes, dataset.wyckoffs, strict=True)]


def mobile_sites(spec: HostSpec, structure: Structure) -> NDArray[np.bool_]:
    """Tell which sites the working ion fills and leaves.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell, as `parent_structure` returns it.

    Returns
    -------
    ndarray of bool, shape (n_sites,)
        False for ions of its element that stay.
    """
    return np.array([not states for states in states_of_sites(spec, structure)[0]])


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
    carbon = bound_to_carbon(elements, structure.lattice.matrix, structure.frac_coords)
    named = structure.site_properties.get(NAMED) or [""] * len(structure)
    roles: dict[tuple[str, bool, str], frozenset[Ion] | None] = {}
    for element, is_carbon, key in zip(elements, map(bool, carbon), named, strict=True):
        role = (element, is_carbon, key)
        if role not in roles:
            roles[role] = ions_of(spec, element, key, compound, is_carbon)
    moves = None in roles.values()
    if spec.sites and not (moves and any(len(some or ()) > 1 for some in roles.values())):
        missing = "redox ion" if moves else spec.working_ion
        raise InputError(
            f"every {missing} is inert",
            where="host.sites",
            remedy="leave out sites that are like the others of their element",
        )
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


def ions_of(
    spec: HostSpec,
    element: str,
    key: str,
    compound: Collection[str] | None = None,
    carbon: bool = False,
) -> frozenset[Ion] | None:
    """Return the ions that a site may hold.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    element
        Element on the site.
    key
        Key under ``host.sites`` that names the site; empty if none does.
    compound
        Elements of the compound, in which ions have their usual spins; None for high spins.
    carbon
        Whether the site is bound to the carbon of cyanide.

    Returns
    -------
    frozenset of Ion
        Its ions.
    None
        In place of them, where the working ion comes and goes.

    Raises
    ------
    InputError
        If an ion has no such spin state, or the role is impossible on this site.
    """
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
            f"{element} that stays must have the charge of {element} that moves",
            where=where,
            remedy=f"write {spec.working_ion_charge}, or '{WORKING_ION}'",
        )
    return found
