"""Signals as a request to stop where work can go on: a batch system's warning of its walltime."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What batch systems send some time before they kill a job."""

EXIT_CODE = 128 + signal.SIGTERM
"""Of a process that was told to stop, or had to, and whose work can go on."""


@contextlib.contextmanager
def heeding_signals() -> Iterator[Callable[[], bool]]:
    """Note `SIGNALS` instead of ending by them; what is yielded tells whether one has come.

    Outside the main thread, where signals do not arrive, nothing is ever noted, nor of a signal
    that the process ignores.
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
    """Return the seconds that are left of the batch job, infinite where no end is known."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return int(end) - time.time() if end.isdigit() else float("inf")
