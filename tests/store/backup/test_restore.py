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
from al_charge.store.backup import contents as contents_module
from al_charge.store.backup.archive import Archive
from al_charge.store.backup.make import make_backup
from al_charge.store.backup.restore import restore
from al_charge.store.documents import (
    SCHEMA_VERSION,
)
from al_charge.store.migrations import restored_from
from al_charge.store.mongo import Store
from al_charge.store.schema import WORKERS_KEPT_SECONDS

Stored = dict[str, Any]
Contents = Callable[[Database[Stored]], dict[str, list[Stored]]]


def quiet(name: str, done: int, total: int) -> None:
    """Show no progress."""


def agree(programs: list[tuple[str, str]]) -> None:
    """Let campaigns start what they name."""


def test_a_database_that_is_not_empty_is_refused(
    full: Store, backup: Path, database: Database[Stored], contents: Contents
) -> None:
    database["labels"].insert_one({"_id": "mine"})
    with pytest.raises(InputError, match="not empty: there is something in 'labels'; name another"):
        restore(database, backup, quiet, agree)
    assert contents(database) == {"labels": [{"_id": "mine"}]}


def test_a_database_that_a_command_has_made_ready_counts_as_empty(
    full: Store, backup: Path, database: Database[Stored], contents: Contents
) -> None:
    Store(database).ensure_schema()
    database["fw_id_assigner"].insert_one({"_id": -1, "next_fw_id": 1})
    restore(database, backup, quiet, agree)
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
                restore(database, damaged, quiet, agree)
    assert harmless < len(variants) / 5
    assert database.list_collection_names() == []


def test_foreign_files_are_refused(database: Database[Stored], tmp_path: Path) -> None:
    path = tmp_path / "foreign.zip"
    for content in (b"", b"hello", os.urandom(1000)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged, truncated, or not a backup"):
            restore(database, path, quiet, agree)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(InputError, match="not a backup of al-charge"):
        restore(database, path, quiet, agree)
    with pytest.raises(InputError, match="cannot read it: No such file"):
        restore(database, tmp_path / "missing", quiet, agree)
    assert database.list_collection_names() == []


def _first(manifest: Stored) -> Stored:
    entry: Stored = manifest["collections"][0]
    return entry


def _named(manifest: Stored, name: str) -> Stored:
    entry: Stored = next(one for one in manifest["collections"] if one["name"] == name)
    return entry


def rewritten(backup: Path, path: Path, change: Callable[[Stored], object]) -> Path:
    """Write a backup with another manifest."""
    with zipfile.ZipFile(backup) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest).encode()
            bad.writestr(name, content)
    return path


