"""Labels in the database: written once, shared by campaigns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from pymongo.database import Database

from al_charge.store.base import Stored, StorePart, portions, read_file
from al_charge.store.campaigns import Campaigns
from al_charge.store.documents import Geometry, LabelDoc, LabelUseDoc

LARGEST_INLINE_FRAMES = 2 * 1024 * 1024
"""Bytes of frames that a label's document may hold itself; more goes to GridFS."""

_REFUSED = {"$or": [{"unusable": {"$gt": ""}}, {"converged": False}, {"resolved": None}]}
"""Query for labels that stand on no hull."""


LABELS_AT_ONCE = 16
"""Labels that the server sends together; many objects at once are slow to collect."""


@dataclass(frozen=True, slots=True)
class LabelHead:
    """What decides whether a label is wanted.

    Attributes
    ----------
    key, config_hash, colours, host_fingerprint, settings_hash, engine, relax, composition, n_ions
        Those of `al_charge.store.documents.LabelDoc`.
    energy, created
        Those of `al_charge.store.documents.LabelDoc`.
    refused
        ``unusable``, ``not converged`` or ``ambiguous``, in this order; empty for none of them.
    has_moments
        Whether it has moments.
    used
        Round of the campaign that was asked for which has selected it; None without one.
    """

    key: str
    config_hash: str
    colours: list[int]
    host_fingerprint: str
    settings_hash: str
    engine: str
    relax: str
    composition: str
    n_ions: int
    energy: float
    created: datetime
    refused: str
    has_moments: bool
    used: int | None = None


_HEAD = {
    "_id": 0,
    **{name: 1 for name in LabelHead.__slots__ if name != "used"},
    "refused": {
        "$switch": {
            "branches": [
                {"case": {"$ne": ["$unusable", ""]}, "then": "unusable"},
                {"case": {"$eq": ["$converged", False]}, "then": "not converged"},
                {"case": {"$eq": ["$resolved", None]}, "then": "ambiguous"},
            ],
            "default": "",
        }
    },
    "has_moments": {"$gt": ["$moments", None]},
}
"""The server works them out, and sends nothing of the atoms."""

_RESULT_FIELDS = {"numbers": 1, "host_site": 1, "resolved": 1, "frames_file": 1}
_RESULT: list[dict[str, Any]] = [
    {"$sort": {"_id": 1}},
    {"$project": _RESULT_FIELDS | {"last": {"$last": "$frames"}}},
    {"$project": _RESULT_FIELDS | {"positions": "$last.positions", "cell": "$last.cell"}},
]


