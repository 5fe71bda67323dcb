"""Reasons to stop early and continue later: signals, the end of a walltime, a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that batch systems send some time before they kill a job."""

ENDING = (*SIGNALS, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2, signal.SIGXCPU)
"""Signals by which somebody, mostly a batch system, ends a process; none means that it failed."""

TOLD_TO_END = threading.Event()
"""Set as soon as one of `SIGNALS` was heeded: this process begins nothing more."""

EXIT_CODE = 128 + signal.SIGTERM
"""Exit code of a process that stopped early and whose work can be continued."""

SMALLEST_FREE_SPACE = 1024**2
"""Bytes; a disk with less counts as full."""


@contextlib.contextmanager
def heeding_signals() -> Iterator[Callable[[], bool]]:
    """Record `SIGNALS` instead of dying from them.

    Signals that the process ignores stay ignored. Outside the main thread, where Python delivers no
    signals, nothing is recorded.

    Yields
    ------
    Callable
        Tells whether one of the signals has arrived.
    """
    heard = threading.Event()

    def hear(_number: int, _frame: FrameType | None) -> None:
        heard.set()
        TOLD_TO_END.set()

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, hear)
    try:
        yield heard.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def batch_seconds_left() -> float:
    """Return how long the batch job may still run.

    Returns
    -------
    float
        Seconds; infinite where no end is known.
    """
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return int(end) - time.time() if end.isdigit() else float("inf")


def disk_is_full(folder: Path, error: BaseException | None = None) -> bool:
    """Tell a full disk from a failure of what was written to it.

    Parameters
    ----------
    folder
        Folder on the disk; it need not exist yet.
    error
        Exception that was raised while writing there, if any.

    Returns
    -------
    bool
        Whether the exception says so, or too little space is left.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free < SMALLEST_FREE_SPACE
