"""Lost runs: find runs that ended without recording it, and hand their Fireworks back.

A launch ends in four ways: its task returns, its task raises, its worker is told to stop, or its
worker is killed. The last two leave it RUNNING; whoever notices calls `release`, and the Firework
is READY again for any worker.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from fireworks import FWAction, LaunchPad
from fireworks.core.launchpad import WFLock
from fireworks.fw_config import RUN_EXPIRATION_SECS

from al_charge.fw.database_locks import release_locks_of
from al_charge.fw.launchpad import store_of
from al_charge.fw.worker_registry import (
    clock_offsets,
    is_alive,
    last_heartbeat,
    seconds_silent,
    server_time,
)
from al_charge.fw.workflow_states import BUSY, free_lock
from al_charge.store.ledger import LOST

MAX_CRASHES = 5
"""Times that a Firework may crash its worker's process before it is left FIZZLED."""

HANDED_BACK = "handed_back"
"""Key in the ``stored_data`` of a launch that did not fail, but whose worker ended."""

Stored = Mapping[str, Any]


def gone_runs(launchpad: LaunchPad, campaign: str | None = None) -> dict[int, str]:
    """Return the runs of this machine whose worker ended before their Firework was updated.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaigns' database.
    campaign
        Whose runs; those of all campaigns when None.

    Returns
    -------
    dict
        Worker names by launch id.
    """
    return {
        launch["launch_id"]: launch["fworker"]["name"]
        for launch in unfinished(launchpad, campaign)
        if is_alive(launch["fworker"]["name"]) is False
    }


def silent_runs(launchpad: LaunchPad, campaign: str | None = None) -> dict[int, str]:
    """Return the runs on other machines that have been silent for RUN_EXPIRATION_SECS.

    Runs that have ended are among them as long as their Firework is not updated.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaigns' database.
    campaign
        Whose runs; those of all campaigns when None.

    Attributes
    ----------
    single query is not conclusive
        after an outage of the database every worker elsewhere has been silent for as long. A run is
        lost if a second query, more than PING_TIME_SECS later, finds the same heartbeat.

    Returns
    -------
    dict
        Time of the last heartbeat, by the worker's own clock, by launch id.
    """
    time = server_time(launchpad)
    offsets = clock_offsets(launchpad)
    return {
        launch["launch_id"]: last_heartbeat(launch)
        for launch in unfinished(launchpad, campaign)
        if launch["state"] != "RESERVED"
        and is_alive(launch["fworker"]["name"]) is None
        and seconds_silent(launch, time, offsets) > RUN_EXPIRATION_SECS
    }


def reserved_without_run(launchpad: LaunchPad, campaign: str | None = None) -> dict[int, str]:
    """Return the Fireworks that a worker has reserved and has no run of.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaigns' database.
    campaign
        Whose Fireworks; those of all campaigns when None.

    Attributes
    ----------
    single query is not conclusive
        every worker is between the two for a moment.

    Returns
    -------
    dict
        Time of the reservation, by the worker's own clock, by Firework id.
    """
    where = {"spec.campaign": campaign or {"$exists": True}, "state": "RESERVED"}
    fields = {"fw_id": 1, "updated_on": 1}
    reserved = list(launchpad.fireworks.find(where | {"launches": {"$size": 0}}, fields))
    ids = [firework["fw_id"] for firework in reserved]
    runs = launchpad.launches.distinct("fw_id", {"fw_id": {"$in": ids}, "state": {"$in": BUSY}})
    return {
        firework["fw_id"]: str(firework["updated_on"])
        for firework in reserved
        if firework["fw_id"] not in runs
    }


def release_runs_of(
    launchpad: LaunchPad, worker_names: Collection[str], reason: str, crashed: bool
) -> int:
    """Hand back every Firework that some worker processes, which have ended, had taken.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    worker_names
        Names of the processes.
    reason
        How the processes ended; it is kept with the launches.
    crashed
        Whether they ended by themselves or were killed, rather than told to stop.

    Returns
    -------
    int
        Number of Fireworks that are READY again.
    """
    launch_ids = [
        launch["launch_id"]
        for launch in unfinished(launchpad)
        if launch["fworker"]["name"] in worker_names
    ]
    return release(launchpad, launch_ids, reason, crashed=crashed)


def release(
    launchpad: LaunchPad, launch_ids: Iterable[int], reason: str, *, crashed: bool = False
) -> int:
    """Hand back the Fireworks of runs that have ended without recording it.

    A run that has completed in the meantime is left as it is, and its result is passed on to its
    Firework.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    launch_ids
        The runs.
    reason
        Why; it is kept in the ``stored_data`` of the launch.
    crashed
        Whether the run counts as one that crashed its process. A Firework with MAX_CRASHES of those
        stays FIZZLED until somebody makes it ready again.

    Returns
    -------
    int
        Number of Fireworks that are READY again.
    """
    taken = []
    for launch_id in launch_ids:
        launch = launchpad.launches.find_one({"launch_id": launch_id}, {"fw_id": 1})
        firework = launch and launchpad.fireworks.find_one({"fw_id": launch["fw_id"]})
        # One without a workflow was left by a killed submit; repair deletes it.
        if firework and launchpad.workflows.count_documents({"nodes": firework["fw_id"]}):
            ready = _end(launchpad, launch_id, firework, reason, crashed)
            taken.append((firework["fw_id"], launch_id, ready))
    released = 0
    for fw_id, launch_id, ready in taken:
        free_lock(launchpad, fw_id)
        if ready:
            released += make_ready(launchpad, fw_id, launch_id)
        else:
            launchpad._refresh_wf(fw_id)
    return released


