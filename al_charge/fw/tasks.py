"""The Firetasks. Each is one idempotent step of the loop; a Firework carries ids only.

Their module paths are stored in the database: keep them where they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fireworks import FiretaskBase, LaunchPad, explicit_serialize

from al_charge.errors import AlChargeError
from al_charge.fw.claims import alone
from al_charge.fw.launchpad import store_of
from al_charge.fw.task_run import running
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.store.documents import (
    CampaignState,
    ModelDoc,
    ProposalDoc,
    ReferenceDoc,
    RoundDoc,
)

SPOOL = "spool"
"""Folder, among a campaign's files, of finished labels that wait for the database."""


def files_of(runs: Path, campaign: str) -> Path:
    """Return the folder of a campaign's files.

    Raises
    ------
    AlChargeError
        If the name, which comes from the database, would lead out of the folder of runs.
    """
    if campaign in ("", ".", "..") or "\0" in campaign or Path(campaign).name != campaign:
        raise AlChargeError("this is no campaign's name", where=repr(campaign))
    return runs / campaign


class _RoundTask(FiretaskBase):  # type: ignore[misc]
    """A step of one round; FireWorks sets ``launchpad`` before it runs a task."""

    launchpad: LaunchPad

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step, with a line in the log when it starts and one when it ends."""
        files = files_of(Path(fw_spec["_fw_env"]["runs"]), str(self["campaign"]))
        with running(self["campaign"], self["round"], type(self).__name__, files) as run:
            campaign = self.campaign()
            run.start(self.what(campaign))
            run.key = self.step(campaign, files)

    @abstractmethod
    def what(self, campaign: Campaign) -> str:
        """Return what the step does, in a word or two for the log.

        Parameters
        ----------
        campaign
            Whose round it is.
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

    def what(self, campaign: Campaign) -> str:
        """Return what the step does."""
        return f"propose x={campaign.host.composition(self['n_ions'])}"

    def step(self, campaign: Campaign, files: Path) -> str:
        """Do the step."""
        from al_charge.loop.propose import propose

        propose(campaign, self["round"], self["n_ions"])
        return ProposalDoc.id_of(campaign.name, self["round"], self["n_ions"])


@explicit_serialize
class SelectTask(_RoundTask):
    """Select which candidates are labelled."""

    required_params = ("campaign", "round")

    def what(self, campaign: Campaign) -> str:
        """Return what the step does."""
        return "select"

    def step(self, campaign: Campaign, files: Path) -> str:
        """Do the step."""
        from al_charge.loop.select import select_candidates

        select_candidates(campaign, self["round"])
        return RoundDoc.id_of(campaign.name, self["round"])


@explicit_serialize
class LabelTask(_RoundTask):
    """Label one selected candidate."""

    required_params = ("campaign", "round", "slot")

    def what(self, campaign: Campaign) -> str:
        """Return what the step does."""
        return f"label {self['slot']}"

    def step(self, campaign: Campaign, files: Path) -> str | None:
        """Do the step."""
        from al_charge.loop.label import label

        return label(
            campaign,
            self["round"],
            self["slot"],
            self.directory(files, f"label-{self['slot']:03d}"),
            spool=files / SPOOL,
            claim=lambda key: alone(self.launchpad, f"label {key}"),
        )


@explicit_serialize
class MetalTask(_RoundTask):
    """Label the working-ion metal."""

    required_params = ("campaign", "round")

    def what(self, campaign: Campaign) -> str:
        """Return what the step does."""
        return "label metal"

    def step(self, campaign: Campaign, files: Path) -> str:
        """Do the step."""
        from al_charge.loop.label import label_metal

        label_metal(campaign, self.directory(files, "metal"))
        return ReferenceDoc.id_of(campaign.settings_hash, campaign.spec.host.working_ion)


@explicit_serialize
class TrainTask(_RoundTask):
    """Train one member of the committee."""

    required_params = ("campaign", "round", "member")

    def what(self, campaign: Campaign) -> str:
        """Return what the step does."""
        return f"train {self['member']}"

    def step(self, campaign: Campaign, files: Path) -> str:
        """Do the step."""
        from al_charge.loop.labelled_frames import cache_of
        from al_charge.loop.train import train_member

        directory = self.directory(files, f"train-{self['member']:d}")
        train_member(campaign, self["round"], self["member"], directory, cache_of(files))
        return ModelDoc.id_of(campaign.name, self["round"], self["member"])


@explicit_serialize
class AssessTask(_RoundTask):
    """Assess the round, and add the next one where it is due."""

    required_params = ("campaign", "round")

    def what(self, campaign: Campaign) -> str:
        """Return what the step does."""
        return "assess"

    def step(self, campaign: Campaign, files: Path) -> str:
        """Do the step."""
        from al_charge.fw.rounds import ensure_round
        from al_charge.loop.assess import assess

        state = assess(campaign, self["round"], self.directory(files, "metal"))
        if state is CampaignState.RUNNING:
            ensure_round(self.launchpad, campaign, self["round"] + 1)
        return RoundDoc.id_of(campaign.name, self["round"])
