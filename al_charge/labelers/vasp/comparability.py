"""Whether a run still is what was asked for, or custodian changed what energies depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from al_charge.labelers.vasp import tags
from al_charge.labelers.vasp.outputs import Run, grid_text

_PER_ELEMENT = ("LDAUU", "LDAUJ", "LDAUL")


def broken_by(
    run: Run,
    requested: Mapping[str, Any],
    kpoints: Sequence[int],
    titles: Mapping[str, str],
) -> str:
    """Return the differences between a run and its request that change the energy.

    Parameters
    ----------
    run
        What ``vasprun.xml`` says.
    requested
        INCAR of the stage, tags by element as lists.
    kpoints
        Divisions of the requested grid, which is centred on Gamma.
    titles
        Title of the dataset that each element was given.

    Returns
    -------
    str
        One line that names every difference; empty if there is none.
    """
    differences = [
        f"{tag} is {_text(found)} instead of {_text(asked)}"
        for tag, asked, found in _tags(run, requested)
    ]
    if run.kpoints != (grid := grid_text(kpoints)):
        differences.append(f"the k-point grid is {run.kpoints} instead of {grid}")
    for element, title in titles.items():
        if run.titles.get(element) != title:
            differences.append(f"the POTCAR of {element} is {run.titles.get(element)}, not {title}")
    return "; ".join(differences)


def _tags(run: Run, requested: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return each tag that differs, with its values as asked for and as found."""
    asked_for = tags.physical(requested)
    if "NUPDOWN" in requested:
        asked_for["NUPDOWN"] = float(requested["NUPDOWN"])
    found: list[tuple[str, Any, Any]] = []
    for tag in sorted(asked_for.keys() | tags.physical(run.incar).keys()):
        asked = asked_for.get(tag, tags.default(tag))
        value = _effective(tag, run)
        if tag == "EDIFF" and value is not None and value <= asked * (1 + 1e-6):
            continue  # tighter electrons only come closer to the same energy
        if tag == "LDAUL":  # irrelevant where there is no U
            asked = _where_u(asked, asked_for.get("LDAUU"))
            value = _where_u(value, _effective("LDAUU", run))
        if not _equal(asked, value):
            found.append((tag, asked, value))
    return found


def _where_u(angular: Any, u: Any) -> Any:
    if not (isinstance(angular, list) and isinstance(u, list) and len(angular) == len(u)):
        return angular
    return [number if value else -1.0 for number, value in zip(angular, u, strict=True)]


def _effective(tag: str, run: Run) -> Any:
    """Return a tag's value in the run: as given, else as VASP chose it."""
    if tag in run.incar:
        return tags.spelled(tag, run.incar[tag])
    if tag not in _PER_ELEMENT and (value := run.parameters.get(tag)) is not None:
        return tags.spelled(tag, value)
    return tags.default(tag)


def _equal(asked: Any, value: Any) -> bool:
    if isinstance(asked, float | list) and isinstance(value, float | list):
        first, second = np.atleast_1d(asked), np.atleast_1d(value)
        return first.shape == second.shape and bool(
            np.allclose(first, second, rtol=1e-5, atol=1e-9)
        )
    return bool(asked == value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return str(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)
