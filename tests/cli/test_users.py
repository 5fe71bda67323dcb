"""`al-charge db users`, on the embedded server and on an external one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pymongo import MongoClient

from al_charge.cli.users import NEW_PASSWORD_ENV
from al_charge.store.addresses import socket_uri_parts
from al_charge.store.credentials import read_credentials
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.settings import CREDENTIALS_ENV, PASSWORD_ENV, URI_ENV, USERNAME_ENV

Run = Callable[..., tuple[int, str, str]]
USERS = ("anna", "ben", "carl", "CN=dora,O=group")


@pytest.fixture
def clean(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[None]:
    """Remove what the tests make."""
    yield
    for name in USERS:
        for keeper in ("admin", "$external"):
            if mongodb_client[keeper].command("usersInfo", name)["users"]:
                mongodb_client[keeper].command("dropUser", name)
    mongodb_client["al_charge"].command("dropAllRolesFromDatabase")
    mongodb_client.drop_database("al_charge")


@pytest.fixture
def external(private_home: Path) -> str:
    """Return the URI of the session's server, as that of an external one."""
    parts = socket_uri_parts(str(EmbeddedServer(private_home).start().address))
    return f"{parts.scheme}{parts.hosts}/al_charge?authSource=admin"


@pytest.mark.usefixtures("clean")
def test_users_of_the_embedded_server(run: Run, tmp_path: Path, external: str) -> None:
    login = tmp_path / "anna.json"
    code, out, err = run(
        "db", "users", "add", "anna", "--role", "worker", "--credentials", str(login)
    )
    assert (code, out) == (0, "user 'anna' created, role worker\n"), err
    assert login.stat().st_mode & 0o777 == 0o600
    password = read_credentials(login).password
    assert len(password) >= 32 and password not in out + err
    assert [path.name for path in tmp_path.iterdir()] == ["anna.json"]

    code, out, err = run(
        "db", "users", "add", "ben", "--role", "reader", "--credentials", str(login)
    )
    assert code == 2 and "the file exists" in err
    code, out, err = run("db", "users", "list", "--json")
    listed = {user["name"]: user["role"] for user in json.loads(out)["users"]}
    assert listed == {"al-charge": "admin", "anna": "worker"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(URI_ENV, external)
        patch.setenv(CREDENTIALS_ENV, str(login))
        assert json.loads(run("campaign", "list", "--json")[1])["campaigns"] == []
        other = str(tmp_path / "ben.json")
        code, out, err = run("db", "users", "add", "b", "--role", "admin", "--credentials", other)
        assert code == 2 and "your user may not do this" in err
        login.chmod(0o644)
        code, out, err = run("campaign", "list")
        assert code == 2 and "chmod 600" in err
        login.chmod(0o600)

    assert run("db", "users", "password", "anna", "--credentials", str(login))[0] == 0
    renewed = read_credentials(login).password
    assert renewed != password
    code, _, err = run("db", "users", "password", "other", "--credentials", str(login))
    assert code == 2 and "holds the password of 'anna'" in err
    assert read_credentials(login).password == renewed
    code, out, err = run("db", "users", "remove", "al-charge")
    assert code == 2 and "logged in as" in err
    assert run("db", "users", "remove", "anna")[0] == 0
    code, out, err = run("db", "users", "list")
    assert code == 0 and "anna" not in out and "al-charge" in out


@pytest.mark.usefixtures("clean")
def test_passwords_are_typed_or_come_from_the_environment(
    run: Run, external: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(click, "prompt", lambda *_, **options: typed(options))

    def typed(options: dict[str, Any]) -> str:
        assert options["hide_input"] and options["confirmation_prompt"]
        return "typed-canary"

    assert run("db", "users", "add", "ben", "--role", "reader") == (
        0,
        "user 'ben' created, role reader\n",
        "",
    )
    monkeypatch.setenv(NEW_PASSWORD_ENV, "given-canary")
    assert run("db", "users", "add", "carl", "--role", "reader")[0] == 0
    for name, password in (("ben", "typed-canary"), ("carl", "given-canary")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(URI_ENV, external)
            patch.setenv(USERNAME_ENV, name)
            patch.setenv(PASSWORD_ENV, password)
            assert json.loads(run("campaign", "list", "--json")[1])["campaigns"] == []
            code, _, err = run("campaign", "submit", os.fspath(small_campaign(Path.cwd())))
            assert code == 2 and "your user may not do this" in err and err.count("\n") == 1


@pytest.mark.usefixtures("clean")
def test_certificates_stand_for_users(run: Run, tmp_path: Path) -> None:
    name = "CN=dora,O=group"
    assert run("db", "users", "add", name, "--role", "reader", "--certificate")[0] == 0
    code, out, _ = run("db", "users", "list", "--json")
    assert {"name": name, "role": "reader", "login": "certificate"} in json.loads(out)["users"]
    code, _, err = run("db", "users", "password", name, "--credentials", str(tmp_path / "x"))
    assert code == 2 and "logs in by a certificate" in err
    code, _, err = run(
        "db", "users", "add", "e", "--role", "reader", "--certificate", "--credentials", "x"
    )
    assert code == 2 and "has no password" in err
    assert run("db", "users", "remove", name)[0] == 0


def test_a_server_with_users_takes_no_first_one(
    run: Run, external: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(URI_ENV, external)
    add = ("db", "users", "add", "eve", "--role", "admin", "--credentials", str(tmp_path / "e"))
    code, _, err = run(*add)
    assert code == 2 and "log in as an admin" in err and not list(tmp_path.iterdir())
    monkeypatch.setenv(URI_ENV, external.replace("authSource=admin", ""))
    code, _, err = run(*add)
    assert code == 2 and "authSource=admin" in err
    code, _, err = run("db", "users", "add", " ", "--role", "admin")
    assert code == 2 and "needs a name" in err
    code, _, err = run("db", "users", "add", "a", "--role", "owner")
    assert code == 2 and "'owner' is not one of" in err


def small_campaign(folder: Path) -> Path:
    """Return a campaign file of the repository."""
    return Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
