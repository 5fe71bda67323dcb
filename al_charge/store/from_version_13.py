"""Migration to schema version 14: every document has checksums."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from bson.errors import InvalidId
from bson.objectid import ObjectId
from pymongo import UpdateOne
from pymongo.database import Database

from al_charge.store.checksums import FIELD, file_checksum, with_checksum
from al_charge.store.documents import DOCUMENTS, Document
from al_charge.store.files import NAMED_FILES
from al_charge.store.schema import create_collections

_AT_ONCE = 200
"""Documents in one write."""


def to_version_14(database: Database[dict[str, Any]]) -> None:
    """Add checksums of documents and files as they are now; safe to repeat.

    Parameters
    ----------
    database
        Of version 13.
    """
    create_collections(database)
    for document in DOCUMENTS:
        changes = _changes(database, document)
        while some := list(islice(changes, _AT_ONCE)):
            database[document.collection].bulk_write(
                some, ordered=False, bypass_document_validation=True
            )


def _changes(database: Database[dict[str, Any]], document: type[Document]) -> Iterator[UpdateOne]:
    for stored in database[document.collection].find({"schema_version": 13}):
        new = stored | {"schema_version": 14}
        checksums = with_checksum(document.collection, new, _files(database, document, stored))
        changed = {"schema_version": 14, FIELD: checksums[FIELD]}
        yield UpdateOne({"_id": stored["_id"]}, {"$set": changed})


def _files(
    database: Database[dict[str, Any]], document: type[Document], stored: dict[str, Any]
) -> dict[str, str]:
    """Return the checksums of the files that a document names, as far as they are there."""
    found = {}
    for named in NAMED_FILES:
        file_id = named.in_document(stored) if named.document is document else None
        try:
            query = {"_id": ObjectId(str(file_id))}
        except InvalidId:
            continue
        entry = database[f"{named.bucket}.files"].find_one(query)
        if entry is not None:
            pieces = database[f"{named.bucket}.chunks"].find({"files_id": entry["_id"]}, sort=["n"])
            found[named.content] = file_checksum(entry, (piece["data"] for piece in pieces))
    return found
