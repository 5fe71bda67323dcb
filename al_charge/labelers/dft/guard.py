"""Tie a command to the process that started it: ``guard.py PARENT PATIENCE LOCK COMMAND...``.

The guard waits for the command and ends as it does. All that the command leaves running is ended
with it: wrapper scripts and MPI launchers put an engine into process groups and sessions of its
own, and end before it. The same happens when the parent has died, when another engine has taken the
folder over, or when the guard is told to end.

It is run by its path and imports nothing of the package, which would take a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

POLL = 0.1
"""Seconds between two looks at the command and the parent."""

STOPPED = 75
"""Exit status of an engine that was stopped and can be continued; see `process`."""

BEAT = 2.0
"""Seconds between two signs of life in the lock, each after a look whether it is ours."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; does nothing outside Linux."""
    _ask_kernel(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def main(arguments: list[str]) -> None:
    """Run the command.

    Parameters
    ----------
    arguments
        Process id of the expected parent; seconds that the command has after SIGTERM before
        everything is killed; path of the folder's lock, or nothing; then the command and its
        arguments.
    """
    parent, patience, lock, *command = arguments
    _ask_kernel(PR_SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes our child
    token = _read(lock)
    told: list[int] = []
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _: told.append(number))
    child = os.fork()
    if not child:
        _become(command)
    end = float("inf")
    next_beat = time.monotonic() + BEAT
    status: int | None = None
    try:
        while status is None and time.monotonic() < end and os.getppid() == int(parent):
            if told:
                number = told.pop()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, number)
                end = min(
                    end, time.monotonic() + (float(patience) if number == signal.SIGTERM else 0.0)
                )
            if lock and time.monotonic() > next_beat:
                if (now := _read(lock)) is not None and now != token:
                    sys.stderr.write("another engine has taken this folder over\n")
                    status = STOPPED
                    break
                with contextlib.suppress(OSError):
                    os.utime(lock)
                next_beat = time.monotonic() + BEAT
            status = _status_of(child)
            if status is None:
                time.sleep(POLL)
    finally:
        _end_descendants(child)
    _end_as(-signal.SIGKILL if status is None else status)


def _become(command: list[str]) -> None:
    """Become the command, in the process that was forked for it."""
    die_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


def _status_of(child: int) -> int | None:
    """Return the exit status of a child as `subprocess` has it, None while it runs."""
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _end_descendants(child: int) -> None:
    """Kill the children until there are none: on Linux the children of each become ours."""
    while True:
        for pid in {child, *_children()}:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(POLL / 10)


def _children() -> Iterator[int]:
    """Yield the children of this process, by their entries in /proc."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                yield int(stat.parent.name)


def _end_as(status: int) -> None:
    """End with a status, or by the signal that it stands for."""
    if status >= 0:
        sys.exit(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if status != -signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


def _read(lock: str) -> bytes | None:
    """Return what is in the lock; None while it cannot be read."""
    try:
        return Path(lock).read_bytes() if lock else None
    except OSError:
        return None


def _ask_kernel(*request: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(*request, *[0] * (5 - len(request)))


if __name__ == "__main__":
    main(sys.argv[1:])
