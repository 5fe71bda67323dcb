"""`al-charge db backup`, `restore` and `migrate`, as their users meet them."""

from __future__ import annotations

import configparser
import io
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import WriteError

from al_charge.cli import backup
from al_charge.errors import AlChargeError, InputError
from al_charge.fw.worker_registry import worker_name
from al_charge.loop.campaign import Campaign
from al_charge.store.documents import DOCUMENTS, SCHEMA_VERSION, RoundDoc
from al_charge.store.embedded import HOME_ENV, EmbeddedServer

Run = Callable[..., tuple[int, str, str]]
Stored = dict[str, Any]

ROOT = Path(__file__).parents[2]
VERSION_1 = ROOT / "tests" / "store" / "data" / "schema_1.zip"
SMALL = 1000
"""Bytes; less than any backup here."""

pytestmark = pytest.mark.mongod


class Home(NamedTuple):
    """A folder of al-charge's own files with its embedded server, and the database there."""

    folder: Path
    database: Database[Stored]


@pytest.fixture
def new_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A fresh server, which every command finds."""
    folder = tmp_path / "home"
    monkeypatch.setenv(HOME_ENV, str(folder))
    server = EmbeddedServer(folder)
    with MongoClient[Stored](server.start().uri("al_charge"), tz_aware=True) as client:
        yield Home(folder, client["al_charge"])
    server.stop()


def al_charge(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "al_charge", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def one_line(err: str) -> str:
    """Return what a command says of an error: one line, after those that tell how far it was."""
    *progress, last = err.splitlines()
    assert last.startswith("al-charge: "), err
    assert all(" INFO al_charge.cli.progress: " in line for line in progress), err
    return last


def test_a_backup_is_restored_in_another_home(
    labelled: Campaign, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    labelled.store.rounds.add(RoundDoc(campaign=labelled.name, number=0, selected=[]))
    folder = tmp_path / "backups"
    folder.mkdir()
    for _ in range(2):
        code, out, err = run("db", "backup", str(folder), "--keep", "1")
        assert code == 0
        assert "documents in" in err
        time.sleep(1.0)  # names tell seconds apart
    (kept,) = folder.iterdir()
    assert out.strip() == str(kept)
    assert "deleted" in err
    code, _, err = run("db", "backup", str(folder / "one.zip"), "--keep", "1")
    assert (code, "folder only" in one_line(err)) == (2, True)

    def labels_told() -> dict[str, Any]:
        document: dict[str, Any] = json.loads(run("labels", labelled.name, "--json")[1])
        del document["time"]
        return document

    labels = labels_told()
    request.getfixturevalue("new_home")
    code, out, _ = run("db", "restore", str(kept))
    assert code == 0
    assert "documents in" in out
    assert labels_told() == labels
    code, _, err = run("db", "restore", str(kept))
    assert (code, "it is not empty" in one_line(err)) == (2, True)
    code, _, err = run("db", "restore", str(folder / "none.zip"))
    assert (code, "no such file" in one_line(err)) == (2, True)


def test_the_database_can_be_named(run: Run, tmp_path: Path) -> None:
    for uri, told in (("nowhere", "not a MongoDB URI"), ("mongodb://u:p@host/x", "password")):
        code, _, err = run("db", "backup", str(tmp_path / "x.zip"), "--database", uri)
        assert (code, told in one_line(err)) == (2, True)


def test_a_full_disk_leaves_nothing(labelled: Campaign, tmp_path: Path) -> None:
    """The limit on a file's size stands for the end of the disk: the kernel refuses to write."""
    folder = tmp_path / "backups"
    folder.mkdir()
    done = al_charge(
        "db",
        "backup",
        str(folder),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL)),
        # What measures the coverage has files of its own to write.
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
    )
    assert done.returncode == 2
    assert "the disk is full; nothing was written" in one_line(done.stderr)
    assert list(folder.iterdir()) == []


