"""Charges of elements with one charge state only, such as Na+, P5+ and O2-."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pymatgen.core.periodic_table import Element

from al_charge.crystal.windows import VASP_WINDOWS
from al_charge.errors import InputError

_ANIONS = {"O": -2, "F": -1}
"""Charge in e of elements that are anions in every solid with a cation."""


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
