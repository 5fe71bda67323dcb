"""From schema version 2 to 3: candidates tell of charge states in doubt, models how they began."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS
from al_charge.store.schema import create_collections

ADDED: dict[str, dict[str, Any]] = {"candidates": {"drifted": None}, "models": {"start": ""}}
"""New fields by collection, with what they say of documents that were written without them."""

_OLD = {"schema_version": 2}


def to_version_3(database: Database[dict[str, Any]]) -> None:
    """Add the new fields; safe to repeat."""
    create_collections(database)  # the validators of version 2 refuse the new fields
    for document in DOCUMENTS:
        changes = {"schema_version": 3, **ADDED.get(document.collection, {})}
        database[document.collection].update_many(_OLD, {"$set": changes})
