"""Findings about single tasks: lost, reserved, not updated, failed; and launches without a task."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from fireworks.fw_config import RESERVATION_EXPIRATION_SECS

from al_charge.fw.allowed_tasks import ALLOWED_TASKS
from al_charge.fw.doctor.finding import GLANCE, HEARTBEAT_WATCH, Finding, Scene, firework_line
from al_charge.fw.lost_runs import (
    gone_runs,
    is_handed_back,
    make_ready,
    release,
    reserved_without_run,
    silent_runs,
    unfinished,
)
from al_charge.fw.restarts import restarting
from al_charge.fw.retraining import rerun
from al_charge.fw.status import failure_of
from al_charge.fw.worker_registry import clock_offsets, is_alive, seconds_silent, server_time
from al_charge.fw.workflow_states import BUSY, free_lock

_READY = "make it ready again"


def lost_runs(scene: Scene) -> Iterator[Finding]:
    """Find runs whose worker is gone: by its process on this machine, by heartbeats elsewhere.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for launch_id, worker in gone_runs(scene.launchpad, scene.campaign).items():
        yield from _lost(scene, launch_id, f"its worker {worker} is gone", None, launch_id)
    if not scene.wait:
        return
    for launch_id, last in silent_runs(scene.launchpad, scene.campaign).items():
        yield from _lost(scene, launch_id, f"no heartbeat since {last}", HEARTBEAT_WATCH, last)


def _lost(
    scene: Scene, launch_id: int, what: str, watch: float | None, seen: object
) -> Iterator[Finding]:
    running = {"launch_id": launch_id, "state": {"$in": BUSY}}
    launch = scene.launchpad.launches.find_one(running, {"fw_id": 1})
    firework = launch and _in_workflow(scene, launch["fw_id"])
    if firework:
        fix = partial(release, scene.launchpad, [launch_id], what)
        yield Finding("lost run", firework_line(firework), what, _READY, fix, False, watch, seen)


def _in_workflow(scene: Scene, fw_id: int) -> dict[str, Any] | None:
    """Return a Firework that belongs to a workflow; others are found as orphans."""
    if not scene.launchpad.workflows.count_documents({"nodes": fw_id}, limit=1):
        return None
    found: dict[str, Any] | None = scene.launchpad.fireworks.find_one({"fw_id": fw_id})
    return found


def reservations(scene: Scene) -> Iterator[Finding]:
    """Find Fireworks that a worker or a queue job has reserved and will never run.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for fw_id, since in reserved_without_run(scene.launchpad, scene.campaign).items():
        if firework := _in_workflow(scene, fw_id):
            what = "it is reserved, but has no run"
            fix = partial(_hand_back, scene, fw_id, None)
            line = firework_line(firework)
            yield Finding("reserved task", line, what, _READY, fix, watch=GLANCE, seen=since)
    for launch in unfinished(scene.launchpad, scene.campaign):
        firework = _in_workflow(scene, launch["fw_id"])
        if firework and _waits_too_long(scene, launch):
            what = "its queue job has not started in two weeks"
            end = partial(release, scene.launchpad, [launch["launch_id"]], "its job never started")
            yield Finding("reserved task", firework_line(firework), what, _READY, end)


def _hand_back(scene: Scene, fw_id: int, launch_id: int | None) -> None:
    free_lock(scene.launchpad, fw_id)
    make_ready(scene.launchpad, fw_id, launch_id)


def _waits_too_long(scene: Scene, launch: dict[str, Any]) -> bool:
    if launch["state"] != "RESERVED" or is_alive(launch["fworker"]["name"]) is not None:
        return False
    waited = seconds_silent(launch, server_time(scene.launchpad), clock_offsets(scene.launchpad))
    return waited > float(RESERVATION_EXPIRATION_SECS)


def ended_runs(scene: Scene) -> Iterator[Finding]:
    """Find Fireworks that were not updated when their run ended.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    busy = scene.of("spec.campaign") | {"state": {"$in": BUSY}, "launches": {"$ne": []}}
    for firework in scene.launchpad.fireworks.find(busy):
        launch = scene.launchpad.launches.find_one({"launch_id": firework["launches"][-1]})
        if launch is None or launch["state"] in BUSY or not _in_workflow(scene, firework["fw_id"]):
            continue
        fw_id, launch_id = firework["fw_id"], launch["launch_id"]
        back = is_handed_back(launch)
        yield Finding(
            "result not collected",
            firework_line(firework),
            f"its run is {launch['state']}, the task still {firework['state']}",
            _READY if back else "collect the result of the run",
            partial(_hand_back, scene, fw_id, launch_id) if back else partial(_bring, scene, fw_id),
            watch=GLANCE,
            seen=launch_id,
        )


