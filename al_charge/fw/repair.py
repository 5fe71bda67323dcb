"""Repair: what a killed worker, a killed server or a killed submit leaves in the LaunchPad."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fireworks import LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS

from al_charge.fw.claims import alone
from al_charge.fw.processes import is_alive
from al_charge.fw.rounds import ensure_round
from al_charge.loop.campaign import Campaign
from al_charge.loop.rounds import current_round
from al_charge.store.documents import CampaignState


@dataclass
class Repairs:
    """What was found broken and mended.

    Attributes
    ----------
    orphans
        Fireworks that belonged to no workflow, deleted.
    unlocked
        Workflows whose lock was held by nobody.
    lost
        Fireworks whose worker is gone, made ready again.
    fizzled
        Fireworks that had failed, made ready again.
    refreshed
        Workflows whose states were brought up to date.
    rounds
        Rounds whose workflow was missing, added.
    """

    orphans: int = 0
    unlocked: int = 0
    lost: int = 0
    fizzled: int = 0
    refreshed: int = 0
    rounds: int = 0


def repair(launchpad: LaunchPad, campaign: Campaign) -> Repairs:
    """Mend a campaign's workflows after any interruption, and continue it.

    Runs whose worker is alive are left alone, so it does no harm while others work. A workflow in
    which somebody is alive keeps its lock.
    """
    done = Repairs()
    if campaign.store.campaign(campaign.name).state not in _RESUMABLE:
        return done
    campaign.store.set_campaign_state(campaign.name, CampaignState.RUNNING)
    done.orphans = _delete_orphans(launchpad, campaign)
    for workflow in launchpad.workflows.find(
        {"metadata.campaign": campaign.name, "state": {"$ne": "COMPLETED"}}, {"nodes": 1}
    ):
        _mend_workflow(launchpad, workflow["nodes"], done)
    done.rounds += ensure_round(launchpad, campaign, current_round(campaign))
    return done


_RESUMABLE = (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.FAILED)


def _delete_orphans(launchpad: LaunchPad, campaign: Campaign) -> int:
    """Delete Fireworks that a killed `add_wf` left without a workflow."""
    # One that is still under way looks the same.
    with alone(launchpad, campaign.name):
        return _delete_without_workflow(launchpad, campaign)


def _delete_without_workflow(launchpad: LaunchPad, campaign: Campaign) -> int:
    nodes = {
        node
        for workflow in launchpad.workflows.find({"metadata.campaign": campaign.name}, {"nodes": 1})
        for node in workflow["nodes"]
    }
    orphans = [
        firework["fw_id"]
        for firework in launchpad.fireworks.find({"spec.campaign": campaign.name}, {"fw_id": 1})
        if firework["fw_id"] not in nodes
    ]
    launchpad.fireworks.delete_many({"fw_id": {"$in": orphans}})
    return len(orphans)


def _mend_workflow(launchpad: LaunchPad, nodes: list[int], done: Repairs) -> None:
    fireworks = list(
        launchpad.fireworks.find({"fw_id": {"$in": nodes}}, {"fw_id": 1, "state": 1, "launches": 1})
    )
    busy = [firework for firework in fireworks if firework["state"] in ("RUNNING", "RESERVED")]
    alive = [firework for firework in busy if _has_live_launch(launchpad, firework)]
    if not alive:
        freed = launchpad.workflows.update_one(
            {"nodes": nodes[0], "locked": {"$exists": True}}, {"$unset": {"locked": True}}
        )
        done.unlocked += freed.modified_count
    for firework in busy:
        if firework not in alive:
            _release(launchpad, firework, done)
    for firework in fireworks:
        if firework["state"] == "FIZZLED":
            launchpad.rerun_fw(firework["fw_id"])
            done.fizzled += 1
    _refresh(launchpad, nodes)
    done.refreshed += 1


def _has_live_launch(launchpad: LaunchPad, firework: dict[str, Any]) -> bool:
    launches = launchpad.launches.find(
        {"launch_id": {"$in": firework["launches"]}, "state": {"$in": ["RUNNING", "RESERVED"]}}
    )
    return any(_is_live(launch) for launch in launches)


def _is_live(launch: dict[str, Any]) -> bool:
    alive = is_alive(launch["fworker"]["name"])
    if alive is not None:
        return alive
    pinged = datetime.fromisoformat(launch["state_history"][-1]["updated_on"])
    if pinged.tzinfo is None:
        pinged = pinged.replace(tzinfo=UTC)
    return datetime.now(UTC) - pinged < timedelta(seconds=RUN_EXPIRATION_SECS)


def _release(launchpad: LaunchPad, firework: dict[str, Any], done: Repairs) -> None:
    """Make a Firework whose worker is gone ready again, unless its run had ended."""
    launches = list(launchpad.launches.find({"launch_id": {"$in": firework["launches"]}}))
    if any(launch["state"] == "COMPLETED" for launch in launches):
        return  # the refresh that follows brings its result in
    for launch in launches:
        if launch["state"] in ("RUNNING", "RESERVED"):
            launchpad.mark_fizzled(launch["launch_id"])
    launchpad.rerun_fw(firework["fw_id"])
    done.lost += 1


def _refresh(launchpad: LaunchPad, nodes: list[int]) -> None:
    """Work out the states of a workflow's Fireworks anew, parents first."""
    for node in sorted(nodes, reverse=True):
        launchpad._refresh_wf(node)
