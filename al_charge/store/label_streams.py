"""Labels read one by one, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from al_charge.store.documents import LabelDoc
from al_charge.store.labels import Labels

KEYS_AT_ONCE = 1000
"""Keys in one query."""
LABELS_AT_ONCE = 16
"""Labels that the server sends together."""


@dataclass(frozen=True, slots=True)
class LabelHead:
    """What decides whether a label is wanted.

    Attributes
    ----------
    key, config_hash, host_fingerprint, settings_hash, engine, composition, n_ions, energy, created
        Those of `al_charge.store.documents.LabelDoc`.
    refused
        ``unusable``, ``not converged`` or ``ambiguous``, in this order; empty for none of them.
    has_moments
        Whether it has moments.
    """

    key: str
    config_hash: str
    host_fingerprint: str
    settings_hash: str
    engine: str
    composition: str
    n_ions: int
    energy: float
    created: datetime
    refused: str
    has_moments: bool


_HEAD = {
    "_id": 0,
    **dict.fromkeys(LabelHead.__slots__, 1),
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
"""The server works them out, and sends no array."""


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
        query = {} if campaign is None else self._used(campaign, up_to)
        stages = [{"$match": query}, {"$sort": {"_id": 1}}, {"$project": _HEAD}]
        for found in self._collection(LabelDoc).aggregate(stages):
            yield LabelHead(**found)

    def stream_labels(self, keys: Sequence[str]) -> Iterator[LabelDoc]:
        """Yield labels with their frames, a few of them in memory at a time."""
        for start in range(0, len(keys), KEYS_AT_ONCE):
            query = {"_id": {"$in": list(keys[start : start + KEYS_AT_ONCE])}}
            found = self._collection(LabelDoc).find(query, batch_size=LABELS_AT_ONCE)
            for stored in found:
                yield self._with_frames(LabelDoc.from_mongo(stored))
