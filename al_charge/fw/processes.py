"""Names of processes by which others can tell whether they still run."""

from __future__ import annotations

import socket

import psutil


def worker_name(pid: int | None = None) -> str:
    """Return a name by which `is_alive` can tell whether a process still runs, by default this."""
    process = psutil.Process(pid)
    return f"{process.pid}@{socket.gethostname()}@{process.create_time():.2f}"


def host_of(name: str) -> str:
    """Return the machine of the worker of that name."""
    return [*name.split("@"), ""][1]


def is_alive(name: str) -> bool | None:
    """Return whether the worker of that name runs; None if it is on another machine."""
    pid, host, created = [*name.split("@"), "", ""][:3]
    if host != socket.gethostname():
        return None
    try:
        process = psutil.Process(int(pid))
        # A killed process keeps its number until its parent has asked how it ended.
        dead = process.status() == psutil.STATUS_ZOMBIE
        age_difference = abs(process.create_time() - float(created))
    except (psutil.Error, ValueError):
        return False
    return not dead and bool(age_difference < 1.0)
