"""Files of a labelling job, of which a reader finds all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from al_charge.errors import CrashedError

STATE = "state.gpw"
"""The state in which a GPAW job was interrupted."""
DENSITY = "density.npz"
"""The all-electron density of a GPAW job; there until the charges have been found."""
BADER = "bader.json"
"""The Bader charges of a job, or why there are none."""


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document in one step, so that a killed writer leaves the old file or none.

    Parameters
    ----------
    path
        Where; an existing file is replaced.
    document
        What JSON can hold.

    Raises
    ------
    CrashedError
        If it cannot be written, for instance on a full disk.
    """
    unfinished = path.with_name(path.name + ".tmp")
    try:
        unfinished.write_text(json.dumps(document), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise CrashedError(f"cannot write: {error.strerror or error}", where=str(path)) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a document that `write_json` wrote.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        The document.

    Raises
    ------
    CrashedError
        If there is none, or it is truncated or damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CrashedError(f"cannot read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise CrashedError("the file is truncated or damaged", where=str(path)) from error
    if not isinstance(document, dict):
        raise CrashedError("the file is truncated or damaged", where=str(path))
    return document
