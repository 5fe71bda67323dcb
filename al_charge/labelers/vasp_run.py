"""What VASP's tags and energies say of a run: its functional, and whether it converged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_ROUNDING = 1.5e-8
"""eV by which a difference of energies may be off, and EDIFF, all written with eight decimals."""


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


def settled(energies: Sequence[float], most: int, limit: float) -> bool:
    """Return whether the electrons of one geometry met EDIFF before NELM stopped them.

    What a run prints does not tell: VASP 5 says that EDIFF is reached of runs that NELM stopped.

    Parameters
    ----------
    energies
        Free energy after each electronic step, eV, with eight decimals.
    most
        NELM.
    limit
        EDIFF, eV.

    Returns
    -------
    bool
        False for as many steps as are allowed, and where the last changed the energy by more.
    """
    if not 0 < len(energies) < most:
        return False
    return len(energies) == 1 or abs(energies[-1] - energies[-2]) <= limit + _ROUNDING


def _word(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.strip().strip(".").upper()
