"""Schema versions that only added fields: 3 and 4."""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from al_charge.store.documents import DOCUMENTS
from al_charge.store.schema import create_collections

ADDED: dict[str, dict[str, Any]] = {
    "candidates": {"drifted": None},
    "models": {"start": "", "predictions_file": None},
}
"""New fields by collection, with what they say of documents that were written without them."""


def to_version_3(database: Database[dict[str, Any]]) -> None:
    """Candidates tell of charge states in doubt, models how they began; safe to repeat."""
    add_fields(database, 3)


def to_version_4(database: Database[dict[str, Any]]) -> None:
    """Models keep what they say of labels; safe to repeat."""
    add_fields(database, 4)


def add_fields(database: Database[dict[str, Any]], version: int) -> None:
    """Bring documents from the version before; every field that they lack is added."""
    # The validators of earlier versions refuse new fields, the present ones want all of them.
    create_collections(database)
    for document in DOCUMENTS:
        fields = ADDED.get(document.collection, {})
        changes = {name: {"$ifNull": [f"${name}", missing]} for name, missing in fields.items()}
        database[document.collection].update_many(
            {"schema_version": version - 1}, [{"$set": {"schema_version": version, **changes}}]
        )
