"""Worker processes that run now, as far as it can be told from here."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from fireworks.fw_config import RUN_EXPIRATION_SECS
from pymongo.database import Database

from al_charge.fw.processes import is_alive
from al_charge.fw.registry import COLLECTION


def live_workers(database: Database[dict[str, Any]]) -> list[str]:
    """Return the names of a database's workers, those left out that have ended or fallen silent.

    On this machine a process itself tells; elsewhere one that was not seen for as long as a lost
    run takes to be found counts as gone.
    """
    time = database.client["admin"].command("hello")["localTime"].replace(tzinfo=UTC)
    silent = time - timedelta(seconds=RUN_EXPIRATION_SECS)
    names = {one["_id"]: one["seen"] for one in database[COLLECTION].find({}, {"seen": 1})}
    alive = {name: is_alive(name) for name in names}
    return sorted(
        name for name in names if alive[name] or (alive[name] is None and names[name] > silent)
    )
