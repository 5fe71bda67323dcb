"""How stored documents and files are hashed, so that `al-charge doctor` finds what was changed.

Every document has a field ``checksums``: ``document``, of all the rest of it, and one for each file
in GridFS that it names. Whoever may write a document can write a checksum that fits: against that
there are the roles of the database. What is found here are disks, copies and people's mistakes.

docs/decisions/0130-checksums.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError

FIELD = "checksums"
OWN = "document"
"""The document's own entry among its checksums."""

_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(document_class=dict, tz_aware=True)
_LENIENT: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict, tz_aware=True, unicode_decode_error_handler="replace"
)


def document_checksum(collection: str, stored: Mapping[str, Any]) -> str:
    """Return the checksum of a document.

    Parameters
    ----------
    collection
        Name of its collection.
    stored
        Its fields, ``_id`` included, in any order. Its own checksum is left out.

    Returns
    -------
    str
        SHA-256 of its BSON with the fields sorted by name, hexadecimal: floats count bit by bit.
    """
    others = {name: one for name, one in stored.get(FIELD, {}).items() if name != OWN}
    content = dict(sorted((dict(stored) | {FIELD: others}).items()))
    return hashlib.sha256(collection.encode() + b"\0" + bson.encode(content)).hexdigest()


def with_checksum(
    collection: str, stored: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a document with its checksums, as it is to be stored.

    Parameters
    ----------
    collection
        Name of its collection.
    stored
        Its fields.
    files
        Checksums of the files that it names, by what they hold; None for those that it has.

    Returns
    -------
    dict
        The document.
    """
    known = stored.get(FIELD, {}) if files is None else files
    others = {name: one for name, one in known.items() if name != OWN}
    content = dict(stored) | {FIELD: others}
    return content | {FIELD: others | {OWN: document_checksum(collection, content)}}


def file_checksum(entry: Mapping[str, Any], pieces: Iterable[bytes]) -> str:
    """Return the checksum of a file in GridFS.

    Parameters
    ----------
    entry
        Its document among the bucket's files.
    pieces
        Its content.

    Returns
    -------
    str
        SHA-256 of both, hexadecimal.
    """
    digest = hashlib.sha256(bson.encode(dict(sorted(entry.items()))))
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def decoded(raw: bytes) -> dict[str, Any]:
    """Return a document that is exactly what its bytes say.

    Parameters
    ----------
    raw
        The document as the server keeps it.

    Returns
    -------
    dict
        Its fields.

    Raises
    ------
    ValueError
        If the bytes are not what any program would have written for these fields.
    """
    try:
        stored = bson.decode(raw, _OPTIONS)
    except (BSONError, ValueError, OverflowError) as error:
        raise ValueError("it cannot be decoded") from error
    if bson.encode(stored) != raw:
        raise ValueError("its encoding is damaged")
    return stored


def id_of(raw: bytes) -> object:
    """Return the ``_id`` of a document that perhaps cannot be decoded.

    Parameters
    ----------
    raw
        The document as the server keeps it.

    Returns
    -------
    object
        Its ``_id``; ``?`` where even that cannot be read.
    """
    try:
        return bson.decode(raw, _LENIENT).get("_id", "?")
    except (BSONError, ValueError, OverflowError):
        return "?"


def fault_of(collection: str, raw: bytes) -> str:
    """Return what is wrong with a stored document.

    Parameters
    ----------
    collection
        Name of its collection.
    raw
        The document as the server keeps it.

    Returns
    -------
    str
        In a few words; empty if it is what was written.
    """
    try:
        stored = decoded(raw)
    except ValueError as error:
        return str(error)
    checksums = stored.get(FIELD)
    if not isinstance(checksums, dict) or not checksums.get(OWN):
        return "it has no checksum"
    if checksums[OWN] != document_checksum(collection, stored):
        return "it is not what was written: its checksum differs"
    return ""
