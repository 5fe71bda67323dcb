"""Backups: whole while others write, refused when damaged, restored to the same bytes."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from al_charge.errors import AlChargeError, InputError
from al_charge.store.backup.archive import Archive
from al_charge.store.backup.cut import LEFT_OUT, REFERRERS_FIRST, in_order
from al_charge.store.backup.make import keep_newest, make_backup
from al_charge.store.backup.restore import restore
from al_charge.store.documents import (
    DOCUMENTS,
    SCHEMA_VERSION,
    CampaignDoc,
    FailureDoc,
    RoundDoc,
)
from al_charge.store.migrations import migrate
from al_charge.store.mongo import Store
from al_charge.store.roles import Role, granted

Stored = dict[str, Any]
WEIGHTS = os.urandom(600_000)
"""Three chunks of GridFS."""


FIREWORKS = ("workflows", "fireworks", "launches", "fw_id_assigner")


def quiet(name: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture
def full(
    store: Store,
    make_campaign: Callable[..., Any],
    make_candidate: Callable[..., Any],
    make_label: Callable[..., Any],
    make_model: Callable[..., Any],
    make_reference: Callable[..., Any],
) -> Iterator[Store]:
    """A store with something in every collection, FireWorks' own included."""
    store.add_campaign(make_campaign())
    for number in (0, 1):
        store.add_round(RoundDoc(campaign="olivine", number=number))
    candidate = make_candidate("a")
    store.put_proposal("olivine", 0, 1, [candidate], {})
    store.record_selection("olivine", 0, {candidate.doc_id: "diverse"})
    attempt = store.start_attempt("k", campaign="olivine", round=0, slot=0)
    store.put_label(make_label("k"))
    store.finish_attempt(attempt, "made")
    store.link_label("olivine", 0, "k")
    store.put_failure(FailureDoc(key="f", campaign="olivine", round=0, reason="no SCF", attempts=2))
    store.put_model(make_model(), WEIGHTS)
    store.put_reference(make_reference())
    database = store.database
    database["workflows"].insert_one(
        {"nodes": [1], "state": "COMPLETED", "metadata": {"campaign": "olivine"}}
    )
    database["fireworks"].create_index("fw_id", unique=True)
    database["workers"].create_index("seen", expireAfterSeconds=3600)
    database["fireworks"].insert_one({"fw_id": 1, "state": "COMPLETED"})
    database["launches"].insert_one({"launch_id": 1, "fw_id": 1})
    database["fw_id_assigner"].insert_one({"_id": -1, "next_fw_id": 2})
    yield store
    for name in (*FIREWORKS, *LEFT_OUT):
        database.drop_collection(name)


@pytest.fixture
def backup(full: Store, tmp_path: Path) -> Path:
    """A backup of the full store."""
    path = tmp_path / "backup.zip"
    make_backup(full.database, path, quiet)
    return path


def contents(database: Database[Stored]) -> dict[str, list[Stored]]:
    """Return every document of a database by collection, those without any left out."""
    names = sorted(database.list_collection_names())
    found = {name: list(database[name].find(sort=[("_id", 1)])) for name in names}
    return {name: documents for name, documents in found.items() if documents}


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
    full: Store, backup: Path, database: Database[Stored]
) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    assert not list(backup.parent.glob("*.part"))
    done = restore(database, backup, quiet)
    assert contents(database) == contents(full.database)
    assert layout(database) == layout(full.database)
    counts = {entry.name: entry.documents for entry in done.collections if entry.documents}
    assert counts == {name: len(found) for name, found in contents(full.database).items()}
    assert counts["weights.chunks"] == 3
    copy = Store(database)
    copy.ensure_schema()
    model = copy.model("olivine", 0, 0)
    assert model is not None
    assert model[1] == WEIGHTS
    assert copy.label("k") == full.label("k")


def test_two_backups_of_the_same_state_have_the_same_hashes(
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path
) -> None:
    restore(database, backup, quiet)
    make_backup(database, tmp_path / "again.zip", quiet)
    with Archive(backup) as one, Archive(tmp_path / "again.zip") as two:
        assert one.manifest.collections == two.manifest.collections


def test_every_collection_has_its_place() -> None:
    names = [document.collection for document in DOCUMENTS]
    assert set(names) <= set(REFERRERS_FIRST)
    order = in_order(["weights.chunks", "weights.files", "schema", "mine", *REFERRERS_FIRST])
    assert order == ["mine", "schema", *REFERRERS_FIRST, "weights.files", "weights.chunks"]


def test_what_is_under_way_is_left_out(
    full: Store,
    tmp_path: Path,
    database: Database[Stored],
    make_label: Callable[..., Any],
    make_candidate: Callable[..., Any],
) -> None:
    """What no copied round has selected would change what the next selection chooses."""
    before = contents(full.database)
    source = full.database
    source["claims"].insert_one({"_id": "olivine", "owner": "somebody"})
    source["workers"].insert_one({"_id": "somebody"})
    mine = {"metadata": {"campaign": "olivine"}}
    source["workflows"].insert_one({"nodes": [2], "state": "RUNNING"} | mine)
    source["workflows"].insert_one({"nodes": [3], "state": "COMPLETED", "locked": True} | mine)
    for fw_id in (2, 3, 4):
        source["fireworks"].insert_one({"fw_id": fw_id})
        source["launches"].insert_one({"fw_id": fw_id})
    full.link_label("olivine", 1, "early")
    full.put_failure(FailureDoc(key="e", campaign="olivine", round=1, reason="", attempts=1))
    full.put_proposal("later", 0, 1, [make_candidate("b", campaign="later")], {})
    full.add_round(RoundDoc(campaign="later", number=0))
    foreign = source["workflows"].insert_one({"nodes": [9], "state": "RUNNING", "metadata": {}})
    source["fireworks"].insert_one({"fw_id": 9, "_id": 9})
    make_backup(source, tmp_path / "busy.zip", quiet)
    restore(database, tmp_path / "busy.zip", quiet)
    found = contents(database)
    assert found["workflows"].pop()["_id"] == foreign.inserted_id
    assert found["fireworks"].pop(0)["_id"] == 9
    assert found == before


