"""Why a worker process ends without having failed: its task goes on where it was, later."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from pymongo.errors import ConnectionFailure, CursorNotFound, OperationFailure

from al_charge.errors import UnfinishedError
from al_charge.loop.disk import is_full
from al_charge.stopping import EXIT_CODE

OUTAGE = (ConnectionFailure, CursorNotFound)
"""What an operation raises whose database was killed; one that comes back knows no cursor."""

AWAY = "the database does not answer"

_OUT_OF_DISK_SPACE = 14031
"""MongoDB's code for its own disk."""


def passing_trouble(error: BaseException, folder: Path) -> str | None:
    """Return what kept a task from ending, if it is nothing of the task's own; else None.

    Parameters
    ----------
    folder
        Where the task writes its files.
    """
    if isinstance(error, UnfinishedError):
        return str(error)
    if isinstance(error, OUTAGE):
        return AWAY
    if isinstance(error, OperationFailure) and error.code == _OUT_OF_DISK_SPACE:
        return "the database's disk is full"
    return f"{folder}: the disk is full" if is_full(folder, error) else None


def leave(reason: str) -> NoReturn:
    """End this process at once; whoever started it hands back what it was doing."""
    print(f"worker: {reason}; what it was doing goes on later", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)
