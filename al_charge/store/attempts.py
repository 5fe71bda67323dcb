"""Every attempt to make a label or compute a metal, and the labels that were given up."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Collection

from pymongo.database import Database

from al_charge.store.base import Stored, StorePart, portions
from al_charge.store.documents import AttemptDoc, FailureDoc
from al_charge.store.fields import now

MADE = "made"
"""Outcome of an attempt in which the engine ran to a result."""

UNFINISHED = "unfinished"
"""Outcome of an attempt that was stopped and had got no further than those before it."""

CONTINUED = "continued"
"""Outcome of an attempt that was stopped where the next one continues, with some progress."""

CRASHED = "crashed"
"""Outcome of an attempt whose engine was killed, or whose files could not be written or read."""

DISK_FULL = "disk full"
"""Outcome of an attempt that had no space for its files."""

METAL = "metal "
"""Beginning of the keys of attempts to compute a metal, which is no label."""

_LABELS = {"$not": {"$regex": f"^{METAL}"}}

RETRIED = "retried"
"""Outcome of the record that a label given up may be tried again; its reason is the failure's."""


class Attempts(StorePart):
    """The attempts to make labels."""

    def start(
        self,
        key: str,
        *,
        campaign: str,
        round: int,
        slot: int,
        hostname: str | None = None,
        pid: int | None = None,
    ) -> str:
        """Record that a labelling job starts.

        Parameters
        ----------
        key
            Key of the label.
        campaign
            Campaign that makes it.
        round
            Round that has selected it.
        slot
            Its position in the selection.
        hostname
            Machine of the job; None for this one.
        pid
            Process of the job; None for this one.

        Returns
        -------
        str
            Id of the attempt.
        """
        doc = AttemptDoc(
            attempt=uuid.uuid4().hex,
            key=key,
            campaign=campaign,
            round=round,
            slot=slot,
            hostname=hostname or socket.gethostname(),
            pid=pid or os.getpid(),
        )
        self._insert_once(doc)
        return doc.attempt

    def finish(self, attempt: str, outcome: str, reason: str = "") -> None:
        """Record how an attempt ended, unless that is recorded.

        Parameters
        ----------
        attempt
            Id of the attempt.
        outcome
            How it ended, such as `MADE`.
        reason
            Why, in one line; empty if it succeeded.
        """
        ended = {"outcome": outcome, "reason": reason, "finished": now()}
        self._change(AttemptDoc, attempt, lambda stored: {} if stored["outcome"] else ended)

    def interrupt(self, hostname: str, pid: int, reason: str) -> None:
        """Record of a process that has ended that its attempts, if open, ended with it.

        What is damaged stays as it is: the process's task goes on without that.

        Parameters
        ----------
        hostname
            Its machine.
        pid
            Its number there.
        reason
            How it ended.
        """
        ended = {"outcome": "interrupted", "reason": reason, "finished": now()}
        where = {"hostname": hostname, "pid": pid, "outcome": None}
        for attempt in self._collection(AttemptDoc).distinct("_id", where):
            self._note(AttemptDoc, attempt, lambda stored: {} if stored["outcome"] else ended)

    def all(
        self, campaign: str, key: str | None = None, *, rounds: Collection[int] | None = None
    ) -> list[AttemptDoc]:
        """Return the attempts of a campaign, or those at one label.

        Parameters
        ----------
        campaign
            Name of the campaign.
        key
            Key of the label; None for all labels.
        rounds
            Only those of tasks of these rounds; None for all.

        Returns
        -------
        list of AttemptDoc
            In the order in which they started.
        """
        query: Stored = {"campaign": campaign} | ({} if key is None else {"key": key})
        if rounds is not None:
            query["round"] = {"$in": list(rounds)}
        return self._find(AttemptDoc, query, "started", "_id")

    def of_task(self, campaign: str, round: int, slot: int) -> list[AttemptDoc]:
        """Return the attempts of one task at a label.

        Parameters
        ----------
        campaign
            Name of the campaign.
        round
            Round of the task.
        slot
            Its number in the round.

        Returns
        -------
        list of AttemptDoc
            In the order in which they started.
        """
        query = {"campaign": campaign, "round": round, "slot": slot, "key": _LABELS}
        return self._find(AttemptDoc, query, "started", "_id")

    def open(self, campaign: str | None = None) -> list[AttemptDoc]:
        """Return the attempts whose end is not recorded.

        Parameters
        ----------
        campaign
            Name of the campaign; None for all campaigns.

        Returns
        -------
        list of AttemptDoc
            In the order in which they started.
        """
        query = {"outcome": None} | ({} if campaign is None else {"campaign": campaign})
        return self._find(AttemptDoc, query, "started", "_id")

    def made_twice(self, campaign: str) -> list[str]:
        """Return the labels of a campaign that were made more than once, by any campaign.

        Parameters
        ----------
        campaign
            Name of the campaign.

        Returns
        -------
        list of str
            Keys of the labels, sorted.
        """
        attempts = self._collection(AttemptDoc)
        # All that a campaign has tried may be more than a query can name; made twice are few.
        grouped = attempts.aggregate(
            [
                {"$match": {"outcome": MADE}},
                {"$group": {"_id": "$key", "made": {"$sum": 1}}},
                {"$match": {"made": {"$gt": 1}}},
            ]
        )
        twice = [group["_id"] for group in grouped]
        return sorted(attempts.distinct("key", {"campaign": campaign, "key": {"$in": twice}}))

    def count_made(self, campaign: str) -> int:
        """Return how many labels a campaign has made itself; those of other campaigns do not count.

        Parameters
        ----------
        campaign
            Name of the campaign.

        Returns
        -------
        int
            Number of attempts with the outcome `MADE`.
        """
        labels = {"campaign": campaign, "key": _LABELS}
        return self._collection(AttemptDoc).count_documents(labels | {"outcome": MADE})