class Labels(StorePart):
    """The labels of a store, and which campaign uses which.

    Parameters
    ----------
    campaigns
        Of the same store.
    """

    def __init__(self, database: Database[Stored], campaigns: Campaigns) -> None:
        super().__init__(database)
        self._campaigns = campaigns

    def put(self, doc: LabelDoc) -> bool:
        """Store a label; return False, changing nothing, if its key is there already."""
        stored = doc.to_mongo()
        frames = bson.encode({"frames": stored["frames"]})
        if len(frames) <= LARGEST_INLINE_FRAMES:
            return self._insert_once(doc)
        if self.has(doc.key):
            return False
        file_id = self._frames.put(frames, filename=doc.key)
        light = doc.model_copy(update={"frames": [], "frames_file": str(file_id)})
        if self._insert_once(light):
            return True
        self._frames.delete(file_id)
        return False

    def has(self, key: str) -> bool:
        """Tell whether a label was made."""
        return self._collection(LabelDoc).find_one({"_id": key}, {"_id": 1}) is not None

    def get(self, key: str) -> LabelDoc | None:
        """Return a label with its frames, or None."""
        found = self._get(LabelDoc, key)
        return None if found is None else self._with_frames(found)

    def all(self, host_fingerprint: str, settings_hash: str) -> list[LabelDoc]:
        """Return every label of a host under one labeler's settings, oldest first."""
        query = {"host_fingerprint": host_fingerprint, "settings_hash": settings_hash}
        return self._labels(query)

    def of_campaign(self, name: str, up_to: int | None = None) -> list[LabelDoc]:
        """Return the labels that a campaign's rounds selected, oldest first.

        Parameters
        ----------
        up_to
            The last round whose labels count; all rounds when None.
        """
        return self._labels(self._used(name, up_to))

    def light_of_campaign(self, name: str, *, refused: bool = False) -> list[LabelDoc]:
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

    def link(self, campaign: str, round: int, key: str) -> bool:
        """Record that a campaign uses a label; return False if it already does.

        Raises
        ------
        InputError
            If the label was made with other settings than the campaign's.
        """
        label = self._collection(LabelDoc).find_one({"_id": key}, {"settings_hash": 1})
        if label is not None:
            self._campaigns.check_settings(campaign, label["settings_hash"])
        return self._insert_once(LabelUseDoc(campaign=campaign, round=round, key=key))

    def uses(self, campaign: str) -> list[LabelUseDoc]:
        """Return which labels a campaign uses, in the order of its rounds."""
        return self._find(LabelUseDoc, {"campaign": campaign}, "round", "created", "_id")

    def heads(self, campaign: str | None = None, up_to: int | None = None) -> Iterator[LabelHead]:
        """Yield what decides whether labels are wanted, in the order of their keys.

        Parameters
        ----------
        campaign
            Whose rounds selected them; all labels when None.
        up_to
            The last round whose labels count; all rounds when None.
        """
        uses = None if campaign is None else self.rounds_of_use(campaign, up_to)
        query = {} if uses is None else {"_id": {"$in": list(uses)}}
        stages: list[dict[str, Any]] = [
            {"$match": query},
            {"$sort": {"_id": 1}},
            {"$project": _HEAD},
        ]
        for found in self._collection(LabelDoc).aggregate(stages):
            yield LabelHead(**found, used=None if uses is None else uses[found["key"]])

    def at(
        self, campaign: str, n_ions: Collection[int], up_to: int | None = None
    ) -> list[LabelDoc]:
        """Return a campaign's labels of some compositions, oldest first, with the last frame only.

        Parameters
        ----------
        n_ions
            Numbers of working ions.
        up_to
            The last round whose labels count; all rounds when None.
        """
        query = {"n_ions": {"$in": list(n_ions)}} | self._used(campaign, up_to)
        found = self._collection(LabelDoc).find(
            query, {"frames": {"$slice": -1}}, sort=[("created", 1), ("_id", 1)]
        )
        labels = [self._with_frames(LabelDoc.from_mongo(stored)) for stored in found]
        return [label.model_copy(update={"frames": label.frames[-1:]}) for label in labels]

    def stream_results(self, keys: Sequence[str]) -> Iterator[tuple[str, Geometry]]:
        """Yield sorted keys of labels with their last geometries, in this order.

        They were checked when they were written, and are not again.
        """
        for some in portions(keys):
            stages = [{"$match": {"_id": {"$in": some}}}, *_RESULT]
            found = self._collection(LabelDoc).aggregate(stages, batchSize=LABELS_AT_ONCE)
            for stored in found:
                file_id, key = stored["frames_file"], stored["_id"]
                last = stored if file_id is None else self._frames_in(file_id, key)[-1]
                geometry = Geometry.model_construct(
                    numbers=stored["numbers"],
                    positions=last["positions"],
                    cell=last["cell"],
                    species=stored["resolved"],
                    host_site=stored["host_site"],
                )
                yield key, geometry

    def stream(self, keys: Sequence[str]) -> Iterator[LabelDoc]:
        """Yield labels with their frames, a few of them in memory at a time."""
        for some in portions(keys):
            query = {"_id": {"$in": some}}
            found = self._collection(LabelDoc).find(query, batch_size=LABELS_AT_ONCE)
            for stored in found:
                yield self._with_frames(LabelDoc.from_mongo(stored))

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

    def files(self) -> set[str]:
        """Return the ids of the files in GridFS that labels name."""
        return set(self._collection(LabelDoc).distinct("frames_file")) - {None}
