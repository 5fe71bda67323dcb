"""Migration to schema version 5: the assessments of rounds have a fixed form.

What a round's committee predicts for the labels is in a file for every version now; until version
3 it was in the assessment itself.
"""

from __future__ import annotations

from typing import Any

import bson
import gridfs
import numpy as np
from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS, RoundDoc
from al_charge.store.round_documents import Assessment
from al_charge.store.schema import create_collections

Stored = dict[str, Any]

_OLD = {"schema_version": 4}
_NEW = {"schema_version": 5}


def to_version_5(database: Database[Stored]) -> None:
    """Bring the assessments of rounds into their present form; safe to repeat.

    Parameters
    ----------
    database
        Of version 4.
    """
    create_collections(database)
    rounds = database[RoundDoc.collection]
    for record in list(rounds.find(_OLD)):
        assessment = _assessment(database, record)
        rounds.update_one({"_id": record["_id"]}, {"$set": {"assessment": assessment} | _NEW})
    for document in DOCUMENTS:
        database[document.collection].update_many(
            _OLD, {"$set": _NEW}, bypass_document_validation=True
        )


def _assessment(database: Database[Stored], record: Stored) -> Stored | None:
    """Return the assessment of a round in its present form, its predictions in a file."""
    if record["assessment"] is None:
        return None
    found = dict(record["assessment"])
    keys, energies = found.pop("label_keys", None), found.pop("member_energies", None)
    if keys is not None:
        found["predictions_file"] = _file(database, record["_id"], keys, energies)
    return Assessment.model_validate(found).model_dump()


def _file(
    database: Database[Stored], doc_id: str, keys: list[str], energies: list[list[float]]
) -> str:
    """Store the predictions of a round's committee in GridFS and return the file's id."""
    files, name = gridfs.GridFS(database, collection="weights"), f"{doc_id}/predictions"
    for file in files.find({"filename": name}):  # of a migration that was killed
        files.delete(file._id)
    content = {"keys": keys, "energies": np.array(energies, dtype="<f8").tobytes()}
    return str(files.put(bson.encode(content), filename=name))
