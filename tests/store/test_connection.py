"""Reaching databases: every refusal is one line that says what to do and hides the password."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymongo import MongoClient
from pymongo.database import Database

from al_charge.errors import InputError
from al_charge.store import addresses
from al_charge.store.addresses import Credentials, complete_uri, split_uri
from al_charge.store.connection import connect, launchpad_uri
from al_charge.store.credentials import find_credentials, read_credentials
from al_charge.store.embedded import EmbeddedServer
from al_charge.store.settings import (
    PASSWORD_ENV,
    URI_ENV,
    USERNAME_ENV,
    DatabaseSettings,
    settings_from_environment,
)

SECRET = "s3cret/@:%"


@pytest.fixture
def external_uri(private_home: Path, mongodb_client: MongoClient[dict[str, Any]]) -> str:
    """Return the URI of the session's server as that of an external one, without a login."""
    address = EmbeddedServer(private_home).start().address
    return complete_uri(addresses.socket_uri_parts(str(address)), "", None)


@pytest.fixture
def user(
    database: Database[dict[str, Any]], mongodb_client: MongoClient[dict[str, Any]]
) -> Iterator[str]:
    """Create a user of one database, with a password full of special characters."""
    admin = mongodb_client["admin"]
    roles = [{"role": "readWrite", "db": database.name}]
    admin.command("createUser", "ada", pwd=SECRET, roles=roles)
    yield "ada"
    admin.command("dropUser", "ada")


def write_credentials(path: Path, document: object, mode: int = 0o600) -> Path:
    """Write a credentials file."""
    path.write_text(json.dumps(document))
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "localhost",
        "http://host",
        "mongodb://",
        "mongodb:///x",
        "mongodb://h/x@y",
        "mongodb://@",
    ],
)
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValidationError, match="not a MongoDB URI"):
        DatabaseSettings(uri=uri)


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://ada:{SECRET[:6]}@host",
        "mongodb+srv://ada:s3cret@host/db?w=1",
        "mongodb://ada:@host",
        "mongodb://host/?tlsCertificateKeyFilePassword=s3cret",
        "mongodb://host/?authMechanismProperties=AWS_SESSION_TOKEN:s3cret",
    ],
)
def test_a_password_in_a_uri_is_refused_without_being_repeated(uri: str) -> None:
    with pytest.raises(ValidationError, match="may not hold a password") as caught:
        DatabaseSettings(uri=uri)
    assert "s3cret" not in str(caught.value)


def test_the_database_is_named_by_field_uri_or_default() -> None:
    assert DatabaseSettings(uri="mongodb://h").database_name == "al_charge"
    assert DatabaseSettings(uri="mongodb://h/mine").database_name == "mine"
    assert DatabaseSettings(uri="mongodb://h/mine", name="yours").database_name == "yours"
    with pytest.raises(ValidationError):
        DatabaseSettings(uri="mongodb://h", name="a.b")


def test_uris_are_completed_with_login_and_journal() -> None:
    parts = split_uri("mongodb://h1:1,[::1]:2/mine?replicaSet=r&journal=false")
    assert parts is not None
    uri = complete_uri(parts, "yours", Credentials("ada", SECRET))
    login, _, rest = uri.removeprefix("mongodb://").partition("@")
    assert login == "ada:s3cret%2F%40%3A%25"
    host, _, options = rest.partition("?")
    assert host == "h1:1,[::1]:2/yours"
    assert set(options.split("&")) == {
        "replicaSet=r",
        "journal=true",
        "serverSelectionTimeoutMS=5000",
        "authSource=mine",
    }
    kept = split_uri("mongodb://bob@h/?authSource=a&serverSelectionTimeoutMS=7")
    assert kept is not None
    assert complete_uri(kept, "x", None) == (
        "mongodb://bob@h/x?authSource=a&serverSelectionTimeoutMS=7&journal=true"
    )


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DatabaseSettings(uri="mongodb://h")
    assert find_credentials(settings) is None
    monkeypatch.setenv(USERNAME_ENV, "ada")
    with pytest.raises(InputError, match=f"the password is missing; set {PASSWORD_ENV}"):
        find_credentials(settings)
    monkeypatch.setenv(PASSWORD_ENV, SECRET)
    assert find_credentials(settings) == Credentials("ada", SECRET)
    monkeypatch.delenv(USERNAME_ENV)
    with pytest.raises(InputError, match="the user name is missing"):
        find_credentials(settings)
    named_in_uri = DatabaseSettings(uri="mongodb://bob@h")
    assert find_credentials(named_in_uri) == Credentials("bob", SECRET)


def test_named_variables_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DatabaseSettings(uri="mongodb://h", username_env="MY_USER", password_env="MY_PASS")
    with pytest.raises(InputError, match="MY_USER: this environment variable is not set"):
        find_credentials(settings)
    monkeypatch.setenv("MY_USER", "ada")
    monkeypatch.setenv("MY_PASS", SECRET)
    assert find_credentials(settings) == Credentials("ada", SECRET)


