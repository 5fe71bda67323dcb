"""Labels read one by one, however many there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from al_charge.store.base import portions
from al_charge.store.documents import Geometry, LabelDoc
from al_charge.store.labels import Labels

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


class LabelStreams(Labels):
    """Reading many labels of a store."""

    def label_heads(
        self, campaign: str | None = None, up_to: int | None = None
    ) -> Iterator[LabelHead]:
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

    def labels_at(
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

    def stream_labels(self, keys: Sequence[str]) -> Iterator[LabelDoc]:
        """Yield labels with their frames, a few of them in memory at a time."""
        for some in portions(keys):
            query = {"_id": {"$in": some}}
            found = self._collection(LabelDoc).find(query, batch_size=LABELS_AT_ONCE)
            for stored in found:
                yield self._with_frames(LabelDoc.from_mongo(stored))
