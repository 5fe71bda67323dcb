"""Restoring a backup into an empty database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.write_concern import WriteConcern

from al_charge.errors import AlChargeError, InputError
from al_charge.store.backup.archive import Archive
from al_charge.store.backup.contents import LEFT_OUT
from al_charge.store.backup.make import Progress, split_documents
from al_charge.store.backup.manifest import CollectionEntry, Digest, Manifest
from al_charge.store.documents import CampaignDoc
from al_charge.store.fields import now
from al_charge.store.migrations import RESTORE_ID, RESTORED_ID, SCHEMA, refuse_newer
from al_charge.store.schema import create_collections, create_task_indexes

Stored = dict[str, Any]
Confirm = Callable[[list[tuple[str, str]]], None]
"""Called with campaigns and what they start, one command line at a time."""

BATCH_SIZE = 8 * 1024**2
"""Bytes that are sent to the server together, unless one document is larger."""

_DUPLICATE_KEY = 11000
_ALWAYS_THERE = frozenset({SCHEMA, "fw_id_assigner", "workers", "claims"})
"""Collections in which the first command that looks at a database leaves something."""


def restore(
    database: Database[Stored], path: Path, progress: Progress, confirm: Confirm
) -> Manifest:
    """Write what a backup holds into an empty database, and compare the two.

    The whole file is checked before anything is written. A restore that was killed is completed by
    another one of the same file; until then no command uses the database. Of the archive come
    documents alone: validators and indexes are those of this code, whatever the file says.

    Parameters
    ----------
    database
        The database.
    path
        The backup.
    progress
        Called with the progress of each collection.
    confirm
        Called with the programs that the campaigns start, if there are any, before anything is
        written; it raises an error where the user does not want them.

    Returns
    -------
    Manifest
        What the backup holds.

    Raises
    ------
    InputError
        If the file is damaged or newer than this code, or the database is not empty.
    AlChargeError
        If the database holds something else afterwards.
    """
    database = database.with_options(write_concern=WriteConcern(w="majority", j=True))
    with Archive(path) as archive:
        refuse_newer(archive.manifest.schema_version, str(path))
        for entry in archive.manifest.collections:
            progress(f"checking {entry.name}", 0, entry.documents)
            archive.check(entry)
            progress(f"checking {entry.name}", entry.documents, entry.documents)
            if entry.name in LEFT_OUT and entry.documents:
                raise InputError(
                    f"it holds {entry.name}, which no backup does",
                    where=str(path),
                    remedy="take another backup",
                )
        if programs := _programs(archive):
            confirm(programs)
        _claim(database, archive)
        create_collections(database)
        create_task_indexes(database)
        for entry in archive.manifest.collections:
            _write(database, archive, entry, progress)
        for entry in archive.manifest.collections:
            _compare(database, entry, path)
    note = {"archive": archive.identity, "at": now()}
    database[SCHEMA].replace_one({"_id": RESTORED_ID}, note, upsert=True)
    database[SCHEMA].delete_one({"_id": RESTORE_ID})
    return archive.manifest


def _programs(archive: Archive) -> list[tuple[str, str]]:
    """Return every command line of the campaigns, each with the campaign's name."""
    found: list[tuple[str, str]] = []
    for entry in archive.manifest.collections:
        if entry.name == CampaignDoc.collection:
            for raw in archive.documents(entry):
                document = bson.decode(raw)
                texts = _commands(document.get("spec", {}))
                found += [(str(document["_id"]), text) for text in dict.fromkeys(texts)]
    return found


def _commands(part: Any) -> Iterator[str]:
    """Yield what stands in fields called ``command`` or the like, as in a labeler's settings."""
    if isinstance(part, dict):
        for name, value in part.items():
            if "command" in str(name) and value is not None:
                yield str(value)
            else:
                yield from _commands(value)
    elif isinstance(part, list):
        for value in part:
            yield from _commands(value)


def _claim(database: Database[Stored], archive: Archive) -> None:
    """Mark an empty database as being restored.

    Raises
    ------
    InputError
        If it is not empty, or another backup is being restored into it.
    """
    where = f"database '{database.name}'"
    marker = {"_id": RESTORE_ID, "archive": archive.identity, "started": now()}
    begun = database[SCHEMA].find_one({"_id": RESTORE_ID})
    if begun is None:
        _empty(database, where)
        try:
            database[SCHEMA].insert_one(marker)
        except DuplicateKeyError:
            begun = database[SCHEMA].find_one({"_id": RESTORE_ID})
    if begun is not None and begun["archive"] != archive.identity:
        raise InputError(
            f"another backup is being restored into it since {begun['started']:%Y-%m-%d %H:%M} UTC",
            where=where,
            remedy="restore that one again if it was interrupted, or name another database",
        )


def _empty(database: Database[Stored], where: str) -> None:
    """Drop what is there without anything in it; refuse a database with contents."""
    names = [one["name"] for one in database.list_collections(filter={"type": "collection"})]
    for name in names:
        if name not in _ALWAYS_THERE and database[name].find_one({}, {"_id": 1}) is not None:
            raise InputError(
                f"it is not empty: there is something in '{name}'",
                where=where,
                remedy="name another one with --database, or set AL_CHARGE_HOME to a new folder",
            )
    for name in names:
        database.drop_collection(name)


def _write(
    database: Database[Stored], archive: Archive, entry: CollectionEntry, progress: Progress
) -> None:
    collection = database[entry.name]
    progress(entry.name, 0, entry.documents)
    done = 0
    for batch in _batches(archive.documents(entry)):
        _insert(collection, batch)
        done += len(batch)
        progress(entry.name, done, entry.documents)


def _insert(collection: Collection[Stored], batch: list[bytes]) -> None:
    """Insert documents, apart from those that an earlier restore has inserted."""
    documents: Any = [RawBSONDocument(raw) for raw in batch]
    try:
        # A database that was being migrated holds documents of two versions.
        collection.insert_many(documents, ordered=False, bypass_document_validation=True)
    except BulkWriteError as error:
        if any(one["code"] != _DUPLICATE_KEY for one in error.details["writeErrors"]):
            raise


def _batches(documents: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for raw in documents:
        if batch and size + len(raw) > BATCH_SIZE:
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield batch


def _compare(database: Database[Stored], entry: CollectionEntry, path: Path) -> None:
    found = Digest()
    ours = {"_id": {"$ne": RESTORE_ID}} if entry.name == SCHEMA else {}
    for batch in database[entry.name].find_raw_batches(ours):
        for raw in split_documents(batch):
            found.add(raw)
    if (found.documents, found.sha256) != (entry.documents, entry.sha256):
        raise AlChargeError(
            f"'{entry.name}' has {found.documents} documents that are not the "
            f"{entry.documents} of the backup",
            where=f"database '{database.name}'",
            remedy=f"drop it and restore {path} again while nobody else writes",
        )
