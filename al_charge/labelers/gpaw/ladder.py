"""The SCF ladder: in which ways a run is tried until it converges.

A rung is a sequence of stages. All but the last only let the density settle, at the start geometry
or with broader occupations; the last one has the settings that were asked for, so that whichever
rung converges, the energy is of the same kind.
"""

from __future__ import annotations

from typing import Any

from al_charge.labelers.gpaw.settings import GpawSettings

Rung = dict[str, Any]

_PULAY = {"name": "pulay", "beta": 0.1, "nmaxold": 5, "weight": 50.0}
_DAMPED = {"name": "pulay", "beta": 0.05, "nmaxold": 8, "weight": 50.0}
_STIFF = {"name": "pulay", "beta": 0.02, "nmaxold": 10, "weight": 100.0}
_MIXERS: dict[str, dict[str, Any]] = {"msr1": {"name": "msr1"}, "pulay": _PULAY}

WIDE = 0.2
"""Width in eV of the occupations that a difficult density settles with."""

NARROW = 0.02
"""Width in eV of the occupations that the hardest steering has at the start geometry."""


def rungs(settings: GpawSettings, *, steered: bool, hold_moment: bool = False) -> list[Rung]:
    """Return the rungs of a run, the first of which is always tried.

    Parameters
    ----------
    settings
        The engine's settings.
    steered
        Whether the density is first made at a start geometry.
    hold_moment
        Whether the total moment is fixed and the occupations narrow there.

    Returns
    -------
    list of dict
        Each rung with what it changes (``changed``) and its stages: parameters of GPAW, and whether
        the stage is at the start geometry.
    """
    first = settings.mixer or ("msr1" if settings.mode == "lcao" else "pulay")
    other = "pulay" if first == "msr1" else "msr1"
    wide = {"occupations": _occupations(settings, WIDE, fixed=settings.holds_moment)}
    at_start = {}
    if hold_moment:
        at_start["occupations"] = _occupations(settings, NARROW, fixed=True)
    longer = {"maxiter": 2 * settings.max_iterations}
    # change of parameters, change while the density settles at the true geometry
    ladder: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        (f"mixer {first}", {"mixer": _MIXERS[first]}, None),
        (f"mixer {other}", {"mixer": _MIXERS[other]}, None),
        (
            f"mixer pulay with beta 0.05, smearing {WIDE:g} eV to start with",
            {"mixer": _DAMPED},
            wide,
        ),
        (
            f"mixer pulay with beta 0.02, twice the steps, smearing {WIDE:g} eV to start with",
            {"mixer": _STIFF} | longer | _more_states(settings),
            wide,
        ),
    ]
    found = []
    for changed, parameters, settling in ladder if settings.scf_ladder else ladder[:1]:
        stages: list[dict[str, Any]] = []
        if steered:
            stages.append({"at_start": True, "parameters": parameters | at_start})
        if settling is not None:
            stages.append({"at_start": False, "parameters": parameters | settling})
        stages.append({"at_start": False, "parameters": parameters})
        found.append({"changed": changed, "stages": stages})
    return found


def _more_states(settings: GpawSettings) -> dict[str, Any]:
    """Return parameters that make plane-wave states easier to find: more of them, more steps."""
    if settings.mode == "lcao":
        return {}
    return {"nbands": "130%", "eigensolver": {"name": "davidson", "niter": 3}}


def _occupations(settings: GpawSettings, width: float, *, fixed: bool) -> dict[str, Any]:
    occupations: dict[str, Any] = {"name": "fermi-dirac", "width": width}
    return occupations | {"fixmagmom": True} if fixed else occupations
