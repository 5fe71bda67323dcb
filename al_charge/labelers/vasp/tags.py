"""INCAR tags: which a user may set, and which of them energies depend on."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from al_charge.errors import InputError, did_you_mean

_OWNED = {
    "LDAU": "use hubbard_u",
    "LDAUL": "use hubbard_u",
    "LDAUU": "use hubbard_u",
    "LDAUJ": "use hubbard_u; J is zero, as in the Materials Project",
    "MAGMOM": "use magnetic_order; moments follow the charge states",
    "NUPDOWN": "use fixed_moment; the total moment follows the charge states",
    "ENCUT": "use cutoff",
    "NSW": "use relax and max_steps",
    "IBRION": "use relax",
    "ISIF": "use relax",
    "EDIFFG": "use fmax",
    "KSPACING": "use kpoints or kpoint_spacing",
    "KGAMMA": "use kpoints or kpoint_spacing",
    "ISTART": "leave it out: the steering of the charge order decides how a run starts",
    "ICHARG": "leave it out: the steering of the charge order decides how a run starts",
    "LAECHG": "use bader",
    "NELECT": "leave it out: every cell is neutral",
    "LCHARG": "leave it out: the steering of the charge order needs it",
    "LWAVE": "use keep_wavecar",
    "LORBIT": "leave it out: the charge states are read from the moments that it prints",
    "ISPIN": "leave it out: the charge states are read from the moments",
}
"""What to do instead of setting tags that have a field or follow from the configuration."""

_HOW = frozenset(
    {
        *("ALGO", "IALGO", "NELM", "NELMIN", "NELMDL", "TIME", "LDIAG", "LSUBROT", "INIWAV"),
        *("AMIX", "BMIX", "AMIX_MAG", "BMIX_MAG", "AMIN", "MAXMIX", "IMIX", "WC", "INIMIX"),
        *("MIXPRE", "NCORE", "NPAR", "KPAR", "NSIM", "LPLANE", "LSCALU", "LSCALAPACK", "LSCAAWARE"),
        *("NBANDS", "LDAUPRINT", "LORBIT", "LWAVE", "LCHARG", "LAECHG", "LVTOT", "LVHAR", "LELF"),
        *("NWRITE", "SYSTEM", "NEDOS", "EMIN", "EMAX", "IBRION", "NSW", "ISIF", "EDIFFG", "POTIM"),
        *("NFREE", "SMASS", "ISTART", "ICHARG", "MAGMOM", "NUPDOWN", "SYMPREC", "ISYM", "EFERMI"),
        *("LMAXMIX", "LH5", "NBLOCK", "KBLOCK", "IWAVPR", "NPACO", "APACO", "RWIGS", "LPETIM"),
    }
)
"""Tags that say how a result is found or what is written, on which no converged energy depends."""

_VASP_DEFAULTS: dict[str, Any] = {
    "ADDGRID": False,
    "GGA": "PE",  # a PBE dataset's own functional
    "GGA_COMPAT": True,
    "IVDW": 0,
    "LASPH": False,
    "LDAU": False,
    "LHFCALC": False,
    "LREAL": False,
    "LUSE_VDW": False,
    "METAGGA": "NONE",
}
"""What VASP takes where a tag is not given, for those that matter here."""


def check_overrides(incar: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the INCAR tags of a campaign file, in capitals, if a user may set them.

    Parameters
    ----------
    incar
        As the file has them.

    Returns
    -------
    dict
        Values by tag.

    Raises
    ------
    InputError
        If VASP has no such tag, or it has a field of its own in the settings.
    """
    checked: dict[str, Any] = {}
    for name, value in incar.items():
        tag = str(name).upper()
        if tag in _OWNED:
            raise InputError(f"{tag} cannot be set here", remedy=_OWNED[tag])
        if tag not in known_tags():
            raise InputError(f"VASP has no tag {tag}", remedy=did_you_mean(tag, known_tags()))
        checked[tag] = value
    return checked


@cache
def known_tags() -> frozenset[str]:
    """Return every INCAR tag that pymatgen knows.

    Returns
    -------
    frozenset of str
        In capitals.

    Raises
    ------
    InputError
        If pymatgen is damaged.
    """
    return frozenset(json.loads(pymatgen_file("incar_parameters.json").read_text(encoding="utf-8")))


def pymatgen_file(name: str) -> Path:
    """Return a file of pymatgen's VASP module without importing that, which takes over a second.

    Parameters
    ----------
    name
        The file's.

    Returns
    -------
    pathlib.Path
        Where it is.

    Raises
    ------
    InputError
        If pymatgen is damaged.
    """
    spec = importlib.util.find_spec("pymatgen.io.vasp")
    if spec is None or spec.origin is None:
        raise InputError("pymatgen has no VASP module", remedy="install pymatgen again")
    return Path(spec.origin).with_name(name)


def physical(incar: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tags that energies depend on.

    Parameters
    ----------
    incar
        Values by tag.

    Returns
    -------
    dict
        Sorted by tag, each value in its one spelling.
    """
    return {tag: spelled(tag, value) for tag, value in sorted(incar.items()) if tag not in _HOW}


def default(tag: str) -> Any:
    """Return what VASP takes for a tag that is not given.

    Parameters
    ----------
    tag
        In capitals.

    Returns
    -------
    object
        None where the default does not matter.
    """
    return _VASP_DEFAULTS.get(tag)


def spelled(tag: str, value: Any) -> Any:
    """Return a tag's value as VASP understands it, so that equal ones compare equal.

    Parameters
    ----------
    tag
        In capitals.
    value
        As a user, pymatgen or VASP writes it.

    Returns
    -------
    object
        A bool, a float, a word in capitals, or a list of these.
    """
    if isinstance(value, str):
        word = value.strip().strip(".").upper()
        if tag == "PREC":
            return word[:1]  # VASP reads no more of it
        if tag == "GGA" and word in ("", "--"):
            return default(tag)
        return {"T": True, "TRUE": True, "F": False, "FALSE": False}.get(word, word)
    if isinstance(value, (list, tuple)):
        return [spelled(tag, item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return float(value)
