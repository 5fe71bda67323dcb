"""The folder of a job: one engine at a time, and none left over from an earlier start.

A lock file names its holder. On one machine ``flock`` decides, which engines inherit, so that it is
held as long as any of them lives. Between machines it may decide nothing, as on NFS that is mounted
without locks. So the holder shows signs of life in the file, and looks whether it is still named
there: one that was cut off and comes back ends its engine (`al_charge.labelers.dft.guard`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import psutil

from al_charge.errors import UnfinishedError
from al_charge.stopping import heeding_signals

LOCK = "engine.lock"
"""File that names the process whose engine runs in the folder."""

MARK = "AL_CHARGE_ENGINE_FOLDER"
"""Environment variable of an engine and all that it starts: the folder."""

SILENCE = 30.0
"""Seconds without a sign of life after which the holder on another machine counts as gone."""

LONG_SILENT = 3600.0
"""The same in seconds for a single look, which has only clocks of two machines to go by."""

_POLL = 0.2
_LONGEST_POLL = 2.0
_PATIENCE = 10.0
"""Seconds that a killed process may take to end."""

_log = logging.getLogger("al_charge.labelers")


@contextlib.contextmanager
def engine_folder(directory: Path) -> Iterator[IO[str]]:
    """Hold a job's folder in the block, once nobody else does, and end what runs there around it.

    Parameters
    ----------
    directory
        The folder.

    Yields
    ------
    file
        The lock, for the engine to inherit.

    Raises
    ------
    UnfinishedError
        If this process was asked to stop while it waited.
    """
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        token = _take(file, directory)
        end_engines(directory)
        try:
            yield file
        finally:
            end_engines(directory)
            if _holder(file).get("token") == token:
                file.truncate(0)


def is_in_use(directory: Path) -> bool:
    """Tell, without waiting, whether an engine may be running in a job's folder.

    Parameters
    ----------
    directory
        The folder.

    Returns
    -------
    bool
        Also True where another machine's engine has shown a sign of life not `LONG_SILENT` ago.
    """
    try:
        file = (directory / LOCK).open("r+", encoding="utf-8")
    except FileNotFoundError:
        return False
    with file:
        locked, holder = _lock(file), _holder(file)
        if locked is False or not holder:
            return locked is False
        if holder.get("host") == socket.gethostname():
            return locked is None and _lives(holder)
        return time.time() - os.fstat(file.fileno()).st_mtime < LONG_SILENT


def end_engines(directory: Path) -> None:
    """Kill every process of this machine that an engine in a folder has started.

    Whatever its process group, session or parent: they all inherit a variable that names the
    folder.

    Parameters
    ----------
    directory
        The folder.
    """
    end = time.monotonic() + _PATIENCE
    while (found := _engines(str(directory.resolve()))) and time.monotonic() < end:
        for process in found:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(found, timeout=_POLL)


def _engines(folder: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == folder and process.pid != os.getpid():
                found.append(process)
    return found


def _take(file: IO[str], directory: Path) -> str:
    """Wait until the folder is free, and name this process in the lock; return what says so."""
    pause, told_of, watch = _POLL, "", _Watch()
    with heeding_signals() as told:
        while not _is_free(file, directory, watch):
            holder = _holder(file)
            where = f"{holder.get('host', '?')}, process {holder.get('pid', '?')}"
            if told():
                raise UnfinishedError(
                    f"asked to stop while another engine was running there ({where})",
                    where=str(directory),
                )
            if where != told_of:
                since = holder.get("since", "?")
                _log.warning("%s: waiting for the engine of %s, since %s", directory, where, since)
                told_of = where
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_POLL)
    holder = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": uuid.uuid4().hex,
    }
    file.truncate(0)
    file.write(json.dumps(holder))
    file.flush()
    os.fsync(file.fileno())
    return str(holder["token"])


def _is_free(file: IO[str], directory: Path, watch: _Watch) -> bool:
    """Return whether nobody holds the folder, which this process has then locked, where it can."""
    locked = _lock(file)
    holder = _holder(file)
    if holder.get("host") not in (None, socket.gethostname()):
        return locked is not False and watch.is_silent(directory / LOCK)
    if locked is False and holder and not _lives(holder):
        end_engines(directory)  # which have inherited the lock
    return locked is not False


def _lock(file: IO[str]) -> bool | None:
    """Try to lock a file; return None where its file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _holder(file: IO[str]) -> dict[str, Any]:
    """Return who is named in the lock; nothing where nobody is."""
    try:
        found = json.loads(Path(file.name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(holder: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(holder["pid"]))
        same = abs(process.create_time() - float(holder["created"])) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, KeyError, ValueError, TypeError):
        return False


class _Watch:
    """Since when a lock has shown no sign of life; clocks of machines may differ."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._since = time.monotonic()

    def is_silent(self, lock: Path) -> bool:
        with lock.open("rb") as file:  # NFS looks anew when a file is opened
            seen = os.fstat(file.fileno()).st_mtime_ns
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        return time.monotonic() - self._since > SILENCE
