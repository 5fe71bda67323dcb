"""Backups: whole while others write, complete or absent, and never over another file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from al_charge.errors import InputError
from al_charge.store.backup.archive import Archive
from al_charge.store.backup.make import keep_newest, make_backup
from al_charge.store.backup.restore import restore
from al_charge.store.migrations import RESTORED_ID, migrate
from al_charge.store.mongo import Store
from al_charge.store.roles import Role, granted

Stored = dict[str, Any]
Contents = Callable[[Database[Stored]], dict[str, list[Stored]]]


def quiet(name: str, done: int, total: int) -> None:
    """Show no progress."""


def agree(programs: list[tuple[str, str]]) -> None:
    """Let campaigns start what they name."""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def layout(database: Database[Stored]) -> dict[str, tuple[Any, Any]]:
    """Return validator and indexes by collection."""
    return {
        one["name"]: (
            one["options"].get("validator"),
            sorted(map(str, database[one["name"]].list_indexes())),
        )
        for one in database.list_collections()
    }


def test_what_is_restored_is_what_was_backed_up(
    full: Store, backup: Path, database: Database[Stored], contents: Contents, weights: bytes
) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not list(backup.parent.glob("*.part"))
    done = restore(database, backup, quiet, agree)
    assert contents(database) == contents(full.database)
    assert layout(database) == layout(full.database)
    counts = {entry.name: entry.documents for entry in done.collections if entry.documents}
    assert counts == {name: len(found) for name, found in contents(full.database).items()}
    assert counts["weights.chunks"] == 4  # three of weights, one of predictions
    copy = Store(database)
    copy.ensure_schema()
    model = copy.models.get("olivine", 0, 0)
    assert model is not None
    assert model[1] == weights
    assert copy.labels.get("k") == full.labels.get("k")


def test_two_backups_of_the_same_state_have_the_same_hashes(
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path
) -> None:
    restore(database, backup, quiet, agree)
    make_backup(database, tmp_path / "again.zip", quiet)
    with Archive(backup) as one, Archive(tmp_path / "again.zip") as two:
        assert one.manifest.collections == two.manifest.collections


def test_nothing_is_overwritten(full: Store, backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(InputError, match="this file exists already; choose another name"):
        make_backup(full.database, backup, quiet)
    assert backup.read_bytes() == before
    assert names_in(backup.parent) == [backup.name]


def test_what_a_killed_backup_left_is_written_over(full: Store, tmp_path: Path) -> None:
    (tmp_path / "new.zip.part").write_bytes(b"half" * 1_000_000)
    make_backup(full.database, tmp_path / "new.zip", quiet)
    assert names_in(tmp_path) == ["new.zip"]


def test_a_backup_that_fails_leaves_nothing(full: Store, tmp_path: Path) -> None:
    def full_disk(name: str, done: int, total: int) -> None:
        if name == "labels":
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="the disk is full; nothing was written"):
        make_backup(full.database, tmp_path / "new.zip", full_disk)
    assert names_in(tmp_path) == []


def test_two_backups_do_not_write_one_file(full: Store, tmp_path: Path) -> None:
    told: list[str] = []

    def another(name: str, done: int, total: int) -> None:
        if name == "labels" and not told:
            told.append("")
            with pytest.raises(InputError, match="another process is writing it"):
                make_backup(full.database, tmp_path / "new.zip", quiet)

    make_backup(full.database, tmp_path / "new.zip", another)
    assert told == [""]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    mine = [f"mine-2026010{day}T000000Z.zip" for day in range(1, 6)]
    others = ["mine.zip", "mine-2-20250101T000000Z.zip", "mine-20250101T000000Z.zip.txt"]
    stale = "mine-20250101T000000Z.zip.part"
    for name in (*mine, *others, stale):
        (tmp_path / name).touch()
    assert [path.name for path in keep_newest(tmp_path, "mine", 2)] == mine[:3]
    assert names_in(tmp_path) == sorted([*mine[3:], *others])


def test_what_could_not_be_restored_is_not_backed_up(
    full: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = full.database["labels"]
    labels.create_index([("text", "text")])
    try:
        with pytest.raises(InputError, match="'labels': a backup cannot hold its weights: Extra"):
            make_backup(full.database, tmp_path / "new.zip", quiet)
    finally:
        labels.drop_index("text_text")
    assert names_in(tmp_path) == []
    full.database["alien"].insert_one({"x": 1})
    try:
        made = make_backup(full.database, tmp_path / "new.zip", quiet)
    finally:
        full.database.drop_collection("alien")
    assert "alien" not in {entry.name for entry in made.collections}
    assert "no part of al-charge, and not in the backup: alien" in caplog.text


def test_an_empty_database_is_not_backed_up(database: Database[Stored], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is nothing to back up"):
        make_backup(database, tmp_path / "new.zip", quiet)
    assert names_in(tmp_path) == []


@contextmanager
def logged_in(client: MongoClient[Stored], database: str, role: Role) -> Iterator[Database[Stored]]:
    """Connect to a database as a user with one of our roles."""
    roles = granted(role, database, database)
    client[database].command("createUser", role.value, pwd="secret", roles=roles)
    assert client.address is not None
    uri = f"mongodb://{role.value}:secret@{quote_plus(client.address[0])}/{database}"
    try:
        with MongoClient[Stored](uri, tz_aware=True) as connected:
            yield connected[database]
    finally:
        client[database].command("dropUser", role.value)


def test_readers_back_up_and_admins_restore_and_migrate(
    full: Store, mongodb_client: MongoClient[Stored], database: Database[Stored], tmp_path: Path
) -> None:
    with logged_in(mongodb_client, full.database.name, Role.READER) as reading:
        make_backup(reading, tmp_path / "read.zip", quiet)
    with (
        logged_in(mongodb_client, database.name, Role.READER) as reading,
        pytest.raises(OperationFailure, match="not authorized"),
    ):
        restore(reading, tmp_path / "read.zip", quiet, agree)
    assert database.list_collection_names() == []
    with logged_in(mongodb_client, database.name, Role.ADMIN) as own:
        restore(own, tmp_path / "read.zip", quiet, agree)
        own["schema"].update_one({}, {"$set": {"version": 2}})
        assert migrate(own) == 2


def test_progress_goes_from_nothing_to_all(full: Store, tmp_path: Path) -> None:
    told: dict[str, list[tuple[int, int]]] = {}

    def progress(name: str, done: int, total: int) -> None:
        told.setdefault(name, []).append((done, total))

    make_backup(full.database, tmp_path / "told.zip", progress)
    assert {"labels", "models", "rounds"} <= told.keys()
    for steps in told.values():
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]


def test_notes_about_the_database_itself_are_not_backed_up(
    full: Store, database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    full.database["schema"].insert_one({"_id": "note"})
    make_backup(full.database, tmp_path / "noted.zip", quiet)
    full.database["schema"].delete_one({"_id": "note"})
    restore(database, tmp_path / "noted.zip", quiet, agree)
    assert [document["_id"] for document in database["schema"].find()] == ["version", RESTORED_ID]
