"""U: what the Materials Project uses, and for which compounds."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pymatgen.core.periodic_table import Element

MP_U = {
    "Co": 3.32,
    "Cr": 3.7,
    "Fe": 5.3,
    "Mn": 3.9,
    "Mo": 4.38,
    "Ni": 6.2,
    "V": 3.25,
    "W": 6.2,
}
"""U on the d states in eV, as the Materials Project uses it with PBE for oxides and fluorides.

Settings hashes of labels depend on it: a later default needs a table of its own. The default moment
windows were measured with PBE and these.
"""

FUNCTIONAL = "PBE"
"""For which these U are, and with which the default windows were measured."""

_ANIONS = frozenset({"O", "F"})


def has_usual_u(elements: Collection[str]) -> bool:
    """Tell whether the Materials Project uses U in a compound.

    It does if the most electronegative element is oxygen or fluorine. No other element is more
    electronegative than these two, so either of them is enough.

    Parameters
    ----------
    elements
        Of the compound, the working ion included.

    Returns
    -------
    bool
        False for sulfides, selenides, chlorides and cyanides, for example.
    """
    return not _ANIONS.isdisjoint(elements)


def usual_u(elements: Collection[str]) -> dict[str, float]:
    """Return the Materials Project's U of a compound.

    Parameters
    ----------
    elements
        Of the compound, the working ion included.

    Returns
    -------
    dict
        eV by element; elements without U are left out.
    """
    if not has_usual_u(elements):
        return {}
    return {element: u for element, u in MP_U.items() if element in elements}


def without_u(redox: Collection[str], elements: Collection[str], u: Mapping[str, float]) -> str:
    """Say which redox elements should have a U and have none.

    Parameters
    ----------
    redox
        Elements that change their charge.
    elements
        Of the compound.
    u
        eV by element.

    Returns
    -------
    str
        One line; empty if there is none, or in a compound that is computed without U.
    """
    bare = [el for el in sorted(redox) if not u.get(el) and _has_open_shell(el)]
    if not bare or not has_usual_u(elements):
        return ""
    compound = "an oxide" if "O" in elements else "a fluoride"
    return (
        f"{', '.join(bare)} without U in {compound}: "
        f"{FUNCTIONAL} spreads charge over several sites, and voltages come out too low"
    )


def u_text(u: Mapping[str, float]) -> str:
    """Return U as people read it.

    Parameters
    ----------
    u
        eV by element.

    Returns
    -------
    str
        Such as ``Fe 5.3 eV, Mn 3.9 eV``, or ``none``.
    """
    return ", ".join(f"{el} {value:g} eV" for el, value in sorted(u.items()) if value) or "none"


def _has_open_shell(element: str) -> bool:
    """Return whether an element has d or f electrons for a U to act on."""
    kind = Element(element)
    return bool(kind.is_transition_metal or kind.is_lanthanoid or kind.is_actinoid)
