"""Signs of life of workers: what their heartbeats and, on this machine, their processes tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from fireworks.fw_config import RUN_EXPIRATION_SECS
from pymongo.database import Database

from al_charge.errors import AlChargeError
from al_charge.fw.worker_registry import clock_offset, host_of, is_alive, live_workers

_STATES = {
    psutil.STATUS_RUNNING: "R (running)",
    psutil.STATUS_SLEEPING: "S (sleeping)",
    psutil.STATUS_DISK_SLEEP: "D (waits for a disk)",
    psutil.STATUS_STOPPED: "T (stopped)",
    psutil.STATUS_TRACING_STOP: "t (traced)",
}


@dataclass(frozen=True)
class Vitals:
    """Signs of life of a worker.

    Attributes
    ----------
    worker
        Its name.
    host
        Its machine.
    categories
        Which Fireworks it takes.
    seen
        Its last heartbeat, by the server's clock.
    silent
        Time since then, s.
    state
        What its process does, such as ``T (stopped)``; empty on other machines.
    """

    worker: str
    host: str
    categories: tuple[str, ...]
    seen: datetime
    silent: float
    state: str

    @property
    def is_silent(self) -> bool:
        """Whether a lost run would be silent for as long."""
        return bool(self.silent > RUN_EXPIRATION_SECS)

    def __str__(self) -> str:
        """Return what is known in a few words."""
        state = f", state {self.state}" if self.state else ""
        return f"alive, silent for {duration(self.silent)}{state}"


def vitals(database: Database[dict[str, Any]], campaign: str | None = None) -> list[Vitals]:
    """Return the signs of life of the workers that `live_workers` returns.

    Parameters
    ----------
    database
        The database.
    campaign
        Whose workers; those of all campaigns when None.

    Returns
    -------
    list of Vitals
        By name of the machine and the worker.
    """
    now = datetime.now(UTC) - timedelta(seconds=clock_offset(database))
    found = [
        Vitals(
            worker=worker["_id"],
            host=host_of(worker["_id"]),
            categories=tuple(worker.get("categories", ())),
            seen=(seen := worker["seen"].replace(tzinfo=UTC)),
            silent=max(0.0, (now - seen).total_seconds()),
            state=state_of(worker["_id"]),
        )
        for worker in live_workers(database, campaign)
    ]
    return sorted(found, key=lambda one: (one.host, one.worker))


def duration(seconds: float) -> str:
    """Return a time in a unit that suits it.

    Parameters
    ----------
    seconds
        s.

    Returns
    -------
    str
        Such as ``7 min``.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def state_of(name: str) -> str:
    """Return what a worker's process does, as the kernel has it.

    Parameters
    ----------
    name
        Name of the worker.

    Returns
    -------
    str
        Such as ``T (stopped)``; empty if it is not on this machine, or gone.
    """
    if not is_alive(name):
        return ""
    try:
        status = psutil.Process(int(name.partition("@")[0])).status()
    except psutil.Error:
        return ""
    return _STATES.get(status, status)


def end_worker(name: str) -> None:
    """Kill a worker's process on this machine; its parent, or whoever looks next, sees it gone.

    One that sleeps in the kernel does nothing more once it has been killed, whenever it wakes up.

    Parameters
    ----------
    name
        Name of the worker.

    Raises
    ------
    AlChargeError
        If the process is another user's.
    """
    if not is_alive(name):
        return
    try:
        psutil.Process(int(name.partition("@")[0])).kill()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise AlChargeError(
            "the process is another user's", where=f"worker {name}", remedy="ask them to end it"
        ) from error
