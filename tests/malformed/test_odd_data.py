"""Archives of backups that would fill the memory, or take hours."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from al_charge.errors import AlChargeError, InputError
from al_charge.store.backup.restore import restore

from .test_odd_files import MB, frugal

DEEP = "[" * 900_000
ENTRY = {"name": "labels", "indexes": [], "documents": 1, "size": 5, "sha256": "0" * 64}
EMPTY = b"\x05\0\0\0\0"


class Untouched:
    """A database that nobody may look at: what is refused is refused before."""

    def with_options(self, **_: Any) -> Untouched:
        return self


def archive(
    manifest: str | None = None,
    stream: bytes = EMPTY,
    how: int = zipfile.ZIP_DEFLATED,
    **entry: Any,
) -> bytes:
    """Return an archive with one collection."""
    time = datetime(2026, 1, 1, tzinfo=UTC).isoformat()
    told: dict[str, Any] = {
        "format": 1, "database": "a", "schema_version": 1, "al_charge": "0", "mongodb": "0",
        "started": time, "finished": time, "collections": [ENTRY | entry],
    }  # fmt: skip
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        made.writestr("manifest.json", json.dumps(told) if manifest is None else manifest)
        made.writestr("0000.bson", stream)
    return file.getvalue()


def many_members(number: int) -> bytes:
    """Return a zip archive whose list of members is long, all of them one place."""
    head = archive()
    end = head.rindex(b"PK\x05\x06")
    start = struct.unpack("<L", head[end + 16 : end + 20])[0]
    entry = head[start : head.index(b"PK\x01\x02", start + 4)]
    listing = entry * number
    tail = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, number, number, len(listing), start
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(listing), 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    return head[:start] + listing + tail + locator + last


def nested_bson(depth: int) -> bytes:
    """Return a document of documents of documents."""
    heads = (struct.pack("<L", 5 + 8 * (depth - i)) + b"\x03a\0" for i in range(depth))
    return b"".join(heads) + EMPTY + bytes(depth)


def packed_by_lzma(dictionary: int) -> bytes:
    """Return an archive whose stream declares how much memory it takes to unpack."""
    content = archive(stream=b"x" * 1000, how=zipfile.ZIP_LZMA)
    # Version, size of the properties, and the properties: one byte and the dictionary's size.
    place = content.index(b"0000.bson") + len(b"0000.bson") + 5
    return content[:place] + struct.pack("<L", dictionary) + content[place + 4 :]


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a million members": lambda: many_members(10**6),
    "a bomb of documents": lambda: archive(stream=EMPTY * (8 * MB), documents=10**9, size=10**9),
    "a deep document": lambda: archive(stream=nested_bson(900_000), size=20 * MB),
    "a document of 2 GB": lambda: archive(stream=struct.pack("<l", 2**31 - 1), size=2**31),
    "4 GB to unpack": lambda: packed_by_lzma(2**32 - 1),
    "bzip2": lambda: archive(how=zipfile.ZIP_BZIP2),
    "a deep manifest": lambda: archive(DEEP),
    "a long manifest": lambda: archive('{"a": "' + "x" * 64 * MB + '"}'),
    "2e5 collections": lambda: archive('{"collections": [' + "{}," * 200_000 + "{}]}"),
    "a million keys of an index": lambda: archive(
        indexes=[{"name": "a", "key": [["a", 1]] * 10**6}]
    ),
    "a number of many digits": lambda: archive('{"format": ' + "9" * 900_000 + "}"),
    "documents of 1e300": lambda: archive(documents=1e300),
    "a pickle": lambda: pickle.dumps({"format": 1}),
    "cut off": lambda: archive(stream=bytes(range(256)) * 1000)[:-60],
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives(what: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    file.write_bytes(ARCHIVES[what]())

    def nothing(*_: Any) -> None:
        """Neither shown nor asked."""

    database: Any = Untouched()
    with frugal(), pytest.raises(InputError) as refused:
        restore(database, file, nothing, nothing)
    _one_line(refused.value, "backup.zip")


def _one_line(error: AlChargeError, name: str) -> None:
    assert error.exit_code == 2
    assert name in str(error)
    assert "\n" not in str(error) and len(str(error)) < 600
