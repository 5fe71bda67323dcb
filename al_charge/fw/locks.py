"""Locks of workflows that were left by workers that are gone."""

from __future__ import annotations

import time
from typing import Any

from fireworks import LaunchPad

from al_charge.fw.processes import is_alive

LOCK_SECONDS = 2.0
"""A lock is held for milliseconds; so long nobody takes it and lets it go without being seen."""

LOCKED = {"locked": {"$exists": True}}
"""Query for workflows that somebody has locked."""


def free_lock(launchpad: LaunchPad, fw_id: int) -> bool:
    """Take the lock off a workflow if nobody who may hold it is left; return whether it was.

    Where somebody may, nothing is done: FireWorks breaks such a lock itself after
    WFLOCK_EXPIRATION_SECS.
    """
    found = launchpad.workflows.find_one({"nodes": fw_id} | LOCKED, {"nodes": 1, "updated_on": 1})
    if found is None or somebody_works(launchpad, found["nodes"]):
        return False
    time.sleep(LOCK_SECONDS)
    return unlock(launchpad, found["_id"], found["updated_on"])


def unlock(launchpad: LaunchPad, workflow: Any, updated_on: Any) -> bool:
    """Take the lock off a workflow that nobody has changed since; return whether it was."""
    same = {"_id": workflow, "updated_on": updated_on}
    freed = launchpad.workflows.update_one(same | LOCKED, {"$unset": {"locked": True}})
    return bool(freed.modified_count)


def somebody_works(launchpad: LaunchPad, nodes: list[int]) -> bool:
    """Return whether a worker that may be alive has taken a Firework of a workflow."""
    busy = {"fw_id": {"$in": nodes}, "state": {"$in": ["RUNNING", "RESERVED"]}}
    launch_ids = [
        launch_id
        for firework in launchpad.fireworks.find(busy, {"launches": 1})
        for launch_id in firework["launches"]
    ]
    launches = {"launch_id": {"$in": launch_ids}, "state": {"$ne": "FIZZLED"}}
    workers = launchpad.launches.distinct("fworker.name", launches)
    return any(is_alive(worker) is not False for worker in workers)
