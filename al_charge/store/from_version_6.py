"""Migration to schema version 7: labels say whether their charge is delocalised."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS, LabelDoc
from al_charge.store.schema import create_collections


def to_version_7(database: Database[dict[str, Any]]) -> None:
    """Add the field that version 6 lacked; safe to repeat.

    What was ambiguous stays so: whether every try ended alike was not stored.

    Parameters
    ----------
    database
        Of version 6.
    """
    create_collections(database)
    for document in DOCUMENTS:
        new = {"delocalised": False} if document is LabelDoc else {}
        database[document.collection].update_many(
            {"schema_version": 6},
            {"$set": {"schema_version": 7, **new}},
            bypass_document_validation=True,
        )
