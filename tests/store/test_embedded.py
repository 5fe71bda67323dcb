"""The embedded server: private, shared by processes, and back after every kind of kill."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from al_charge.errors import AlChargeError, InputError
from al_charge.store import embedded, mongod
from al_charge.store.addresses import complete_uri, socket_uri_parts
from al_charge.store.embedded import EmbeddedServer

START = """
import sys
from pathlib import Path
from al_charge.store.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.pid)
"""


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home for the tests that leave a working server behind them."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def module_server(shared_home: Path) -> Iterator[EmbeddedServer]:
    """Return the server of the shared home, ended with the module."""
    server = EmbeddedServer(shared_home)
    yield server
    end(server)


@pytest.fixture
def server(module_server: EmbeddedServer) -> EmbeddedServer:
    """Return a server that runs."""
    module_server.start()
    return module_server


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Return a server in a home of its own, not started."""
    server = EmbeddedServer(tmp_path / "home")
    yield server
    end(server)


def end(server: EmbeddedServer) -> None:
    """End a server however the test left it, and remove its files: a hundred megabytes."""
    if server.pid is not None and mongod.is_locked(server.data):
        os.kill(server.pid, signal.SIGKILL)
        wait_for_death(server)
    shutil.rmtree(server.folder, ignore_errors=True)


def kill(server: EmbeddedServer) -> None:
    """Kill a server and wait until its process is gone."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_for_death(server)


def wait_for_death(server: EmbeddedServer) -> None:
    """Wait until nothing holds a server's data."""
    deadline = time.monotonic() + 10
    while mongod.is_locked(server.data):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def client_of(server: EmbeddedServer) -> MongoClient[dict[str, Any]]:
    """Return a client that is logged in; the server is started if need be."""
    return MongoClient(server.start().uri("admin"))


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_about_it_is_private(server: EmbeddedServer) -> None:
    running = server.start()
    assert mode(server.folder) == 0o700
    assert mode(server.folder / "credentials.json") == 0o600
    assert mode(running.address) == 0o700
    with client_of(server) as client:
        options = client["admin"].command("getCmdLineOpts")["parsed"]
    assert options["net"]["bindIp"] == str(running.address)
    assert options["security"]["authorization"] == "enabled"


def test_a_client_without_login_is_refused(server: EmbeddedServer) -> None:
    uri = complete_uri(socket_uri_parts(str(server.start().address)), "admin", None)
    with MongoClient[dict[str, Any]](uri) as client:
        assert client["admin"].command("ping")["ok"] == 1
        with pytest.raises(OperationFailure, match="requires authentication"):
            client["al_charge"]["labels"].find_one()
        with pytest.raises(OperationFailure, match="requires authentication"):
            client["admin"].command("createUser", "eve", pwd="x", roles=["root"])


def test_the_password_appears_in_no_log_or_process_list(server: EmbeddedServer) -> None:
    running = server.start()
    password = running.uri("x").split(":", 2)[2].split("@")[0]
    assert len(password) >= 32
    assert password not in server.log.read_text()
    assert password not in Path(f"/proc/{server.pid}/cmdline").read_text()
    assert password not in str(server.status()) + repr(running)


