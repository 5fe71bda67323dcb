"""Restoring: into an empty database, from a whole file, all or to be completed."""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from al_charge.errors import AlChargeError, InputError
from al_charge.store.backup.archive import Archive
from al_charge.store.backup.make import make_backup
from al_charge.store.backup.restore import restore
from al_charge.store.documents import (
    SCHEMA_VERSION,
)
from al_charge.store.mongo import Store

Stored = dict[str, Any]
Contents = Callable[[Database[Stored]], dict[str, list[Stored]]]


def quiet(name: str, done: int, total: int) -> None:
    """Show no progress."""


def test_a_database_that_is_not_empty_is_refused(
    full: Store, backup: Path, database: Database[Stored], contents: Contents
) -> None:
    database["labels"].insert_one({"_id": "mine"})
    with pytest.raises(InputError, match="not empty: there is something in 'labels'; name another"):
        restore(database, backup, quiet)
    assert contents(database) == {"labels": [{"_id": "mine"}]}


def test_a_database_that_a_command_has_made_ready_counts_as_empty(
    full: Store, backup: Path, database: Database[Stored], contents: Contents
) -> None:
    Store(database).ensure_schema()
    database["fw_id_assigner"].insert_one({"_id": -1, "next_fw_id": 1})
    restore(database, backup, quiet)
    assert contents(database) == contents(full.database)


def test_damage_is_told_before_anything_is_written(
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path
) -> None:
    """Each of many changed bytes and cuts is found, or has changed nothing that counts."""
    whole, rng = backup.read_bytes(), random.Random(3)
    damaged = tmp_path / "damaged.zip"
    variants = [whole[:size] for size in (0, 1, 100, len(whole) // 2, len(whole) - 1)]
    for _ in range(150):
        place = rng.randrange(len(whole))
        changed = bytes([whole[place] ^ (1 << rng.randrange(8))])
        variants.append(whole[:place] + changed + whole[place + 1 :])
    harmless = 0
    for variant in variants:
        damaged.write_bytes(variant)
        try:
            with Archive(damaged) as archive:
                for entry in archive.manifest.collections:
                    archive.check(entry)
            harmless += 1  # such as the date of a member
        except InputError as error:
            assert "\n" not in str(error)
            with pytest.raises(InputError):
                restore(database, damaged, quiet)
    assert harmless < len(variants) / 5
    assert database.list_collection_names() == []


def test_foreign_files_are_refused(database: Database[Stored], tmp_path: Path) -> None:
    path = tmp_path / "foreign.zip"
    for content in (b"", b"hello", os.urandom(1000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged, truncated, or not a backup"):
            restore(database, path, quiet)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(InputError, match="not a backup of al-charge"):
        restore(database, path, quiet)
    with pytest.raises(InputError, match="cannot read it: No such file"):
        restore(database, tmp_path / "missing", quiet)
    assert database.list_collection_names() == []


def _first(manifest: Stored) -> Stored:
    entry: Stored = manifest["collections"][0]
    return entry


HOSTILE: dict[str, tuple[Callable[[Stored], object], str]] = {
    "path": (lambda m: _first(m).update(name="../../etc/passwd"), "name"),
    "server": (lambda m: _first(m).update(name="system.users"), "of the server itself"),
    "twice": (lambda m: m["collections"].append(_first(m)), "there twice"),
    "code": (lambda m: _first(m).update(validator={"$where": "1"}), "a .jsonSchema only"),
    "option": (lambda m: _first(m).update(capped=True), "Extra inputs"),
    "format": (lambda m: m.update(format=2), "update al-charge if a newer"),
    "newer": (lambda m: m.update(schema_version=SCHEMA_VERSION + 1), "it has schema version"),
    "count": (lambda m: _first(m).update(documents=10**12), "damaged"),
    "negative": (lambda m: _first(m).update(documents=-1), "greater than or equal"),
    "hash": (lambda m: _first(m).update(sha256="0" * 64), "damaged"),
    "index": (lambda m: _first(m).update(indexes=[{"name": "x", "key": []}]), "at least 1"),
    "missing": (lambda m: m.pop("collections"), "Field required"),
    "extra": (lambda m: m["collections"].append(_first(m) | {"name": "more"}), "damaged"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_manifest_is_refused(
    backup: Path, database: Database[Stored], tmp_path: Path, kind: str
) -> None:
    change, told = HOSTILE[kind]
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(backup) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest).encode()
            bad.writestr(name, content)
    with pytest.raises(InputError, match=told) as refused:
        restore(database, path, quiet)
    assert "\n" not in str(refused.value)
    assert database.list_collection_names() == []


def test_a_manifest_that_explodes_is_refused(database: Database[Stored], tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 40_000_000)
    with pytest.raises(InputError, match="damaged"):
        restore(database, path, quiet)


def test_a_killed_restore_is_completed(
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path, contents: Contents
) -> None:
    def killed(name: str, done: int, total: int) -> None:
        if name == "weights.chunks" and done == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(database, backup, killed)
    with pytest.raises(InputError, match=r"a restore began .* restore the same file again"):
        Store(database).ensure_schema()
    with pytest.raises(InputError, match=r"a restore began"):
        make_backup(database, tmp_path / "half.zip", quiet)
    make_backup(full.database, tmp_path / "other.zip", quiet)
    with pytest.raises(
        InputError, match=r"another backup is being restored into it since.*; restore that"
    ):
        restore(database, tmp_path / "other.zip", quiet)
    restore(database, backup, quiet)
    Store(database).ensure_schema()
    assert contents(database) == contents(full.database)


def test_a_database_that_others_write_to_is_not_called_restored(
    backup: Path, database: Database[Stored]
) -> None:
    def somebody(name: str, done: int, total: int) -> None:
        if name == "weights.chunks" and done == 0:
            database["launches"].insert_one({"launch_id": 99})

    with pytest.raises(AlChargeError, match="'launches' has 2 documents that are not the 1 of"):
        restore(database, backup, somebody)
    with pytest.raises(InputError, match="a restore began"):
        Store(database).ensure_schema()
