"""`db/`: a real server with the shipped configuration, and the users that its README makes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, OperationFailure

from al_charge.errors import InputError
from al_charge.fw.launchpad import connect_launchpad
from al_charge.store.connection import connect
from al_charge.store.mongo import Store
from al_charge.store.mongod import find_mongod
from al_charge.store.settings import CREDENTIALS_ENV, KEY_PASSWORD_ENV, URI_ENV, DatabaseSettings

DB = Path(__file__).parents[2] / "db"
CONFIGURATION: dict[str, Any] = yaml.safe_load((DB / "mongod.conf").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((DB / "compose.yaml").read_text())
CERTIFICATE_USER = "CN=dora,O=group"
KEY_PASSWORD = "key-canary"

Stored = dict[str, Any]


@pytest.fixture
def log_in(group: Any) -> Iterator[Callable[..., Database[Stored]]]:
    """Return a function that connects with a campaign file's fields."""
    opened: list[Database[Stored]] = []

    def connected(**fields: Any) -> Database[Stored]:
        known = {"uri": group.uri, "tls_ca_file": group.ca_file}
        opened.append(connect(DatabaseSettings(**known | fields)))
        return opened[-1]

    yield connected
    for database in opened:
        database.client.close()


@pytest.fixture
def dora(group: Any, tmp_path: Path) -> Path:
    """Return the certificate and encrypted key of the user who logs in by them."""
    path: Path = group.ca.issue(tmp_path / "dora.pem", "dora", "group", password=KEY_PASSWORD)
    return path


@pytest.mark.mongod
def test_strangers_are_refused(group: Any) -> None:
    with (
        MongoClient[Stored](group.uri, tls=True, tlsCAFile=str(group.ca_file)) as client,
        pytest.raises(OperationFailure, match="requires authentication"),
    ):
        client["al_charge"]["labels"].find_one()
    with (
        MongoClient[Stored](group.uri, serverSelectionTimeoutMS=500) as client,
        pytest.raises(ConnectionFailure),
    ):
        client["al_charge"]["labels"].find_one()


@pytest.mark.mongod
def test_roles_by_password(group: Any, log_in: Any) -> None:
    worker = log_in(credentials_file=group.login("worker"))
    Store(worker).ensure_schema()
    worker["fireworks"].insert_one({"_id": 1})
    with pytest.raises(OperationFailure, match="not authorized"):
        worker["labels"].drop()
    with pytest.raises(OperationFailure, match="not authorized"):
        worker.client["other"]["anything"].insert_one({})
    reader = log_in(credentials_file=group.login("reader"))
    assert reader["fireworks"].count_documents({}) == 1
    with pytest.raises(OperationFailure, match="not authorized"):
        reader["labels"].insert_one({})
    admin = log_in(credentials_file=group.login("admin"))
    assert admin["fireworks"].delete_one({"_id": 1}).deleted_count == 1
    assert len(admin.client.admin.command("replSetGetStatus")["members"]) == 1


