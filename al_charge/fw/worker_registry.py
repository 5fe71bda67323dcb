"""The registry of worker processes: their names, and when each was last seen.

A worker's name holds its machine, process and start time, which tells at once whether a process of
this machine still runs. Elsewhere heartbeats tell; the machines' clocks may differ, so each
worker's offset from the server's clock is registered with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import psutil
from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS
from pymongo.database import Database

from al_charge.store.documents import SCHEMA_VERSION

COLLECTION = "workers"


def worker_name(pid: int | None = None) -> str:
    """Return a name by which `is_alive` can tell whether a process still runs.

    Parameters
    ----------
    pid
        The process; this one when None.

    Returns
    -------
    str
        Such as ``4242@node7@1763762400.11``: process id, machine, start time.
    """
    process = psutil.Process(pid)
    return f"{process.pid}@{socket.gethostname()}@{process.create_time():.2f}"


def host_of(name: str) -> str:
    """Return the machine of a worker.

    Parameters
    ----------
    name
        Name of the worker.

    Returns
    -------
    str
        Empty if the name holds none.
    """
    return [*name.split("@"), ""][1]


def is_alive(name: str) -> bool | None:
    """Tell whether a worker runs.

    Parameters
    ----------
    name
        Name of the worker.

    Returns
    -------
    bool or None
        None if it is on another machine.
    """
    pid, host, created = [*name.split("@"), "", ""][:3]
    if host != socket.gethostname():
        return None
    try:
        process = psutil.Process(int(pid))
        # A killed process keeps its number until its parent has collected its exit code.
        dead = process.status() == psutil.STATUS_ZOMBIE
        age_difference = abs(process.create_time() - float(created))
    except (psutil.Error, ValueError):
        return False
    return not dead and bool(age_difference < 1.0)


def register(launchpad: LaunchPad, campaign: str, categories: Sequence[str]) -> None:
    """Record this process as a worker of a campaign.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.
    categories
        Which Fireworks it takes: of ``cpu``, ``dft`` and ``gpu``.
    """
    name = worker_name()
    told = {
        "host": host_of(name),
        "version": version("al-charge"),
        "schema": SCHEMA_VERSION,
        "campaign": campaign,
        "categories": list(categories),
        "clock_offset": clock_offset(launchpad.db),
    }
    launchpad.db[COLLECTION].update_one(
        {"_id": name},
        {"$set": told, "$currentDate": {"started": True, "seen": True}},
        upsert=True,
    )


def seen(launchpad: LaunchPad) -> None:
    """Record that this process is alive.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    """
    launchpad.db[COLLECTION].update_one({"_id": worker_name()}, {"$currentDate": {"seen": True}})


def last_seen(launchpad: LaunchPad, name: str) -> datetime | None:
    """Return when a worker was last seen.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    name
        Name of the worker.

    Returns
    -------
    datetime or None
        By the server's clock; None for an unknown worker.
    """
    found = launchpad.db[COLLECTION].find_one({"_id": name}, {"seen": 1})
    return None if found is None else found["seen"]


def forget(launchpad: LaunchPad, names: Collection[str]) -> None:
    """Remove worker processes that have ended from the registry.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    names
        Names of the workers.
    """
    launchpad.db[COLLECTION].delete_many({"_id": {"$in": list(names)}})


def live_workers(
    database: Database[dict[str, Any]], campaign: str | None = None
) -> list[dict[str, Any]]:
    """Return the workers that have neither ended nor fallen silent.

    On this machine the process itself tells; elsewhere a worker counts as gone after
    RUN_EXPIRATION_SECS without a sign of life.

    Parameters
    ----------
    database
        The database.
    campaign
        Whose workers; those of all campaigns when None.

    Returns
    -------
    list of dict
        The workers' documents.
    """
    recent = datetime.now(UTC) - timedelta(seconds=clock_offset(database) + RUN_EXPIRATION_SECS)
    found = database[COLLECTION].find({} if campaign is None else {"campaign": campaign})
    return [worker for worker in found if _lives(worker, recent)]


def _lives(worker: dict[str, Any], recent: datetime) -> bool:
    alive = is_alive(worker["_id"])
    return alive is True or (alive is None and _aware(worker["seen"]) > recent)


def clock_offset(database: Database[dict[str, Any]]) -> float:
    """Return how far this machine's clock is ahead of the server's.

    Parameters
    ----------
    database
        Any database of the server.

    Returns
    -------
    float
        s; negative if it is behind.
    """
    began = time.monotonic()
    server: datetime = database.client["admin"].command("hello")["localTime"]
    half = timedelta(seconds=(time.monotonic() - began) / 2)
    if server.tzinfo is None:
        server = server.replace(tzinfo=UTC)
    return (datetime.now(UTC) - half - server).total_seconds()


def last_heartbeat(launch: Mapping[str, Any]) -> str:
    """Return the time of a launch's last heartbeat.

    Parameters
    ----------
    launch
        The launch's document.

    Returns
    -------
    str
        ISO time by its worker's clock.
    """
    last = launch["state_history"][-1]
    return str(last.get("updated_on") or last["created_on"])


def seconds_silent(
    launch: Mapping[str, Any], time: datetime, offsets: Mapping[str, float]
) -> float:
    """Return how long ago a launch had its last heartbeat.

    Parameters
    ----------
    launch
        The launch's document.
    time
        The server's time.
    offsets
        What `clock_offsets` returns.

    Returns
    -------
    float
        s, by the server's clock.
    """
    last = _aware(datetime.fromisoformat(last_heartbeat(launch)))
    return (time - last).total_seconds() + offsets.get(launch["fworker"]["name"], 0.0)


def clock_offsets(launchpad: LaunchPad) -> dict[str, float]:
    """Return how far the registered workers' clocks are ahead of the server's.

    Parameters
    ----------
    launchpad
        LaunchPad of the workers' database.

    Returns
    -------
    dict
        s, by the worker's name.
    """
    return {
        worker["_id"]: float(worker.get("clock_offset") or 0.0)
        for worker in launchpad.db[COLLECTION].find({}, {"clock_offset": 1})
    }


def server_time(launchpad: LaunchPad) -> datetime:
    """Return the time by the server's clock.

    Parameters
    ----------
    launchpad
        LaunchPad of a database of the server.

    Returns
    -------
    datetime
        In UTC.
    """
    return datetime.now(UTC) - timedelta(seconds=clock_offset(launchpad.db))


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
