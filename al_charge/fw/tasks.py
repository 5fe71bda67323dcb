"""The tasks of a round: its Firetasks, and the workflow that they form.

Each Firetask is one idempotent step of the loop; a Firework carries ids only.

Their module paths are stored in the database: keep them where they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fireworks import FiretaskBase, Firework, LaunchPad, Workflow, explicit_serialize
from typing_extensions import override

from al_charge.errors import AlChargeError
from al_charge.fw.account import enter
from al_charge.fw.database_locks import hold_lock
from al_charge.fw.launchpad import store_of
from al_charge.fw.task_run import running
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.explore import END_MEMBERS, explore_slots
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.verify import is_verification
from al_charge.store.documents import (
    CampaignState,
    ModelDoc,
    ProposalDoc,
    ReferenceDoc,
    RoundDoc,
)

CATEGORIES = ("cpu", "dft", "gpu")
"""What a Firework needs from its worker: propose, select and assess; label; train."""
SPOOL = "spool"
"""Folder, in a campaign's files, of finished labels that are not in the database yet."""


def files_of(runs: Path, campaign: str) -> Path:
    """Return the folder of a campaign's files.

    Parameters
    ----------
    runs
        Folder for the files of jobs.
    campaign
        Name of the campaign, as the database has it.

    Returns
    -------
    Path
        A folder directly in ``runs``.

    Raises
    ------
    AlChargeError
        If the name would lead out of the folder.
    """
    if campaign in ("", ".", "..") or "\0" in campaign or Path(campaign).name != campaign:
        raise AlChargeError("this is not a campaign's name", where=repr(campaign))
    return runs / campaign