class Failures(StorePart):
    """The labels that were given up.

    Parameters
    ----------
    database
        Database of the store.
    attempts
        Attempts of the same store.
    """

    def __init__(self, database: Database[Stored], attempts: Attempts) -> None:
        super().__init__(database)
        self._attempts = attempts

    def put(self, doc: FailureDoc) -> bool:
        """Quarantine a label with its reason.

        Parameters
        ----------
        doc
            The failure.

        Returns
        -------
        bool
            False, changing nothing, if the label is quarantined already.
        """
        return self._insert_once(doc)

    def get(self, key: str) -> FailureDoc | None:
        """Return why a label was given up.

        Parameters
        ----------
        key
            Key of the label.

        Returns
        -------
        FailureDoc or None
            None if it was not given up.
        """
        return self._get(FailureDoc, key)

    def retry(self, key: str, *, campaign: str, round: int, slot: int) -> bool:
        """Let a label be tried again; the failure and its reason stay among the attempts.

        Parameters
        ----------
        key
            Key of the label.
        campaign
            Campaign that lets it be tried again.
        round
            Round that has selected it.
        slot
            Its position in the selection.

        Returns
        -------
        bool
            False if it was not given up.
        """
        failure = self.get(key)
        if failure is None:
            return False
        record = self._attempts.start(key, campaign=campaign, round=round, slot=slot)
        self._attempts.finish(record, RETRIED, failure.reason)
        self._collection(FailureDoc).delete_one({"_id": key})
        return True

    def retries(self, key: str) -> int:
        """Return how often a label was given up and tried again, by any campaign.

        Parameters
        ----------
        key
            Key of the label.

        Returns
        -------
        int
            Number of retries.
        """
        return self._collection(AttemptDoc).count_documents({"key": key, "outcome": RETRIED})

    def among(self, keys: Collection[str]) -> set[str]:
        """Return which of some labels were given up, by any campaign.

        Parameters
        ----------
        keys
            Keys of the labels.

        Returns
        -------
        set of str
            Keys of those that were given up.
        """
        failures = self._collection(FailureDoc)
        return {
            failure["_id"]
            for some in portions(list(keys))
            for failure in failures.find({"_id": {"$in": some}}, {"_id": 1})
        }

    def all(self, campaign: str) -> list[FailureDoc]:
        """Return the labels that a campaign gave up.

        Parameters
        ----------
        campaign
            Name of the campaign.

        Returns
        -------
        list of FailureDoc
            Oldest first.
        """
        return self._find(FailureDoc, {"campaign": campaign}, "created", "_id")
