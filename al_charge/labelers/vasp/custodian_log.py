"""What custodian noted: the errors that it met, what it changed for each, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monty.io import zopen

from al_charge.errors import AlChargeError, CrashedError, UnfinishedError
from al_charge.labelers.protocol import Attempt

LOG = "custodian.json"
_WALLTIME = "Walltime reached"


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
    from al_charge.labelers.vasp.outputs import read_vasprun

    # It may have converged in the time that it was left.
    if not read_vasprun(folder).converged:
        raise UnfinishedError(
            "stopped when its time was up, before it converged",
            where=str(folder),
            remedy="run it again, and it continues there; or allow a longer timeout",
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
        A `CrashedError` if VASP ended by itself with an error status.
    """
    from custodian.custodian import ReturnCodeError

    corrections = _corrections(folder)
    problems = list(dict.fromkeys(_problem(correction) for correction in corrections))
    if not problems:
        kind = CrashedError if isinstance(error, ReturnCodeError) else AlChargeError
        return kind(f"custodian gave up: {_plain(error)}", where=str(folder))
    tried = sum(bool(correction.get("actions")) for correction in corrections)
    return AlChargeError(
        f"custodian gave up after {tried} corrections: {'; '.join(problems[:4])}",
        where=str(folder),
        remedy="see vasp.out and OUTCAR there",
    )


def _plain(error: Exception) -> str:
    """Return custodian's message, with VASP's last words where it ended by itself."""
    message = str(error).replace("Terminating...", "").strip().rstrip(".")
    for name in ("std_err.txt", "vasp.out"):
        file = Path(name)
        lines = file.read_text(errors="replace").split("\n") if file.is_file() else []
        if said := [line.strip() for line in lines if line.strip()]:
            return f"{message} ({said[-1][:200]})"
    return message


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
