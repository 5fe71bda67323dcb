"""Migration to schema version 6: labels, their uses and metals say whether they were imported."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS, LabelDoc, LabelUseDoc, ReferenceDoc
from al_charge.store.schema import create_collections

_NEW_FIELDS: dict[str, dict[str, Any]] = {
    LabelDoc.collection: {"imported": None},
    LabelUseDoc.collection: {"adopted": False},
    ReferenceDoc.collection: {"imported": None},
}
"""Fields that version 5 lacked; whatever it holds was made with its own database."""


def to_version_6(database: Database[dict[str, Any]]) -> None:
    """Add the fields that version 5 lacked; safe to repeat.

    Parameters
    ----------
    database
        Of version 5.
    """
    create_collections(database)
    for document in DOCUMENTS:
        fields = {"schema_version": 6, **_NEW_FIELDS.get(document.collection, {})}
        database[document.collection].update_many(
            {"schema_version": 5}, {"$set": fields}, bypass_document_validation=True
        )
