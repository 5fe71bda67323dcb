"""Reading files of others under limits of memory and time."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from al_charge.crystal.compressed import is_compressed
from al_charge.errors import InputError

MEMORY = 750 * 10**6
"""Bytes that a file may take to read, besides `PER_BYTE` for each of its own."""
PER_BYTE = 60
"""Objects of Python are large: ten structures of a few atoms take 60 times their text."""
SECONDS = 60.0
"""Of the processor that a file may take to read, besides two for each of its megabytes."""
_UNPACKED = 5
"""How many times larger a compressed file is when it is not."""
_PAGE = resource.getpagesize()


class _TooLongError(BaseException):
    """The time is over; not an Exception, which parsers may take for a fault of the format."""


@contextmanager
def limited(path: Path) -> Iterator[None]:
    """Read a file, and refuse it where that takes far more than its size allows.

    The limits are those of this process: of its memory where the system tells how much it has
    (Linux), of its time in the main thread, where Python delivers signals.

    Parameters
    ----------
    path
        The file; it exists.

    Yields
    ------
    None
        Once.

    Raises
    ------
    InputError
        If a limit was reached.
    """
    size = path.stat().st_size * (_UNPACKED if is_compressed(path) else 1)
    try:
        with _memory(MEMORY + PER_BYTE * size), _time(SECONDS + 2e-6 * size):
            yield
    except (MemoryError, _TooLongError) as error:
        what = "memory" if isinstance(error, MemoryError) else "time"
        raise InputError(
            f"reading it takes more {what} than a file of its size should",
            where=str(path),
            remedy="check the numbers in it: it may declare more than it has",
        ) from None


@contextmanager
def _memory(most: int) -> Iterator[None]:
    """Let this process take that many bytes more than it has."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        has = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        limits = [limit for limit in before if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min([has + most, *limits]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _time(seconds: float) -> Iterator[None]:
    """Interrupt this thread after so many seconds of the processor."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _TooLongError

    handler = signal.signal(signal.SIGPROF, stop)
    left, interval = signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, left, interval)
        signal.signal(signal.SIGPROF, handler)