def _end(
    launchpad: LaunchPad, launch_id: int, firework: Stored, reason: str, crashed: bool
) -> bool:
    """End a launch with a reason; return whether its Firework is to be made ready again."""
    given_up = crashed and _crashes(launchpad, firework) + 1 >= MAX_CRASHES
    if given_up:
        reason = f"{reason}; its process has now ended {MAX_CRASHES} times"
    stored = {"_message": reason, HANDED_BACK: True, "crashed": crashed, "given_up": given_up}
    ended = {"state": "FIZZLED", "created_on": datetime.now(UTC).isoformat()}
    done = launchpad.launches.update_one(
        {"launch_id": launch_id, "state": {"$in": BUSY}},
        {
            "$set": {"state": "FIZZLED", "action": FWAction(stored_data=stored).to_dict()},
            "$push": {"state_history": ended},
        },
    )
    if done.modified_count:
        # Where its parent lives, that has closed it with the time of its end.
        launch = launchpad.launches.find_one({"launch_id": launch_id}, {"fworker": 1})
        worker = str(launch["fworker"]["name"])
        store, (pid, host) = store_of(launchpad), [*worker.split("@"), ""][:2]
        release_locks_of(launchpad, worker)
        store.ledger.close(worker, LOST, reason)
        if pid.isdigit():
            store.attempts.interrupt(host, int(pid), reason)
        return not given_up
    # A process that handed it back before may have been killed half-way.
    before = launchpad.launches.find_one({"launch_id": launch_id}, {"action": 1}) or {}
    return is_handed_back(before)


def is_handed_back(launch: Stored) -> bool:
    """Tell whether a launch was ended for its Firework to be made ready again.

    Parameters
    ----------
    launch
        The launch's document.

    Returns
    -------
    bool
        False also for a launch that has ended by itself.
    """
    stored = (launch.get("action") or {}).get("stored_data") or {}
    return bool(stored.get(HANDED_BACK)) and not stored.get("given_up")


def make_ready(launchpad: LaunchPad, fw_id: int, launch_id: int | None) -> bool:
    """Make a Firework READY again, if the run that is known to have ended is still its last.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    fw_id
        The Firework.
    launch_id
        That run; None for a Firework that was reserved by a worker that was killed before it had a
        run.

    Returns
    -------
    bool
        Whether it was made ready.
    """
    with WFLock(launchpad, fw_id, kill=True):
        firework = launchpad.fireworks.find_one({"fw_id": fw_id}, {"state": 1, "launches": 1})
        # Between reservation and first refresh a launch is not in its Firework's list yet.
        if firework["state"] not in BUSY or firework["launches"] not in ([], [launch_id]):
            return False
        if launch_id is not None and not firework["launches"]:
            archived = {"$addToSet": {"archived_launches": launch_id}}
            launchpad.fireworks.update_one({"fw_id": fw_id}, archived)
        workflow = launchpad.get_wf_by_fw_id_lzyfw(fw_id)
        launchpad._update_wf(workflow, workflow.rerun_fw(fw_id))
    return True


def _crashes(launchpad: LaunchPad, firework: Stored) -> int:
    """Count the runs that crashed their process since the Firework was last given up."""
    launch_ids = [*firework.get("archived_launches", []), *firework["launches"]]
    found = launchpad.launches.find(
        {"launch_id": {"$in": launch_ids}, "action.stored_data.crashed": True},
        sort=[("launch_id", -1)],
    )
    count = 0
    for launch in found:
        if launch["action"]["stored_data"].get("given_up"):
            break
        count += 1
    return count


def unfinished(launchpad: LaunchPad, campaign: str | None = None) -> list[dict[str, Any]]:
    """Return the launches of Fireworks that a worker has taken and not given back.

    Launches that are not yet listed in their Firework are among them, and those that have ended
    although their Firework is not updated yet.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaigns' database.
    campaign
        Whose launches; those of all campaigns when None.

    Returns
    -------
    list of dict
        The launches' documents.
    """
    where = {"spec.campaign": campaign or {"$exists": True}, "state": {"$in": BUSY}}
    fireworks = list(launchpad.fireworks.find(where, {"fw_id": 1, "launches": 1}))
    known = [launch_id for firework in fireworks for launch_id in firework["launches"]]
    unlisted = [firework["fw_id"] for firework in fireworks if not firework["launches"]]
    return list(
        launchpad.launches.find(
            {
                "$or": [
                    {"launch_id": {"$in": known}},
                    {"fw_id": {"$in": unlisted}, "state": {"$in": BUSY}},
                ]
            }
        )
    )
