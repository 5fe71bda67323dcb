"""The findings of the doctor, and where it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fireworks import LaunchPad
from fireworks.fw_config import PING_TIME_SECS

from al_charge.store.documents import CampaignState
from al_charge.store.embedded import default_home
from al_charge.store.mongo import Store

GLANCE = 2.0
"""Seconds between two looks that rule out a worker between two writes."""

HEARTBEAT_WATCH = 1.2 * PING_TIME_SECS
"""Seconds within which a live worker sends a heartbeat."""

RESUMABLE = (CampaignState.RUNNING, CampaignState.PAUSED, CampaignState.FAILED)
"""States of campaigns that continue, or can."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes
    ----------
    kind
        What kind of thing, in two or three words.
    where
        The task, workflow, label, worker or campaign.
    what
        What is wrong with it.
    cure
        What is to be done, as a command: "make it ready again".
    fix
        Does it; None if only a person can, or if nothing need be done.
    note
        Whether it is worth knowing rather than wrong.
    watch
        Time after which a second look must find the same, s; None if one look is conclusive.
    seen
        What has to be the same in the second look.
    """

    kind: str
    where: str
    what: str
    cure: str
    fix: Callable[[], object] | None = None
    note: bool = False
    watch: float | None = None
    seen: object = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What identifies the finding in another look."""
        return self.kind, self.where, self.seen


@dataclass(frozen=True)
class Scene:
    """Where the doctor looks.

    Attributes
    ----------
    launchpad, store
        FireWorks' collections and the package's own, of one database.
    campaign
        The only campaign to look at; the whole database when None.
    runs
        Folder of the jobs' files on this machine.
    wait
        Whether to watch runs on other machines for a heartbeat.
    deep
        Whether to compare all that is stored with its checksums, not a sample.
    """

    launchpad: LaunchPad
    store: Store
    campaign: str | None
    runs: Path = field(default_factory=lambda: default_home() / "runs")
    wait: bool = True
    deep: bool = False

    @property
    def campaigns(self) -> list[str]:
        """Names of the campaigns that are looked at."""
        if self.campaign is not None:
            return [self.campaign]
        return self.store.campaigns.names()

    def of(self, field: str) -> dict[str, Any]:
        """Return a query for what belongs to the campaigns that are looked at.

        Parameters
        ----------
        field
            Field that holds a campaign's name.

        Returns
        -------
        dict
            A query of MongoDB.
        """
        return {field: self.campaign if self.campaign is not None else {"$type": "string"}}


def firework_line(firework: dict[str, Any]) -> str:
    """Return how findings name a Firework.

    Parameters
    ----------
    firework
        The Firework's document.

    Returns
    -------
    str
        Its name and id.
    """
    return f"{firework.get('name', 'Firework')} ({firework['fw_id']})"
