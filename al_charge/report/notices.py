"""What people are told of a campaign that runs for weeks: its end, failures, a standstill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from al_charge.errors import one_line

GRACE = 600.0
"""s without a worker until somebody is told: in a queue they come and go."""
BETWEEN_FAILURES = 600.0
"""s between two messages about failures; the next tells all of them."""


@dataclass(frozen=True)
class Notice:
    """Something that somebody is told.

    Attributes
    ----------
    event
        ``end``, ``failure``, ``stuck``, ``no-workers`` or ``unwatched``.
    campaign
        Name of the campaign.
    state
        Its state.
    text
        What has happened, in one line.
    time
        When it was seen.
    """

    event: str
    campaign: str
    state: str
    text: str
    time: datetime

    def document(self) -> dict[str, str]:
        """Return the notice as a JSON document.

        Returns
        -------
        dict
            All of it; chats show ``text``.
        """
        return {
            "event": self.event,
            "campaign": self.campaign,
            "state": self.state,
            "text": self.text,
            "time": self.time.isoformat(timespec="seconds"),
        }


def notice(event: str, campaign: str, state: str, what: str) -> Notice:
    """Return a notice of now.

    Parameters
    ----------
    event
        Kind of event, as in `Notice`.
    campaign
        Name of the campaign.
    state
        Its state.
    what
        What has happened.

    Returns
    -------
    Notice
        Its text is one line, whatever the database holds.
    """
    text = one_line(f"campaign '{campaign}': {what}")
    return Notice(event, one_line(campaign), state, text, datetime.now(UTC))


class Observer:
    """Finds what is worth telling in one status after the other; each thing once.

    Parameters
    ----------
    clock
        Returns a time that never goes back, s.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: set[str] | None = None
        self._told_failures = float("-inf")
        self._stuck: str | None = None
        self._without_workers: float | None = None
        self._told_workers = False

    def look(self, status: dict[str, Any], stuck: str | None) -> Iterator[Notice]:
        """Compare a status with those before.

        Parameters
        ----------
        status
            What ``al-charge campaign status --json`` prints.
        stuck
            Why nothing more will happen; None while work goes on.

        Yields
        ------
        Notice
            What is new. Failures that are there at the first look are not.
        """
        name, state = status["campaign"], status["state"]
        yield from self._failures(status)
        if state != "running":
            reason = f": {status['reason']}" if status["reason"] else ""
            number = status["labels_used"]
            labels = f"; {number} label{'s' * (number != 1)}"
            yield notice("end", name, state, f"it is {state}{reason}{labels}")
            return
        if stuck is not None and self._stuck is None:
            yield notice("stuck", name, state, f"nothing more will happen: {stuck}")
        self._stuck = stuck
        yield from self._workers(status)

    def _failures(self, status: dict[str, Any]) -> Iterator[Notice]:
        reasons = {one["label"]: one["reason"] for one in status["failures"]}
        if self._failed is None:
            self._failed = set(reasons)
        new = [label for label in reasons if label not in self._failed]
        ended = status["state"] != "running"
        due = ended or self._clock() - self._told_failures >= BETWEEN_FAILURES
        if not new or not due:
            return
        self._failed |= set(new)
        self._told_failures = self._clock()
        what = "a label was given up" if len(new) == 1 else f"{len(new)} labels were given up"
        last = f"{what}, the last {new[-1][:8]}: {reasons[new[-1]]}"
        yield notice("failure", status["campaign"], status["state"], last)

    def _workers(self, status: dict[str, Any]) -> Iterator[Notice]:
        if any(not one["silent"] for one in status["workers"]):
            self._without_workers, self._told_workers = None, False
            return
        if self._without_workers is None:
            self._without_workers = self._clock()
        if not self._told_workers and self._clock() - self._without_workers >= GRACE:
            self._told_workers = True
            what = "no worker is left, so nothing is being computed"
            yield notice("no-workers", status["campaign"], status["state"], what)
