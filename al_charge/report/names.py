"""How labelers and formulas are written for people."""

from __future__ import annotations

import re

from al_charge.labelers.plugin import LABELERS, EngineSettings

_AMOUNT = re.compile(r"(?<=[A-Za-z)])(\d+(?:[./]\d+)?|x)(?![a-z])")
_SUBSCRIPTS = str.maketrans("0123456789x/", "₀₁₂₃₄₅₆₇₈₉ₓ\N{FRACTION SLASH}")


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
    """Write the amounts in a formula as subscripts, for matplotlib.

    Parameters
    ----------
    formula
        Such as ``NaxFePO4``.

    Returns
    -------
    str
        The formula in matplotlib's mathtext.
    """
    return _AMOUNT.sub(lambda match: f"$_{{{_italic(match[1])}}}$", formula)


def html(formula: str) -> str:
    """Write the amounts in a formula as subscripts, for HTML.

    Parameters
    ----------
    formula
        Such as ``NaxFePO4``.

    Returns
    -------
    str
        The formula with ``sub`` elements.
    """
    return _AMOUNT.sub(r"<sub>\1</sub>", formula)


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
