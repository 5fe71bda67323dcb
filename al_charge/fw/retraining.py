"""Tasks that wait for a model which was lost, and is trained again.

Tasks of a round need the committee of the round before, in another workflow: FireWorks does not
know that they depend on it. So workers do not take them while one of its models is not there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any

from fireworks import LaunchPad

from al_charge.fw.database_locks import hold_lock
from al_charge.fw.launchpad import store_of
from al_charge.fw.workflow_states import free_lock

TRAIN_TASK = "{{al_charge.fw.tasks.TrainTask}}"
"""The Firetask that trains a model, by the name that FireWorks gives it."""

_NEEDS = {
    "{{al_charge.fw.tasks.ProposeTask}}": 1,
    TRAIN_TASK: 1,
    "{{al_charge.fw.tasks.AssessTask}}": 0,
}
"""How many rounds before its own the committee was trained that a task needs."""

_log = logging.getLogger("al_charge.fw")


def waiting(launchpad: LaunchPad, campaign: str) -> dict[int, list[dict[str, Any]]]:
    """Return the READY tasks of a campaign that need a model which is not there.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.

    Returns
    -------
    dict
        By the Firework that waits, the documents of those whose models are missing.
    """
    fields = {"fw_id": 1, "spec.round": 1, "spec._tasks._fw_name": 1}
    where = {
        "spec.campaign": campaign,
        "state": "READY",
        "spec._tasks._fw_name": {"$in": list(_NEEDS)},
    }
    by_round: dict[int, list[int]] = defaultdict(list)
    for firework in launchpad.fireworks.find(where, fields):
        before = _NEEDS[firework["spec"]["_tasks"][0]["_fw_name"]]
        by_round[firework["spec"]["round"] - before].append(firework["fw_id"])
    found = {}
    for number, needing in by_round.items():
        if missing := _without_model(launchpad, campaign, number):
            found.update(dict.fromkeys(needing, missing))
    return found


def train_again(launchpad: LaunchPad, campaign: str) -> list[int]:
    """Hand back the tasks that have trained models which are gone and are waited for.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.

    Returns
    -------
    list of int
        The Fireworks that wait for them.
    """
    found = waiting(launchpad, campaign)
    for trainer in {one["fw_id"]: one for missing in found.values() for one in missing}.values():
        if trainer["state"] == "COMPLETED":
            _log.warning("%s: its model is gone; it is trained again", trainer["name"])
            rerun(launchpad, trainer["fw_id"], campaign, "COMPLETED")
    return list(found)


def rerun(launchpad: LaunchPad, fw_id: int, campaign: str, state: str) -> None:
    """Make a Firework that has ended ready again, once, even if others try the same.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    fw_id
        The Firework.
    campaign
        Name of its campaign.
    state
        State that it has ended in.
    """
    free_lock(launchpad, fw_id)
    with hold_lock(launchpad, campaign):
        if launchpad.fireworks.count_documents({"fw_id": fw_id, "state": state}):
            launchpad.rerun_fw(fw_id)


def _without_model(launchpad: LaunchPad, campaign: str, number: int) -> list[dict[str, Any]]:
    """Return the Fireworks that train a round's committee and whose model is not there."""
    where = {"spec.campaign": campaign, "spec.round": number, "spec._tasks._fw_name": TRAIN_TASK}
    fields = {"fw_id": 1, "name": 1, "state": 1, "spec._tasks.member": 1}
    trainers = list(launchpad.fireworks.find(where, fields)) if number >= 0 else []
    has = store_of(launchpad).models.has
    return [
        one for one in trainers if not has(campaign, number, one["spec"]["_tasks"][0]["member"])
    ]
