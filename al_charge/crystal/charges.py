"""Charges of elements with one charge state only, such as Na+, P5+ and O2-, and of working ions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pymatgen.core.periodic_table import Element

from al_charge.crystal.windows import VASP_WINDOWS
from al_charge.errors import InputError

_ANIONS = {"O": -2, "F": -1}
"""Charge in e of elements that are anions in every solid with a cation."""

LARGEST_ION_CHARGE = 3
"""Largest charge of a working ion, in e."""


def usual_ion_charges(element: str) -> tuple[int, ...]:
    """Return the charges that a mobile ion of an element usually has.

    Parameters
    ----------
    element
        Element symbol.

    Returns
    -------
    tuple of int
        pymatgen's common oxidation states from 1 to 3, in e, ascending; for copper, whose Cu+
        moves in many hosts, 1 and 2. Empty if it is not an element, or has none.
    """
    if not Element.is_valid_symbol(element):
        return ()
    states = (1, 2) if element == "Cu" else Element(element).common_oxidation_states
    return tuple(sorted(state for state in states if 0 < state <= LARGEST_ION_CHARGE))


def known_ion_charges(element: str) -> tuple[int, ...]:
    """Return the charges that an ion of an element is known to have in any compound.

    Parameters
    ----------
    element
        Element symbol.

    Returns
    -------
    tuple of int
        In e, ascending, from 1 to 3.
    """
    known = {*usual_ion_charges(element)}
    if Element.is_valid_symbol(element):
        known |= {*Element(element).oxidation_states, *Element(element).icsd_oxidation_states}
    return tuple(sorted(state for state in known if 0 < state <= LARGEST_ION_CHARGE))


def ion_charge(element: str) -> int:
    """Return the charge of a working ion for which none is given.

    Parameters
    ----------
    element
        Element symbol.

    Returns
    -------
    int
        Its only usual charge, in e; 0 if it has several, or none.
    """
    usual = usual_ion_charges(element)
    return usual[0] if len(usual) == 1 else 0


def fixed_charges(
    elements: Iterable[str], variable: Iterable[str], given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return the charge of every element of a compound that has only one charge state.

    Oxygen is -2, fluorine -1. Where either is present, every other element but the halogens is in
    the highest of its common states (P5+, S6+, Si4+); otherwise the most electronegative element is
    in its lowest common state, the others in their highest.

    Parameters
    ----------
    elements
        All elements of the compound.
    variable
        Those whose sites are told apart by their moments; they are left out, unless in ``given``.
    given
        Charges in e that the user knows; None for none.

    Returns
    -------
    dict
        Charge in e by element.

    Raises
    ------
    InputError
        If a transition metal with several common states, or an element without any, is not in
        ``given``, or the compound lacks an element that is.
    """
    given = given or {}
    present = sorted(set(elements))
    fixed = [element for element in present if element not in variable or element in given]
    if unknown := sorted(set(given) - set(present)):
        raise InputError(f"there is no {unknown[0]} in the cell", where=f"charge of {unknown[0]}")
    oxide = not _ANIONS.keys().isdisjoint(present)
    anion = max(present, key=lambda symbol: Element(symbol).X) if len(present) > 1 else None
    return {
        symbol: given[symbol] if symbol in given else _common(symbol, symbol == anion, oxide)
        for symbol in fixed
    }


def redox_elements(elements: Iterable[str]) -> list[str]:
    """Return the elements whose sites may be in one of several charge states.

    Parameters
    ----------
    elements
        Element symbols, in any order and number.

    Returns
    -------
    list of str
        In alphabetical order.
    """
    return [
        symbol
        for symbol in sorted(set(elements))
        if symbol in VASP_WINDOWS.elements
        or (
            Element(symbol).is_transition_metal and len(Element(symbol).common_oxidation_states) > 1
        )
    ]


def _common(symbol: str, is_anion: bool, oxide: bool) -> int:
    if symbol in _ANIONS:
        return _ANIONS[symbol]
    element = Element(symbol)
    states = element.common_oxidation_states
    if not states or (element.is_transition_metal and len(states) > 1):
        known = ", ".join(f"{state:+d}" for state in states) or "none"
        raise InputError(
            f"the charge of {symbol} is not known: it has no moment windows, and its common "
            f"oxidation states are {known}",
            where=f"charge of {symbol}",
            remedy="give its charge, or the moment windows of its states",
        )
    negative = element.is_halogen or (is_anion and not oxide)
    return int(min(states) if negative else max(states))
