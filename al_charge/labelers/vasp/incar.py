"""The INCAR of each stage of a label, tag by tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ase.data import atomic_numbers

from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp.settings import VaspSettings

_METAL_SMEARING = {"ISMEAR": 1, "SIGMA": 0.2}


def common(settings: VaspSettings, elements: Sequence[str]) -> dict[str, Any]:
    """Return the tags that every stage has, the user's own included.

    Parameters
    ----------
    settings
        The engine's settings.
    elements
        In the order of the POSCAR, each once: U is given in this order.

    Returns
    -------
    dict
        Tags; those of DFT+U by element.
    """
    f_block = [element for element in elements if has_f_shell(element)]
    incar: dict[str, Any] = {
        "PREC": "Accurate",
        "GGA": "PE",  # PBE; atomate2's own sets take PBEsol
        "ENCUT": float(settings.cutoff),
        "EDIFF": 1e-6,
        "ISMEAR": 0,
        "SIGMA": 0.05,
        "ALGO": "All",
        "NELM": 200,
        "LREAL": False,
        "LASPH": True,
        "LMAXMIX": 6 if f_block else 4,
        "ISPIN": 2,
        "ISYM": 0,  # no symmetry of the ions may undo that of the charges
        "LORBIT": 12,
        "LCHARG": True,
        "LWAVE": True,  # a later stage, or a resumed one, begins from it
        **_hubbard(settings, elements),
    }
    return incar | settings.incar


def _hubbard(settings: VaspSettings, elements: Sequence[str]) -> dict[str, Any]:
    """Return the tags of PBE+U; none where no element has a U."""
    given = settings.u_of(elements)
    if not given:
        return {}
    u = {element: given.get(element, 0.0) for element in elements}
    angular = {el: (3 if has_f_shell(el) else 2) if u[el] else -1 for el in elements}
    return {
        "LDAU": True,
        "LDAUTYPE": 2,
        "LDAUPRINT": 1,
        "LDAUU": u,
        "LDAUJ": dict.fromkeys(elements, 0.0),
        "LDAUL": angular,
    }


def single_point(settings: VaspSettings, elements: Sequence[str]) -> dict[str, Any]:
    """Return the tags of the stage that gives the label's energy.

    Parameters
    ----------
    settings
        The engine's settings.
    elements
        In the order of the POSCAR, each once.

    Returns
    -------
    dict
        Tags; those of DFT+U by element.
    """
    return common(settings, elements) | {"IBRION": -1, "NSW": 0, "LAECHG": settings.bader}


def start_density(settings: VaspSettings, elements: Sequence[str]) -> dict[str, Any]:
    """Return the tags of the stage at distorted shells, whose density has the charge order.

    Parameters
    ----------
    settings
        The engine's settings.
    elements
        In the order of the POSCAR, each once.

    Returns
    -------
    dict
        Tags; those of DFT+U by element.
    """
    return common(settings, elements) | {"IBRION": -1, "NSW": 0, "LAECHG": False}


def relaxation(settings: VaspSettings, elements: Sequence[str], relax: Relax) -> dict[str, Any]:
    """Return the tags of a relaxation of the ions, or of ions and cell.

    Parameters
    ----------
    settings
        The engine's settings.
    elements
        In the order of the POSCAR, each once.
    relax
        What may move.

    Returns
    -------
    dict
        Tags; those of DFT+U by element.
    """
    return common(settings, elements) | {
        "IBRION": 2,
        "ISIF": 3 if relax is Relax.CELL else 2,
        "NSW": settings.max_steps,
        "EDIFFG": -float(settings.fmax),
        "LAECHG": False,
    }


def of_metal(incar: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's tags for the working-ion metal.

    It is smeared as metals are, without spin. It has no d electrons in need of a U, and an alkali
    metal has no moment.

    Parameters
    ----------
    incar
        Tags of the stage.

    Returns
    -------
    dict
        New tags.
    """
    left_out = ("LORBIT", "LDAU", "LDAUTYPE", "LDAUPRINT", "LDAUU", "LDAUJ", "LDAUL")
    kept = {tag: value for tag, value in incar.items() if tag not in left_out}
    return kept | _METAL_SMEARING | {"ISPIN": 1, "LAECHG": False}


def continued(incar: dict[str, Any]) -> dict[str, Any]:
    """Return a stage's tags if it starts from the wave functions and density of the stage before.

    Parameters
    ----------
    incar
        Tags of the stage.

    Returns
    -------
    dict
        New tags.
    """
    return incar | {"ISTART": 1, "ICHARG": 1}


def has_f_shell(element: str) -> bool:
    """Return whether an element's open shell is that of the f electrons.

    Parameters
    ----------
    element
        Its symbol.

    Returns
    -------
    bool
        True for lanthanoids and actinoids.
    """
    number = atomic_numbers[element]
    return 57 <= number <= 71 or 89 <= number <= 103
