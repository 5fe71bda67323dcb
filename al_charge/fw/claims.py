"""A lock in the database, so that one process at a time adds or deletes a campaign's Fireworks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fireworks import LaunchPad
from pymongo.errors import DuplicateKeyError

from al_charge.fw.processes import is_alive, worker_name

PATIENCE = 60.0
"""s; after so long the holder on another machine, which cannot be seen, counts as gone."""

_POLL = 0.1


@contextmanager
def alone(launchpad: LaunchPad, campaign: str) -> Iterator[None]:
    """Hold a campaign's lock; one whose holder was killed is taken over."""
    claims = launchpad.db["claims"]
    claim = {"_id": campaign, "owner": worker_name()}
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            claims.insert_one(claim)
            break
        except DuplicateKeyError:
            held = claims.find_one({"_id": campaign})
        if held is not None:
            alive = is_alive(held["owner"])
            if alive is False or (alive is None and time.monotonic() > deadline):
                claims.delete_one(held)
                continue
        time.sleep(_POLL)
    try:
        yield
    finally:
        claims.delete_one(claim)
