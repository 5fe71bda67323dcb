"""Findings about GridFS: files without a document, documents without their file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from al_charge.fw.doctor.finding import Finding, Scene
from al_charge.store.documents import Document, LabelDoc, ModelDoc, RoundDoc
from al_charge.store.models import MODEL_FILES
from al_charge.store.rounds import PREDICTIONS

_RESTORE = "restore the database from a backup"


def leftover_files(scene: Scene) -> Iterator[Finding]:
    """Find files that no document names: a task was killed between the two.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    if scene.campaign is not None:
        return  # files do not name their campaign
    for bucket in {bucket for bucket, _, _ in _NAMED}:
        named = {
            name
            for of, document, field in _NAMED
            if of == bucket
            for name in scene.store.database[document.collection].distinct(field)
        }
        files = scene.store.database[f"{bucket}.files"].find({}, {"length": 1})
        left = [file["length"] for file in files if str(file["_id"]) not in named]
        if left:
            size = sum(left) / 1e6
            what = f"{len(left)} files, {size:.1f} MB, that no document names"
            cure = "nothing need be done: they only take up space"
            yield Finding("leftover file", f"GridFS '{bucket}'", what, cure, note=True)


def missing_files(scene: Scene) -> Iterator[Finding]:
    """Find models, labels and rounds whose file is missing or incomplete.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    query = {} if scene.campaign is None else {"campaign": scene.campaign}
    whole = {bucket: _whole_files(scene, bucket) for bucket in {one[0] for one in _NAMED}}
    for bucket, document, field in _NAMED:
        documents = scene.store.database[document.collection]
        there = {"$match": query | {field: {"$ne": None}}}
        for stored in documents.aggregate([there, {"$project": {"file": f"${field}"}}]):
            if stored["file"] not in whole[bucket]:
                name = field.rsplit(".")[-1].removesuffix("_file")
                what = f"its {name} in GridFS are missing or incomplete"
                kind = document.collection.removesuffix("s")
                yield Finding(f"half-written {kind}", f"{kind} {stored['_id']}", what, _RESTORE)


def _whole_files(scene: Scene, bucket: str) -> set[str]:
    """Return the ids of the files that have all their pieces."""
    pieces: dict[Any, int] = {
        group["_id"]: group["pieces"]
        for group in scene.store.database[f"{bucket}.chunks"].aggregate(
            [
                # In the order of the index, so that only the index is read and not the pieces.
                {"$sort": {"files_id": 1, "n": 1}},
                {"$group": {"_id": "$files_id", "pieces": {"$sum": 1}}},
            ]
        )
    }
    return {
        str(file["_id"])
        for file in scene.store.database[f"{bucket}.files"].find({}, {"length": 1, "chunkSize": 1})
        if pieces.get(file["_id"], 0) >= math.ceil(file["length"] / file["chunkSize"])
    }


_NAMED: tuple[tuple[str, type[Document], str], ...] = (
    ("frames", LabelDoc, "frames_file"),
    *(("weights", ModelDoc, field) for field in MODEL_FILES),
    ("weights", RoundDoc, PREDICTIONS),
)
"""Buckets of GridFS, the documents that name files in them, and the field with the name."""
