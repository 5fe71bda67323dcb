"""Requests to stop early: the signals that batch systems send before the walltime ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Signals that batch systems send some time before they kill a job."""

EXIT_CODE = 128 + signal.SIGTERM
"""Exit code of a process that stopped early and whose work can be continued."""


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
