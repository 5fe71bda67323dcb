"""Workflows whose states were half written, or whose lock was never released.

Whoever wrote them was killed, or the database was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from fireworks import LaunchPad

from al_charge.fw.worker_registry import is_alive

BUSY = ("RUNNING", "RESERVED")
"""States of Fireworks and launches that a worker has taken and not given back."""

LOCK_SECONDS = 2.0
"""A lock is held for milliseconds; so long nobody takes it and lets it go without being seen."""

LOCKED = {"locked": {"$exists": True}}
"""Query for workflows that somebody has locked."""


def inconsistent_workflows(
    launchpad: LaunchPad, campaign: str | None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Find workflows whose states are not those of their Fireworks, or not what follows of them.

    One look does not tell: every worker is for a moment between two writes.

    Parameters
    ----------
    campaign
        Whose workflows; of all campaigns when None.

    Yields
    ------
    str, tuple of int
        The workflow's name, and the ids of those Fireworks; never of one that a worker has taken.
        Workflows that are incomplete are left out.
    """
    whose = campaign or {"$exists": True}
    states = {
        firework["fw_id"]: firework["state"]
        for firework in launchpad.fireworks.find({"spec.campaign": whose}, {"fw_id": 1, "state": 1})
    }
    fields = dict.fromkeys(("nodes", "links", "fw_states", "name"), 1)
    for workflow in launchpad.workflows.find({"metadata.campaign": whose}, fields):
        if set(workflow["nodes"]) <= states.keys() and (wrong := _wrong(workflow, states)):
            yield workflow["name"], wrong


def _wrong(workflow: dict[str, Any], states: dict[int, str]) -> tuple[int, ...]:
    told = {int(node): state for node, state in workflow["fw_states"].items()}
    # What a worker has taken the workflow learns of a moment later, or when it is handed back.
    settled = [node for node in workflow["nodes"] if states[node] not in BUSY]
    wrong = {node for node in settled if told.get(node) != states[node]}
    parents: dict[int, set[int]] = {node: set() for node in workflow["nodes"]}
    for parent, children in workflow["links"].items():
        for child in children:
            parents[child].add(int(parent))
    for node, above in parents.items():
        done = all(states[parent] == "COMPLETED" for parent in above)
        wrong |= {node} if states[node] == ("WAITING" if done else "READY") else set()
    return tuple(sorted(wrong))


def refresh_states(launchpad: LaunchPad, wrong: Sequence[int]) -> None:
    """Work out the states anew of Fireworks that are at odds, parents first, and what follows.

    Others are left alone: somebody may just be taking them, or handing them back.
    """
    free_lock(launchpad, wrong[0])
    for fw_id in sorted(wrong, reverse=True):
        launchpad._refresh_wf(fw_id)


def free_lock(launchpad: LaunchPad, fw_id: int) -> bool:
    """Take the lock off a workflow if nobody who may hold it is left; return whether it was.

    Where somebody may, nothing is done: FireWorks breaks such a lock itself after
    WFLOCK_EXPIRATION_SECS.
    """
    found = launchpad.workflows.find_one({"nodes": fw_id} | LOCKED, {"nodes": 1, "updated_on": 1})
    if found is None or has_live_worker(launchpad, found["nodes"]):
        return False
    time.sleep(LOCK_SECONDS)
    return unlock(launchpad, found["_id"], found["updated_on"])


def unlock(launchpad: LaunchPad, workflow: Any, updated_on: Any) -> bool:
    """Take the lock off a workflow that nobody has changed since; return whether it was."""
    same = {"_id": workflow, "updated_on": updated_on}
    freed = launchpad.workflows.update_one(same | LOCKED, {"$unset": {"locked": True}})
    return bool(freed.modified_count)


def has_live_worker(launchpad: LaunchPad, nodes: list[int]) -> bool:
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
