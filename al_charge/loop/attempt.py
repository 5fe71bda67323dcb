"""One attempt to run an engine: journalled, and what its end costs.

What ends it from outside costs nothing as long as it gets further from start to start. A crash may
be repeated, perhaps on another machine. What the engine itself says against the job is final.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from al_charge.errors import AlChargeError, CrashedError, NotInstalledError, UnfinishedError
from al_charge.loop.campaign import Campaign
from al_charge.stopping import disk_is_full
from al_charge.store.attempts import CONTINUED, CRASHED, DISK_FULL, RETRIED, UNFINISHED

MOST_STARTS = 20
"""Starts in a row that were stopped without any progress, before a job is given up."""

MOST_CRASHES = 6
"""Crashes of its engine before a job is given up: if 3 in 10 runs crash, 1 job in 1,400 is."""

_log = logging.getLogger("al_charge.loop")


@dataclass(frozen=True)
class Job:
    """What an engine is to make, in the journal of a campaign.

    Attributes
    ----------
    campaign
        The campaign.
    round_number
        Round that asks for it.
    slot
        Number of its task in the round.
    key
        What is made: key of a label, or name of a metal.
    """

    campaign: Campaign
    round_number: int
    slot: int
    key: str

    def attempt(
        self, folder: Path, make: Callable[[], bool], progress: Callable[[], int]
    ) -> str | None:
        """Try once.

        Parameters
        ----------
        folder
            Where the engine runs.
        make
            Runs the engine and stores the result; returns whether it was not there yet.
        progress
            Tells how far the engine has got in its folder.

        Returns
        -------
        str or None
            Why it is given up; None if it was made.

        Raises
        ------
        UnfinishedError
            If it may be tried again, perhaps on another machine.
        NotInstalledError
            If there is no engine on this machine.
        """
        journal, before = self.campaign.store.attempts, progress()
        attempt = journal.start(
            self.key, campaign=self.campaign.name, round=self.round_number, slot=self.slot
        )
        try:
            made = make()
        except UnfinishedError as error:
            further = progress() > before
            journal.finish(attempt, CONTINUED if further else UNFINISHED, str(error))
            if further or self._count(UNFINISHED, since=(RETRIED, CONTINUED)) < MOST_STARTS:
                raise
            return f"no progress in {MOST_STARTS} starts: {error}"
        except CrashedError as error:
            return self._crashed(attempt, folder, error)
        except NotInstalledError as error:  # on this machine
            journal.finish(attempt, "failed", str(error))
            raise
        except OSError as error:
            return self._crashed(attempt, folder, error)
        except AlChargeError as error:
            if disk_is_full(folder):
                return self._crashed(attempt, folder, error)
            journal.finish(attempt, "failed", str(error))
            return str(error)
        journal.finish(attempt, "made" if made else "discarded")
        return None

    def _crashed(self, attempt: str, folder: Path, error: Exception) -> str:
        """Record an attempt that failed by no fault of the job; return why that is given up.

        Raises
        ------
        UnfinishedError
            If it may be tried again.
        """
        reason = str(error)
        if isinstance(error, OSError):
            reason = f"{error.strerror or error}: {error.filename or folder}"
        full = disk_is_full(folder, error)
        self.campaign.store.attempts.finish(attempt, DISK_FULL if full else CRASHED, reason)
        _log.warning("%s: its engine crashed: %s", self.key, reason)
        if full or self._count(CRASHED, since=(RETRIED,)) < MOST_CRASHES:
            raise UnfinishedError("the disk is full" if full else reason, where=str(folder))
        return f"{reason} ({MOST_CRASHES} times)"

    def _count(self, outcome: str, since: tuple[str, ...]) -> int:
        """Return how many attempts have had one outcome since the last with some others."""
        attempts = reversed(self.campaign.store.attempts.all(self.campaign.name, self.key))
        latest = takewhile(lambda attempt: attempt.outcome not in since, attempts)
        return sum(attempt.outcome == outcome for attempt in latest)
