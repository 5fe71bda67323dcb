"""The files in GridFS, and which documents name them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gridfs
from bson.objectid import ObjectId

from al_charge.store.base import StorePart
from al_charge.store.documents import Document, LabelDoc, ModelDoc, RoundDoc

_NAMED: tuple[tuple[str, type[Document], str], ...] = (
    ("frames", LabelDoc, "frames_file"),
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
        What the document is: ``label``, ``model`` or ``round``.
    document
        Id of the document.
    content
        What the file holds: ``frames``, ``weights`` or ``predictions``.
    """

    kind: str
    document: str
    content: str


class Files(StorePart):
    """The files of a store in GridFS."""

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
        query: dict[str, Any] = {} if campaign is None else {"campaign": campaign}
        complete = {bucket: self._complete(bucket) for bucket in _BUCKETS}
        for bucket, document, field in _NAMED:
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
