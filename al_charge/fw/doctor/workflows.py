"""Findings about workflows: locked, half-written, doubled, missing, or with inconsistent states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from al_charge.fw.allowed_tasks import ALLOWED_TASKS
from al_charge.fw.database_locks import hold_lock
from al_charge.fw.doctor.finding import GLANCE, Finding, Scene, firework_line
from al_charge.fw.tasks import ensure_round
from al_charge.fw.workflow_states import (
    LOCKED,
    has_live_worker,
    inconsistent_workflows,
    refresh_states,
    unlock,
)
from al_charge.loop.campaign import open_campaign
from al_charge.loop.rounds import current_round
from al_charge.store.documents import CampaignState

_FOREIGN = {"spec._tasks": {"$elemMatch": {"_fw_name": {"$nin": sorted(ALLOWED_TASKS)}}}}
_BUSY_THERE = "run 'al-charge doctor --fix' again when its running tasks have ended"


def locked(scene: Scene) -> Iterator[Finding]:
    """Find workflows whose lock nobody can hold.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for workflow in scene.launchpad.workflows.find(scene.of("metadata.campaign") | LOCKED):
        if not has_live_worker(scene.launchpad, workflow["nodes"]):
            seen = workflow["updated_on"]
            yield Finding(
                "locked workflow",
                workflow["name"],
                "the process that locked it is gone",
                "release the lock",
                partial(unlock, scene.launchpad, workflow["_id"], seen),
                watch=GLANCE,
                seen=str(seen),
            )


def orphans(scene: Scene) -> Iterator[Finding]:
    """Find Fireworks that a killed submit has left without a workflow.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for campaign, ids in _without_workflow(scene).items():
        query = {"fw_id": {"$in": ids}}
        foreign = scene.launchpad.fireworks.distinct("fw_id", query | _FOREIGN)
        left = sorted(set(ids) - set(foreign))
        if left:
            what = f"{len(left)} tasks belong to no workflow: Fireworks {_ids(left)}"
            fix = partial(delete_orphans, scene, campaign)
            yield Finding(
                "orphaned tasks", campaign, what, "delete them", fix, watch=GLANCE, seen=tuple(left)
            )


def foreign_tasks(scene: Scene) -> Iterator[Finding]:
    """Find Fireworks that would run other code than this package's; workers never run them.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    found = scene.launchpad.fireworks.find(scene.of("spec.campaign") | _FOREIGN)
    without = {fw_id for ids in _without_workflow(scene).values() for fw_id in ids}
    for firework in found:
        orphan = firework["fw_id"] in without
        yield Finding(
            "foreign task",
            firework_line(firework),
            f"it would run {_task_names(firework)}, which does not belong to al-charge",
            "delete it" if orphan else "find out who put it there; no worker runs it",
            partial(delete_orphans, scene, firework["spec"]["campaign"]) if orphan else None,
        )
    if scene.campaign is None:
        elsewhere = {"spec.campaign": {"$not": {"$type": "string"}}}
        count = scene.launchpad.fireworks.count_documents(elsewhere)
        if count:
            what = f"{count} Fireworks belong to no campaign"
            cure = "leave them alone, if this database is shared with other FireWorks users"
            yield Finding("foreign task", "the database", what, cure, note=True)


def _task_names(firework: dict[str, Any]) -> str:
    tasks = firework["spec"].get("_tasks", [])
    return ", ".join(sorted({str(task.get("_fw_name")) for task in tasks} - ALLOWED_TASKS))


def _without_workflow(scene: Scene) -> dict[str, list[int]]:
    """Return the Fireworks of each campaign that belong to no workflow."""
    nodes = {
        node
        for workflow in scene.launchpad.workflows.find({}, {"nodes": 1})
        for node in workflow["nodes"]
    }
    found = defaultdict(list)
    fields = {"fw_id": 1, "spec.campaign": 1}
    for firework in scene.launchpad.fireworks.find(scene.of("spec.campaign"), fields):
        if firework["fw_id"] not in nodes:
            found[firework["spec"]["campaign"]].append(firework["fw_id"])
    return found


def delete_orphans(scene: Scene, campaign: str) -> None:
    """Delete a campaign's Fireworks that belong to no workflow, with their launches.

    Parameters
    ----------
    scene
        Where they were found.
    campaign
        Name of the campaign.
    """
    # A submit in progress looks the same.
    with hold_lock(scene.launchpad, campaign):
        _delete(scene, _without_workflow(scene).get(campaign, []))