class _RoundTask(FiretaskBase):  # type: ignore[misc]
    """A step of one round; FireWorks sets ``launchpad`` before it runs a task."""

    launchpad: LaunchPad

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step, with a line in the log when it starts and one when it ends."""
        files = files_of(Path(fw_spec["_fw_env"]["runs"]), str(self["campaign"]))
        with running(self["campaign"], self["round"], type(self).__name__, files) as run:
            campaign = self.campaign()
            run.start(what := self.what(campaign))
            category = str(fw_spec.get("_category", "cpu"))
            processes = int(fw_spec["_fw_env"].get("processes", 1))
            run.close = enter(campaign, self["round"], what, category, processes)
            run.key = self.step(campaign, files)

    @abstractmethod
    def what(self, campaign: Campaign) -> str:
        """Return what the step does, in a word or two for the log.

        Parameters
        ----------
        campaign
            Whose round it is.

        Returns
        -------
        str
            Such as ``propose x=1/2``.
        """

    @abstractmethod
    def step(self, campaign: Campaign, files: Path) -> str | None:
        """Do the step.

        Parameters
        ----------
        campaign
            Whose round it is.
        files
            Folder of the campaign's files on this machine.

        Returns
        -------
        str or None
            Key of the product in the database; None where there was nothing to do.
        """

    def campaign(self) -> Campaign:
        return open_campaign(store_of(self.launchpad), self["campaign"])

    def directory(self, files: Path, name: str) -> Path:
        """Return the folder of one product: the same for every run of its task."""
        return files / f"round-{self['round']:03d}" / name


@explicit_serialize
class ProposeTask(_RoundTask):
    """Propose the candidates of one composition."""

    required_params = ("campaign", "round", "n_ions")
    optional_params = ("cell",)

    @override
    def what(self, campaign: Campaign) -> str:
        host = campaign.cells.hosts[self.get("cell", 0)]
        return f"propose x={host.composition(self['n_ions'])}"

    @override
    def step(self, campaign: Campaign, files: Path) -> str:
        from al_charge.loop.propose import propose

        which = self["round"], self["n_ions"], self.get("cell", 0)
        propose(campaign, *which)
        return ProposalDoc.id_of(campaign.name, *which)


@explicit_serialize
class SelectTask(_RoundTask):
    """Select which candidates are labelled."""

    required_params = ("campaign", "round")

    @override
    def what(self, campaign: Campaign) -> str:
        return "select"

    @override
    def step(self, campaign: Campaign, files: Path) -> str:
        from al_charge.loop.select import select_candidates

        select_candidates(campaign, self["round"])
        return RoundDoc.id_of(campaign.name, self["round"])


@explicit_serialize
class LabelTask(_RoundTask):
    """Label one selected candidate."""

    required_params = ("campaign", "round", "slot")

    @override
    def what(self, campaign: Campaign) -> str:
        return f"label {self['slot']}"

    @override
    def step(self, campaign: Campaign, files: Path) -> str | None:
        from al_charge.loop.label import label

        return label(
            campaign,
            self["round"],
            self["slot"],
            self.directory(files, f"label-{self['slot']:03d}"),
            spool=files / SPOOL,
            lock=lambda key: hold_lock(self.launchpad, f"label {key}"),
        )


@explicit_serialize
class ExploreTask(_RoundTask):
    """Run one configuration in another spin state or magnetic order.

    The last of the first round's stops the campaign if an end member is lower in other spin states
    than it asks for.
    """

    required_params = ("campaign", "round", "slot")

    @override
    def what(self, campaign: Campaign) -> str:
        return f"explore {self['slot']}"

    @override
    def step(self, campaign: Campaign, files: Path) -> str | None:
        from al_charge.loop.explore import explore
        from al_charge.loop.ground_state import lower_spin_states

        key = explore(
            campaign,
            self["round"],
            self["slot"],
            self.directory(files, f"explore-{self['slot']:03d}"),
            spool=files / SPOOL,
            lock=lambda key: hold_lock(self.launchpad, f"label {key}"),
        )
        if self["round"] == 0 and (reason := lower_spin_states(campaign)):
            campaign.store.campaigns.set_state(campaign.name, CampaignState.FAILED, reason)
        return key


@explicit_serialize
class MetalTask(_RoundTask):
    """Label the working-ion metal."""

    required_params = ("campaign", "round")

    @override
    def what(self, campaign: Campaign) -> str:
        return "label metal"

    @override
    def step(self, campaign: Campaign, files: Path) -> str:
        from al_charge.loop.reference import label_metal

        label_metal(
            campaign,
            self.directory(files, "metal"),
            round_number=self["round"],
            lock=lambda key: hold_lock(self.launchpad, key),
        )
        return ReferenceDoc.id_of(campaign.settings_hash, campaign.spec.host.working_ion)


@explicit_serialize
class TrainTask(_RoundTask):
    """Train one member of the committee, or take it over from the round before."""

    required_params = ("campaign", "round", "member")

    @override
    def what(self, campaign: Campaign) -> str:
        return f"train {self['member']}"

    @override
    def step(self, campaign: Campaign, files: Path) -> str:
        from al_charge.loop.labelled_frames import cache_of
        from al_charge.loop.train import train_member

        directory = self.directory(files, f"train-{self['member']:d}")
        train_member(campaign, self["round"], self["member"], directory, cache_of(files))
        return ModelDoc.id_of(campaign.name, self["round"], self["member"])


@explicit_serialize
class AssessTask(_RoundTask):
    """Assess the round, and add the next one where it is due."""

    required_params = ("campaign", "round")

    @override
    def what(self, campaign: Campaign) -> str:
        return "assess"

    @override
    def step(self, campaign: Campaign, files: Path) -> str:
        from al_charge.loop.assess import assess

        state = assess(
            campaign,
            self["round"],
            self.directory(files, "metal"),
            lock=lambda key: hold_lock(self.launchpad, key),
        )
        if state is CampaignState.RUNNING:
            ensure_round(self.launchpad, campaign, self["round"] + 1)
        return RoundDoc.id_of(campaign.name, self["round"])


def round_workflow(campaign: Campaign, number: int) -> Workflow:
    """Return the workflow of one round: propose, select, label, train, assess.

    The first round labels the end members, which are selected first, before all others: their
    moments calibrate the windows for the rest, and they are run in other electronic states. It also
    labels the working-ion metal.

    Parameters
    ----------
    campaign
        The campaign.
    number
        Number of the round.

    Returns
    -------
    Workflow
        Not in the database yet.
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
        cells = campaign.cells
        sizes = {x: sum(some.get(x, 0) for some in cells.numbers) for x in cells.compositions}
        # The largest is to be taken first: at the end it would keep one worker busy alone. Of new
        # Fireworks the one that was made last comes first in the database, and so its turn.
        proposals = [
            firework(ProposeTask(n_ions=n, cell=cell, **ids), f"propose x={x}", "cpu")
            for x, (cell, n) in sorted(cells.compositions.items(), key=lambda item: sizes[item[0]])
        ]
        selects = [firework(SelectTask(**ids), "select", "cpu", proposals)]
    labels: list[Firework] = []
    slots = range(label_slots(campaign, number))
    before = slots[:END_MEMBERS] if number == 0 else slots
    for slot in before:
        labels.append(firework(LabelTask(slot=slot, **ids), f"label {slot}", "dft", selects))
    explores = [
        firework(ExploreTask(slot=slot, **ids), f"explore {slot}", "dft", labels[:])
        for slot in explore_slots(campaign, number)
    ]
    parents = explores or labels[:]
    for slot in slots[len(before) :]:
        labels.append(firework(LabelTask(slot=slot, **ids), f"label {slot}", "dft", parents))
    metal = [firework(MetalTask(**ids), "label metal", "dft", selects)] if number == 0 else []
    trainers = [
        firework(TrainTask(member=member, **ids), f"train {member}", "gpu", labels + explores)
        for member in range(campaign.spec.committee.size)
    ]
    assess = firework(AssessTask(**ids), "assess", "cpu", [*trainers, *metal])
    return Workflow(
        [*proposals, *selects, *labels, *explores, *metal, *trainers, assess],
        name=f"{campaign.name} round {number}",
        metadata=ids,
    )


def ensure_round(launchpad: LaunchPad, campaign: Campaign, number: int) -> bool:
    """Add a round's workflow to the LaunchPad, unless it is there.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    number
        Number of the round.

    Returns
    -------
    bool
        Whether it was added.
    """
    open_round(campaign, number)
    where = {"metadata.campaign": campaign.name, "metadata.round": number}
    # Two processes that both find no workflow would both add one.
    with hold_lock(launchpad, campaign.name):
        if launchpad.workflows.count_documents(where, limit=1):
            return False
        launchpad.add_wf(round_workflow(campaign, number))
    return True


def count_tasks(launchpad: LaunchPad, campaign: str) -> dict[int, dict[str, tuple[int, int]]]:
    """Count the tasks of a campaign's rounds.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.

    Returns
    -------
    dict
        For each round, by kind (``propose``, ``select``, ``label``, ``explore``, ``metal``,
        ``train`` and ``assess``), how many tasks are done, and how many there are.
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
