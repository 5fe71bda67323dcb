"""The file of a backup: a zip archive with one stream of BSON per collection, and a manifest.

Members are called by their number. No name in an archive is ever used as a path.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from pydantic import ValidationError

from al_charge.crystal.bounded import limited
from al_charge.errors import InputError
from al_charge.store.backup.manifest import CollectionEntry, Digest, Manifest

LARGEST_DOCUMENT = 16 * 1024**2 + 16 * 1024
"""Bytes; MongoDB's limit with what the server itself may add."""
LARGEST_MANIFEST = 16 * 1024**2
"""Bytes."""

HARMLESS = 2**30
"""Bytes that any archive may unpack to."""
LARGEST_RATIO = 100
"""How many times its size a larger one may: labels and weights shrink to a half or a tenth."""

LONGEST_LIST = 2**20
"""Bytes; a list of the members, of which there are some thirty."""

_SIZE_OF_LIST = 5
"""Its place in what zipfile reads of the end of a file."""
_MANIFEST = "manifest.json"
_SMALLEST_DOCUMENT = 5
# Any date may be in a document, those included that Python cannot hold.
_OPTIONS: CodecOptions[dict[str, object]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
# What zipfile, zlib and bson raise for a file that is not theirs or was changed.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    struct.error,
    BSONError,
)


class ArchiveWriter:
    """Writes the streams of an archive, then its manifest.

    Parameters
    ----------
    file
        The file, open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        # The fastest level: weights hardly shrink, and labels do at any level.
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write the table of contents."""
        self._zip.close()

    @contextmanager
    def stream(self, number: int) -> Iterator[BinaryIO]:
        """Open the stream of one collection.

        Parameters
        ----------
        number
            Position of the collection in the manifest.

        Yields
        ------
        file
            Takes documents as BSON, one after the other.
        """
        with self._zip.open(_member(number), "w", force_zip64=True) as stream:
            yield stream  # type: ignore[misc]

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest.

        Parameters
        ----------
        manifest
            What the archive holds.
        """
        self._zip.writestr(_MANIFEST, manifest.model_dump_json(exclude_none=True))


class Archive:
    """Reads an archive; whatever is wrong with it is reported in one line.

    Parameters
    ----------
    path
        The file.

    Attributes
    ----------
    manifest
        What it says of itself.
    identity
        Hash of the manifest, which holds the hashes of all the rest.
    """

    def __init__(self, path: Path) -> None:
        self._where = str(path)
        self._path = path
        with self._readable(), limited(path):
            _refuse_long_list(path)
            self._zip = zipfile.ZipFile(path)
        try:
            with self._readable(), limited(path):
                _refuse_foreign(self._zip)
                content = self._manifest_content()
                self.manifest = Manifest.model_validate_json(content)
                self.identity = hashlib.sha256(content).hexdigest()
            self._refuse_bomb(path.stat().st_size)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._zip.close()

    def documents(self, entry: CollectionEntry) -> Iterator[bytes]:
        """Yield the documents of a collection.

        Parameters
        ----------
        entry
            The collection, as the manifest describes it.

        Yields
        ------
        bytes
            Each document as BSON.

        Raises
        ------
        InputError
            If the stream is damaged.
        """
        number = self.manifest.collections.index(entry)
        with self._readable(), self._zip.open(_member(number)) as stream:
            for _ in range(entry.documents):
                head = stream.read(4)
                size = int.from_bytes(head, "little", signed=True)
                if not _SMALLEST_DOCUMENT <= size <= LARGEST_DOCUMENT:
                    raise zipfile.BadZipFile("no document there")
                raw = head + stream.read(size - len(head))
                if len(raw) != size:
                    raise zipfile.BadZipFile("a document is cut off")
                yield raw
            if stream.read(1):
                raise zipfile.BadZipFile("more documents than the manifest says")

    def check(self, entry: CollectionEntry) -> None:
        """Read a collection and compare it with what the manifest says.

        Parameters
        ----------
        entry
            The collection, as the manifest describes it.

        Raises
        ------
        InputError
            If it is not what was backed up.
        """
        found = Digest()
        with self._readable(), limited(self._path):
            for raw in self.documents(entry):
                found.add(raw)
                if found.size > entry.size:
                    raise zipfile.BadZipFile("more bytes than the manifest says")
                if "_id" not in bson.decode(raw, codec_options=_OPTIONS):
                    raise zipfile.BadZipFile("a document without an _id")
        if (found.size, found.sha256) != (entry.size, entry.sha256):
            raise self._damaged()

    def _refuse_bomb(self, size: int) -> None:
        """Refuse a file that says it is far larger inside than documents can be."""
        inside = self.manifest.size
        if inside > max(HARMLESS, LARGEST_RATIO * size):
            raise InputError(
                f"it unpacks to {inside / 1e9:.1f} GB, {inside // size} times its size, "
                "as no backup of al-charge does",
                where=self._where,
                remedy="take another backup",
            )

    def _manifest_content(self) -> bytes:
        with self._zip.open(_MANIFEST) as stream:
            content = stream.read(LARGEST_MANIFEST + 1)
        if len(content) > LARGEST_MANIFEST:
            raise ValueError("the manifest is too long")
        return content

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise InputError(
                f"this al-charge cannot read it as a backup: manifest: {field}: {first['msg']}",
                where=self._where,
                remedy="update al-charge if a newer one has made it",
            ) from error
        except _DAMAGED as error:
            raise self._damaged() from error
        except OSError as error:
            raise InputError(f"cannot read it: {error.strerror}", where=self._where) from error

    def _damaged(self) -> InputError:
        return InputError(
            "it is damaged, truncated, or not a backup of al-charge",
            where=self._where,
            remedy="nothing was restored; take another backup",
        )


def _refuse_long_list(path: Path) -> None:
    """Refuse a file whose list of members is longer than any of ours, before it is read."""
    with path.open("rb") as file:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None or end[_SIZE_OF_LIST] > LONGEST_LIST:
        raise zipfile.BadZipFile("no list of members, or a long one")


def _refuse_foreign(archive: zipfile.ZipFile) -> None:
    """Refuse ways of packing that ask for as much memory as they like, and that we do not use."""
    ours = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if any(member.compress_type not in ours for member in archive.infolist()):
        raise zipfile.BadZipFile("packed in another way")


def _member(number: int) -> str:
    return f"{number:04d}.bson"