def _delete(scene: Scene, ids: Iterable[int]) -> None:
    those = {"fw_id": {"$in": list(ids)}}
    # Before anything else, so that no worker takes one.
    not_taken = those | {"state": {"$in": ["READY", "WAITING"]}}
    scene.launchpad.fireworks.update_many(not_taken, {"$set": {"state": "DEFUSED"}})
    scene.launchpad.launches.delete_many(those)
    scene.launchpad.fireworks.delete_many(those)


def incomplete(scene: Scene) -> Iterator[Finding]:
    """Find workflows that name Fireworks which do not exist.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    there = set(scene.launchpad.fireworks.distinct("fw_id", scene.of("spec.campaign")))
    for workflow in _workflows(scene):
        missing = sorted(set(workflow["nodes"]) - there)
        if missing:
            free = not has_live_worker(scene.launchpad, workflow["nodes"])
            yield Finding(
                "half-written workflow",
                workflow["name"],
                f"{len(missing)} of its tasks do not exist: Fireworks {_ids(missing)}",
                "delete the rest of it, and add its round again if it is due"
                if free
                else _BUSY_THERE,
                partial(_delete_workflow, scene, workflow) if free else None,
                watch=GLANCE,
                seen=tuple(missing),
            )


def doubled(scene: Scene) -> Iterator[Finding]:
    """Find rounds that have two workflows; the one that is further along stays.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    by_round = defaultdict(list)
    for workflow in _workflows(scene):
        metadata = workflow["metadata"]
        by_round[metadata["campaign"], metadata.get("round")].append(workflow)
    for workflows in by_round.values():
        workflows.sort(key=lambda workflow: (-_completed(workflow), min(workflow["nodes"])))
        for workflow in workflows[1:]:
            free = not has_live_worker(scene.launchpad, workflow["nodes"])
            yield Finding(
                "round with two workflows",
                workflow["name"],
                f"Fireworks {_ids(sorted(workflow['nodes']))} repeat what "
                f"{_ids(sorted(workflows[0]['nodes']))} do",
                "delete the workflow that is less complete" if free else _BUSY_THERE,
                partial(_delete_workflow, scene, workflow) if free else None,
            )


def _completed(workflow: dict[str, Any]) -> int:
    return list(workflow["fw_states"].values()).count("COMPLETED")


def _delete_workflow(scene: Scene, workflow: dict[str, Any]) -> None:
    with hold_lock(scene.launchpad, workflow["metadata"]["campaign"]):
        _delete(scene, workflow["nodes"])
        scene.launchpad.workflows.delete_one({"_id": workflow["_id"]})


def half_written(scene: Scene) -> Iterator[Finding]:
    """Find workflows whose states disagree with those of their Fireworks or of their parents.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for name, wrong in inconsistent_workflows(scene.launchpad, scene.campaign):
        yield Finding(
            "states that disagree",
            name,
            f"workflow, task or parents disagree about Fireworks {_ids(wrong)}",
            "recompute the states",
            partial(refresh_states, scene.launchpad, wrong),
            watch=GLANCE,
            seen=wrong,
        )


def missing_rounds(scene: Scene) -> Iterator[Finding]:
    """Find running campaigns that have nothing to do, as their next round was never added.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for name in scene.campaigns:
        state = scene.store.campaigns.get(name).state
        open_ones = {"metadata.campaign": name, "state": {"$ne": "COMPLETED"}}
        if state is not CampaignState.RUNNING or scene.launchpad.workflows.count_documents(
            open_ones, limit=1
        ):
            continue
        campaign = open_campaign(scene.store, name)
        number = current_round(campaign)
        where = {"metadata.campaign": name, "metadata.round": number}
        if not scene.launchpad.workflows.count_documents(where, limit=1):
            yield Finding(
                "missing round",
                name,
                f"it is running, but round {number} has no workflow",
                "add it",
                partial(ensure_round, scene.launchpad, campaign, number),
                watch=GLANCE,
                seen=number,
            )


def stopped_campaigns(scene: Scene) -> Iterator[Finding]:
    """Find campaigns that a failed task has stopped; their tasks may be ready all the same.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for name in scene.campaigns:
        document = scene.store.campaigns.get(name)
        if document.state is CampaignState.FAILED:
            cure = f"remove the cause, then run 'al-charge campaign resume {name}'"
            yield Finding("stopped campaign", name, document.reason, cure, note=True)


def _workflows(scene: Scene) -> list[dict[str, Any]]:
    fields = dict.fromkeys(("nodes", "fw_states", "name", "metadata"), 1)
    return list(scene.launchpad.workflows.find(scene.of("metadata.campaign"), fields))


def _ids(ids: Sequence[int]) -> str:
    """Return numbers in short form: ``4, 5, 7``, or ``4 ... 19``."""
    if len(ids) <= 4:
        return ", ".join(map(str, ids))
    return f"{ids[0]} ... {ids[-1]}"
