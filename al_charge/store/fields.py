"""What documents of the database are made of.

Numbers are in the package's units (eV, angstrom, seconds); arrays are nested lists, and NumPy
arrays are accepted in their place. NaN and infinite values are refused.
"""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from al_charge.errors import DamagedError
from al_charge.store.checksums import FIELD, with_checksum

SCHEMA_VERSION = 14
"""Version of every document's layout and of the database as a whole."""

_URI_WITH_PASSWORD = re.compile(r"mongodb(\+srv)?://[^/?#@\s:]*:[^/?#\s]*@")


def now() -> datetime:
    """Return the present time.

    Returns
    -------
    datetime
        In UTC, rounded down to milliseconds as MongoDB keeps it.
    """
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def uri_has_password(text: str) -> bool:
    """Tell whether a text contains a MongoDB URI with a password in it.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    bool
        Whether there is one.
    """
    return _URI_WITH_PASSWORD.search(text) is not None


def _to_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def all_strings(value: Any) -> Iterator[str]:
    """Yield every string in nested dictionaries and lists, keys included.

    Parameters
    ----------
    value
        Nested data.

    Yields
    ------
    str
        Each string.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from all_strings(key)
            yield from all_strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from all_strings(item)


def plain(value: Any) -> Any:
    """Return nested data with NumPy arrays and tuples as lists and fractions as text.

    Parameters
    ----------
    value
        Nested data.

    Returns
    -------
    object
        The same as JSON has it.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _exact(_to_list(value))


def _exact(value: Any) -> Any:
    return str(value) if isinstance(value, Fraction) else value


Integers = Annotated[list[int], BeforeValidator(_to_list)]
Floats = Annotated[list[float], BeforeValidator(_to_list)]
Vectors = Annotated[list[list[float]], BeforeValidator(_to_list)]
Tokens = Annotated[list[str], BeforeValidator(_to_list)]
Number = Annotated[float, BeforeValidator(_to_list)]
Mapping = Annotated[dict[str, Any], BeforeValidator(plain)]
"""Free data, as JSON knows it."""
Composition = Annotated[str, BeforeValidator(_exact)]
"""An exact fraction, written like ``2/3``."""


class Part(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Document(Part):
    """A document with its schema version; ``doc_id`` becomes its ``_id``."""

    collection: ClassVar[str]

    schema_version: int = SCHEMA_VERSION

    @property
    def doc_id(self) -> str:
        """The identity of the document within its collection.

        Raises
        ------
        NotImplementedError
            If a kind of document does not define its own.
        """
        raise NotImplementedError

    def to_mongo(self, files: abc.Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return the document as it is stored.

        Parameters
        ----------
        files
            Checksums of the files in GridFS that it names, by what they hold.

        Returns
        -------
        dict
            Its fields, ``_id`` and checksums.
        """
        stored = {"_id": self.doc_id, **self.model_dump()}
        return with_checksum(self.collection, stored, files or {})

    @classmethod
    def from_mongo(cls, stored: dict[str, Any]) -> Self:
        """Read a stored document.

        Parameters
        ----------
        stored
            Its fields, with or without ``_id``.

        Returns
        -------
        Document
            The document.

        Raises
        ------
        DamagedError
            If it is damaged: what was written can be read.
        """
        try:
            return cls.model_validate(
                {name: stored[name] for name in stored if name not in ("_id", FIELD)}
            )
        except ValidationError as error:
            fault = error.errors()[0]
            field = ".".join(str(part) for part in fault["loc"]) or "document"
            raise DamagedError(
                f"it is damaged in the database, its {field}: {fault['msg']}",
                where=f"{cls.collection.removesuffix('s')} '{stored.get('_id', '?')}'",
                remedy="'al-charge doctor --deep' lists all damage",
            ) from error

    @model_validator(mode="before")
    @classmethod
    def _leave_out_computed(cls, stored: Any) -> Any:
        """Drop what was written along with the fields and follows from them."""
        if isinstance(stored, dict):
            return {name: stored[name] for name in stored if name not in cls.model_computed_fields}
        return stored
