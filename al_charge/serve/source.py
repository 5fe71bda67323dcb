"""What the pages show, read from one database, whose outages it outlives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from al_charge.errors import InputError
from al_charge.fw.jobs import Job, job_of, jobs_of, links_of, logs_document
from al_charge.fw.launchpad import open_launchpad, store_of
from al_charge.fw.vitals import vitals
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.serve.followed import Followed, View
from al_charge.serve.graph import Graph, draw
from al_charge.store.documents import CampaignDoc, RoundDoc
from al_charge.store.settings import DatabaseSettings

if TYPE_CHECKING:
    from fireworks import LaunchPad

FRESH = 1.0
"""s for which what was read is shown to everybody who asks."""
PATIENCE = 4.0
"""s until the page says that the database does not answer."""

T = TypeVar("T")


@dataclass(frozen=True)
class Line:
    """A campaign in the list of all.

    Attributes
    ----------
    document
        The campaign.
    round
        Number of its last round; None without one.
    labels
        How many it uses.
    workers
        How many work for it.
    """

    document: CampaignDoc
    round: int | None
    labels: int
    workers: int


class Source:
    """The campaigns of a database. It needs the right to read, and connects when it is first asked.

    Parameters
    ----------
    database
        The database; None for the embedded server.
    runs
        Folder with the files of jobs on this machine; logs are read nowhere else.
    launchpad
        Returns the LaunchPad of the database, when it is first needed.
    """

    def __init__(
        self,
        database: DatabaseSettings | None,
        runs: Path,
        launchpad: Callable[..., LaunchPad] = open_launchpad,
    ) -> None:
        self._database = database
        self._runs = runs
        self._connect = launchpad
        self._connected: LaunchPad | None = None
        self._lock = threading.Lock()
        self._followed: dict[str, tuple[datetime, Followed]] = {}
        self._read: dict[Any, tuple[float, Any]] = {}

    def campaigns(self) -> list[Line]:
        """Return all campaigns.

        Returns
        -------
        list of Line
            Newest first.
        """
        return self._fresh("campaigns", self._lines)

    def campaign(self, name: str) -> View:
        """Return how a campaign stands.

        Parameters
        ----------
        name
            Its name.

        Returns
        -------
        View
            At most a second old.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        return self._fresh(("campaign", name), lambda: self._follow(name).look())

    def round(self, name: str, number: int) -> tuple[RoundDoc, list[Job], Graph]:
        """Return a round of a campaign.

        Parameters
        ----------
        name
            Name of the campaign.
        number
            Number of the round.

        Returns
        -------
        RoundDoc
            The round.
        list of Job
            Its jobs.
        Graph
            Which of them waits for which.

        Raises
        ------
        InputError
            If there is no such campaign or round.
        """
        return self._fresh(("round", name, number), lambda: self._round(name, number))

    def job(self, name: str, fw_id: int) -> dict[str, Any]:
        """Return what the runs of a job have left.

        Parameters
        ----------
        name
            Name of the campaign.
        fw_id
            Number of its Firework.

        Returns
        -------
        dict
            What ``al-charge campaign logs --json`` prints.

        Raises
        ------
        InputError
            If there is no such campaign or job.
        """
        return self._fresh(("job", name, fw_id), lambda: self._job(name, fw_id))

    def _fresh(self, what: Any, read: Callable[[], T]) -> T:
        """Return what was read a moment ago, or read it; errors are kept for as long."""
        with self._lock:
            when, found = self._read.get(what, (0.0, None))
            if not when or time.monotonic() - when > FRESH:
                try:
                    found = read()
                except Exception as error:
                    found = error
                self._read = {k: v for k, v in self._read.items() if time.monotonic() - v[0] < 60}
                self._read[what] = time.monotonic(), found
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        kept: T = found
        return kept

    @property
    def _launchpad(self) -> LaunchPad:
        if self._connected is None:
            self._connected = self._connect(self._database, PATIENCE)
        return self._connected

    def _lines(self) -> list[Line]:
        store = store_of(self._launchpad)
        found = []
        for document in reversed(store.campaigns.all()):
            last = store.rounds.last(document.name)
            found.append(
                Line(
                    document,
                    round=None if last is None else last.number,
                    labels=store.labels.count(document.name),
                    workers=len(vitals(self._launchpad.db, document.name)),
                )
            )
        return found

    def _follow(self, name: str) -> Followed:
        """Return what is known of a campaign; nothing yet if it was submitted anew."""
        store = store_of(self._launchpad)
        document = store.campaigns.get(name)
        created, followed = self._followed.get(name, (None, None))
        if followed is None or created != document.created:
            followed = Followed(open_campaign(store, name, document), self._launchpad)
            self._followed[name] = document.created, followed
        return followed

    def _campaign(self, name: str) -> Campaign:
        return self._follow(name).campaign

    def _round(self, name: str, number: int) -> tuple[RoundDoc, list[Job], Graph]:
        campaign = self._campaign(name)
        record = campaign.store.rounds.get(name, number)
        if record is None:
            raise InputError(f"there is no round {number}", where=f"campaign '{name}'")
        # FireWorks numbers the jobs of a workflow from its end.
        jobs = jobs_of(self._launchpad, campaign, number=number)[::-1]
        return record, jobs, draw(jobs, links_of(self._launchpad, name, number))

    def _job(self, name: str, fw_id: int) -> dict[str, Any]:
        campaign = self._campaign(name)
        job = job_of(self._launchpad, campaign, fw_id)
        return logs_document(self._launchpad, campaign, job, within=self._runs)
