"""Labels in the database: written once, shared by campaigns, with every attempt to make them."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Collection
from typing import Any

import bson
from bson.objectid import ObjectId

from al_charge.store.base import Stored, portions, read_file
from al_charge.store.campaigns import Campaigns
from al_charge.store.documents import AttemptDoc, FailureDoc, LabelDoc, LabelUseDoc
from al_charge.store.fields import now

LARGEST_INLINE_FRAMES = 2 * 1024 * 1024
"""Bytes of frames that a label's document may hold itself; more goes to GridFS."""

MADE = "made"
"""Outcome of an attempt in which the engine ran to a result."""

UNFINISHED = "unfinished"
"""Outcome of an attempt that was stopped where it can be continued."""

CRASHED = "crashed"
"""Outcome of an attempt whose engine was killed, or whose files could not be written or read."""

DISK_FULL = "disk full"
"""Outcome of an attempt that had no space for its files."""

RETRIED = "retried"
"""Outcome of the record that a label given up may be tried again; its reason is the failure's."""

_REFUSED = {"$or": [{"unusable": {"$gt": ""}}, {"converged": False}, {"resolved": None}]}
"""Query for labels that stand on no hull."""


class Labels(Campaigns):
    """The labels of a store."""

    def put_label(self, doc: LabelDoc) -> bool:
        """Store a label; return False, changing nothing, if its key is there already."""
        stored = doc.to_mongo()
        frames = bson.encode({"frames": stored["frames"]})
        if len(frames) <= LARGEST_INLINE_FRAMES:
            return self._insert_once(doc)
        if self.has_label(doc.key):
            return False
        file_id = self._frames.put(frames, filename=doc.key)
        light = doc.model_copy(update={"frames": [], "frames_file": str(file_id)})
        if self._insert_once(light):
            return True
        self._frames.delete(file_id)
        return False

    def has_label(self, key: str) -> bool:
        """Tell whether a label was made."""
        return self._collection(LabelDoc).find_one({"_id": key}, {"_id": 1}) is not None

    def label(self, key: str) -> LabelDoc | None:
        """Return a label with its frames, or None."""
        found = self._get(LabelDoc, key)
        return None if found is None else self._with_frames(found)

    def labels(self, host_fingerprint: str, settings_hash: str) -> list[LabelDoc]:
        """Return every label of a host under one labeler's settings, oldest first."""
        query = {"host_fingerprint": host_fingerprint, "settings_hash": settings_hash}
        return self._labels(query)

    def labels_of_campaign(self, name: str, up_to: int | None = None) -> list[LabelDoc]:
        """Return the labels that a campaign's rounds selected, oldest first.

        Parameters
        ----------
        up_to
            The last round whose labels count; all rounds when None.
        """
        return self._labels(self._used(name, up_to))

    def label_heads_of_campaign(self, name: str, *, refused: bool = False) -> list[LabelDoc]:
        """Return the labels of a campaign without their frames, for whoever looks often.

        Parameters
        ----------
        refused
            Only those that stand on no hull.
        """
        uses = self.rounds_of_use(name)
        # Of those that are refused there are few, and indexes find them.
        query = _REFUSED if refused else {"_id": {"$in": list(uses)}}
        found = self._collection(LabelDoc).find(
            query, {"frames": 0}, sort=[("created", 1), ("_id", 1)]
        )
        return [
            LabelDoc.from_mongo(stored | {"frames": []})
            for stored in found
            if stored["_id"] in uses
        ]

    def rounds_of_use(self, campaign: str, up_to: int | None = None) -> dict[str, int]:
        """Return by key the labels that a campaign's rounds selected, with the round of each.

        Parameters
        ----------
        up_to
            The last round whose labels count; all rounds when None.
        """
        query: Stored = {"campaign": campaign}
        if up_to is not None:
            query["round"] = {"$lte": up_to}
        found = self._collection(LabelUseDoc).find(query, {"_id": 0, "key": 1, "round": 1})
        return {use["key"]: use["round"] for use in found}

    def _used(self, campaign: str, up_to: int | None = None) -> Stored:
        return {"_id": {"$in": list(self.rounds_of_use(campaign, up_to))}}

    def link_label(self, campaign: str, round: int, key: str) -> bool:
        """Record that a campaign uses a label; return False if it already does.

        Raises
        ------
        InputError
            If the label was made with other settings than the campaign's.
        """
        label = self._collection(LabelDoc).find_one({"_id": key}, {"settings_hash": 1})
        if label is not None:
            self.check_settings(campaign, label["settings_hash"])
        return self._insert_once(LabelUseDoc(campaign=campaign, round=round, key=key))

    def label_uses(self, campaign: str) -> list[LabelUseDoc]:
        """Return which labels a campaign uses, in the order of its rounds."""
        return self._find(LabelUseDoc, {"campaign": campaign}, "round", "created", "_id")

    def _labels(self, query: Stored) -> list[LabelDoc]:
        found = self._find(LabelDoc, query, "created", "_id")
        return [self._with_frames(label) for label in found]

    def _with_frames(self, label: LabelDoc) -> LabelDoc:
        if label.frames_file is None:
            return label
        frames = self._frames_in(label.frames_file, label.key)
        return LabelDoc.model_validate({**label.model_dump(), "frames": frames})

    def _frames_in(self, file_id: str, key: str) -> Any:
        content = read_file(self._frames, file_id, f"label '{key}'")
        return bson.decode(content)["frames"]

    def start_attempt(
        self,
        key: str,
        *,
        campaign: str,
        round: int,
        slot: int,
        hostname: str | None = None,
        pid: int | None = None,
    ) -> str:
        """Record that a labelling job starts; return the attempt's id."""
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

    def finish_attempt(self, attempt: str, outcome: str, reason: str = "") -> None:
        """Record how an attempt ended, unless that is recorded."""
        self._collection(AttemptDoc).update_one(
            {"_id": attempt, "outcome": None},
            {"$set": {"outcome": outcome, "reason": reason, "finished": now()}},
        )

    def attempts(self, campaign: str, key: str | None = None) -> list[AttemptDoc]:
        """Return the attempts of a campaign, or those at one label, in order."""
        query = {"campaign": campaign} | ({} if key is None else {"key": key})
        return self._find(AttemptDoc, query, "started", "_id")

    def labels_made_twice(self, campaign: str) -> list[str]:
        """Return the keys of a campaign that were made more than once, by whomever."""
        attempts = self._collection(AttemptDoc)
        keys = attempts.distinct("key", {"campaign": campaign})
        grouped = attempts.aggregate(
            [
                {"$match": {"key": {"$in": keys}, "outcome": MADE}},
                {"$group": {"_id": "$key", "made": {"$sum": 1}}},
                {"$match": {"made": {"$gt": 1}}},
                {"$sort": {"_id": 1}},
            ]
        )
        return [group["_id"] for group in grouped]

    def labels_made(self, campaign: str) -> int:
        """Return how many labels a campaign had made, those of other campaigns not counted."""
        return self._collection(AttemptDoc).count_documents({"campaign": campaign, "outcome": MADE})

    def put_failure(self, doc: FailureDoc) -> bool:
        """Quarantine a label with its reason; return False if it is already."""
        return self._insert_once(doc)

    def failure(self, key: str) -> FailureDoc | None:
        """Return why a label was given up, or None."""
        return self._get(FailureDoc, key)

    def retry(self, key: str, *, campaign: str, round: int, slot: int) -> bool:
        """Let a label be tried again; return False if it was not given up.

        The failure and its reason stay among the attempts.
        """
        failure = self.failure(key)
        if failure is None:
            return False
        record = self.start_attempt(key, campaign=campaign, round=round, slot=slot)
        self.finish_attempt(record, RETRIED, failure.reason)
        self._collection(FailureDoc).delete_one({"_id": key})
        return True

    def retries(self, key: str) -> int:
        """Return how often a label was given up and tried again, by whomever."""
        return self._collection(AttemptDoc).count_documents({"key": key, "outcome": RETRIED})

    def failed(self, keys: Collection[str]) -> set[str]:
        """Return which of some labels were given up, by whomever."""
        failures = self._collection(FailureDoc)
        return {
            failure["_id"]
            for some in portions(list(keys))
            for failure in failures.find({"_id": {"$in": some}}, {"_id": 1})
        }

    def failures(self, campaign: str) -> list[FailureDoc]:
        """Return the labels that a campaign gave up, oldest first."""
        return self._find(FailureDoc, {"campaign": campaign}, "created", "_id")

    def _unused_frames(self) -> list[ObjectId]:
        used = {
            doc["frames_file"] for doc in self._collection(LabelDoc).find({}, {"frames_file": 1})
        }
        return [f._id for f in self._frames.find() if str(f._id) not in used]
