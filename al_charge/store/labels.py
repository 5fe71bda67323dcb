"""Labels in the database: written once, shared by campaigns, read in part or in full."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

import bson

from al_charge.store.base import KEYS_AT_ONCE, Stored, portions, read_file
from al_charge.store.documents import Geometry, LabelDoc, LabelUseDoc, Refusal
from al_charge.store.label_uses import LabelUses

LARGEST_INLINE_FRAMES = 2 * 1024 * 1024
"""Bytes of frames that a label's document may hold itself; more goes to GridFS."""
EXPLORED = "explored"
"""Entry in the details of a label that explores another electronic state than its campaign's; no
campaign uses it, and it is read by its key alone."""
LABELS_AT_ONCE = 16
"""Labels with atoms that the server sends together; many objects at once are slow to collect."""

_ID: Stored = {"_id": 1}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What decides whether a label is wanted; nothing of its atoms.

    Attributes
    ----------
    key, config_hash, colours, host_fingerprint, settings_hash, engine, relax, composition, n_ions
        Those of `al_charge.store.documents.LabelDoc`.
    energy, created, identity
        Those of `al_charge.store.documents.LabelDoc`.
    refusal
        Why it is on no hull; None if it may be.
    has_moments
        Whether it has moments.
    delocalised
        Whether it is on the hull though its sites share a charge.
    used
        Round that selected it, if labels of one campaign are read; else None.
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
    refusal: Refusal | None
    has_moments: bool
    identity: str = ""
    delocalised: bool = False
    used: int | None = None


@dataclass(frozen=True)
class Wanted(Generic[T]):
    """What is read of each label.

    Attributes
    ----------
    pipeline
        Stages of an aggregation that choose what the server sends.
    make
        Makes it from what the server sent and, if labels of one campaign are read, the round that
        selected the label.
    frames
        Which frames are taken from GridFS, where a label has them there; None for none.
    """

    pipeline: tuple[Stored, ...]
    make: Callable[[Stored, int | None], T]
    frames: slice | None = None


def _summary(stored: Stored, used: int | None) -> LabelSummary:
    key, refusal = stored.pop("_id"), stored.pop("refusal")
    return LabelSummary(
        **stored, key=key, refusal=None if refusal is None else Refusal(refusal), used=used
    )


def _geometry(stored: Stored, _: int | None) -> tuple[str, Geometry]:
    (last,) = stored["frames"]
    geometry = Geometry.model_construct(
        numbers=stored["numbers"],
        positions=last["positions"],
        cell=last["cell"],
        species=stored["resolved"] or stored["requested"],
        host_site=stored["host_site"],
    )
    return stored["_id"], geometry


def _cell(stored: Stored, _: int | None) -> tuple[str, list[list[float]]]:
    (last,) = stored["frames"]
    return stored["_id"], last["cell"]


def _document(stored: Stored, _: int | None) -> LabelDoc:
    return LabelDoc.from_mongo({"frames": []} | stored)


_LAST = {"frames": {"$slice": ["$frames", -1]}}
_GEOMETRY = dict.fromkeys(
    (
        "numbers",
        "host_site",
        "requested",
        "resolved",
        "frames_file",
        "frames.positions",
        "frames.cell",
    ),
    1,
)

SUMMARY: Wanted[LabelSummary] = Wanted(
    pipeline=(
        {
            "$project": {name: 1 for name in LabelSummary.__slots__ if name not in ("key", "used")}
            | {"has_moments": {"$gt": ["$moments", None]}}
        },
    ),
    make=_summary,
)
"""What decides whether a label is wanted."""
WITHOUT_FRAMES: Wanted[LabelDoc] = Wanted(pipeline=({"$project": {"frames": 0}},), make=_document)
"""Labels without geometries, energies of steps and forces."""
LAST_FRAME: Wanted[LabelDoc] = Wanted(
    pipeline=({"$set": _LAST},), make=_document, frames=slice(-1, None)
)
"""Labels with their results alone."""
ALL_FRAMES: Wanted[LabelDoc] = Wanted(pipeline=(), make=_document, frames=slice(None))
"""Whole labels."""
LAST_GEOMETRY: Wanted[tuple[str, Geometry]] = Wanted(
    pipeline=({"$set": _LAST}, {"$project": _GEOMETRY}), make=_geometry, frames=slice(-1, None)
)
"""Key and last geometry of labels that may be on a hull; checked when they were written, and not
again. Delocalised ones have the species that were requested."""
LAST_CELL: Wanted[tuple[str, list[list[float]]]] = Wanted(
    pipeline=({"$set": _LAST}, {"$project": {"frames.cell": 1, "frames_file": 1}}),
    make=_cell,
    frames=slice(-1, None),
)
"""Key and last cell, angstrom."""


