"""From a structure file to the parent structure that a campaign uses and stores."""

from __future__ import annotations

from collections import Counter

from pymatgen.core.composition import Composition
from pymatgen.core.structure import Structure

from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.ordering import ordered
from al_charge.crystal.parent import read_structure
from al_charge.crystal.roles import NAMED, Names, ions_of, names_of
from al_charge.crystal.space_group import symmetrized
from al_charge.errors import InputError

WHOLE = 1e-2
"""How far occupancies of several states of one element may add up from 1: 0.33 three times."""


def parent_structure(spec: HostSpec) -> Structure:
    """Return the parent structure of a host as it is used and stored.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.

    Returns
    -------
    Structure
        As `prepared` returns it.

    Raises
    ------
    InputError
        For any reason of `prepared`.
    """
    return prepared(spec)[0]


def prepared(spec: HostSpec) -> tuple[Structure, list[str]]:
    """Return the parent structure of a host, and what has been done to that of the file.

    Noise is removed if the specification says so. Sites of the working ion are filled. Several
    oxidation states of one element on a site are one element. What is disordered then is ordered,
    if the specification says so, in the supercell.

    Parameters
    ----------
    spec
        The specification of a host in a campaign file.

    Returns
    -------
    Structure
        Every site occupied by one element; what ``sites`` names is a property of its sites.
    list of str
        Lines for people.

    Raises
    ------
    InputError
        If the file cannot be read, ``sites`` names none of it, the working ion shares a site with
        another element, or a site is disordered and cannot be ordered or is not to be.
    """
    structure = read_structure(spec.structure, disordered=True)
    spec.check_elements({el.symbol for el in structure.composition.element_composition})
    if spec.symmetrize is not None:
        structure = symmetrized(structure, spec.symmetrize)
    names = names_of(spec, structure)
    structure, lines = _filled(spec, structure, names)
    if not structure.is_ordered:
        structure, names, line = ordered(spec, structure, names)
        lines.append(line)
    if spec.sites:
        named = [
            found.get(site.specie.symbol, "") for site, found in zip(structure, names, strict=True)
        ]
        structure.add_site_property(NAMED, named)
    return structure, lines


def _filled(spec: HostSpec, structure: Structure, names: Names) -> tuple[Structure, list[str]]:
    """Fill the sites of the working ion, and count states of one element as that element."""
    filled: Counter[str] = Counter()
    structure, ion = structure.copy(), spec.working_ion
    for site, named in zip(structure, names, strict=True):
        if site.is_ordered:
            continue
        amounts = site.species.element_composition.get_el_amt_dict()
        occupancy = sum(amounts.values())
        # A site that several rows share has the labels of all, whose occupancies may be rounded.
        rounding = WHOLE if "/" in site.label else 0.0
        if ion in amounts and ions_of(spec, ion, named.get(ion, "")) is None:
            if len(amounts) > 1:
                others = ", ".join(sorted(amounts.keys() - {ion}))
                raise InputError(
                    f"{ion} shares site {site.label} with {others}",
                    where=f"host.structure: {spec.structure.name}",
                    remedy=f"give it a site of its own, or leave {others} out of it; if this {ion} "
                    f"stays, name it under 'sites', with 'order: ewald'",
                )
            if occupancy < 1 - rounding:
                filled[f"{site.label} ({occupancy:g})"] += 1
            occupancy = 1.0
        if len(amounts) == 1 and occupancy >= 1 - rounding:
            amounts = dict.fromkeys(amounts, 1.0)
        site.species = Composition(amounts)
    if not filled:
        return structure, []
    sites = ", ".join(f"{number} {label}" for label, number in filled.items())
    return structure, [f"partly occupied {ion} sites are filled in the parent: {sites}"]
