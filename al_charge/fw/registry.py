"""Which worker processes there are: a document each, so that others can tell them apart."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS
from pymongo.database import Database

from al_charge.fw.processes import host_of, is_alive, worker_name
from al_charge.store.documents import SCHEMA_VERSION

COLLECTION = "workers"
KEPT_SECONDS = 7 * 24 * 3600
"""s; after so long a worker that has not been seen is forgotten."""


def register(launchpad: LaunchPad, campaign: str, categories: Sequence[str]) -> None:
    """Record this process as a worker of a campaign."""
    name, now = worker_name(), datetime.now(UTC)
    launchpad.db[COLLECTION].replace_one(
        {"_id": name},
        {
            "host": host_of(name),
            "version": version("al-charge"),
            "schema": SCHEMA_VERSION,
            "campaign": campaign,
            "categories": list(categories),
            "started": now,
            "seen": now,
            "clock_offset": clock_offset(launchpad.db),
        },
        upsert=True,
    )


def seen(launchpad: LaunchPad) -> None:
    """Record that this process is alive."""
    launchpad.db[COLLECTION].update_one({"_id": worker_name()}, {"$currentDate": {"seen": True}})


def last_seen(launchpad: LaunchPad, name: str) -> datetime | None:
    """Return when a worker was last seen, by the server's clock; None if it is not known."""
    found = launchpad.db[COLLECTION].find_one({"_id": name}, {"seen": 1})
    return None if found is None else found["seen"]


def forget(launchpad: LaunchPad, names: Collection[str]) -> None:
    """Remove worker processes that have ended."""
    launchpad.db[COLLECTION].delete_many({"_id": {"$in": list(names)}})


def living(database: Database[dict[str, Any]], campaign: str | None = None) -> list[dict[str, Any]]:
    """Return the documents of workers, those left out that have ended or fallen silent.

    On this machine a process itself tells; elsewhere one that was not seen for as long as a lost
    run takes to be found counts as gone.

    Parameters
    ----------
    campaign
        Whose workers; of all campaigns when None.
    """
    recent = datetime.now(UTC) - timedelta(seconds=clock_offset(database) + RUN_EXPIRATION_SECS)
    found = database[COLLECTION].find({} if campaign is None else {"campaign": campaign})
    return [worker for worker in found if _lives(worker, recent)]


def _lives(worker: dict[str, Any], recent: datetime) -> bool:
    alive = is_alive(worker["_id"])
    seen: datetime = worker["seen"]
    return alive is True or (alive is None and seen.replace(tzinfo=seen.tzinfo or UTC) > recent)


def clock_offset(database: Database[dict[str, Any]]) -> float:
    """Return how far this machine's clock is ahead of the server's, in s."""
    began = time.monotonic()
    server: datetime = database.client["admin"].command("hello")["localTime"]
    half = timedelta(seconds=(time.monotonic() - began) / 2)
    if server.tzinfo is None:
        server = server.replace(tzinfo=UTC)
    return (datetime.now(UTC) - half - server).total_seconds()
