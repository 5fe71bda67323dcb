"""What the parts of the store share: the database, and writing a document once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import gridfs
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from gridfs.errors import NoFile
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from al_charge.errors import AlChargeError, DamagedError
from al_charge.store.checksums import (
    FIELD,
    OWN,
    document_checksum,
    file_checksum,
    with_checksum,
)
from al_charge.store.documents import Document

KEYS_AT_ONCE = 1000
"""Keys in one query."""

Stored = dict[str, Any]
D = TypeVar("D", bound=Document)

_log = logging.getLogger("al_charge.store")


class StorePart:
    """One part of a store; it keeps nothing but its access to the database.

    Parameters
    ----------
    database
        Any database; whatever its own options are, writes are acknowledged by the journal.
    """

    def __init__(self, database: Database[Stored]) -> None:
        self.database: Database[Stored] = database.with_options(
            codec_options=CodecOptions(document_class=dict, tz_aware=True),
            write_concern=WriteConcern(w="majority", j=True),
        )
        self._weights = gridfs.GridFS(self.database, collection="weights")
        self._frames = gridfs.GridFS(self.database, collection="frames")

    def _collection(self, document: type[Document]) -> Collection[Stored]:
        return self.database[document.collection]

    def _insert_once(self, document: Document, files: Mapping[str, str] | None = None) -> bool:
        """Insert a document, with its files' checksums, unless its id is taken; say whether."""
        try:
            self._collection(type(document)).insert_one(document.to_mongo(files))
        except DuplicateKeyError:
            return False
        return True

    def _change(
        self,
        document: type[Document],
        doc_id: str,
        change: Callable[[Stored], Stored],
        files: Mapping[str, str] | None = None,
    ) -> Stored | None:
        """Change fields of a document together with its checksum.

        ``change`` is given the document and returns whole fields of it, none where nothing is to be
        done; it is called again where another process was faster. Returns the document as it is
        then, None if there is none.

        Raises
        ------
        DamagedError
            If it does not fit its checksum.
        """
        collection = self._collection(document)
        while (stored := collection.find_one({"_id": doc_id})) is not None:
            seal = _intact(document.collection, stored)
            fields = change(stored)
            if not fields:
                return stored
            known = stored[FIELD] | (files or {})
            changed = with_checksum(document.collection, stored | fields, known)
            query = {"_id": doc_id, f"{FIELD}.{OWN}": seal}
            update = {"$set": fields | {FIELD: changed[FIELD]}}
            if collection.update_one(query, update).matched_count:
                return changed
        return None

    def _note(
        self, document: type[Document], doc_id: str, change: Callable[[Stored], Stored]
    ) -> None:
        """Do as `_change` does where nobody may wait for it; what is damaged stays as it is."""
        try:
            self._change(document, doc_id, change)
        except DamagedError as error:
            _log.info("%s", error)

    def _put_file(self, bucket: str, content: bytes, name: str) -> tuple[str, str]:
        """Store a file in GridFS; return its id and its checksum.

        It stays, even if no document comes to name it: workers may not delete files.
        """
        file_id = gridfs.GridFS(self.database, collection=bucket).put(content, filename=name)
        return str(file_id), self._checksum_of_file(bucket, str(file_id), content)

    def _checksum_of_file(self, bucket: str, file_id: str, content: bytes) -> str:
        entry = self.database[f"{bucket}.files"].find_one({"_id": ObjectId(file_id)})
        return file_checksum(entry or {}, (content,))

    def _get(self, document: type[D], doc_id: str) -> D | None:
        stored = self._collection(document).find_one({"_id": doc_id})
        return None if stored is None else document.from_mongo(stored)

    def _find(self, document: type[D], query: Stored, *order: str) -> list[D]:
        """Return the documents that match, sorted by fields."""
        found = self._collection(document).find(query, sort=order or None)
        return [document.from_mongo(stored) for stored in found]


def _intact(collection: str, stored: Stored) -> str:
    """Return the checksum of a document, unless somebody else has changed it.

    Raises
    ------
    DamagedError
        If it does not fit: a new one would hide that.
    """
    checksums = stored.get(FIELD)
    seal = checksums.get(OWN) if isinstance(checksums, dict) else None
    if seal is None or seal != document_checksum(collection, stored):
        raise DamagedError(
            "it was changed in the database by something else",
            where=f"{collection.removesuffix('s')} '{stored['_id']}'",
            remedy="'al-charge doctor --deep' lists all damage, with its cure",
        )
    return str(seal)


def portions(keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield keys in lists that are short enough for one query each.

    Parameters
    ----------
    keys
        All keys.

    Yields
    ------
    list of str
        At most `KEYS_AT_ONCE` keys, in order.
    """
    for start in range(0, len(keys), KEYS_AT_ONCE):
        yield list(keys[start : start + KEYS_AT_ONCE])


def read_file(files: gridfs.GridFS, file_id: str, where: str) -> bytes:
    """Return the bytes of a file in GridFS.

    Parameters
    ----------
    files
        The collection of files.
    file_id
        Id of the file.
    where
        What the file belongs to, for the message.

    Returns
    -------
    bytes
        The whole content.

    Raises
    ------
    AlChargeError
        If the file is missing or incomplete.
    """
    try:
        return bytes(files.get(ObjectId(file_id)).read())
    except (NoFile, gridfs.errors.CorruptGridFile) as error:
        raise AlChargeError(
            "its data in GridFS is missing or incomplete",
            where=where,
            remedy="restore the database from a backup",
        ) from error
