"""Edit a database at random: one byte or one value of a document. It knows nothing of checksums.

    echo URI | python benchmarks/random_edits.py DATABASE NUMBER --seed 1

Each edit is of another document, of a collection drawn first, and is printed as a line of JSON. The
collections of FireWorks, and those about processes that run now, are left alone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import PyMongoError

LEFT_OUT = {
    "schema", "claims", "workers", "damaged",
    "fireworks", "launches", "workflows", "fw_id_assigner", "fw_gridfs.files", "fw_gridfs.chunks",
    "offline_runs",
}  # fmt: skip
RAW: CodecOptions[Any] = CodecOptions(RawBSONDocument, unicode_decode_error_handler="replace")
TRIES = 50
"""Edits of one document that the server may refuse, before another is drawn."""


def leaves(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of values that are no documents, and of arrays."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        if isinstance(item, list | dict):
            if isinstance(item, list):
                yield (*path, name)
            yield from leaves(item, *path, name)
        elif (*path, name) != ("_id",):
            yield (*path, name)


def other(value: Any, rng: random.Random) -> Any:
    """Return another value of the same kind, or nothing in its place."""
    if rng.random() < 0.1:
        return None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((-1, 1, 100))
    if isinstance(value, float):
        return rng.choice((float("nan"), -value, value * (1 + 1e-12) + 1e-300, value + 1.0))
    if isinstance(value, datetime):
        return value + timedelta(milliseconds=rng.choice((1, -1000, 86400000)))
    if isinstance(value, list):
        return rng.choice(([], value[:-1]))
    if isinstance(value, str | bytes) and value:
        place = rng.randrange(len(value))
        new = "x" if isinstance(value, str) else b"x"
        return value[:place] + new + value[place + 1 :]  # type: ignore[operator]
    return "x"


def with_another_value(raw: bytes, rng: random.Random) -> bytes:
    """Return a document in which one value is another."""
    document = bson.decode(raw)
    *path, last = rng.choice(list(leaves(document)))
    place: Any = document
    for name in path:
        place = place[name]
    place[last] = other(place[last], rng)
    return bytes(bson.encode(document))


def with_another_byte(raw: bytes, rng: random.Random) -> bytes:
    """Return a document in which one byte is another; its length is at its beginning."""
    changed = bytearray(raw)
    changed[rng.randrange(4, len(raw) - 1)] = rng.randrange(256)
    return bytes(changed)


def edit(collection: Any, doc_id: Any, rng: random.Random) -> str:
    """Edit a document; return how, or nothing if the server took none of the tries."""
    raw = bytes(collection.find_one({"_id": doc_id}).raw)
    for _ in range(TRIES):
        how = rng.choice(("byte", "value"))
        change = with_another_byte if how == "byte" else with_another_value
        try:
            new = change(raw, rng)
            collection.replace_one(
                {"_id": doc_id}, RawBSONDocument(new, RAW), bypass_document_validation=True
            )
            if bytes(collection.find_one({"_id": doc_id}).raw) != raw:
                return how
        except (PyMongoError, BSONError, ValueError, OverflowError):
            continue
    return ""


def main() -> None:
    """Edit as often as asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("number", type=int)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    client: MongoClient[Any] = MongoClient(sys.stdin.readline().strip())
    database = client[arguments.database]
    ids = {
        name: [one["_id"] for one in database[name].find({}, {"_id": 1})]
        for name in sorted(database.list_collection_names())
        if name not in LEFT_OUT and not name.startswith("system.")
    }
    done = 0
    while done < arguments.number:
        name = rng.choice([name for name in ids if ids[name]])
        doc_id = ids[name].pop(rng.randrange(len(ids[name])))
        how = edit(database[name].with_options(codec_options=RAW), doc_id, rng)
        if how:
            done += 1
            print(json.dumps({"collection": name, "_id": str(doc_id), "edit": how}))


if __name__ == "__main__":
    main()
