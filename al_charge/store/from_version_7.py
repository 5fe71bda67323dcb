"""Migration to schema version 8: assessments have the probability of anything below the hull."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS
from al_charge.store.schema import create_collections


def to_version_8(database: Database[dict[str, Any]]) -> None:
    """Add the field that version 7 lacked; safe to repeat.

    It stays unknown in assessments that were made without it.

    Parameters
    ----------
    database
        Of version 7.
    """
    create_collections(database)
    rounds = database["rounds"]
    rounds.update_many(
        {"schema_version": 7, "assessment": {"$ne": None}},
        {"$set": {"assessment.p_below_hull": None}},
        bypass_document_validation=True,
    )
    for document in DOCUMENTS:
        database[document.collection].update_many(
            {"schema_version": 7},
            {"$set": {"schema_version": 8}},
            bypass_document_validation=True,
        )
