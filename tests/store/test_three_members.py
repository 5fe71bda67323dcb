"""A replica set of three on this machine: its primary steps down, is cut off, and is alone."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from al_charge.errors import InputError
from al_charge.store.connection import connect
from al_charge.store.documents import LabelDoc, RoundDoc
from al_charge.store.mongo import Store
from al_charge.store.mongod import find_mongod
from al_charge.store.settings import PASSWORD_ENV, USERNAME_ENV, DatabaseSettings

pytestmark = [pytest.mark.mongod, pytest.mark.slow]
PASSWORD = "three"
OPTIONS = "authSource=admin&replicaSet=al-charge"
ELECTION_MS = 1500


class Members:
    """Three servers, by their ports."""

    def __init__(self, folder: Path) -> None:
        key = folder / "keyfile"
        key.write_text(secrets.token_urlsafe(96).replace("-", "").replace("_", ""))
        key.chmod(0o400)
        free = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        self.ports = [one.getsockname()[1] for one in free]
        for one in free:
            one.close()
        self.processes = []
        for port in self.ports:
            data = folder / str(port)
            data.mkdir()
            command = [
                str(find_mongod()), "--replSet", "al-charge", "--keyFile", str(key), "--bind_ip",
                "127.0.0.1", "--port", str(port), "--dbpath", str(data), "--nounixsocket",
                "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "50", "--maxConns", "60",
            ]  # fmt: skip
            with (folder / f"{port}.log").open("wb") as log:
                self.processes.append(psutil.Popen(command, stdout=log, stderr=log))

    def uri(self, options: str = OPTIONS) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"mongodb://{hosts}/al_charge?{options}"

    def initiate(self) -> None:
        members = [{"_id": n, "host": f"127.0.0.1:{port}"} for n, port in enumerate(self.ports)]
        times = {"electionTimeoutMillis": ELECTION_MS, "heartbeatIntervalMillis": 500}
        config = {"_id": "al-charge", "members": members, "settings": times}
        for port in self.ports:
            with self._alone(port) as client:
                client.admin.command("ping")
        with self._alone(self.ports[0]) as client:
            client.admin.command("replSetInitiate", config)
            until(lambda: self.primary() is not None)
        with self._alone(self.primary()) as client:
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])

    def _alone(self, port: int | None) -> MongoClient[dict[str, Any]]:
        return MongoClient(f"mongodb://127.0.0.1:{port}/?directConnection=true")

    def primary(self) -> int | None:
        """Return the port of the member that says it is the primary, if one answers so."""
        for port, process in zip(self.ports, self.processes, strict=True):
            if process.status() == psutil.STATUS_STOPPED:
                continue
            with self._alone(port) as client:
                if client.admin.command("hello")["isWritablePrimary"]:
                    return port
        return None

    def freeze(self, port: int | None) -> None:
        """Stop a member, as a partition or a hanging disk does; return when it has stopped."""
        process = self.processes[self.ports.index(port)]  # type: ignore[arg-type]
        process.send_signal(signal.SIGSTOP)
        until(lambda: process.status() == psutil.STATUS_STOPPED)

    def wake(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
        until(lambda: self.primary() is not None)


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    found = Members(tmp_path_factory.mktemp("three"))
    try:
        found.initiate()
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait()


@pytest.fixture
def settings(members: Members, monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseSettings]:
    monkeypatch.setenv(USERNAME_ENV, "root")
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    yield DatabaseSettings(uri=members.uri())
    members.wake()


@pytest.fixture
def patient_store(members: Members, settings: DatabaseSettings) -> Iterator[Callable[[], Store]]:
    """Return what makes stores whose clients wait for an election, as a worker's does."""
    patient = members.uri(f"{OPTIONS}&serverSelectionTimeoutMS=120000")
    with ExitStack() as stores:

        def make() -> Store:
            store = Store(connect(DatabaseSettings(uri=patient)))
            stores.callback(store.close)
            store.ensure_schema()
            return store

        yield make


def test_what_is_written_while_the_primary_steps_down_is_there_once(
    members: Members,
    patient_store: Callable[[], Store],
    make_label: Callable[..., LabelDoc],
) -> None:
    store = patient_store()
    store.rounds.add(RoundDoc(campaign="c", number=0))
    kept: list[str] = []
    uncertain: list[str] = []
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            key = f"{len(kept) + len(uncertain)}"
            try:
                store.labels.put(make_label(key))
                store.rounds.add_seconds("c", 0, "label", 1.0)
                kept.append(key)
            except ConnectionFailure:
                uncertain.append(key)

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(2):
        count = len(kept)
        until(lambda count=count: len(kept) > count + 3)  # type: ignore[misc]
        with MongoClient[Any](members.uri(), username="root", password=PASSWORD) as client:
            client.admin.command({"replSetStepDown": 3, "force": True})
        until(lambda: members.primary() is not None)
    count = len(kept)
    until(lambda: len(kept) > count + 3)
    ended.set()
    thread.join(timeout=120)
    assert store.labels.among(kept) == set(kept)
    record = store.rounds.get("c", 0)
    assert record is not None
    assert len(kept) <= record.stage_seconds["label"] <= len(kept) + len(uncertain)
    assert list(store.integrity.damaged()) == []


def test_a_primary_that_is_cut_off_is_replaced_and_nothing_acknowledged_is_lost(
    members: Members,
    patient_store: Callable[[], Store],
    make_label: Callable[..., LabelDoc],
) -> None:
    store = patient_store()
    store.labels.put(make_label("before"))
    first = members.primary()
    members.freeze(first)
    until(lambda: members.primary() is not None)
    other = patient_store()
    assert other.labels.put(make_label("meanwhile"))
    members.wake()
    assert store.labels.put(make_label("afterwards"))
    keys = {"before", "meanwhile", "afterwards"}
    assert store.labels.among(keys) == other.labels.among(keys) == keys


def test_a_set_without_a_primary_is_told_in_one_line(
    members: Members, settings: DatabaseSettings, program: Callable[..., Any]
) -> None:
    connect(settings).client.close()
    first = members.primary()
    for port in members.ports:
        if port != first:
            members.freeze(port)
    until(lambda: members.primary() is None)
    with pytest.raises(InputError, match="its replica set has no primary at the moment"):
        connect(settings)
    done = program(members.uri(), "campaign", "list")
    assert done.returncode == 2
    assert "its replica set has no primary at the moment" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Topology" not in done.stderr


def test_a_server_that_takes_no_more_connections_is_told_in_one_line(
    members: Members, settings: DatabaseSettings
) -> None:
    primary = members.primary()
    taken: list[socket.socket] = []
    alone = f"mongodb://127.0.0.1:{primary}/al_charge?authSource=admin&directConnection=true"
    with MongoClient[Any](alone, username="root", password=PASSWORD) as client:
        most = client.admin.command("serverStatus")["connections"]["available"]
    with pytest.raises(InputError, match="as many connections as it allows") as told:
        for _ in range(20):  # others give theirs back meanwhile
            taken += [socket.create_connection(("127.0.0.1", primary or 0)) for _ in range(most)]
            connect(DatabaseSettings(uri=alone)).client.close()
    assert "\n" not in str(told.value) and "Topology" not in str(told.value)
    for one in taken:
        one.close()


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs a command with a database, and a login from the environment."""
    import sys

    from al_charge.store.settings import URI_ENV

    def run(uri: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "al_charge", *arguments],
            env=os.environ | {URI_ENV: uri, USERNAME_ENV: "root", PASSWORD_ENV: PASSWORD},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
