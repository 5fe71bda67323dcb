"""A campaign that is followed: what is known of it, so that only what is new is read again."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from al_charge.errors import AlChargeError
from al_charge.fw.jobs import FAILED, Job, jobs_of
from al_charge.fw.status import blocking_failure, held, seconds_left, tasks_by_state
from al_charge.fw.vitals import Vitals, vitals
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import LabelledHull, labelled_hull
from al_charge.report.names import host_formula, labeler_remark
from al_charge.serve.figures import Figure, hull_figure, voltage_figure
from al_charge.store.documents import Assessment, CampaignDoc, RoundDoc
from al_charge.store.labels import SUMMARY, LabelSummary
from al_charge.thermo.voltage import VoltageProfile, voltage_profile

if TYPE_CHECKING:
    from fireworks import LaunchPad

LOWEST = 40
"""Labels of each composition that are drawn, the lowest; the hull needs one."""
AT_ONCE = 10_000
"""Labels that are read together."""
LONGEST_LOOK = 0.5
"""s of a look that labels are read for; nobody sees anything meanwhile."""
LATEST = 12
"""Labels that are listed and drawn because they are the newest."""
ACTIVE = ("RUNNING", "RESERVED")
"""FireWorks' states of jobs that somebody works on."""


@dataclass(frozen=True)
class LatestLabel:
    """A label that came in lately.

    Attributes
    ----------
    label
        What is known of it.
    above
        Energy above the hull, eV per formula unit; None if it is on no hull, or there is none.
    """

    label: LabelSummary
    above: float | None


@dataclass(frozen=True)
class View:
    """What the page of a campaign shows.

    Attributes
    ----------
    document
        The campaign.
    formula, remark
        Its material, such as ``NaxFePO4``, and what is to be told of its labeler.
    labels, most_labels
        Labels so far, and the budget.
    rounds
        All of them; the last may be open.
    assessment
        The last that there is.
    held, needed
        For how many rounds in a row every criterion held, and for how many it has to.
    seconds_left
        s, if every criterion holds from now on; None where nobody knows.
    stuck
        Why nothing more will happen; None while work goes on.
    tasks
        Number of jobs by state.
    jobs
        Those of the last round.
    failed
        Those that failed in any round.
    workers
        Signs of life.
    found
        The hull of all labels; None as long as the end members are missing, for ``missing``.
    profile
        Its voltages.
    figures
        Pictures of both; empty without a hull.
    latest
        The newest labels, newest first.
    """

    document: CampaignDoc
    formula: str
    remark: str
    labels: int
    most_labels: int
    rounds: tuple[RoundDoc, ...]
    assessment: Assessment | None
    held: int
    needed: int
    seconds_left: float | None
    stuck: str | None
    tasks: dict[str, int]
    jobs: tuple[Job, ...]
    failed: tuple[Job, ...]
    workers: tuple[Vitals, ...]
    found: LabelledHull | None
    profile: VoltageProfile | None
    missing: str
    figures: tuple[Figure, ...]
    latest: tuple[LatestLabel, ...]

    @property
    def active(self) -> list[Job]:
        """Jobs that somebody works on."""
        return [job for job in self.jobs if job.state in ACTIVE]

    @property
    def news(self) -> str:
        """What a screen reader is told when it has changed."""
        labels = f"{self.labels} label{'s' * (self.labels != 1)}"
        told = [f"{self.document.name} is {self.document.state.value}", labels]
        if self.rounds:
            told.insert(1, f"round {self.rounds[-1].number}")
        if self.failed:
            told.append(f"{len(self.failed)} job{'s' * (len(self.failed) != 1)} failed")
        if self.stuck:
            told.append("nothing more will happen")
        return ", ".join(told)


