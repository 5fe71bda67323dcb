"""One FireWorks workflow for each round."""

from __future__ import annotations

from collections.abc import Sequence

from fireworks import Firework, LaunchPad, Workflow
from fireworks.core.firework import FiretaskBase

from al_charge.fw.claims import alone
from al_charge.fw.tasks import (
    AssessTask,
    LabelTask,
    MetalTask,
    ProposeTask,
    SelectTask,
    TrainTask,
)
from al_charge.loop.campaign import Campaign
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.verify import is_verification

CATEGORIES = ("cpu", "dft", "gpu")
"""What a Firework needs from its worker: propose, select and assess; label; train."""
END_MEMBERS = 2
"""Slots of the first round whose labels the others wait for."""


def round_workflow(campaign: Campaign, number: int) -> Workflow:
    """Return the workflow of one round: propose, select, label, train, assess.

    The first round labels the end members, which are selected first, before all others: their
    moments tell how to read those of the rest. It labels the working-ion metal beside them.
    """
    ids = {"campaign": campaign.name, "round": number}

    def firework(
        task: FiretaskBase, name: str, category: str, parents: Sequence[Firework] = ()
    ) -> Firework:
        spec = ids | {"_category": category, "_add_launchpad_and_fw_id": True}
        return Firework(
            [task], spec=spec, name=f"{campaign.name}/{number} {name}", parents=list(parents)
        )

    proposals, selects = [], []
    if not is_verification(campaign, number):
        x = campaign.host.composition
        proposals = [
            firework(ProposeTask(n_ions=n, **ids), f"propose x={x(n)}", "cpu")
            for n in campaign.host.ion_counts
        ]
        selects = [firework(SelectTask(**ids), "select", "cpu", proposals)]
    labels: list[Firework] = []
    for slot in range(label_slots(campaign, number)):
        first = number == 0 and slot >= END_MEMBERS
        parents = labels[:END_MEMBERS] if first else selects
        labels.append(firework(LabelTask(slot=slot, **ids), f"label {slot}", "dft", parents))
    metal = [firework(MetalTask(**ids), "label metal", "dft", selects)] if number == 0 else []
    trainers = [
        firework(TrainTask(member=member, **ids), f"train {member}", "gpu", labels)
        for member in range(campaign.spec.committee.size)
    ]
    assess = firework(AssessTask(**ids), "assess", "cpu", [*trainers, *metal])
    return Workflow(
        [*proposals, *selects, *labels, *metal, *trainers, assess],
        name=f"{campaign.name} round {number}",
        metadata=ids,
    )


def ensure_round(launchpad: LaunchPad, campaign: Campaign, number: int) -> bool:
    """Add a round's workflow to the LaunchPad, unless it is there.

    Returns
    -------
    bool
        Whether it was added.
    """
    open_round(campaign, number)
    where = {"metadata.campaign": campaign.name, "metadata.round": number}
    # Two processes that both find no workflow would both add one.
    with alone(launchpad, campaign.name):
        if launchpad.workflows.count_documents(where, limit=1):
            return False
        launchpad.add_wf(round_workflow(campaign, number))
    return True


def count_tasks(launchpad: LaunchPad, campaign: str) -> dict[int, dict[str, tuple[int, int]]]:
    """Count the tasks of a campaign's rounds.

    Parameters
    ----------
    launchpad
        Of the campaign's database.
    campaign
        Its name.

    Returns
    -------
    dict
        For each round, by kind (``propose``, ``select``, ``label``, ``metal``, ``train`` and
        ``assess``), how many tasks are done, and how many there are.
    """
    group = {
        "_id": {"round": "$spec.round", "task": {"$arrayElemAt": ["$spec._tasks._fw_name", 0]}},
        "done": {"$sum": {"$cond": [{"$eq": ["$state", "COMPLETED"]}, 1, 0]}},
        "all": {"$sum": 1},
    }
    pipeline = [{"$match": {"spec.campaign": campaign}}, {"$group": group}]
    counts: dict[int, dict[str, tuple[int, int]]] = {}
    for found in launchpad.fireworks.aggregate(pipeline):
        # Such as {{al_charge.fw.tasks.ProposeTask}}
        kind = found["_id"]["task"].rpartition(".")[2].removesuffix("Task}}").lower()
        counts.setdefault(found["_id"]["round"], {})[kind] = (found["done"], found["all"])
    return counts
