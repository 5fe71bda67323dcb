"""Making a backup of a database, while workers write to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from al_charge.errors import AlChargeError, InputError
from al_charge.store.backup.archive import ArchiveWriter
from al_charge.store.backup.contents import ORDER, Contents, in_order
from al_charge.store.backup.manifest import CollectionEntry, Digest, Index, Manifest
from al_charge.store.backup.new_file import new_file, remove_stale_parts
from al_charge.store.migrations import RESTORE_ID, refuse_newer, refuse_unfinished, stored_version
from al_charge.store.schema import COLLECTIONS

_log = logging.getLogger("al_charge.store")

Stored = dict[str, Any]
Progress = Callable[[str, int, int], None]
"""Called with a collection, how many of its documents are done, and about how many there are."""

SUFFIX = ".zip"

_SERVERS_OWN = ("v", "ns", "background")
"""Fields of an index that the server adds itself."""
_STAMP = "%Y%m%dT%H%M%SZ"
_STAMPED = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z"


def make_backup(database: Database[Stored], path: Path, progress: Progress) -> Manifest:
    """Write everything that a database holds into one new file.

    Workers may go on meanwhile. The file is complete or absent, and for its owner only.

    Parameters
    ----------
    database
        The database.
    path
        The file; it must not exist.
    progress
        Called with the progress of each collection.

    Returns
    -------
    Manifest
        What the file holds.

    Raises
    ------
    InputError
        If there is nothing to back up, the file exists, or it cannot be written.
    AlChargeError
        If the database was migrated meanwhile.
    """
    database = database.with_options(read_concern=ReadConcern("majority"))
    version = _version_to_copy(database)
    started, mongodb = _server(database)
    with new_file(path) as file, ArchiveWriter(file) as archive:
        collections = list(_copy(database, archive, progress))
        if stored_version(database) != version:
            raise AlChargeError(
                "its schema was migrated meanwhile", where=str(path), remedy="make it again"
            )
        manifest = Manifest(
            format=1,
            database=database.name,
            schema_version=version,
            al_charge=metadata.version("al-charge"),
            mongodb=mongodb,
            started=started,
            finished=_server(database)[0],
            collections=collections,
        )
        archive.finish(manifest)
    return manifest


def dated_file(folder: Path, name: str) -> Path:
    """Return a new file name for a backup, with the present time in it.

    Parameters
    ----------
    folder
        Folder of the backups.
    name
        Name of the database.

    Returns
    -------
    pathlib.Path
        A file that does not exist.
    """
    while (dated := folder / f"{name}-{datetime.now(UTC).strftime(_STAMP)}{SUFFIX}").exists():
        time.sleep(0.1)  # another one was made in this second
    return dated


def keep_newest(folder: Path, name: str, number: int) -> list[Path]:
    """Delete all but the newest backups of a database that have their time in their name.

    Parameters
    ----------
    folder
        Folder of the backups.
    name
        Name of the database.
    number
        How many to keep, 1 at least.

    Returns
    -------
    list of pathlib.Path
        What was deleted.
    """
    pattern = f"{name}-{_STAMPED}{SUFFIX}"
    remove_stale_parts(folder, pattern)
    old = sorted(path for path in folder.glob(pattern) if path.is_file())[:-number]
    for path in old:
        path.unlink()
    return old


def needed_space(database: Database[Stored]) -> int:
    """Return how many bytes a backup takes at most.

    Parameters
    ----------
    database
        The database.

    Returns
    -------
    int
        Size of its documents.
    """
    return int(database.command("dbStats")["dataSize"])


def _version_to_copy(database: Database[Stored]) -> int:
    """Return the schema version of a database that can be copied."""
    version = stored_version(database)
    if version == 0:
        raise InputError(
            "there is nothing to back up",
            where=f"database '{database.name}'",
            remedy="name the database with --database or AL_CHARGE_DATABASE",
        )
    refuse_newer(version, f"database '{database.name}'")
    refuse_unfinished(database, RESTORE_ID)
    return version


def _server(database: Database[Stored]) -> tuple[datetime, str]:
    """Return time and version of the server."""
    hello = database.command("hello")
    return hello["localTime"].replace(tzinfo=UTC), str(database.command("buildInfo")["version"])


def _copy(
    database: Database[Stored], archive: ArchiveWriter, progress: Progress
) -> Iterator[CollectionEntry]:
    found = {
        one["name"]: one["options"].get("validator")
        for one in database.list_collections(filter={"type": "collection"})
        if not one["name"].startswith("system.")
    }
    if foreign := sorted(found.keys() - COLLECTIONS):
        _log.warning("no part of al-charge, and not in the backup: %s", ", ".join(foreign))
    contents = Contents()
    for number, name in enumerate(in_order(found.keys() & COLLECTIONS)):
        indexes = [one for one in database[name].list_indexes() if one["name"] != "_id_"]
        with archive.stream(number) as stream:
            digest = _copy_documents(database[name], contents, stream, progress)
        yield _entry(name, found[name], indexes, digest)


def _entry(
    name: str, validator: Stored | None, indexes: Sequence[Mapping[str, Any]], digest: Digest
) -> CollectionEntry:
    """Return what the manifest says of a collection.

    Raises
    ------
    InputError
        If it could not be restored as it is.
    """
    try:
        return CollectionEntry(
            name=name,
            validator=validator,
            indexes=[_index(index) for index in indexes],
            documents=digest.documents,
            size=digest.size,
            sha256=digest.sha256,
        )
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(
            f"a backup cannot hold its {field}: {error.errors()[0]['msg']}",
            where=f"collection '{name}'",
            remedy="it is not part of al-charge; move it to another database",
        ) from error


def _copy_documents(
    collection: Collection[Stored], contents: Contents, stream: BinaryIO, progress: Progress
) -> Digest:
    digest, name = Digest(), collection.name
    about = collection.estimated_document_count()
    progress(name, 0, about)
    for query in contents.queries(name):
        for batch in collection.find_raw_batches(query, sort=ORDER.get(name)):
            for raw in split_documents(batch):
                stream.write(raw)
                digest.add(raw)
                contents.add(name, raw)
            progress(name, digest.documents, about)
    return digest


def split_documents(batch: bytes) -> Iterator[bytes]:
    """Split a batch, as the server sends it, into documents.

    Parameters
    ----------
    batch
        Documents as BSON, one after the other.

    Yields
    ------
    bytes
        Each document as BSON.
    """
    start = 0
    while start < len(batch):
        end = start + int.from_bytes(batch[start : start + 4], "little")
        yield batch[start:end]
        start = end


def _index(stored: Mapping[str, Any]) -> Index:
    given = {name: value for name, value in stored.items() if name not in _SERVERS_OWN}
    return Index(**(given | {"key": list(stored["key"].items())}))