def _bring(scene: Scene, fw_id: int) -> None:
    free_lock(scene.launchpad, fw_id)
    scene.launchpad._refresh_wf(fw_id)


def failed_tasks(scene: Scene) -> Iterator[Finding]:
    """Find tasks that have failed, with their reasons.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    ours = {"spec._tasks._fw_name": {"$in": sorted(ALLOWED_TASKS)}}
    failed = scene.of("spec.campaign") | ours | {"state": "FIZZLED"}
    for firework in scene.launchpad.fireworks.find(failed):
        if _in_workflow(scene, firework["fw_id"]):
            what = failure_of(scene.launchpad, firework)
            fix = partial(
                rerun, scene.launchpad, firework["fw_id"], firework["spec"]["campaign"], "FIZZLED"
            )
            yield Finding("failed task", firework_line(firework), what, _READY, fix)


def restarting_tasks(scene: Scene) -> Iterator[Finding]:
    """Find tasks that start again and again and get no further.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for campaign in scene.campaigns:
        for one in restarting(scene.launchpad, scene.store, campaign):
            what = (
                f"it was returned to the queue {one.restarts} times without progress: {one.reason}"
            )
            cure = "remove the cause, such as too short a time limit or too little memory"
            yield Finding("restarting task", f"{one.task} ({one.fw_id})", what, cure)


def stray_launches(scene: Scene) -> Iterator[Finding]:
    """Find launches that no Firework lists.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    launchpad = scene.launchpad
    owners: dict[int, dict[str, Any]] = {}
    known: set[int] = set()
    fields = {"fw_id": 1, "state": 1, "launches": 1, "archived_launches": 1}
    for firework in launchpad.fireworks.find(scene.of("spec.campaign"), fields):
        owners[firework["fw_id"]] = firework
        known.update(firework["launches"], firework.get("archived_launches", []))
    where = {} if scene.campaign is None else {"fw_id": {"$in": list(owners)}}
    fields = {"launch_id": 1, "fw_id": 1, "state": 1, "fworker.name": 1}
    for launch in launchpad.launches.find(where, fields):
        firework = owners.get(launch["fw_id"])
        if launch["launch_id"] in known or not _is_stray(scene, launch, firework):
            continue
        yield Finding(
            "stray run",
            f"launch {launch['launch_id']} of Firework {launch['fw_id']}",
            "no Firework lists it",
            "file it with the Firework's earlier runs" if firework else "delete its record",
            partial(_put_away, scene, launch, firework is not None),
            watch=GLANCE,
            seen=launch["state"],
        )


def _is_stray(scene: Scene, launch: dict[str, Any], firework: dict[str, Any] | None) -> bool:
    name = str((launch["fworker"] or {}).get("name"))
    if launch["state"] in BUSY and is_alive(name) is not False:
        return False
    if firework is not None:
        return firework["state"] not in BUSY  # or its worker is about to list it
    # Workers of other users of FireWorks have names of another form.
    named_by_us = name.count("@") == 2
    return named_by_us and not scene.launchpad.fireworks.count_documents({"fw_id": launch["fw_id"]})


def _put_away(scene: Scene, launch: dict[str, Any], has_owner: bool) -> None:
    if has_owner:
        scene.launchpad.fireworks.update_one(
            {"fw_id": launch["fw_id"]}, {"$addToSet": {"archived_launches": launch["launch_id"]}}
        )
    else:
        scene.launchpad.launches.delete_one({"_id": launch["_id"]})
