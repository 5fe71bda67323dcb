"""The files in GridFS, and which documents name them."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gridfs
from bson.objectid import ObjectId

from al_charge.store.base import StorePart, read_file
from al_charge.store.documents import CampaignDoc, Document, LabelDoc, ModelDoc, RoundDoc

_NAMED: tuple[tuple[str, type[Document], str], ...] = (
    ("frames", LabelDoc, "frames_file"),
    ("weights", CampaignDoc, "spec.labeler_file"),
    ("weights", ModelDoc, "weights_file"),
    ("weights", ModelDoc, "predictions_file"),
    ("weights", RoundDoc, "assessment.predictions_file"),
)
"""Buckets of GridFS, the documents that name files in them, and the field with the file's id."""
_BUCKETS = sorted({bucket for bucket, _, _ in _NAMED})


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
            If it is missing or incomplete in GridFS.
        """
        if path.is_file():
            return
        content = read_file(self._weights, file_id, where)
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
            for _, document, field in _NAMED
            for file_id in self._collection(document).distinct(field)
        }
        return [
            UnusedFile(bucket, file["_id"], file["length"])
            for bucket in _BUCKETS
            for file in self.database[f"{bucket}.files"].find({}, {"length": 1})
            if str(file["_id"]) not in named
        ]

    def delete(self, file: UnusedFile) -> None:
        """Delete a file.

        Parameters
        ----------
        file
            The file; nothing happens if it is gone already.
        """
        gridfs.GridFS(self.database, collection=file.bucket).delete(file.file_id)

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
        for bucket, document, field in _NAMED:
            owner = "name" if document is CampaignDoc else "campaign"
            query: dict[str, Any] = {} if campaign is None else {owner: campaign}
            match = {"$match": query | {field: {"$ne": None}}}
            pipeline = [match, {"$project": {"file": f"${field}"}}]
            for stored in self._collection(document).aggregate(pipeline):
                if stored["file"] not in complete[bucket]:
                    kind = document.collection.removesuffix("s")
                    content = field.rpartition(".")[2].removesuffix("_file")
                    yield DamagedFile(kind, stored["_id"], content)

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
        return {
            str(file["_id"])
            for file in files
            if pieces.get(file["_id"], 0) >= math.ceil(file["length"] / file["chunkSize"])
        }