def test_the_timer_runs_a_real_backup(labelled: Campaign, tmp_path: Path) -> None:
    """The unit's own command and environment, with other folders and the tests' server."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "db" / "backup.service")
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/al-charge")
    folder = arguments[2]
    assert unit["Service"]["ReadWritePaths"] == folder
    arguments[2] = str(tmp_path)
    done = al_charge(*arguments)
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.glob("al_charge-*.zip")
    assert done.stdout.strip() == str(made)
    timer = configparser.ConfigParser(interpolation=None)
    timer.read(ROOT / "db" / "backup.timer")
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert timer["Timer"]["OnCalendar"]


def gone(*_: object) -> None:
    raise AlChargeError("the server has gone", where="here")


def test_an_old_database_is_refused_and_migrated_after_a_backup(
    new_home: Home, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("db", "restore", str(VERSION_1))[0] == 0
    refused = (
        ("campaign", "list"),
        ("campaign", "status", "kept"),
        ("campaign", "resume", "kept"),
        ("worker", "kept"),
        ("hull", "kept"),
        ("labels", "kept"),
    )
    for arguments in refused:
        code, _, err = run(*arguments)
        assert (code, "run 'al-charge db migrate'" in one_line(err)) == (2, True)
    workers = new_home.database["workers"]
    workers.insert_one({"_id": worker_name(), "seen": datetime.now(UTC)})
    code, _, err = run("db", "migrate")
    assert (code, "workers are still running" in one_line(err)) == (2, True)
    workers.delete_many({})
    workers.insert_one({"_id": "1@elsewhere@1.00", "seen": datetime(2026, 1, 1, tzinfo=UTC)})
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1))
        code, _, err = run("db", "migrate")
    assert (code, "MB are free" in one_line(err)) == (2, True), err
    code, _, err = run("db", "migrate", "--backups", str(tmp_path / "none"))
    assert (code, "no such folder" in one_line(err)) == (2, True)
    assert run("campaign", "list")[0] == 2

    with monkeypatch.context() as patch:
        patch.setattr("al_charge.store.schema.create_task_indexes", gone)
        assert run("db", "migrate")[0] == 1
    shutil.rmtree(new_home.folder / "backups")

    code, out, _ = run("db", "migrate")
    assert code == 0
    assert out.endswith(f"migrated from schema version 1 to {SCHEMA_VERSION}\n")
    assert "expireAfterSeconds" in workers.index_information()["seen_1"]
    (backup,) = (new_home.folder / "backups").iterdir()
    assert f"backup first: {backup}\n" in out
    assert len(json.loads(run("hull", "kept", "--json")[1])["entries"]) == 8
    attempts = new_home.database["attempts"]
    attempts.drop_index("campaign_1_round_1")
    code, out, _ = run("db", "migrate")
    assert code == 0 and out.startswith("nothing to migrate")
    assert out.endswith("missing indexes created: 1\n")
    assert "campaign_1_round_1" in attempts.index_information()
    assert run("db", "migrate")[1].count("\n") == 1
    validator = new_home.database["rounds"].options()["validator"]
    older = json.loads(json.dumps(validator))
    assert older["$jsonSchema"]["properties"].pop("assessment")
    new_home.database.command("collMod", "rounds", validator=older)
    assert run("db", "migrate")[1].endswith("validators renewed: 1\n")
    assert new_home.database["rounds"].options()["validator"] == validator

    def refused(_: object) -> None:
        raise WriteError("Document failed validation", 121)

    with monkeypatch.context() as patch:
        patch.setattr("al_charge.cli.migrate.open_database", refused)
        code, _, err = run("db", "migrate")
        assert (code, "run 'al-charge db migrate'" in one_line(err)) == (1, True)
    assert run("db", "migrate")[1].count("\n") == 1
    assert [path.name for path in (new_home.folder / "backups").iterdir()] == [backup.name]

    new_home.database["schema"].update_one({}, {"$inc": {"version": 1}})
    for arguments in (("db", "migrate"), ("campaign", "list"), ("db", "backup", str(tmp_path))):
        code, _, err = run(*arguments)
        assert (code, "update al-charge" in one_line(err)) == (2, True)


@pytest.mark.slow
def test_a_migration_that_was_killed_is_completed(new_home: Home, run: Run) -> None:
    assert run("db", "restore", str(VERSION_1))[0] == 0
    labels = new_home.database["labels"]
    label = labels.find_one({}, {"frames": 0}) or {}
    copies = [label | {"_id": f"k{n}", "key": f"k{n}", "frames": []} for n in range(2000)]
    labels.insert_many(copies, bypass_document_validation=True)
    before = labels.count_documents({})
    migration = subprocess.Popen(
        [sys.executable, "-m", "al_charge", "db", "migrate"], stdout=subprocess.DEVNULL
    )
    while migration.poll() is None and labels.count_documents({"schema_version": 2}) < 20:
        time.sleep(0.005)
    os.kill(migration.pid, signal.SIGKILL)
    assert migration.wait() == -signal.SIGKILL
    assert 0 < labels.count_documents({"schema_version": 1}) < before
    code, _, err = run("campaign", "list")
    assert (code, "a migration began at" in one_line(err)) == (2, True)
    assert run("db", "migrate")[0] == 0
    assert run("campaign", "list")[0] == 0
    assert len(list((new_home.folder / "backups").iterdir())) == 2
    for document in DOCUMENTS:
        versions = new_home.database[document.collection].distinct("schema_version")
        assert set(versions) <= {SCHEMA_VERSION}


def test_programs_of_a_restored_campaign_are_shown_and_confirmed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [("one", "srun vasp_std"), ("two", "evil\n\x1b[2K")]
    with pytest.raises(InputError, match=r"'one' would run: srun vasp_std, and 1 more; .* --yes"):
        backup._ask(programs)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(InputError, match="not restored; nothing was written"):
        backup._ask(programs)
    assert r"campaign 'two' will run: evil \x1b[2K" in caplog.text
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    backup._ask(programs)
