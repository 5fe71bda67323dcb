"""Tasks that start again and again and get no further."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from fireworks import LaunchPad

from al_charge.fw.lost_runs import is_handed_back
from al_charge.fw.workflow_states import BUSY
from al_charge.store.attempts import CONTINUED, RETRIED
from al_charge.store.mongo import Store

RESTARTS = 3
"""Times that a task was started again, from which it is told of."""

_OPEN = ["READY", "WAITING", *BUSY]


@dataclass(frozen=True)
class Restarting:
    """A task that was started again and again.

    Attributes
    ----------
    fw_id
        Its Firework.
    task
        Name of that, such as ``olivine/3 label 2``.
    restarts
        How often it was handed back since it has got any further.
    reason
        Why, the last time.
    """

    fw_id: int
    task: str
    restarts: int
    reason: str


def restarting(launchpad: LaunchPad, store: Store, campaign: str) -> list[Restarting]:
    """Find a campaign's tasks that were handed back RESTARTS times or more without progress.

    Only labels tell how far they have got; of other tasks every start counts.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    store
        Store in the same database.
    campaign
        Name of the campaign.

    Returns
    -------
    list of Restarting
        By the numbers of their Fireworks.
    """
    where = {
        "spec.campaign": campaign,
        "state": {"$in": _OPEN},
        f"archived_launches.{RESTARTS - 1}": {"$exists": True},
    }
    fields = {"fw_id": 1, "name": 1, "archived_launches": 1, "spec": 1}
    found = []
    for firework in launchpad.fireworks.find(where, fields, sort=[("fw_id", 1)]):
        reasons = _reasons(launchpad, firework)
        if (attempts := _attempts(store, firework)) is not None:
            reasons = attempts[-len(reasons) :] if reasons else []
        if len(reasons) >= RESTARTS:
            one = Restarting(firework["fw_id"], firework["name"], len(reasons), reasons[-1])
            found.append(one)
    return found


def _reasons(launchpad: LaunchPad, firework: dict[str, Any]) -> list[str]:
    """Return why the earlier runs of a Firework were handed back, since it was last given up."""
    query = {"launch_id": {"$in": firework["archived_launches"]}}
    launches = launchpad.launches.find(query, {"action": 1}, sort=[("launch_id", -1)])
    latest = takewhile(is_handed_back, launches)
    return [str(one["action"]["stored_data"].get("_message", "")) for one in latest][::-1]


def _attempts(store: Store, firework: dict[str, Any]) -> list[str] | None:
    """Return why the attempts of a label have ended since it got further; None for other tasks."""
    task = firework["spec"]["_tasks"][0]
    if "slot" not in task:
        return None
    attempts = store.attempts.of_task(task["campaign"], task["round"], task["slot"])
    if attempts and attempts[-1].outcome is None:
        attempts.pop()  # it may be running
    latest = takewhile(lambda one: one.outcome not in (CONTINUED, RETRIED), reversed(attempts))
    return [one.reason or "its worker was killed" for one in latest][::-1]
