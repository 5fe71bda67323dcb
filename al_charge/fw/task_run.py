"""The run of a task: what is logged of it, and how it ends.

It ends in one of three ways. The task is done; it failed; or it was interrupted by something that
is not its own fault, such as a signal or an outage of the database. In the last case the worker
process exits, its parent hands the Firework back, and the task is resumed later.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NoReturn

from pymongo.errors import ConnectionFailure, CursorNotFound, OperationFailure

from al_charge.errors import AlChargeError, UnfinishedError, one_line
from al_charge.logs import details
from al_charge.stopping import EXIT_CODE, disk_is_full

OUTAGE = (ConnectionFailure, CursorNotFound)
"""Errors of an operation whose server was killed; a restarted server knows no open cursors."""

UNREACHABLE = "the database does not answer"
"""Reason of a run that an outage has interrupted."""

_OUT_OF_DISK_SPACE = 14031
"""MongoDB's error code for a full disk."""

_LEVELS = {"done": logging.INFO, "failed": logging.ERROR, "interrupted": logging.WARNING}
_log = logging.getLogger("al_charge.fw")


class TaskRun:
    """One run of a task, from its start to its end.

    Parameters
    ----------
    campaign
        Name of the campaign.
    round_number
        Round that the task belongs to.
    task
        What it does, such as ``train 0``.

    Attributes
    ----------
    key
        Key of the product in the database; None while there is none.
    close
        Called with how the run has ended, and why; not by a signal, which may come in the middle of
        any call. The parent tells then.
    """

    def __init__(self, campaign: str, round_number: int, task: str) -> None:
        self.key: str | None = None
        self.close: Callable[[str, str], object] = lambda outcome, reason: None
        self._fields = {"campaign": campaign, "round": round_number, "task": task}
        self._started = time.monotonic()

    def __str__(self) -> str:
        """Return campaign, round and task."""
        return "{campaign} round {round}, {task}".format(**self._fields)

    def start(self, task: str) -> None:
        """Log that the task starts.

        Parameters
        ----------
        task
            What it does, in more detail than before, such as ``propose x=1/2``.
        """
        self._fields["task"] = task
        _log.info("%s: started", self, extra=details(event="start", **self._fields))

    def end(
        self,
        outcome: Literal["done", "failed", "interrupted"],
        reason: str = "",
        error: Exception | None = None,
    ) -> None:
        """Log that the run has ended.

        Parameters
        ----------
        outcome
            ``interrupted`` if the task will be resumed.
        reason
            Why the task is not done; empty if it is.
        error
            Exception whose traceback is logged as well.
        """
        seconds = time.monotonic() - self._started
        ends: dict[str, Any] = {
            "outcome": outcome,
            "seconds": seconds,
            "key": self.key,
            "reason": reason,
        }
        line = f"{self}: {outcome} after {seconds:.1f} s"
        line += f": {reason}" if reason else f", key {self.key}" if self.key else ""
        extra = details(event="end", **self._fields, **ends)
        _log.log(_LEVELS[outcome], "%s", line, extra=extra, exc_info=error)


_current: ContextVar[TaskRun | None] = ContextVar("current task run", default=None)


@contextmanager
def running(campaign: str, round_number: int, task: str, folder: Path) -> Iterator[TaskRun]:
    """Run a task in the block, and log how it ends.

    An exception that is not the task's own fault ends this process.

    Parameters
    ----------
    campaign
        Name of the campaign.
    round_number
        Round that the task belongs to.
    task
        What it does, such as ``train 0``.
    folder
        Where the task writes its files.

    Yields
    ------
    TaskRun
        To be started, and given its key.
    """
    run = TaskRun(campaign, round_number, task)
    token = _current.set(run)
    try:
        yield run
        run.close("done", "")
        run.end("done")
    except Exception as error:
        if (reason := transient_failure(error, folder)) is not None:
            if not isinstance(error, OUTAGE):
                run.close("interrupted", reason)
            stop_worker(reason)
        known = isinstance(error, AlChargeError)
        reason = str(error) if known else one_line(f"{type(error).__name__}: {error}")
        run.close("failed", reason)
        run.end("failed", reason, None if known else error)
        raise
    finally:
        _current.reset(token)


def transient_failure(error: BaseException, folder: Path) -> str | None:
    """Tell failures of the surroundings, which pass, from those of a task itself.

    Parameters
    ----------
    error
        The exception that was raised.
    folder
        Where the task writes its files.

    Returns
    -------
    str or None
        What has failed around the task; None if the failure is the task's own.
    """
    if isinstance(error, UnfinishedError):
        return str(error)
    if isinstance(error, OUTAGE):
        return UNREACHABLE
    if isinstance(error, OperationFailure) and error.code == _OUT_OF_DISK_SPACE:
        return "the database's disk is full"
    return f"{folder}: the disk is full" if disk_is_full(folder, error) else None


def stop_worker(reason: str, level: int = logging.WARNING) -> NoReturn:
    """End this process at once; its parent hands back the task that was running.

    Parameters
    ----------
    reason
        For the log.
    level
        Of the line in the log if no task was running.
    """
    if (run := _current.get()) is not None:
        run.end("interrupted", reason)
    else:
        extra = details(event="stop", reason=reason)
        _log.log(level, "worker stopped: %s", reason, extra=extra)
    os._exit(EXIT_CODE)