def test_other_processes_reuse_it(server: EmbeddedServer, shared_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, str(shared_home)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == server.pid


def test_processes_that_start_it_at_once_share_one(
    new_server: EmbeddedServer, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", START, str(tmp_path / "home")]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    pids = {int(starter.communicate(timeout=60)[0]) for starter in starters}
    assert pids == {new_server.pid}
    # It outlives those that started it.
    assert new_server.status()["running"] is True
    assert os.getsid(next(iter(pids))) != os.getsid(0)


def test_no_acknowledged_write_is_lost_by_kills(server: EmbeddedServer) -> None:
    acknowledged: list[int] = []
    with client_of(server) as client:
        client["al_charge"]["kills"].drop()
    for _ in range(3):
        with client_of(server) as client:
            writer = threading.Thread(target=write_until_failure, args=(client, acknowledged))
            writer.start()
            before = len(acknowledged)
            while len(acknowledged) < before + 20:
                time.sleep(0.01)
            kill(server)
            client.close()
            writer.join()
    with client_of(server) as client:
        kept = {document["_id"] for document in client["al_charge"]["kills"].find()}
    assert len(acknowledged) >= 60
    assert set(acknowledged) <= kept


def write_until_failure(client: MongoClient[dict[str, Any]], acknowledged: list[int]) -> None:
    """Insert single documents and note each that the server has acknowledged."""
    number = acknowledged[-1] + 1000 if acknowledged else 0
    try:
        while True:
            client["al_charge"]["kills"].insert_one({"_id": number})
            acknowledged.append(number)
            number += 1
    except PyMongoError:
        return


def test_it_stops_and_keeps_its_data(server: EmbeddedServer) -> None:
    with client_of(server) as client:
        client["al_charge"]["kept"].replace_one({"_id": 1}, {"x": 2}, upsert=True)
    assert server.stop() is True
    assert server.stop() is False
    status = server.status()
    assert (status["running"], status["pid"], status["socket"]) == (False, None, None)
    with client_of(server) as client:
        assert client["al_charge"]["kept"].find_one() == {"_id": 1, "x": 2}


def test_one_that_never_ran_can_be_stopped(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "none")
    assert server.stop() is False
    assert server.status()["running"] is False
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("stage", ["launched", "with user"])
def test_a_server_whose_starter_was_killed_is_adopted(
    new_server: EmbeddedServer, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def die(*args: object, **fields: object) -> None:
        raise KilledError

    write_state = EmbeddedServer._write_state

    def die_when_ready(self: EmbeddedServer, address: Path, *, ready: bool) -> None:
        if ready:
            raise KilledError
        write_state(self, address, ready=ready)

    with monkeypatch.context() as patch:
        if stage == "launched":
            patch.setattr(embedded.RunningServer, "ensure_user", die)
        else:
            patch.setattr(EmbeddedServer, "_write_state", die_when_ready)
        with pytest.raises(KilledError):
            new_server.start()
    pid = new_server.pid
    assert pid is not None
    with client_of(new_server) as client:
        assert client["al_charge"].list_collection_names() == []
    assert new_server.pid == pid


def test_data_held_by_a_server_elsewhere_are_refused(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = server.pid
    other = EmbeddedServer(tmp_path)
    other.data = server.data
    with pytest.raises(InputError, match=rf"locked by another mongod \(process {pid}\)"):
        other.start()
    (tmp_path / "mongodb" / "server.json").write_text('{"socket": "/x", "host": "node7"}')
    with pytest.raises(InputError, match=rf"process {pid} on node7"):
        other.start()
    with pytest.raises(InputError, match="locked"):
        other.stop()


def test_mongod_itself_refuses_locked_data(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="locked by another mongod"):
        mongod.launch(
            mongod.find_mongod(),
            data=server.data,
            address=tmp_path / "s.sock",
            log=tmp_path / "log",
            pid_file=tmp_path / "pid",
        )


def test_a_frozen_server_is_told(
    server: EmbeddedServer,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mongod, "SELECTION_TIMEOUT", 0.2)
    monkeypatch.setattr(embedded, "HOLDER_TIMEOUT", 0.5)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        silent = f"mongod (process {server.pid}, stopped) does not answer"
        status = server.status()
        assert (status["running"], status["silent"]) == (False, silent)
        with pytest.raises(InputError, match=rf"{re.escape(silent)}; wait, or end it"):
            server.start()
        monkeypatch.setenv("AL_CHARGE_HOME", str(server.folder.parent))
        code, out, _ = run("db", "status")
        assert code == 0
        assert out.startswith(f"{silent}; wait, or end it with 'al-charge db stop'\n")
        state = json.loads((server.folder / "server.json").read_text())
        (server.folder / "server.json").write_text(json.dumps(state | {"host": "elsewhere"}))
        for act in (server.start, server.stop):
            with pytest.raises(InputError, match=rf"process {server.pid} on elsewhere"):
                act()
        (server.folder / "server.json").write_text(json.dumps(state))
        assert server.stop() is True
    finally:
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)
    assert server.start().address.exists()
    assert server.status()["silent"] == ""


def test_a_server_that_answers_late_is_waited_for(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "SELECTION_TIMEOUT", 0.1)
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    waker = threading.Timer(2.0, os.kill, (pid, signal.SIGCONT))
    waker.start()
    try:
        server.start()
    finally:
        waker.join()
    assert server.pid == pid


def test_a_lost_login_is_told_and_another_one_made(new_server: EmbeddedServer) -> None:
    with client_of(new_server) as client:
        client["al_charge"]["kept"].insert_one({"_id": 1})
    login = new_server.folder / "credentials.json"
    first = login.read_text()
    with pytest.raises(InputError, match="its login works"):
        new_server.reset_password()
    assert login.read_text() == first
    new_server.stop()
    login.unlink()
    with pytest.raises(InputError, match=r"credentials.json: it is missing.*db reset-password"):
        new_server.start()
    assert not login.exists()
    login.write_text(first.replace('"password": "', '"password": "another'))
    with pytest.raises(InputError, match=r"not the one that its data were made with.*db reset"):
        new_server.start()
    login.write_text("{")
    with pytest.raises(InputError, match=r"credentials.json: it is damaged; .*db reset-password"):
        new_server.start()
    new_server.reset_password()
    assert mode(login) == 0o600
    assert json.loads(login.read_text())["password"] not in first
    with client_of(new_server) as client:
        assert client["al_charge"]["kept"].find_one() == {"_id": 1}
        options = client["admin"].command("getCmdLineOpts")["parsed"]
    assert options["security"]["authorization"] == "enabled"
    anonymous = complete_uri(socket_uri_parts(str(new_server.start().address)), "admin", None)
    with (
        MongoClient[dict[str, Any]](anonymous) as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client["al_charge"]["kept"].find_one()


def test_a_password_is_made_only_for_data_that_are_there(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddedServer, "start", fail)
        with pytest.raises(InputError, match="there are no data of a server"):
            EmbeddedServer(tmp_path).reset_password()


def fail(self: EmbeddedServer) -> None:
    """Be a server that does not start."""
    raise InputError("no")


FILES = ["credentials.json", "server.json", "start.lock", "data/mongod.lock", "mongod.log"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_made(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(tmp_path)
    (server.folder / "data").mkdir(parents=True)
    for file in FILES:
        (server.folder / file).write_text("{}")
    login = {"username": "al-charge", "password": "only"}
    (server.folder / "credentials.json").write_text(json.dumps(login))
    before = contents(server.folder)
    open_file = Path.open

    def broken(path: Path, *args: Any, **fields: Any) -> Any:
        if path == server.folder / name:
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, *args, **fields)

    started: list[Path] = []
    monkeypatch.setattr(Path, "open", broken)
    monkeypatch.setattr(mongod, "launch", lambda program, *, data, **_: started.append(data))
    act = server.status if name == "mongod.log" else server.start
    with pytest.raises(InputError, match=f"{name}: .*{os.strerror(number)}"):
        act()
    monkeypatch.setattr(Path, "open", open_file)
    assert contents(server.folder) == before
    assert not started


def contents(folder: Path) -> dict[str, str]:
    """Return what the files of a folder hold, apart from locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "start.lock")
    return {str(path): path.read_text() for path in files}


def test_it_stops_without_its_login(server: EmbeddedServer) -> None:
    login = server.folder / "credentials.json"
    kept = login.read_text()
    login.write_text("damaged")
    assert server.status()["running"] is True
    try:
        assert server.stop() is True
        assert server.stop() is False
    finally:
        login.write_text(kept)
    assert server.start().address.exists()


def test_where_its_process_is_not_seen_it_stops_by_its_login(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "holder", lambda data: None)
    assert server.stop() is True
    assert not mongod.is_locked(server.data)


def test_no_other_process_is_taken_for_the_server(server: EmbeddedServer, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    lock = data / "mongod.lock"
    for written in ("", "none", str(os.getpid()), str(server.pid), "99999999"):
        lock.write_text(written)
        assert mongod.holder(data) is None
    assert mongod.holder(server.data) == server.pid


@pytest.mark.mongod
def test_a_deep_home_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 25)
    with tempfile.TemporaryDirectory() as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        server = EmbeddedServer(home)
        address = server.start().address
        try:
            assert address.parent == Path(runtime) / f"al-charge-{os.geteuid()}"
            assert mode(address.parent) == 0o700
            # Found by its record, also by a process that has another runtime folder.
            patch.delenv("XDG_RUNTIME_DIR")
            assert server.start().address == address
        finally:
            end(server)


def test_a_server_that_dies_at_once_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers its starter, and then cannot write what the first user needs."""
    server = EmbeddedServer(tmp_path / "h")
    entry = {"s": "E", "id": 1, "msg": "WiredTiger error", "attr": {"message": "Too many open"}}

    def launch(program: Path, *, log: Path, **_: Any) -> None:
        log.write_text(json.dumps(entry) + "\n")

    monkeypatch.setattr(mongod, "launch", launch)
    with pytest.raises(AlChargeError, match=r"ended soon after its start: .*Too many open"):
        server.start()
    entry["attr"] = {"message": "No space left on device"}
    with pytest.raises(InputError, match="disk is full; free some space, or inodes"):
        server.start()
