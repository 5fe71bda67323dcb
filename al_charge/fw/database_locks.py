"""Locks in the database: one process at a time changes a campaign's workflows, or makes a label."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS
from pymongo.errors import DuplicateKeyError

from al_charge.fw import worker_registry
from al_charge.fw.vitals import state_of
from al_charge.fw.worker_registry import is_alive, worker_name

COLLECTION = "claims"
"""Collection of the locks, under its first name."""
HOLDER_TIMEOUT = 60.0
"""Seconds after which a holder on another machine that is not a worker counts as gone."""

_POLL = 0.1
_LONGEST_POLL = 5.0


@contextmanager
def hold_lock(launchpad: LaunchPad, name: str) -> Iterator[None]:
    """Hold a lock in the block; take it over if its holder was killed.

    Parameters
    ----------
    launchpad
        LaunchPad of the database that has the locks.
    name
        Name of the lock: a campaign's, or ``label`` and a label's key.

    Yields
    ------
    None
        While the lock is held.
    """
    locks = launchpad.db[COLLECTION]
    lock = {"_id": name, "owner": worker_name()}
    holder: _Holder | None = None
    pause = _POLL
    while True:
        try:
            locks.insert_one(lock)
            break
        except DuplicateKeyError:
            held = locks.find_one({"_id": name})
        if held is not None:
            if holder is None or holder.name != held["owner"]:
                holder = _Holder(launchpad, held["owner"])
            if holder.is_gone():
                locks.delete_one(held)
                continue
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_POLL)
    try:
        yield
    finally:
        locks.delete_one(lock)


def release_locks_of(launchpad: LaunchPad, worker: str) -> None:
    """Release every lock of a worker that is gone.

    Who wants such a lock takes it over. Nobody may: the label it was held for can be there.

    Parameters
    ----------
    launchpad
        LaunchPad of the database that has the locks.
    worker
        Name of the worker.
    """
    launchpad.db[COLLECTION].delete_many({"owner": worker})


class _Holder:
    """The holder of a lock, and since when it has shown no sign of life."""

    def __init__(self, launchpad: LaunchPad, name: str) -> None:
        self.name = name
        self._launchpad = launchpad
        self._seen: datetime | None = None
        self._since = time.monotonic()

    def is_gone(self) -> bool:
        """Return whether it is gone and cannot hold the lock any more.

        Of a worker on another machine, or one that is stopped on this, only the heartbeat tells.
        What counts is that it does not change while we watch: clocks differ, and an outage of the
        database silences all workers.
        """
        alive = is_alive(self.name)
        if alive is not None and not state_of(self.name).startswith("T"):
            return not alive
        seen = worker_registry.last_seen(self._launchpad, self.name)
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        limit = HOLDER_TIMEOUT if seen is None else RUN_EXPIRATION_SECS
        return time.monotonic() - self._since > limit
