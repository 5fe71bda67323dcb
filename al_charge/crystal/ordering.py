"""Disordered structures are ordered: their elements are put where the Ewald energy is low."""

from __future__ import annotations

from collections import defaultdict
from math import factorial, prod

import numpy as np
from pymatgen.core.sites import PeriodicSite
from pymatgen.core.structure import Structure

from al_charge.crystal.electrostatics import pair_energies
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.parent import repeated
from al_charge.crystal.roles import Names, ions_of
from al_charge.errors import InputError

WHOLE_CELL = "whole supercell"
"""Property of a structure that has been ordered: it is the supercell, and is not repeated again."""
NUMBER_TOLERANCE = 0.1
"""How far the number of atoms of an element on some sites may be from a whole one."""
SEED = 0
"""Of the random arrangements from which the search for the lowest energy starts."""
STARTS = 30
"""How many there are."""
SMALLEST_STEP = 1e-6
"""eV by which an exchange must lower the energy."""

EMPTY = ""
Group = tuple[list[int], list[str]]
"""Sites of one kind, and what lies on them, `EMPTY` for nothing: as many entries as sites."""


def ordered(spec: HostSpec, structure: Structure, names: Names) -> tuple[Structure, Names, str]:
    """Return a structure in which every site is empty or has one element.

    Of all arrangements with the occupancies of the file, it has the lowest Ewald energy that
    exchanges of two atoms find from random ones; ions have the lowest of their charges, and every
    site of the working ion is filled. pymatgen's transformation, which visits arrangements one by
    one, takes minutes for 27 sites.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.
    structure
        The parent cell with its partial occupancies; elements only, no oxidation states, on sites
        that are disordered.
    names
        What ``sites`` names; see `names_of`.

    Returns
    -------
    Structure
        The supercell, with the property `WHOLE_CELL`.
    list of dict
        What ``sites`` names in it.
    str
        What has been done, in one line.

    Raises
    ------
    InputError
        If the specification does not ask for it, water is on the sites, or the supercell does not
        hold whole numbers of atoms.
    """
    kinds = dict.fromkeys(_kind(site) for site in structure if not site.is_ordered)
    listed = ", ".join(f"{label} ({amounts})" for label, amounts in kinds)
    where = f"host.structure: {spec.structure.name}"
    if spec.order is None:
        raise InputError(
            f"elements share sites, or occupy them in part: {listed}",
            where=where,
            remedy="write 'order: ewald' under 'host' to have them ordered, or give an ordered "
            "structure; leave water out of the file",
        )
    if any("H" in site.species.get_el_amt_dict() for site in structure if not site.is_ordered):
        raise InputError(
            f"water cannot be ordered by point charges: {listed}",
            where=where,
            remedy="leave it out of the file, or give an ordered structure",
        )
    cell = structure.copy()
    cell.add_site_property("place", list(range(len(cell))))
    cell = repeated(cell, spec.supercell)
    groups = _groups(cell)
    if groups is None:
        raise InputError(
            f"the supercell does not hold whole numbers of atoms on {listed}",
            where="host.supercell",
            remedy=_remedy(cell),
        )
    names = [names[place] for place in cell.site_properties["place"]]
    cell.remove_site_property("place")
    elements, tried = _lowest(spec, cell, names, groups)
    kept = [site for site, element in enumerate(elements) if element]
    result = Structure(
        cell.lattice,
        [elements[site] for site in kept],
        cell.frac_coords[kept],
        labels=[_label(cell[site], elements[site]) for site in kept],
        properties={WHOLE_CELL: True},
    )
    line = (
        f"ordered in the supercell by Ewald energy: {listed}; the lowest of {tried} arrangements "
        f"that exchanges from {STARTS} random ones reach (seed {SEED})"
    )
    return result, [names[site] for site in kept], line


def _kind(site: PeriodicSite) -> tuple[str, str]:
    """Return the label of a site, and what is on it."""
    amounts = sorted(site.species.get_el_amt_dict().items())
    return str(site.label), " ".join(f"{element}{amount:.4g}" for element, amount in amounts)


def _label(site: PeriodicSite, element: str) -> str:
    """Return the label that an element has on a site, of several on a shared one."""
    labels = str(site.label).split("/")
    return next((label for label in labels if label.startswith(element)), str(site.label))


def _groups(cell: Structure) -> list[Group] | None:
    """Return the disordered sites by kind; None if one has no whole numbers of atoms."""
    sites: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, site in enumerate(cell):
        if not site.is_ordered:
            sites[_kind(site)].append(index)
    groups = []
    for some in sites.values():
        content: list[str] = []
        for element, amount in sorted(cell[some[0]].species.get_el_amt_dict().items()):
            number = amount * len(some)
            if abs(number - round(number)) > NUMBER_TOLERANCE:
                return None
            content += [element] * round(number)
        if len(content) > len(some):
            return None
        groups.append((some, content + [EMPTY] * (len(some) - len(content))))
    return groups


def _remedy(cell: Structure) -> str:
    """Say which occupancies near those of a supercell would be whole."""
    sites: dict[tuple[str, str], int] = defaultdict(int)
    for site in cell:
        if not site.is_ordered:
            sites[_kind(site)] += 1
    near = [
        f"{element} {round(amount * number)}/{number} on {label}"
        for (label, _), number in sites.items()
        for element, amount in sorted(
            next(s for s in cell if str(s.label) == label and not s.is_ordered)
            .species.get_el_amt_dict()
            .items()
        )
    ]
    return f"choose a larger supercell, or in the file the occupancies {', '.join(near)}"


def _lowest(
    spec: HostSpec, cell: Structure, names: Names, groups: list[Group]
) -> tuple[list[str], int]:
    """Return the element of every site in the arrangement of lowest energy, and how many there are.

    From each start, the exchange that lowers the energy most is made until none does.
    """

    def charge(site: int, element: str) -> float:
        if not element:
            return 0.0
        ions = ions_of(spec, element, names[site].get(element, ""))
        return float(spec.working_ion_charge if ions is None else min(ion.charge for ion in ions))

    elements = [site.specie.symbol if site.is_ordered else EMPTY for site in cell]
    fixed = np.array([charge(site, element) for site, element in enumerate(elements)])
    pairs = pair_energies(cell)
    values = [{el: charge(some[0], el) for el in set(content)} for some, content in groups]
    first, second = (
        np.concatenate([np.array(some)[np.triu_indices(len(some), 1)[axis]] for some, _ in groups])
        for axis in (0, 1)
    )
    rng = np.random.default_rng(SEED)
    best, lowest = elements, np.inf
    for _ in range(STARTS):
        found, charges = list(elements), fixed.copy()
        for (some, content), value in zip(groups, values, strict=True):
            for site, element in zip(some, rng.permutation(content).tolist(), strict=True):
                found[site], charges[site] = element, value[element]
        while True:
            step = charges[second] - charges[first]
            field = pairs @ charges
            own = pairs[first, first] + pairs[second, second] - 2 * pairs[first, second]
            change = 2 * step * (field[first] - field[second]) + step**2 * own
            at = int(np.argmin(np.round(change, 6)))
            if change[at] > -SMALLEST_STEP:
                break
            one, other = first[at], second[at]
            charges[[one, other]] = charges[[other, one]]
            found[one], found[other] = found[other], found[one]
        energy = float(charges @ pairs @ charges)
        if energy < lowest - SMALLEST_STEP:
            best, lowest = found, energy
    return best, prod(
        factorial(len(content)) // prod(factorial(content.count(one)) for one in set(content))
        for _, content in groups
    )