@dataclass
class Followed:
    """What is known of a campaign from one look to the next.

    Attributes
    ----------
    campaign
        The campaign; another one of its name needs another object.
    launchpad
        LaunchPad of its database.
    """

    campaign: Campaign
    launchpad: LaunchPad
    _closed: list[RoundDoc] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _unread: dict[str, int] = field(default_factory=dict)
    _lowest: dict[str, list[LabelSummary]] = field(default_factory=dict)
    _latest: list[LabelSummary] = field(default_factory=list)
    _failed: tuple[tuple[int, int], tuple[Job, ...]] = ((0, 0), ())
    _drawn: tuple[Any, dict[str, Any]] = (None, {})

    def look(self) -> View:
        """Read what is new.

        Returns
        -------
        View
            The campaign as it is now.
        """
        campaign, launchpad, name = self.campaign, self.launchpad, self.campaign.name
        rounds = self._rounds()
        self._read_labels()
        assessed = [one for one in rounds if one.assessment is not None]
        last = assessed[-1] if assessed else None
        tasks = tasks_by_state(launchpad, name)
        number = rounds[-1].number if rounds else 0
        convergence = campaign.spec.convergence
        return View(
            document=campaign.store.campaigns.get(name),
            formula=host_formula(campaign.framework, campaign.spec.host.working_ion),
            remark=labeler_remark(campaign.spec.labeler),
            labels=len(self._known) + len(self._unread),
            most_labels=convergence.max_labels,
            rounds=tuple(rounds),
            assessment=last.assessment if last else None,
            held=held(assessed),
            needed=convergence.rounds,
            seconds_left=seconds_left(campaign, rounds),
            stuck=blocking_failure(launchpad, name),
            tasks=tasks,
            jobs=tuple(jobs_of(launchpad, campaign, number=number)),
            failed=self._failed_jobs(tasks),
            workers=tuple(vitals(launchpad.db, name)),
            **self._draw(last),
        )

    def _rounds(self) -> list[RoundDoc]:
        """Return all rounds; those that are closed are read once."""
        found = list(self._closed)
        while True:
            record = self.campaign.store.rounds.get(self.campaign.name, len(found))
            if record is None:
                return found
            if record.closed is not None and len(self._closed) == len(found):
                self._closed.append(record)
            found.append(record)

    def _read_labels(self) -> None:
        """Read new labels, of many as many as a look has time for; the next looks read the rest."""
        labels, name = self.campaign.store.labels, self.campaign.name
        if labels.count(name) != len(self._known) + len(self._unread):
            uses = labels.uses(name)
            if self._known - uses.keys():  # some are no longer used
                self._known, self._lowest, self._latest = set(), {}, []
            self._unread = {key: uses[key] for key in sorted(uses.keys() - self._known)}
        began = time.monotonic()
        while self._unread:
            some = {key: self._unread.pop(key) for key in list(islice(self._unread, AT_ONCE))}
            self._take(
                [replace(one, used=some[one.key]) for one in labels.read(SUMMARY, keys=some)]
            )
            if time.monotonic() - began > LONGEST_LOOK:
                break

    def _take(self, new: list[LabelSummary]) -> None:
        """Know labels that were not known."""
        self._known |= {one.key for one in new}
        self._latest = heapq.nlargest(LATEST, self._latest + new, key=lambda one: one.created)
        touched = {one.composition for one in new}
        for one in new:
            if one.refusal is None:
                self._lowest.setdefault(one.composition, []).append(one)
        for x in touched & self._lowest.keys():
            self._lowest[x] = heapq.nsmallest(LOWEST, self._lowest[x], self._energy)

    def _energy(self, one: LabelSummary) -> float:
        return self.campaign.cells.energy_of(one)

    def _failed_jobs(self, tasks: dict[str, int]) -> tuple[Job, ...]:
        """Return the jobs that failed; they are read again when their number changes."""
        given_up = len(self.campaign.store.failures.all(self.campaign.name))
        counts = tasks.get(FAILED, 0), given_up
        if counts != self._failed[0]:
            found = jobs_of(self.launchpad, self.campaign, failed=True)
            self._failed = counts, tuple(found)
        return self._failed[1]

    def _draw(self, last: RoundDoc | None) -> dict[str, Any]:
        """Return hull, voltages and their pictures; drawn again when there are other labels."""
        state = len(self._known), None if last is None else last.number
        if state == self._drawn[0] and self._drawn[1]["found"] is not None:
            return self._drawn[1]
        drawn: dict[str, Any] = {"found": None, "profile": None, "missing": "", "figures": ()}
        if self._unread:
            known, all_of_them = len(self._known), len(self._known) + len(self._unread)
            drawn["missing"] = f"{known:,} of {all_of_them:,} labels have been read"
            return drawn | {"latest": ()}
        some = {one.key: one for of_x in self._lowest.values() for one in of_x}
        some |= {one.key: one for one in self._latest}
        try:
            found = labelled_hull(self.campaign, summaries=some.values())
        except AlChargeError as error:
            drawn["missing"] = error.what
        else:
            profile = voltage_profile(found.hull)
            assessment = last.assessment if last else None
            after = last.number if last else -1
            new = {key for key, one in found.labels.items() if (one.used or 0) > after}
            drawn |= {
                "found": found,
                "profile": profile,
                "figures": (
                    hull_figure(found.hull, new, assessment, after),
                    voltage_figure(profile, assessment, after),
                ),
            }
        drawn["latest"] = tuple(LatestLabel(one, _above(one, drawn)) for one in self._latest)
        self._drawn = state, drawn
        return drawn


def _above(label: LabelSummary, drawn: dict[str, Any]) -> float | None:
    found: LabelledHull | None = drawn["found"]
    if found is None:
        return None
    distances = (found.hull.distance(one) for one in found.hull.entries if one.key == label.key)
    return next(distances, None)
