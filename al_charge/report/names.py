"""How labelers and formulas are written for people."""

from __future__ import annotations

import re

from al_charge.errors import InputError, did_you_mean

LABELERS = {
    "born": "Born (analytic ionic model)",
    "gpaw": "GPAW",
    "vasp": "VASP",
}
"""The name of each kind of labeler, wherever it shows."""

_AMOUNT = re.compile(r"(?<=[A-Za-z)])(\d+(?:[./]\d+)?|x)(?![a-z])")


def labeler_name(kind: str) -> str:
    """Return the name of a labeler, e.g. ``Born (analytic ionic model)`` for ``born``.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if kind not in LABELERS:
        raise InputError(
            f"unknown labeler '{kind}'", where="labeler", remedy=did_you_mean(kind, LABELERS)
        )
    return LABELERS[kind]


def host_formula(framework: str, working_ion: str) -> str:
    """Return a host's formula with a variable amount of its ion, e.g. ``NaxFePO4``."""
    return f"{working_ion}x{framework}"


def mathtext(formula: str) -> str:
    """Return a formula with its amounts as subscripts, for matplotlib."""
    return _AMOUNT.sub(lambda match: f"$_{{{_italic(match[1])}}}$", formula)


def html(formula: str) -> str:
    """Return a formula with its amounts as subscripts, for HTML."""
    return _AMOUNT.sub(r"<sub>\1</sub>", formula)


def _italic(amount: str) -> str:
    return amount if amount == "x" else rf"\mathrm{{{amount}}}"
