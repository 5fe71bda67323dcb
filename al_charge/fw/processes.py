"""Names of processes by which others can tell whether they still run."""

from __future__ import annotations

import socket

import psutil


def worker_name() -> str:
    """Return a name by which `is_alive` can tell whether this process still runs."""
    process = psutil.Process()
    return f"{process.pid}@{socket.gethostname()}@{process.create_time():.2f}"


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
