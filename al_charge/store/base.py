"""What the parts of the store share: the database, and writing a document once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import gridfs
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from gridfs.errors import NoFile
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.write_concern import WriteConcern

from al_charge.errors import AlChargeError
from al_charge.store.documents import Document

KEYS_AT_ONCE = 1000
"""Keys in one query."""

Stored = dict[str, Any]
D = TypeVar("D", bound=Document)


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

    def _insert_once(self, document: Document) -> bool:
        """Insert a document unless its id is taken; say whether it was inserted."""
        try:
            self._collection(type(document)).insert_one(document.to_mongo())
        except DuplicateKeyError:
            return False
        return True

    def _get(self, document: type[D], doc_id: str) -> D | None:
        stored = self._collection(document).find_one({"_id": doc_id})
        return None if stored is None else document.from_mongo(stored)

    def _find(self, document: type[D], query: Stored, *order: str) -> list[D]:
        """Return the documents that match, sorted by fields."""
        found = self._collection(document).find(query, sort=order or None)
        return [document.from_mongo(stored) for stored in found]


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
