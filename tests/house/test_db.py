"""`db/`: a real server with the shipped configuration and users."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from al_charge.store.connection import connect
from al_charge.store.mongo import Store
from al_charge.store.mongod import find_mongod
from al_charge.store.settings import PASSWORD_ENV, USERNAME_ENV, DatabaseSettings

DB = Path(__file__).parents[2] / "db"
CONFIGURATION: dict[str, Any] = yaml.safe_load((DB / "mongod.conf").read_text())
PASSWORD = secrets.token_urlsafe(12)


def users() -> list[dict[str, Any]]:
    """Return the users of users.js, which are written as JSON."""
    match = re.search(r"const users = (\[.*?\n\]);", (DB / "users.js").read_text(), re.DOTALL)
    assert match is not None
    listed: list[dict[str, Any]] = json.loads(match[1])
    return listed


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a server with the shipped configuration, apart from folders and port."""
    folder = tmp_path_factory.mktemp("mongod")
    data = folder / "data"
    data.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    settings = json.loads(json.dumps(CONFIGURATION))
    settings["storage"]["dbPath"] = str(data)
    settings["systemLog"]["path"] = str(folder / "mongod.log")
    settings["net"] |= {"port": free, "unixDomainSocket": {"enabled": False}}
    configuration = folder / "mongod.conf"
    configuration.write_text(yaml.safe_dump(settings))
    command = [find_mongod(), "--config", configuration]
    subprocess.run([*command, "--fork"], check=True, capture_output=True, timeout=120)
    try:
        # A server without users lets the first one be made from its own machine.
        with MongoClient[dict[str, Any]]("127.0.0.1", free) as client:
            client["admin"].command("createUser", "admin", pwd=PASSWORD, roles=["root"])
        with MongoClient[dict[str, Any]](
            "127.0.0.1", free, username="admin", password=PASSWORD
        ) as client:
            for user in users():
                client["al_charge"].command(
                    "createUser", user["user"], pwd=PASSWORD, roles=user["roles"]
                )
        yield free
    finally:
        subprocess.run([find_mongod(), "--dbpath", data, "--shutdown"], check=True, timeout=60)


@pytest.fixture
def log_in(port: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that connects as one of the users."""

    def connected(user: str) -> Any:
        monkeypatch.setenv(USERNAME_ENV, user)
        monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
        return connect(DatabaseSettings(uri=f"mongodb://127.0.0.1:{port}/al_charge"))

    return connected


@pytest.mark.mongod
def test_server_refuses_strangers(port: int) -> None:
    with (
        MongoClient[dict[str, Any]]("127.0.0.1", port) as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client["al_charge"]["labels"].find_one()


@pytest.mark.mongod
def test_worker_may_do_all_that_campaigns_need(log_in: Any) -> None:
    database = log_in("worker")
    with database.client:
        store = Store(database)
        store.ensure_schema()
        store.ensure_schema()
        database["fireworks"].insert_one({"_id": 1})
        database["fireworks"].create_index("fw_id")
        assert database["fireworks"].count_documents({}) == 1
        with pytest.raises(OperationFailure, match="not authorized"):
            database.client["other"]["anything"].insert_one({})


@pytest.mark.mongod
def test_reader_reads_and_cannot_write(log_in: Any) -> None:
    database = log_in("reader")
    with database.client:
        assert database["fireworks"].count_documents({}) >= 0
        with pytest.raises(OperationFailure, match="not authorized"):
            database["labels"].insert_one({})
        with pytest.raises(OperationFailure, match="not authorized"):
            database["labels"].drop()


def test_configuration_is_closed_to_others() -> None:
    assert CONFIGURATION["net"]["bindIp"] == "127.0.0.1"
    assert CONFIGURATION["security"]["authorization"] == "enabled"


def test_container_is_closed_to_others() -> None:
    compose = yaml.safe_load((DB / "compose.yaml").read_text())
    service = compose["services"]["mongod"]
    assert "--auth" in service["command"]
    assert [port.split(":")[0] for port in service["ports"]] == ["127.0.0.1"]
    assert {volume.split(":")[0] for volume in service["volumes"]} == set(compose["volumes"])
    assert service["environment"]["MONGO_INITDB_ROOT_PASSWORD"].startswith("${")


def test_backup_is_complete_or_absent(tmp_path: Path) -> None:
    """Run it with a `mongodump` that writes its archive, then with one that fails half-way."""
    program = tmp_path / "mongodump"
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    target = tmp_path / "backups"
    target.mkdir()
    for exit_code in (0, 1):
        program.write_text(
            '#!/bin/bash\nfor a; do case $a in --archive=*) echo "$@" > "${a#*=}";; esac; done\n'
            f"exit {exit_code}\n"
        )
        program.chmod(0o755)
        done = subprocess.run(
            [DB / "backup.sh", target], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == exit_code
    (backup,) = target.glob("*.archive.gz")
    assert "--db al_charge" in backup.read_text()
    assert backup.stat().st_mode & 0o077 == 0
