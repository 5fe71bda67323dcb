"""The ledger: what every worker and every run of a task has used.

Entries are opened by whoever starts and closed when that ends; nothing removes them. One whose
worker died is closed by whoever notices, with the last sign of life as its end. One that is damaged
stays as it is, for the doctor: no work waits for the ledger. All times of an
entry are by the clock of its own machine, so that a wrong clock makes no wrong duration.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime

from al_charge.errors import DamagedError
from al_charge.store.base import Stored, StorePart
from al_charge.store.documents import EntryDoc, LabelDoc
from al_charge.store.fields import now
from al_charge.store.labels import EXPLORED

LOST = "lost"
"""Outcome of an entry whose worker was gone when somebody looked."""

WORKERS = "workers"
"""Key, in `Ledger.sums`, of what workers have used as a whole, idle time included."""

LABELS_PRICED = 1000
"""Labels whose price is looked at, at most."""

Sums = dict[int | None, dict[str, dict[str, float]]]
"""What was used, by round and kind of task; see `Ledger.sums`."""


class Ledger(StorePart):
    """What workers and their tasks have used."""

    def open(
        self,
        campaign: str,
        task: str = "",
        *,
        round: int | None = None,
        worker: str,
        job: str = "",
        nodes: int = 1,
        cores: int = 1,
        started: datetime | None = None,
    ) -> str:
        """Record that a worker or a run of a task starts.

        Parameters
        ----------
        campaign
            Name of the campaign.
        task
            What is run, such as ``label 3``; empty for a worker.
        round
            Round of the task; None for a worker.
        worker
            Name of the process.
        job
            Id of the queue's job that it runs in, after the queue's name; empty without a queue.
        nodes
            Nodes that it has.
        cores
            Cores that it has, on all nodes.
        started
            When it started; now when None.

        Returns
        -------
        str
            Id of the entry.
        """
        begun = started or now()
        entry = EntryDoc(
            entry=uuid.uuid4().hex,
            campaign=campaign,
            round=round,
            task=task,
            worker=worker,
            host=[*worker.split("@"), ""][1],
            job=job,
            nodes=nodes,
            cores=cores,
            started=begun,
            seen=now(),
        )
        self._insert_once(entry)
        return entry.entry

    def beat(self, workers: Collection[str]) -> None:
        """Record that processes live, in their open entries.

        Parameters
        ----------
        workers
            Names of the processes, all of this machine.
        """
        self._change_open({"worker": {"$in": list(workers)}}, lambda _: {"seen": now()})

    def close(
        self,
        worker: str,
        outcome: str,
        reason: str = "",
        *,
        ended: datetime | None = None,
    ) -> int:
        """Close the open entries of a process.

        Parameters
        ----------
        worker
            Name of the process.
        outcome
            How it ended, as in `EntryDoc`.
        reason
            Why, in one line; empty if it is done.
        ended
            When; the last sign of life when None.

        Returns
        -------
        int
            How many were open.
        """

        def close(stored: Stored) -> Stored:
            end = stored["seen"] if ended is None else max(stored["started"], ended)
            return {"ended": end, "outcome": outcome, "reason": reason}

        return self._change_open({"worker": worker}, close)

    def _change_open(self, query: Stored, change: Callable[[Stored], Stored]) -> int:
        """Change the open entries that a query finds; return how many were open."""
        found = self._collection(EntryDoc).find(query | {"ended": None}, {"_id": 1})
        count = 0
        for entry in list(found):
            changed: list[str] = []

            def once(stored: Stored, changed: list[str] = changed) -> Stored:
                changed[:] = [] if stored["ended"] is not None else [stored["_id"]]
                return change(stored) if changed else {}

            self._note(EntryDoc, entry["_id"], once)
            count += len(changed)
        return count

    def all(self, campaign: str, rounds: Collection[int] | None = None) -> list[EntryDoc]:
        """Return the entries of a campaign.

        Parameters
        ----------
        campaign
            Name of the campaign.
        rounds
            Only those of tasks of these rounds; None for all.

        Returns
        -------
        list of EntryDoc
            In the order in which they started.
        """
        query: Stored = {"campaign": campaign}
        if rounds is not None:
            query["round"] = {"$in": list(rounds)}
        return self._find(EntryDoc, query, "started", "_id")

    def settle(self, entry: EntryDoc, ended: datetime) -> None:
        """Record when an entry that is closed ended by the queue's accounting.

        Parameters
        ----------
        entry
            The entry.
        ended
            When the queue stopped to count.
        """
        self._note(EntryDoc, entry.entry, lambda _: {"ended": ended})

    def unclosed(self, campaign: str) -> list[EntryDoc]:
        """Return the entries of a campaign that are open, without those that cannot be read.

        Parameters
        ----------
        campaign
            Name of the campaign.

        Returns
        -------
        list of EntryDoc
            In the order in which they started.
        """
        return self._legible({"campaign": campaign, "ended": None})

    def jobs_since(self, campaign: str, time: datetime) -> list[EntryDoc]:
        """Return the entries of whole workers that ran in a queue's jobs and have ended lately.

        Parameters
        ----------
        campaign
            Name of the campaign.
        time
            Those that ended after it.

        Returns
        -------
        list of EntryDoc
            In the order in which they started, without those that cannot be read.
        """
        mine: Stored = {"campaign": campaign, "task": "", "job": {"$ne": ""}}
        return self._legible(mine | {"ended": {"$gt": time}})

    def _legible(self, query: Stored) -> list[EntryDoc]:
        found = []
        for stored in self._collection(EntryDoc).find(query, sort=["started", "_id"]):
            with suppress(DamagedError):
                found.append(EntryDoc.from_mongo(stored))
        return found

    def price(self, settings_hash: str, relax: str, atoms: tuple[int, int]) -> tuple[int, float]:
        """Return what labels of some settings have cost, of any host and campaign.

        Unlike `sums`, this counts imported labels, and no run that failed.

        Parameters
        ----------
        settings_hash
            Of the labeler's settings.
        relax
            What the engine moved.
        atoms
            Smallest and largest number of atoms in their cells.

        Returns
        -------
        int
            Number of labels that were looked at, `LABELS_PRICED` at most.
        float
            Mean of their core-seconds; 0 if there is no such label.
        """
        labels = self._collection(LabelDoc)
        pipeline: list[Stored] = [
            {
                "$match": {
                    # Every host, because the index begins with it.
                    "host_fingerprint": {"$in": labels.distinct("host_fingerprint")},
                    "settings_hash": settings_hash,
                    "relax": relax,
                    "wall_time": {"$ne": None},
                    "cores": {"$ne": None},
                    f"details.{EXPLORED}": {"$exists": False},
                    "$expr": {"$in": [{"$size": "$numbers"}, list(range(atoms[0], atoms[1] + 1))]},
                }
            },
            {"$limit": LABELS_PRICED},
            {"$project": {"price": {"$multiply": ["$wall_time", "$cores"]}}},
            {"$group": {"_id": None, "number": {"$sum": 1}, "mean": {"$avg": "$price"}}},
        ]
        found = next(iter(labels.aggregate(pipeline)), None)
        return (0, 0.0) if found is None else (found["number"], found["mean"])

    def sums(self, campaign: str) -> Sums:
        """Sum what a campaign has used; of open entries what they have used so far.

        Parameters
        ----------
        campaign
            Name of the campaign.

        Returns
        -------
        dict
            By round, None for what workers have used as a whole; then by the kind of task, such as
            ``label``, or `WORKERS`: ``runs``, ``seconds`` and ``core_seconds``.
        """
        end = {"$ifNull": ["$ended", "$seen"]}
        seconds = {"$divide": [{"$subtract": [end, "$started"]}, 1000.0]}
        kind = {"$arrayElemAt": [{"$split": ["$task", " "]}, 0]}
        pipeline: list[Stored] = [
            {"$match": {"campaign": campaign}},
            {"$project": {"round": 1, "cores": 1, "seconds": seconds, "kind": kind}},
            {
                "$group": {
                    "_id": {"round": "$round", "kind": "$kind"},
                    "runs": {"$sum": 1},
                    "seconds": {"$sum": "$seconds"},
                    "core_seconds": {"$sum": {"$multiply": ["$seconds", "$cores"]}},
                }
            },
            {"$sort": {"_id": 1}},
        ]
        sums: Sums = {}
        for found in self._collection(EntryDoc).aggregate(pipeline):
            of = {name: found[name] for name in ("runs", "seconds", "core_seconds")}
            sums.setdefault(found["_id"]["round"], {})[found["_id"]["kind"] or WORKERS] = of
        return sums
