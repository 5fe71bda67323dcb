"""What a backup holds and in which order it is read, so that it is whole while workers write.

Everything in the database is written after what it refers to, and stays as it is. Whoever reads
what refers first and what it refers to afterwards therefore finds all of it, whatever is written
meanwhile. What came too late for those who refer to it is left out where it would mislead: another
run makes it again, or finds it by its key. docs/decisions/0086-backups.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bson.raw_bson import RawBSONDocument

Query = dict[str, Any]

LEFT_OUT = frozenset({"claims", "workers"})
"""Collections about processes that run now; their documents are left out."""

REFERRERS_FIRST = (
    "workflows",
    "fireworks",
    "launches",
    "fw_id_assigner",
    "campaigns",
    "rounds",
    "proposals",
    "candidates",
    "models",
    "failures",
    "label_uses",
    "attempts",
    "ledger",
    "labels",
    "references",
)
"""Files of GridFS come after these, all others before them."""

OF_CAMPAIGNS = frozenset({"rounds", "proposals", "candidates", "models", "attempts", "ledger"})
OF_SELECTIONS = frozenset({"failures", "label_uses"})
OF_WORKFLOWS = frozenset({"fireworks", "launches"})

ORDER = {"rounds": [("campaign", -1), ("number", -1)]}
"""Order within a collection whose documents refer to each other: a round follows another."""

_ENDED: Query = {
    "$or": [
        {"state": {"$in": ["COMPLETED", "ARCHIVED"]}, "locked": {"$exists": False}},
        {"metadata.campaign": {"$exists": False}},
    ]
}
"""Workflows that nobody writes; the rest of a campaign's are made anew by ``campaign resume``."""

_AT_ONCE = 1000


def in_order(names: Iterable[str]) -> list[str]:
    """Return collections in the order of a backup, those that refer to others first.

    Parameters
    ----------
    names
        Names of the collections.

    Returns
    -------
    list of str
        All of them.
    """

    def place(name: str) -> tuple[int, str]:
        if name in REFERRERS_FIRST:
            return 1 + REFERRERS_FIRST.index(name), ""
        # a file's entry before its chunks
        files = {"files": 100, "chunks": 101}
        return files.get(name.rpartition(".")[2], 0) if "." in name else 0, name

    return sorted(names, key=place)


class Contents:
    """Which documents of a collection belong to a backup, given those copied before."""

    def __init__(self) -> None:
        self._nodes: list[int] = []
        self._campaigns: list[str] = []
        self._selected: defaultdict[str, list[int]] = defaultdict(list)
        self._files: defaultdict[str, list[Any]] = defaultdict(list)

    def queries(self, name: str) -> Iterator[Query]:
        """Yield queries that together find what belongs to the backup, each document once.

        Parameters
        ----------
        name
            Name of the collection.

        Yields
        ------
        dict
            A query of MongoDB.
        """
        bucket, _, kind = name.rpartition(".")
        if name in LEFT_OUT:
            return
        if name == "workflows":
            yield _ENDED
        elif name in OF_WORKFLOWS:
            yield from ({"fw_id": {"$in": some}} for some in _parts(self._nodes))
        elif name in OF_CAMPAIGNS:
            yield {"campaign": {"$in": self._campaigns}}
        elif name in OF_SELECTIONS:
            # A later selection would take what these name for answered, and choose others.
            for campaign, rounds in self._selected.items():
                yield {"campaign": campaign, "round": {"$in": rounds}}
        elif bucket and kind == "chunks":
            yield from ({"files_id": file_id} for file_id in self._files[bucket])
        elif name == "schema":
            yield {"_id": "version"}
        else:
            yield {}

    def add(self, name: str, raw: bytes) -> None:
        """Take note of a document that was copied.

        Parameters
        ----------
        name
            Name of its collection.
        raw
            The document as BSON.
        """
        bucket, _, kind = name.rpartition(".")
        if name == "workflows":
            self._nodes += RawBSONDocument(raw)["nodes"]
        elif name == "campaigns":
            self._campaigns.append(RawBSONDocument(raw)["_id"])
        elif name == "rounds":
            document = RawBSONDocument(raw)
            if document["selected"] is not None:
                self._selected[document["campaign"]].append(document["number"])
        elif bucket and kind == "files":
            self._files[bucket].append(RawBSONDocument(raw)["_id"])


def _parts(items: Sequence[int]) -> Iterator[Sequence[int]]:
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
