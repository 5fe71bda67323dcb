"""SIGTERM as a request to stop where work can go on: a batch system's warning of its walltime."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def heeding_sigterm() -> Iterator[Callable[[], bool]]:
    """Note SIGTERM instead of ending by it; what is yielded tells whether it has come.

    Outside the main thread, where signals do not arrive, and in a process that ignores SIGTERM
    nothing is ever noted.
    """
    heard = threading.Event()
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield heard.is_set
        return

    def hear(_number: int, _frame: FrameType | None) -> None:
        heard.set()

    signal.signal(signal.SIGTERM, hear)
    try:
        yield heard.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
