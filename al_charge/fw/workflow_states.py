"""Workflows whose states were half written, or whose lock was never released.

Their worker or the database was killed.
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
"""Seconds; locks are held for milliseconds, so one that stays so long is not in use."""

LOCKED = {"locked": {"$exists": True}}
"""Query for workflows that somebody has locked."""


def inconsistent_workflows(
    launchpad: LaunchPad, campaign: str | None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Find workflows whose states disagree with those of their Fireworks, or with their parents'.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaigns' database.
    campaign
        Whose workflows; those of all campaigns when None.

    Attributes
    ----------
    single query is not conclusive
        every worker is between two writes for a moment.

    Yields
    ------
    str
        Name of the workflow. Workflows that are incomplete are left out.
    tuple of int
        Ids of those Fireworks; never of one that a worker has taken.
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
    recorded = {int(node): state for node, state in workflow["fw_states"].items()}
    # The workflow of a Firework that a worker has taken is updated a moment later.
    settled = [node for node in workflow["nodes"] if states[node] not in BUSY]
    wrong = {node for node in settled if recorded.get(node) != states[node]}
    parents: dict[int, set[int]] = {node: set() for node in workflow["nodes"]}
    for parent, children in workflow["links"].items():
        for child in children:
            parents[child].add(int(parent))
    for node, above in parents.items():
        done = all(states[parent] == "COMPLETED" for parent in above)
        wrong |= {node} if states[node] == ("WAITING" if done else "READY") else set()
    return tuple(sorted(wrong))


def refresh_states(launchpad: LaunchPad, wrong: Sequence[int]) -> None:
    """Recompute the states of Fireworks, parents first, and of those that depend on them.

    Other Fireworks are left alone: a worker may just be taking them or handing them back.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    wrong
        Ids of Fireworks of one workflow.
    """
    free_lock(launchpad, wrong[0])
    for fw_id in sorted(wrong, reverse=True):
        launchpad._refresh_wf(fw_id)


def free_lock(launchpad: LaunchPad, fw_id: int) -> bool:
    """Release the lock of a workflow if nobody is left who may hold it.

    Otherwise nothing is done: FireWorks breaks such a lock itself after WFLOCK_EXPIRATION_SECS.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    fw_id
        Any Firework of the workflow.

    Returns
    -------
    bool
        Whether it was released.
    """
    found = launchpad.workflows.find_one({"nodes": fw_id} | LOCKED, {"nodes": 1, "updated_on": 1})
    if found is None or has_live_worker(launchpad, found["nodes"]):
        return False
    time.sleep(LOCK_SECONDS)
    return unlock(launchpad, found["_id"], found["updated_on"])


def unlock(launchpad: LaunchPad, workflow: Any, updated_on: Any) -> bool:
    """Release the lock of a workflow that nobody has changed in the meantime.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    workflow
        The workflow's ``_id``.
    updated_on
        When it was last changed, as its document had it.

    Returns
    -------
    bool
        Whether it was released.
    """
    same = {"_id": workflow, "updated_on": updated_on}
    freed = launchpad.workflows.update_one(same | LOCKED, {"$unset": {"locked": True}})
    return bool(freed.modified_count)


def has_live_worker(launchpad: LaunchPad, nodes: list[int]) -> bool:
    """Tell whether a worker that may be alive has taken a Firework of a workflow.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    nodes
        Ids of the workflow's Fireworks.

    Returns
    -------
    bool
        True also if its worker is on another machine.
    """
    busy = {"fw_id": {"$in": nodes}, "state": {"$in": ["RUNNING", "RESERVED"]}}
    launch_ids = [
        launch_id
        for firework in launchpad.fireworks.find(busy, {"launches": 1})
        for launch_id in firework["launches"]
    ]
    launches = {"launch_id": {"$in": launch_ids}, "state": {"$ne": "FIZZLED"}}
    workers = launchpad.launches.distinct("fworker.name", launches)
    return any(is_alive(worker) is not False for worker in workers)