HOSTILE: dict[str, tuple[Callable[[Stored], object], str]] = {
    "path": (lambda m: _first(m).update(name="../../etc/passwd"), "name"),
    "unknown": (lambda m: _first(m).update(name="fs.files"), "no collection of al-charge"),
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
    "extra": (lambda m: m["collections"].append(_first(m) | {"name": "more"}), "no collection of"),
    "bytes": (lambda m: _named(m, "labels").update(size=1), "damaged"),
    "bomb": (lambda m: _named(m, "labels").update(size=10**11), "unpacks to 100.0 GB"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_manifest_is_refused(
    backup: Path, database: Database[Stored], tmp_path: Path, kind: str
) -> None:
    change, told = HOSTILE[kind]
    path = rewritten(backup, tmp_path / "hostile.zip", change)
    with pytest.raises(InputError, match=told) as refused:
        restore(database, path, quiet, agree)
    assert "\n" not in str(refused.value)
    assert database.list_collection_names() == []


def test_of_indexes_and_validators_only_ours_are_made(
    backup: Path, database: Database[Stored], tmp_path: Path, prepared_database: Database[Stored]
) -> None:
    """A TTL index of an archive would empty the database a minute after its restore."""

    def poison(manifest: Stored) -> None:
        ttl = {"name": "t", "key": [["created", 1]], "expireAfterSeconds": 0}
        _named(manifest, "labels")["indexes"] = [ttl]
        _named(manifest, "rounds")["indexes"] = []
        _named(manifest, "fireworks")["indexes"] = []
        _named(manifest, "models")["validator"] = {"$jsonSchema": {"required": ["never"]}}
        _named(manifest, "failures")["validator"] = None

    restore(database, rewritten(backup, tmp_path / "ttl.zip", poison), quiet, agree)
    for name in ("labels", "rounds", "models", "failures", "frames.chunks"):
        options, wanted = (db[name].options() for db in (database, prepared_database))
        assert options.get("validator") == wanted.get("validator")
        assert database[name].index_information() == prepared_database[name].index_information()
    assert database["fireworks"].index_information()["fw_id_1"]["unique"] is True
    lives = {
        name: index["expireAfterSeconds"]
        for name in database.list_collection_names()
        for index in database[name].index_information().values()
        if "expireAfterSeconds" in index
    }
    assert lives == {"workers": WORKERS_KEPT_SECONDS}


def test_claims_and_workers_are_not_restored(
    full: Store, tmp_path: Path, database: Database[Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim in an archive would keep a label from ever being made."""
    full.database["claims"].insert_one({"_id": "label k"})
    monkeypatch.setattr(contents_module, "LEFT_OUT", frozenset())
    make_backup(full.database, tmp_path / "claims.zip", quiet)
    with pytest.raises(InputError, match="it holds claims, which no backup does"):
        restore(database, tmp_path / "claims.zip", quiet, agree)
    assert database.list_collection_names() == []


def test_what_campaigns_start_is_told_before_anything_is_written(
    full: Store, make_campaign: Callable[..., Any], database: Database[Stored], tmp_path: Path
) -> None:
    given = {"labeler": {"kind": "vasp", "command": "srun vasp_std", "gamma_command": None}}
    defaults = {"labeler": {"gamma_command": "evil; rm -rf /"}}
    spec = {"campaign": given, "defaults": defaults, "structure": {}}
    full.campaigns.add(make_campaign("other", spec=spec))
    make_backup(full.database, tmp_path / "b.zip", quiet)
    told: list[tuple[str, str]] = []

    def refuse(programs: list[tuple[str, str]]) -> None:
        told.extend(programs)
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        restore(database, tmp_path / "b.zip", quiet, refuse)
    assert told == [("other", "srun vasp_std"), ("other", "evil; rm -rf /")]
    assert database.list_collection_names() == []


def test_a_database_that_was_restored_is_told_from_the_one_before(
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path
) -> None:
    seen = [restored_from(database)]
    for _ in range(2):
        restore(database, backup, quiet, agree)
        seen.append(restored_from(database))
        for name in database.list_collection_names():
            database.drop_collection(name)
    assert seen[0] is None
    assert seen[1]["archive"] == seen[2]["archive"]
    assert seen[1] != seen[2]


def test_a_manifest_that_explodes_is_refused(database: Database[Stored], tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 40_000_000)
    with pytest.raises(InputError, match="damaged"):
        restore(database, path, quiet, agree)


def test_a_killed_restore_is_completed(
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path, contents: Contents
) -> None:
    def killed(name: str, done: int, total: int) -> None:
        if name == "weights.chunks" and done == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(database, backup, killed, agree)
    with pytest.raises(InputError, match=r"a restore began .* restore the same file again"):
        Store(database).ensure_schema()
    with pytest.raises(InputError, match=r"a restore began"):
        make_backup(database, tmp_path / "half.zip", quiet)
    make_backup(full.database, tmp_path / "other.zip", quiet)
    with pytest.raises(
        InputError, match=r"another backup is being restored into it since.*; restore that"
    ):
        restore(database, tmp_path / "other.zip", quiet, agree)
    restore(database, backup, quiet, agree)
    Store(database).ensure_schema()
    assert contents(database) == contents(full.database)


def test_a_database_that_others_write_to_is_not_called_restored(
    backup: Path, database: Database[Stored]
) -> None:
    def somebody(name: str, done: int, total: int) -> None:
        if name == "weights.chunks" and done == 0:
            database["launches"].insert_one({"launch_id": 99})

    with pytest.raises(AlChargeError, match="'launches' has 2 documents that are not the 1 of"):
        restore(database, backup, somebody, agree)
    with pytest.raises(InputError, match="a restore began"):
        Store(database).ensure_schema()
