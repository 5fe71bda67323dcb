"""The Firetasks. Each is one idempotent step of the loop; a Firework carries ids only.

Their module paths are stored in the database: keep them where they are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fireworks import FiretaskBase, FWAction, LaunchPad, explicit_serialize

from al_charge.errors import UnfinishedError
from al_charge.fw.launchpad import store_of
from al_charge.loop.campaign import Campaign, open_campaign


class _RoundTask(FiretaskBase):  # type: ignore[misc]
    """A step of one round; FireWorks sets ``launchpad`` before it runs a task."""

    launchpad: LaunchPad

    def campaign(self) -> Campaign:
        return open_campaign(store_of(self.launchpad), self["campaign"])

    def directory(self, spec: Mapping[str, Any], name: str) -> Path:
        """Return the folder of one product: the same for every run of its task."""
        runs = Path(spec["_fw_env"]["runs"])
        return runs / str(self["campaign"]) / f"round-{self['round']:03d}" / name


@explicit_serialize
class ProposeTask(_RoundTask):
    """Propose the candidates of one composition."""

    required_params = ("campaign", "round", "n_ions")

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step."""
        from al_charge.loop.propose import propose

        propose(self.campaign(), self["round"], self["n_ions"])


@explicit_serialize
class SelectTask(_RoundTask):
    """Select which candidates are labelled."""

    required_params = ("campaign", "round")

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step."""
        from al_charge.loop.select import select_candidates

        select_candidates(self.campaign(), self["round"])


@explicit_serialize
class LabelTask(_RoundTask):
    """Label one selected candidate."""

    required_params = ("campaign", "round", "slot")

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step."""
        from al_charge.loop.label import label

        directory = self.directory(fw_spec, f"label-{self['slot']:03d}")
        label(self.campaign(), self["round"], self["slot"], directory)


@explicit_serialize
class MetalTask(_RoundTask):
    """Label the working-ion metal."""

    required_params = ("campaign", "round")

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step."""
        from al_charge.loop.reference import label_metal

        label_metal(self.campaign(), self.directory(fw_spec, "metal"))


@explicit_serialize
class TrainTask(_RoundTask):
    """Train one member of the committee."""

    required_params = ("campaign", "round", "member")

    def run_task(self, fw_spec: Mapping[str, Any]) -> None:
        """Run the step."""
        from al_charge.loop.labelled_frames import cache_of
        from al_charge.loop.train import train_member

        directory = self.directory(fw_spec, f"train-{self['member']}")
        cache = cache_of(Path(fw_spec["_fw_env"]["runs"]) / str(self["campaign"]))
        try:
            train_member(self.campaign(), self["round"], self["member"], directory, cache)
        except UnfinishedError:
            # The training heeded SIGTERM and is safe; now the signal does to the worker what it
            # would have done without it.
            os.kill(os.getpid(), signal.SIGTERM)
            raise


@explicit_serialize
class AssessTask(_RoundTask):
    """Assess the round, and add the next one where it is due."""

    required_params = ("campaign", "round")

    def run_task(self, fw_spec: Mapping[str, Any]) -> FWAction:
        """Run the step."""
        from al_charge.fw.rounds import ensure_round
        from al_charge.loop.assess import assess
        from al_charge.store.documents import CampaignState

        campaign = self.campaign()
        state = assess(campaign, self["round"], self.directory(fw_spec, "metal"))
        if state is CampaignState.RUNNING:
            ensure_round(self.launchpad, campaign, self["round"] + 1)
        return FWAction(stored_data={"state": state.value})
