"""The functional that INCAR tags mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FUNCTIONALS = {
    "--": "PBE",
    "91": "PW91",
    "AM": "AM05",
    "CA": "LDA",
    "PE": "PBE",
    "PS": "PBEsol",
    "RE": "revPBE",
    "RP": "RPBE",
}
"""Values of GGA, and of LEXCH in POTCARs."""


def functional_of(incar: Mapping[str, Any]) -> str:
    """Return the functional that INCAR tags mean.

    Parameters
    ----------
    incar
        Values by tag, as VASP, pymatgen or a user writes them; without GGA, or with ``--``, the
        datasets are those of PBE.

    Returns
    -------
    str
        Such as ``PBE``; what has no other name by its tag's value.
    """
    if _word(incar.get("LHFCALC", False)) in ("T", "TRUE"):
        return "a hybrid functional"
    meta = _word(incar.get("METAGGA", "--"))
    if meta not in ("", "--", "NONE", "FALSE", "F"):
        return meta
    gga = _word(incar.get("GGA", "--")) or "--"
    return _FUNCTIONALS.get(gga, f"GGA = {gga}")


def _word(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.strip().strip(".").upper()
