"""The Firetasks. Each is one idempotent step of the loop; a Firework carries ids only.

Their module paths are stored in the database: keep them where they are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fireworks import FiretaskBase, FWAction, LaunchPad, explicit_serialize

from al_charge.errors import AlChargeError
from al_charge.fw.claims import alone
from al_charge.fw.launchpad import store_of
from al_charge.fw.leaving import leave, passing_trouble
from al_charge.loop.campaign import Campaign, open_campaign

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

    def run_task(self, fw_spec: Mapping[str, Any]) -> FWAction | None:
        """Run the step. Where something else than the step fails, the worker process ends."""
        files = files_of(Path(fw_spec["_fw_env"]["runs"]), str(self["campaign"]))
        try:
            return self.step(files)
        except Exception as error:
            if (trouble := passing_trouble(error, files)) is not None:
                leave(trouble)
            raise

    @abstractmethod
    def step(self, files: Path) -> FWAction | None:
        """Do the step.

        Parameters
        ----------
        files
            Folder of the campaign's files on this machine.
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

    def step(self, files: Path) -> None:
        """Do the step."""
        from al_charge.loop.propose import propose

        propose(self.campaign(), self["round"], self["n_ions"])


@explicit_serialize
class SelectTask(_RoundTask):
    """Select which candidates are labelled."""

    required_params = ("campaign", "round")

    def step(self, files: Path) -> None:
        """Do the step."""
        from al_charge.loop.select import select_candidates

        select_candidates(self.campaign(), self["round"])


@explicit_serialize
class LabelTask(_RoundTask):
    """Label one selected candidate."""

    required_params = ("campaign", "round", "slot")

    def step(self, files: Path) -> None:
        """Do the step."""
        from al_charge.loop.label import label

        label(
            self.campaign(),
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

    def step(self, files: Path) -> None:
        """Do the step."""
        from al_charge.loop.reference import label_metal

        label_metal(self.campaign(), self.directory(files, "metal"))


@explicit_serialize
class TrainTask(_RoundTask):
    """Train one member of the committee."""

    required_params = ("campaign", "round", "member")

    def step(self, files: Path) -> None:
        """Do the step."""
        from al_charge.loop.labelled_frames import cache_of
        from al_charge.loop.train import train_member

        directory = self.directory(files, f"train-{self['member']:d}")
        train_member(self.campaign(), self["round"], self["member"], directory, cache_of(files))


@explicit_serialize
class AssessTask(_RoundTask):
    """Assess the round, and add the next one where it is due."""

    required_params = ("campaign", "round")

    def step(self, files: Path) -> FWAction:
        """Do the step."""
        from al_charge.fw.rounds import ensure_round
        from al_charge.loop.assess import assess
        from al_charge.store.documents import CampaignState

        campaign = self.campaign()
        state = assess(campaign, self["round"], self.directory(files, "metal"))
        if state is CampaignState.RUNNING:
            ensure_round(self.launchpad, campaign, self["round"] + 1)
        return FWAction(stored_data={"state": state.value})