def test_certificates_need_no_password() -> None:
    settings = DatabaseSettings(uri="mongodb://cn@h/?authMechanism=MONGODB-X509")
    assert find_credentials(settings) is None


def test_credentials_files_are_private_and_complete(tmp_path: Path) -> None:
    login = {"username": "ada", "password": SECRET}
    assert read_credentials(write_credentials(tmp_path / "a", login)) == Credentials("ada", SECRET)
    with pytest.raises(InputError, match=r"mode 0640.*chmod 600"):
        read_credentials(write_credentials(tmp_path / "b", login, 0o640))
    with pytest.raises(InputError, match="needs two strings"):
        read_credentials(write_credentials(tmp_path / "c", {"username": "ada"}))
    with pytest.raises(InputError, match="needs two strings"):
        read_credentials(write_credentials(tmp_path / "d", ["ada"]))
    with pytest.raises(InputError, match="No such file"):
        read_credentials(tmp_path / "e")
    broken = write_credentials(tmp_path / "f", login)
    broken.write_text("username: ada")
    with pytest.raises(InputError, match="not JSON") as caught:
        read_credentials(broken)
    assert str(broken) in caught.value.where


def test_passwords_are_not_printed(user: str, external_uri: str, tmp_path: Path) -> None:
    credentials = Credentials("ada", SECRET)
    assert SECRET not in repr(credentials)
    login = write_credentials(tmp_path / "c", {"username": "ada", "password": SECRET})
    settings = DatabaseSettings(uri=external_uri, name="x", credentials_file=login)
    assert SECRET not in repr(settings)
    assert "s3cret" not in repr(EmbeddedServer().start())


def test_an_external_database_is_reached_with_a_login(
    database: Database[dict[str, Any]],
    user: str,
    external_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(USERNAME_ENV, user)
    monkeypatch.setenv(PASSWORD_ENV, SECRET)
    found = connect(DatabaseSettings(uri=external_uri, name=database.name))
    with found.client as client:
        found["x"].insert_one({"_id": 1})
        assert client.options.pool_options.appname == "al-charge"
        assert found.write_concern.document == {"j": True}
        assert "s3cret" not in repr(found)
    assert database["x"].count_documents({}) == 1


def test_a_wrong_password_is_refused_in_one_line(
    user: str, external_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(USERNAME_ENV, user)
    monkeypatch.setenv(PASSWORD_ENV, "wr0ng")
    with pytest.raises(InputError, match="refuses the user name or password") as caught:
        connect(DatabaseSettings(uri=external_uri, name="x"))
    assert "wr0ng" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_login_is_refused(external_uri: str) -> None:
    with pytest.raises(InputError, match=rf"does not let us read.*{USERNAME_ENV}"):
        connect(DatabaseSettings(uri=external_uri, name="x"))


def test_another_users_database_is_refused(
    user: str, external_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(USERNAME_ENV, user)
    monkeypatch.setenv(PASSWORD_ENV, SECRET)
    with pytest.raises(InputError, match="a role on it"):
        connect(DatabaseSettings(uri=external_uri, name="not_mine"))


def test_an_unreachable_server_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "SELECTION_TIMEOUT", 0.3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=r"no MongoDB answers there; check that it") as caught:
            connect(DatabaseSettings(uri=f"mongodb://127.0.0.1:{port}"))
        assert caught.value.where == f"database mongodb://127.0.0.1:{port}"


def test_a_server_of_another_kind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "SELECTION_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def hang_up() -> None:
            try:
                while True:
                    listener.accept()[0].close()
            except OSError:
                return

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match="no MongoDB answers"):
            connect(DatabaseSettings(uri=f"mongodb://127.0.0.1:{port}"))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(InputError, match="its URI is not valid"):
        connect(DatabaseSettings(uri="mongodb://h:notaport"))
    with pytest.raises(InputError, match="its URI is not valid"):
        connect(DatabaseSettings(uri="mongodb://h/?directConnection=perhaps"))


def test_the_environment_may_name_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_from_environment() is None
    monkeypatch.setenv(URI_ENV, "mongodb://h:1/mine")
    assert settings_from_environment() == DatabaseSettings(uri="mongodb://h:1/mine")
    monkeypatch.setenv(URI_ENV, "mongodb://ada:s3cret@h")
    with pytest.raises(InputError, match=f"{URI_ENV}: a URI may not hold a password") as caught:
        settings_from_environment()
    assert "s3cret" not in str(caught.value)


def test_the_embedded_server_is_the_default(mongodb_client: MongoClient[dict[str, Any]]) -> None:
    uri, name = launchpad_uri(None)
    assert name == "al_charge"
    assert "journal=true" in uri
    with connect(None).client as client:
        assert client.address == mongodb_client.address
