"""The files in GridFS, and which documents name them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bson.objectid import ObjectId

from al_charge.errors import AlChargeError
from al_charge.store.base import StorePart, read_file
from al_charge.store.documents import CampaignDoc, Document, LabelDoc, ModelDoc, RoundDoc


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A field by which documents name a file in GridFS.

    Attributes
    ----------
    bucket
        Of GridFS.
    document
        Kind of document.
    field
        Field with the file's id, dotted.
    content
        What the file holds.
    """

    bucket: str
    document: type[Document]
    field: str
    content: str

    @property
    def kind(self) -> str:
        """What the document is, in one word."""
        return self.document.collection.removesuffix("s")

    def in_document(self, stored: dict[str, Any]) -> object:
        """Return what a document's field holds.

        Parameters
        ----------
        stored
            The document as it is stored.

        Returns
        -------
        object
            The file's id, if the document is intact; None if it names no file.
        """
        found: Any = stored
        for name in self.field.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        return found or None


NAMED_FILES = (
    NamedFile("frames", LabelDoc, "frames_file", "frames"),
    NamedFile("weights", CampaignDoc, "spec.labeler_file", "labeler"),
    NamedFile("weights", ModelDoc, "weights_file", "weights"),
    NamedFile("weights", ModelDoc, "predictions_file", "predictions"),
    NamedFile("weights", RoundDoc, "assessment.predictions_file", "predictions"),
)
"""Every field that names a file."""
_BUCKETS = sorted({named.bucket for named in NAMED_FILES})


@dataclass(frozen=True, slots=True)
class UnusedFile:
    """A file that no document names.

    Attributes
    ----------
    bucket
        Of GridFS.
    file_id
        Its id.
    size
        Bytes.
    """

    bucket: str
    file_id: ObjectId
    size: int


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file that a document names and that is missing or incomplete.

    Attributes
    ----------
    kind
        What the document is: ``campaign``, ``label``, ``model`` or ``round``.
    document
        Id of the document.
    content
        What the file holds: ``frames``, ``weights``, ``predictions``, or, for the labeler of a
        campaign to read, ``labeler``.
    """

    kind: str
    document: str
    content: str


class Files(StorePart):
    """The files of a store in GridFS."""

    def keep(self, content: bytes) -> str:
        """Keep a file that a campaign's labeler reads; one content is kept once.

        Parameters
        ----------
        content
            Its bytes.

        Returns
        -------
        str
            Its id.
        """
        digest = hashlib.sha256(content).hexdigest()
        known = self._weights.find_one({"filename": digest})
        return str(known._id if known else self._weights.put(content, filename=digest))

    def copy_to(self, path: Path, file_id: str, where: str) -> None:
        """Write a file that was kept to this machine, unless it is there.

        Parameters
        ----------
        path
            Where; its folder is made. It is written in one step.
        file_id
            As `keep` returned it.
        where
            What it belongs to, for the message.

        Raises
        ------
        AlChargeError
            If it is missing, incomplete or damaged in GridFS.
        """
        if path.is_file():
            return
        content = read_file(self._weights, file_id, where)
        if hashlib.sha256(content).hexdigest() != self._weights.get(ObjectId(file_id)).filename:
            raise AlChargeError(
                "its file in GridFS is not the one that was kept",
                where=where,
                remedy="restore the database from a backup",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(content)
        unfinished.replace(path)

    def unused(self) -> list[UnusedFile]:
        """Return the files that no document names.

        A killed task leaves such a file when it ends between the file and its document; a running
        one is between the two for a moment.

        Returns
        -------
        list of UnusedFile
            By bucket.
        """
        named = {
            file_id
            for one in NAMED_FILES
            for file_id in self._collection(one.document).distinct(one.field)
        }
        return [
            UnusedFile(bucket, file["_id"], file["length"])
            for bucket in _BUCKETS
            for file in self.database[f"{bucket}.files"].find({}, {"length": 1})
            if str(file["_id"]) not in named
        ]

    def damaged(self, campaign: str | None = None) -> Iterator[DamagedFile]:
        """Find the files that documents name and that are missing or incomplete.

        Parameters
        ----------
        campaign
            Only those of this campaign's documents; None for all.

        Yields
        ------
        DamagedFile
            By kind of document.
        """
        complete = {bucket: self._complete(bucket) for bucket in _BUCKETS}
        for named in NAMED_FILES:
            owner = "name" if named.document is CampaignDoc else "campaign"
            query: dict[str, Any] = {} if campaign is None else {owner: campaign}
            match = {"$match": query | {named.field: {"$ne": None}}}
            pipeline = [match, {"$project": {"file": f"${named.field}"}}]
            for stored in self._collection(named.document).aggregate(pipeline):
                if stored["file"] not in complete[named.bucket]:
                    yield DamagedFile(named.kind, stored["_id"], named.content)

    def _complete(self, bucket: str) -> set[str]:
        """Return the ids of the files that have all their pieces."""
        pieces: dict[Any, int] = {
            group["_id"]: group["pieces"]
            for group in self.database[f"{bucket}.chunks"].aggregate(
                [
                    # In the order of the index, so that only the index is read and not the pieces.
                    {"$sort": {"files_id": 1, "n": 1}},
                    {"$group": {"_id": "$files_id", "pieces": {"$sum": 1}}},
                ]
            )
        }
        files = self.database[f"{bucket}.files"].find({}, {"length": 1, "chunkSize": 1})
        return {str(file["_id"]) for file in files if _pieces(file) <= pieces.get(file["_id"], 0)}


def _pieces(file: dict[str, Any]) -> float:
    """Return in how many pieces a file is; infinity if its entry is damaged."""
    try:
        return float(math.ceil(file["length"] / file["chunkSize"]))
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return math.inf