@pytest.mark.mongod
def test_a_certificate_is_a_login(
    group: Any, log_in: Any, dora: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(KEY_PASSWORD_ENV, KEY_PASSWORD)
    fields = {"tls_certificate_key_file": dora, "x509": True}
    with pytest.raises(OperationFailure, match="not authorized"):
        log_in(**fields)["labels"].insert_one({})
    launchpad = connect_launchpad(
        DatabaseSettings(uri=group.uri, tls_ca_file=group.ca_file, **fields)
    )
    with launchpad.connection:
        assert launchpad.get_fw_ids() == []

    monkeypatch.delenv(KEY_PASSWORD_ENV)
    secret = tmp_path / "password"
    secret.write_text(KEY_PASSWORD + "\n")
    secret.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        log_in(**fields, tls_key_password_file=secret)
    secret.chmod(0o600)
    assert log_in(**fields, tls_key_password_file=secret)["labels"].count_documents({}) == 0
    monkeypatch.setenv("MINE", KEY_PASSWORD)
    assert log_in(**fields, tls_key_password_env="MINE")["labels"].count_documents({}) == 0


@pytest.mark.mongod
def test_a_certificate_may_be_named_in_the_environment(
    group: Any, dora: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_PASSWORD_ENV, KEY_PASSWORD)
    options = f"tls=true&tlsCAFile={group.ca_file}&tlsCertificateKeyFile={dora}"
    uri = f"mongodb://localhost:{group.port}/al_charge?{options}&authMechanism=MONGODB-X509"
    monkeypatch.setenv(URI_ENV, uri)
    code, out, err = run("campaign", "list", "--json")
    assert (code, err, json.loads(out)["campaigns"]) == (0, "", [])
    dora.chmod(0o640)
    code, _, err = run("campaign", "list")
    assert code == 2 and f"chmod 600 {dora}" in err


@pytest.mark.mongod
def test_wrong_certificates_are_refused_in_one_line(
    group: Any, log_in: Any, dora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_charge.store.addresses.SELECTION_TIMEOUT", 1.0)
    worker = {"credentials_file": group.login("worker")}
    other = type(group.ca).new("another authority")
    stranger = {
        "tls_certificate_key_file": other.issue(tmp_path / "eve.pem", "dora", "group"),
        "x509": True,
    }
    unknown = {
        "tls_certificate_key_file": group.ca.issue(tmp_path / "eva.pem", "eva", "group"),
        "x509": True,
    }
    locked = {"tls_certificate_key_file": dora, "x509": True}
    cases: list[tuple[dict[str, Any], str]] = [
        (worker | {"tls_ca_file": None}, "no MongoDB answers"),
        (
            worker | {"uri": group.uri + "&tls=true", "tls_ca_file": None},
            "certificate is not trusted",
        ),
        (worker | {"tls_ca_file": other.write(tmp_path / "other.pem")}, "is not trusted"),
        (worker | {"uri": group.uri.replace("localhost", "127.0.0.1")}, "is not trusted"),
        (worker | {"tls_ca_file": tmp_path / "none"}, "No such file"),
        (stranger, "no MongoDB answers"),
        (unknown, "refuses"),
        (locked, "private key"),
    ]
    for number, (fields, why) in enumerate(cases):
        monkeypatch.setenv(KEY_PASSWORD_ENV, "wrong-canary")
        with pytest.raises(InputError) as caught:
            log_in(**fields)
        assert why in str(caught.value), number
        assert "_ssl" not in str(caught.value), number
        assert "canary" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.mongod
def test_set_up_is_done_once(
    group: Any, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(URI_ENV, f"{group.uri}&tls=true&tlsCAFile={group.ca_file}")
    code, _, err = run("db", "initiate", f"localhost:{group.port}")
    assert code == 2 and "the server refuses" in err and err.count("\n") == 1
    code, _, err = run("db", "initiate", "localhost")
    assert code == 2 and "write host:port" in err
    code, _, err = run(
        "db", "users", "add", "eve", "--role", "admin", "--credentials", str(tmp_path / "e")
    )
    assert code == 2 and "does not take a first user" in err
    monkeypatch.setenv(CREDENTIALS_ENV, str(group.login("admin")))
    code, out, _ = run("db", "users", "list", "--json")
    users = {user["name"]: user["role"] for user in json.loads(out)["users"]}
    assert users == {
        "admin": "admin",
        "worker": "worker",
        "reader": "reader",
        CERTIFICATE_USER: "reader",
    }
    monkeypatch.delenv(URI_ENV)
    assert run("db", "initiate", "localhost:1")[0] == 2


@pytest.mark.mongod
def test_a_server_without_logins_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: Any
) -> None:
    (tmp_path / "data").mkdir()
    address = tmp_path / "m.sock"
    server = [str(find_mongod()), "--dbpath", str(tmp_path / "data"), "--bind_ip", str(address)]
    log = ["--nounixsocket", "--fork", "--logpath", str(tmp_path / "log")]
    subprocess.run([*server, *log], check=True, capture_output=True, timeout=120)
    try:
        uri = f"mongodb://{str(address).replace('/', '%2F')}/al_charge"
        for login in ({}, {"credentials_file": group.login("worker")}):
            with pytest.raises(InputError, match=r"lets anybody in.*; start it with") as caught:
                connect(DatabaseSettings(uri=uri, **login))
            assert caught.value.where == f"database {uri}"
    finally:
        subprocess.run([*server[:3], "--shutdown"], check=True, capture_output=True, timeout=60)


def test_configuration_is_closed_to_others() -> None:
    assert CONFIGURATION["net"]["bindIp"] == "127.0.0.1"
    assert CONFIGURATION["net"]["tls"]["mode"] == "requireTLS"
    assert CONFIGURATION["security"]["authorization"] == "enabled"


def test_container_runs_the_same_server() -> None:
    (service,) = COMPOSE["services"].values()
    program, *options = service["command"]
    unit = (DB / "mongod.service").read_text()
    assert program == "mongod" and f"/mongod {' '.join(options)}" in unit
    mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
    assert mounts == {
        "./mongod.conf": "/etc/al-charge/mongod.conf",
        "/srv/al-charge": "/srv/al-charge",
    }
    for path in (
        CONFIGURATION["storage"]["dbPath"],
        CONFIGURATION["systemLog"]["path"],
        CONFIGURATION["security"]["keyFile"],
        CONFIGURATION["net"]["tls"]["certificateKeyFile"],
    ):
        assert path.startswith("/srv/al-charge/")
    assert service["user"].startswith("${") and service["network_mode"] == "host"
    assert "environment" not in service


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "al-charge-mongod.service"
    text = (DB / "mongod.service").read_text()
    unit.write_text(text.replace("/usr/bin/mongod", shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "al-charge-mongod" in line]
    assert done.returncode == 0 and not ours, done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_certificates_are_made_as_the_readme_says(tmp_path: Path) -> None:
    lines = [line.strip() for line in (DB / "README.md").read_text().splitlines()]
    commands = [line for line in lines if line.startswith(("openssl req", "openssl x509", "cat "))]
    assert len(commands) == 4
    for command in commands:
        subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=60
        )
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["db.group", "localhost"]
    assert b"PRIVATE KEY" in (tmp_path / "server.pem").read_bytes()


def test_unit_writes_only_where_the_server_does() -> None:
    lines = (DB / "mongod.service").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    assert settings["ReadWritePaths"] == "/srv/al-charge"
    assert settings["ProtectSystem"] == "strict"
    assert settings["User"] == "al-charge"
