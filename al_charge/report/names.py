"""How labelers and formulas are written for people."""

from __future__ import annotations

import re

from al_charge.crystal.species import spin_name
from al_charge.labelers.plugin import LABELERS, EngineSettings

_AMOUNT = re.compile(r"(?<=[A-Za-z)])(\d+(?:[./]\d+)?|x)(?![a-z])")
_SUBSCRIPTS = str.maketrans("0123456789x/", "₀₁₂₃₄₅₆₇₈₉ₓ\N{FRACTION SLASH}")

_CHARGE = re.compile(r"\d*[+-]$")
_RAISED = str.maketrans(
    "0123456789+-",
    "\N{SUPERSCRIPT ZERO}\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT TWO}\N{SUPERSCRIPT THREE}"
    "\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b",
)
X_UNIT = "working ions per formula unit, an exact fraction"
"""What x is, in the units of every document."""
MAGNETON = "\N{GREEK SMALL LETTER MU}B"
"""Bohr magneton, as texts of charts have it."""


def labeler_name(kind: str) -> str:
    """Return the name of a labeler, e.g. ``Born (analytic ionic model)`` for ``born``.

    Parameters
    ----------
    kind
        Its name in campaign files.

    Returns
    -------
    str
        Its plug-in's title; the kind itself where the plug-in is not installed here, since a
        database also holds campaigns of other machines.
    """
    found = LABELERS.found.get(kind)
    return kind if found is None or found.plugin is None else found.plugin.title


def labeler_remark(settings: EngineSettings) -> str:
    """Return what is told wherever results of a labeler are shown.

    Parameters
    ----------
    settings
        Of a campaign.

    Returns
    -------
    str
        One line; empty for most labelers.
    """
    return LABELERS.of(settings).remark(settings)


def host_formula(framework: str, working_ion: str) -> str:
    """Return the formula of a host with a variable amount of the working ion.

    Parameters
    ----------
    framework
        Formula of one formula unit without the ion, such as ``FePO4``.
    working_ion
        Element of the working ion.

    Returns
    -------
    str
        Such as ``NaxFePO4``.
    """
    return f"{working_ion}x{framework}"


def mathtext(formula: str) -> str:
    """Write the amounts in a formula, and magnetons, with subscripts, for matplotlib.

    Parameters
    ----------
    formula
        Such as ``NaxFePO4``.

    Returns
    -------
    str
        The formula in matplotlib's mathtext.
    """
    shown = _AMOUNT.sub(lambda match: f"$_{{{_italic(match[1])}}}$", formula)
    return shown.replace(MAGNETON, rf"{MAGNETON[0]}$_\mathrm{{B}}$")


def html(formula: str) -> str:
    """Write the amounts in a formula, and magnetons, with subscripts, for HTML.

    Parameters
    ----------
    formula
        Such as ``NaxFePO4``.

    Returns
    -------
    str
        The formula with ``sub`` elements.
    """
    shown = _AMOUNT.sub(r"<sub>\1</sub>", formula)
    return shown.replace(MAGNETON, f"{MAGNETON[0]}<sub>B</sub>")


def ion(species: str) -> str:
    """Write a species with its charge as a superscript, for any kind of plot.

    Parameters
    ----------
    species
        Species token, or ``Fe?`` where the state is uncertain.

    Returns
    -------
    str
        Such as ``Fe\u00b2\u207a``, or ``Co\u00b3\u207a low spin`` where the token tells it.
    """
    if species.endswith("?"):
        return f"{species[:-1]}, uncertain"
    name, _, told = species.partition(",")
    raised = _CHARGE.sub(lambda match: match[0].translate(_RAISED), name)
    return f"{raised} {spin_name(species)} spin" if told and spin_name(species) else raised


def unicode_formula(formula: str) -> str:
    """Write the amounts in a formula as subscripts, in plain text.

    Parameters
    ----------
    formula
        Such as ``NaxFePO4``.

    Returns
    -------
    str
        Such as ``NaₓFePO₄``.
    """
    return _AMOUNT.sub(lambda match: match[1].translate(_SUBSCRIPTS), formula)


def _italic(amount: str) -> str:
    return amount if amount == "x" else rf"\mathrm{{{amount}}}"