def test_a_copy_is_closed_whatever_is_written_meanwhile(
    store: Store,
    tmp_path: Path,
    mongodb_client: MongoClient[Stored],
    make_candidate: Callable[..., Any],
    make_label: Callable[..., Any],
    make_model: Callable[..., Any],
) -> None:
    """Everything that is named in a backup is in it, with one that writes all the time."""
    stop, problems = threading.Event(), []

    def write() -> None:
        try:
            for number in range(10_000):
                if stop.is_set():
                    return
                write_round(number)
        except Exception as error:
            problems.append(error)

    def write_round(number: int) -> None:
        campaign = f"c{number % 3}"
        place = number // 3
        if place == 0:
            store.add_campaign(CampaignDoc(name=campaign, spec={}, **known))
        store.add_round(RoundDoc(campaign=campaign, number=place))
        candidate = make_candidate("a", campaign=campaign, round=place)
        store.put_proposal(campaign, place, 1, [candidate], {})
        store.record_selection(campaign, place, {candidate.doc_id: "diverse"})
        key = f"{campaign}-{place}"
        store.put_label(make_label(key))
        store.link_label(campaign, place, key)
        store.put_model(make_model(campaign=campaign, round=place), b"weights")
        store.record_assessment(campaign, place, {"labels": key})
        fw_id = number + 1
        store.database["fireworks"].insert_one({"fw_id": fw_id, "campaign": key})
        workflow = {"nodes": [fw_id], "state": "COMPLETED", "metadata": {"campaign": campaign}}
        store.database["workflows"].insert_one(workflow)

    known = {"host_fingerprint": "host", "settings_hash": "born"}
    writer = threading.Thread(target=write)
    writer.start()
    rng, rounds = random.Random(1), []
    try:
        for number in range(4):
            path = tmp_path / f"{number}.zip"
            make_backup(store.database, path, lambda *_: time.sleep(rng.uniform(0, 0.04)))
            copy = mongodb_client[f"copy_{number}"]
            restore(copy, path, quiet)
            rounds.append(check_closed(Store(copy)))
            mongodb_client.drop_database(copy.name)
    finally:
        stop.set()
        writer.join()
    assert problems == []
    assert rounds == sorted(set(rounds))


def check_closed(store: Store) -> int:
    """Check that everything that is named exists; return how many rounds there are."""
    database, count = store.database, 0
    for campaign in store.campaigns():
        rounds = store.rounds(campaign.name)
        # a round follows one that was assessed
        assert [record.number for record in rounds] == list(range(len(rounds)))
        assert all(record.assessment for record in rounds[:-1])
        for record in rounds:
            for key in record.selected or []:
                assert store.candidate(key) is not None
            if record.assessment is not None:
                assert store.model(campaign.name, record.number, 0) is not None
                assert store.label(record.assessment["labels"]) is not None
        selected = [record.number for record in rounds if record.selected is not None]
        for use in store.label_uses(campaign.name):
            assert use.round in selected
            assert store.label(use.key) is not None
        for model in database["models"].find({"campaign": campaign.name}):
            assert database["weights.files"].find_one(ObjectId(model["weights_file"])) is not None
        count += len(rounds)
    done = {
        f"{record['campaign']}-{record['number']}"
        for record in database["rounds"].find({"assessment": {"$ne": None}})
    }
    for workflow in database["workflows"].find():
        for node in workflow["nodes"]:
            assert (database["fireworks"].find_one({"fw_id": node}) or {})["campaign"] in done
    assert database["label_uses"].distinct("campaign") == database["campaigns"].distinct("_id")
    return count


def test_nothing_is_overwritten(full: Store, backup: Path) -> None:
    before = backup.read_bytes()
    with pytest.raises(InputError, match="there is such a file; choose another name"):
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


def test_an_empty_database_is_not_backed_up(database: Database[Stored], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is nothing to back up"):
        make_backup(database, tmp_path / "new.zip", quiet)
    assert names_in(tmp_path) == []


def test_a_database_that_is_not_empty_is_refused(
    full: Store, backup: Path, database: Database[Stored]
) -> None:
    database["labels"].insert_one({"_id": "mine"})
    with pytest.raises(InputError, match="not empty: there is something in 'labels'; name another"):
        restore(database, backup, quiet)
    assert contents(database) == {"labels": [{"_id": "mine"}]}


def test_a_database_that_a_command_has_made_ready_counts_as_empty(
    full: Store, backup: Path, database: Database[Stored]
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
        with pytest.raises(InputError, match="damaged, cut off, or no backup"):
            restore(database, path, quiet)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", "x")
    with pytest.raises(InputError, match="no backup of al-charge"):
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
    full: Store, backup: Path, database: Database[Stored], tmp_path: Path
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
    with pytest.raises(InputError, match="another backup is being restored into it since"):
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
        restore(reading, tmp_path / "read.zip", quiet)
    assert database.list_collection_names() == []
    with logged_in(mongodb_client, database.name, Role.ADMIN) as own:
        restore(own, tmp_path / "read.zip", quiet)
        own["schema"].update_one({}, {"$set": {"version": 2}})
        assert migrate(own) == 2