class Labels(LabelUses):
    """The labels of a store, and which campaign uses which."""

    def put(self, doc: LabelDoc) -> bool:
        """Store a label.

        Parameters
        ----------
        doc
            The label, with its frames.

        Returns
        -------
        bool
            False, changing nothing, if its key is there already.
        """
        frames = bson.encode({"frames": doc.to_mongo()["frames"]})
        if len(frames) <= LARGEST_INLINE_FRAMES:
            return self._insert_once(doc)
        if self.has(doc.key):
            return False
        file_id, checksum = self._put_file("frames", frames, doc.key)
        light = doc.model_copy(update={"frames": [], "frames_file": file_id})
        return self._insert_once(light, {"frames": checksum})

    def has(self, key: str) -> bool:
        """Tell whether a label was made.

        Parameters
        ----------
        key
            Of the label.

        Returns
        -------
        bool
            Whether it is there.
        """
        return bool(self.among([key]))

    def has_any(self, host_fingerprint: str, settings_hash: str) -> bool:
        """Tell whether a host has labels with some settings.

        Parameters
        ----------
        host_fingerprint
            Of the host.
        settings_hash
            Of the labeler's settings.

        Returns
        -------
        bool
            Whether there is at least one.
        """
        query = {"host_fingerprint": host_fingerprint, "settings_hash": settings_hash}
        return self._collection(LabelDoc).find_one(query, {"_id": 1}) is not None

    def beginning(self, start: str, campaign: str) -> list[str]:
        """Return the labels of a campaign whose keys begin alike.

        Parameters
        ----------
        start
            First characters of the keys.
        campaign
            Campaign that uses them.

        Returns
        -------
        list of str
            Their keys, sorted.
        """
        begin = re.escape(f"{campaign}/{start}")
        found = self._collection(LabelUseDoc).find({"_id": {"$regex": f"^{begin}"}}, {"key": 1})
        return sorted(use["key"] for use in found)

    def among(self, keys: Collection[str]) -> set[str]:
        """Return which of some labels were made.

        Parameters
        ----------
        keys
            Of the labels.

        Returns
        -------
        set of str
            The keys of those that are there.
        """
        labels = self._collection(LabelDoc)
        return {
            label["_id"]
            for some in portions(list(keys))
            for label in labels.find({"_id": {"$in": some}}, {"_id": 1})
        }

    def get(self, key: str) -> LabelDoc | None:
        """Return a whole label.

        Parameters
        ----------
        key
            Of the label.

        Returns
        -------
        LabelDoc or None
            None if there is none of this key.

        Raises
        ------
        AlChargeError
            If its frames are missing in GridFS.
        """
        return next(self.read(ALL_FRAMES, keys=[key]), None)

    def read(
        self,
        wanted: Wanted[T],
        *,
        campaign: str | None = None,
        up_to: int | None = None,
        keys: Collection[str] | None = None,
        compositions: Collection[str] | None = None,
        refused: bool | None = None,
        delocalised: bool | None = None,
    ) -> Iterator[T]:
        """Yield what is wanted of labels, a few of them in memory at a time.

        Parameters
        ----------
        wanted
            What is read of each label, such as `SUMMARY` or `ALL_FRAMES`.
        campaign
            Only labels that its rounds use.
        up_to
            Last round of the campaign whose labels count; all rounds when None.
        keys
            Only these labels; those that are not there are left out.
        compositions
            Only labels of these, exact fractions.
        refused
            Only those that are on no hull, or only those that may be.
        delocalised
            Only those whose sites share a charge, or only others.

        Yields
        ------
        object
            Made by ``wanted``, in the order of the labels' keys.

        Raises
        ------
        AlChargeError
            If the frames of a label are missing in GridFS.
        """
        query: Stored = {}
        if compositions is not None:
            query["composition"] = {"$in": list(compositions)}
        if refused is not None:
            query["refusal"] = {"$ne": None} if refused else None
        if delocalised is not None:
            query["delocalised"] = delocalised
        uses: dict[str, int] | None = None
        if campaign is None and keys is None:
            matches = iter([query | {f"details.{EXPLORED}": {"$exists": False}}])
        else:
            some = None if keys is None else set(keys)
            if query:
                # By its indexes, instead of looking at everything that a campaign uses.
                found = {label["_id"] for label in self._collection(LabelDoc).find(query, _ID)}
                some = found if some is None else found & some
            if campaign is not None:
                uses = self.uses(campaign, up_to, keys=some)
                some = set(uses)
            matches = ({"_id": {"$in": part}} for part in portions(sorted(some or ())))
        for match in matches:
            pipeline = [{"$match": match}, {"$sort": {"_id": 1}}, *wanted.pipeline]
            at_once = KEYS_AT_ONCE if wanted.frames is None else LABELS_AT_ONCE
            for stored in self._collection(LabelDoc).aggregate(pipeline, batchSize=at_once):
                if wanted.frames is not None and stored["frames_file"] is not None:
                    frames = self._frames_in(stored["frames_file"], stored["_id"])
                    stored["frames"] = frames[wanted.frames]
                yield wanted.make(stored, None if uses is None else uses[stored["_id"]])

    def _frames_in(self, file_id: str, key: str) -> list[Any]:
        content = read_file(self._frames, file_id, f"label '{key}'")
        return list(bson.decode(content)["frames"])

    def folders(self, campaign: str | None = None) -> dict[str, str]:
        """Return where the engine's files of labels are.

        Parameters
        ----------
        campaign
            Only labels that this campaign made itself; None for all.

        Returns
        -------
        dict
            Path, on the machine that made the label, by the label's key.
        """
        query = {} if campaign is None else {"campaign": campaign}
        found = self._collection(LabelDoc).find(query, {"directory": 1})
        return {label["_id"]: label["directory"] for label in found}

    def imported(
        self, host_fingerprint: str, settings_hash: str, n_ions: Sequence[int]
    ) -> set[str]:
        """Return which labels of a host with some settings came from an export.

        Parameters
        ----------
        host_fingerprint
            Of the host.
        settings_hash
            Of the labeler's settings.
        n_ions
            Numbers of working ions in their cells that count.

        Returns
        -------
        set of str
            Their keys.
        """
        query = {
            "host_fingerprint": host_fingerprint,
            "settings_hash": settings_hash,
            "n_ions": {"$in": list(n_ions)},
            "imported": {"$ne": None},
        }
        return {label["_id"] for label in self._collection(LabelDoc).find(query, {"_id": 1})}
