"""What custodian noted: the errors that it met, what it changed for each, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monty.io import zopen

from al_charge.errors import AlChargeError, CrashedError, UnfinishedError
from al_charge.labelers.dft.ending import how as how_it_ended
from al_charge.labelers.dft.ending import told_to_end
from al_charge.labelers.dft.process import STOP
from al_charge.labelers.protocol import Attempt

LOG = "custodian.json"
_WALLTIME = "Walltime reached"
_OF_THE_MACHINE = frozenset({"Frozen job", "out_of_memory"})
"""Errors that another start may not meet, perhaps elsewhere."""


def attempts(folder: Path, began: str, outcome: str) -> list[Attempt]:
    """Return every start of VASP in one folder.

    Parameters
    ----------
    folder
        Of the stage.
    began
        How the first of them began.
    outcome
        How the last one ended.

    Returns
    -------
    list of Attempt
        In order.
    """
    starts = [began]
    ends: list[str] = []
    for correction in _corrections(folder):
        ends.append(_problem(correction))
        starts.append(_changes(correction))
    if ends and not _corrections(folder)[-1].get("actions"):
        starts.pop()  # nothing was changed: that was the end
        outcome = ends.pop()
    return [Attempt(*pair) for pair in zip(starts, [*ends, outcome], strict=True)]


def check_ended(folder: Path) -> None:
    """Refuse a run that custodian let end without a result.

    That is what it does when the time is up.

    Parameters
    ----------
    folder
        Of the stage.

    Raises
    ------
    UnfinishedError
        If VASP was stopped before it had converged.
    """
    if not any(_WALLTIME in correction["errors"] for correction in _corrections(folder)):
        return
    from al_charge.labelers.vasp.ending import came_to_its_end
    from al_charge.labelers.vasp.outputs import read_vasprun

    # It may have converged in the time that it was left.
    if not came_to_its_end(folder) or not read_vasprun(folder).converged:
        raise UnfinishedError(
            "stopped at its time limit, before it converged",
            where=str(folder),
            remedy="run it again to continue from there; or allow a longer timeout",
        )


def cut_off(folder: Path, status: int) -> AlChargeError:
    """Return the error of a start that did not come to its end.

    Parameters
    ----------
    folder
        Of the stage.
    status
        Exit status of VASP's command.

    Returns
    -------
    AlChargeError
        An `UnfinishedError` if VASP or this process was asked to stop, else a `CrashedError`.
    """
    said = _said(folder)
    how = how_it_ended(status, said)
    asked = (folder / "STOPCAR").exists() or (folder.parent / STOP).exists()
    if asked or told_to_end(status, said):
        return UnfinishedError(f"VASP was asked to stop ({how})", where=str(folder))
    return CrashedError(
        f"VASP did not finish ({how})",
        where=str(folder),
        remedy="often for lack of memory: use more nodes, fewer ranks per node, or KPAR 1",
    )


def failure(folder: Path, error: Exception) -> AlChargeError:
    """Return the error that made custodian give up, in one line.

    Parameters
    ----------
    folder
        Of the stage.
    error
        What custodian raised.

    Returns
    -------
    AlChargeError
        A `CrashedError` if VASP ended with an error status although all its files are whole, or for
        a reason that lies in the machine.
    """
    from custodian.custodian import ReturnCodeError

    corrections = _corrections(folder)
    problems = list(dict.fromkeys(_problem(correction) for correction in corrections))
    if not problems:
        kind = CrashedError if isinstance(error, ReturnCodeError) else AlChargeError
        return kind(f"custodian gave up: {_plain(error, folder)}", where=str(folder))
    tried = sum(bool(correction.get("actions")) for correction in corrections)
    last = corrections[-1]
    machine = not last.get("actions") and _OF_THE_MACHINE.issuperset(last["errors"])
    return (CrashedError if machine else AlChargeError)(
        f"custodian gave up after {tried} corrections: {'; '.join(problems[:4])}",
        where=str(folder),
        remedy="see vasp.out and OUTCAR there",
    )


def _said(folder: Path) -> list[str]:
    """Return the last lines that VASP printed; readers of logs need no custodian, which is slow."""
    from al_charge.labelers.vasp.ending import said

    return said(folder)


def _plain(error: Exception, folder: Path) -> str:
    """Return custodian's message, with VASP's last words."""
    message = str(error).replace("Terminating...", "").strip().rstrip(".")
    said = _said(folder)
    return f"{message} ({said[-1].strip()[:200]})" if said else message


def _corrections(folder: Path) -> list[dict[str, Any]]:
    """Return custodian's corrections in order, from this folder's log, compressed or not."""
    for file in (folder / LOG, folder / f"{LOG}.gz"):
        if file.is_file():
            try:
                with zopen(str(file), "rt", encoding="utf-8") as text:
                    jobs = json.load(text)
                return [correction for job in jobs for correction in job["corrections"]]
            except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
                raise CrashedError("custodian's log cannot be read", where=str(file)) from error
    return []


def _problem(correction: dict[str, Any]) -> str:
    handler = correction.get("handler")
    name = handler.get("@class", "handler") if isinstance(handler, dict) else str(handler)
    return f"{name}: {', '.join(map(str, correction['errors'])) or 'error'}"


def _changes(correction: dict[str, Any]) -> str:
    """Return custodian's actions in words, such as ``INCAR ALGO = Normal``."""
    parts: list[str] = []
    for action in correction.get("actions") or []:
        subject = str(action.get("dict", action.get("file", "")))
        for kind, what in action["action"].items():
            if kind == "_set":
                parts += [f"{subject} {tag} = {value}" for tag, value in what.items()]
            elif kind == "_file_copy":
                parts.append(f"{subject} copied to {what['dest']}")
            elif kind in ("_file_delete", "_unset"):
                parts.append(
                    f"{subject} removed" if kind == "_file_delete" else _unset(subject, what)
                )
            else:
                parts.append(f"{subject} {kind.strip('_')}")
    return ", ".join(parts)


def _unset(subject: str, tags: dict[str, Any]) -> str:
    return ", ".join(f"{subject} {tag} removed" for tag in tags)
