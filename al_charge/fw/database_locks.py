"""Locks in the database: one process at a time changes a workflow, or makes a label."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS
from pymongo.errors import DuplicateKeyError

from al_charge.fw import worker_registry
from al_charge.fw.worker_registry import is_alive, worker_name

COLLECTION = "claims"
HOLDER_TIMEOUT = 60.0
"""s; after so long a holder on another machine that is no worker counts as gone."""

_POLL = 0.1
_LONGEST_POLL = 5.0


@contextmanager
def hold_lock(launchpad: LaunchPad, name: str) -> Iterator[None]:
    """Hold the lock of a name, such as a campaign's; one whose holder was killed is taken over."""
    claims = launchpad.db[COLLECTION]
    claim = {"_id": name, "owner": worker_name()}
    holder: _Holder | None = None
    pause = _POLL
    while True:
        try:
            claims.insert_one(claim)
            break
        except DuplicateKeyError:
            held = claims.find_one({"_id": name})
        if held is not None:
            if holder is None or holder.name != held["owner"]:
                holder = _Holder(launchpad, held["owner"])
            if holder.is_gone():
                claims.delete_one(held)
                continue
        time.sleep(pause)
        pause = min(1.2 * pause, _LONGEST_POLL)
    try:
        yield
    finally:
        claims.delete_one(claim)


class _Holder:
    """Who holds a lock, and since when we have seen no sign of life of it."""

    def __init__(self, launchpad: LaunchPad, name: str) -> None:
        self.name = name
        self._launchpad = launchpad
        self._seen: datetime | None = None
        self._since = time.monotonic()

    def is_gone(self) -> bool:
        """Return whether it can hold nothing any more.

        On another machine a worker is known by its heartbeat. Only that it does not change while
        we look is of account: clocks differ, and an outage of the database silences all.
        """
        alive = is_alive(self.name)
        if alive is not None:
            return not alive
        seen = worker_registry.last_seen(self._launchpad, self.name)
        if seen != self._seen:
            self._seen, self._since = seen, time.monotonic()
        limit = HOLDER_TIMEOUT if seen is None else RUN_EXPIRATION_SECS
        return time.monotonic() - self._since > limit
