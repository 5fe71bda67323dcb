"""The manifest of a backup, which is checked before it is used."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from al_charge.store.schema import COLLECTIONS

_NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,119}$"
_SHA256 = r"^[0-9a-f]{64}$"
_MODULUS = 2**256
MOST = 100
"""Collections, indexes of one, and fields of an index: what has more is not read to its end."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Index(_Part):
    """An index of a collection, in MongoDB's words; told, and never made from what is told."""

    name: str
    key: list[tuple[str, int | str]] = Field(min_length=1, max_length=MOST)
    unique: bool | None = None
    sparse: bool | None = None
    expireAfterSeconds: int | None = None  # noqa: N815


class CollectionEntry(_Part):
    """A collection of the backup.

    Attributes
    ----------
    validator, indexes
        Its ``$jsonSchema``, None where it has none, and its indexes: what whoever reads the file
        without al-charge needs to know. A restore makes those of al-charge.
    documents, size, sha256
        Those of `Digest`.
    """

    name: str = Field(pattern=_NAME)
    validator: dict[str, Any] | None = None
    indexes: list[Index] = Field(max_length=MOST)
    documents: int = Field(ge=0)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256)

    @field_validator("name")
    @classmethod
    def _not_the_servers(cls, name: str) -> str:
        if name.startswith("system."):
            raise ValueError("a collection of the server itself")
        if name not in COLLECTIONS:
            raise ValueError("no collection of al-charge")
        return name

    @field_validator("validator")
    @classmethod
    def _schema_only(cls, validator: dict[str, Any] | None) -> dict[str, Any] | None:
        if validator is not None and validator.keys() != {"$jsonSchema"}:
            raise ValueError("a validator may be a $jsonSchema only")
        return validator


class Manifest(_Part):
    """What a backup holds, when and by what it was made; collections in the order of reading.

    Attributes
    ----------
    format
        Version of the file's layout.
    started, finished
        Time of the server, UTC.
    al_charge, mongodb
        Versions of the program that made it and of the server.
    """

    format: Literal[1]
    database: str
    schema_version: int = Field(ge=1)
    al_charge: str
    mongodb: str
    started: AwareDatetime
    finished: AwareDatetime
    collections: list[CollectionEntry] = Field(max_length=MOST)

    @field_validator("collections")
    @classmethod
    def _once_each(cls, collections: list[CollectionEntry]) -> list[CollectionEntry]:
        if len({entry.name for entry in collections}) < len(collections):
            raise ValueError("a collection is there twice")
        return collections

    @property
    def documents(self) -> int:
        """How many documents there are in all."""
        return sum(entry.documents for entry in self.collections)

    @property
    def size(self) -> int:
        """Size of all documents, in bytes of BSON."""
        return sum(entry.size for entry in self.collections)


class Digest:
    """Number, size and hash of documents, whatever their order, in constant memory.

    The hash is the sum of the SHA-256 of every document's bytes, modulo 2**256: servers give
    documents back in an order of their own.

    Attributes
    ----------
    documents
        How many were added.
    size
        Their size in bytes.
    """

    def __init__(self) -> None:
        self.documents = 0
        self.size = 0
        self._sum = 0

    def add(self, raw: bytes) -> None:
        """Add one document.

        Parameters
        ----------
        raw
            The document as BSON.
        """
        self.documents += 1
        self.size += len(raw)
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(raw).digest())) % _MODULUS

    @property
    def sha256(self) -> str:
        """The hash in 64 hexadecimal digits."""
        return f"{self._sum:064x}"
