"""What a user says of a database: unsafe settings are refused, weak ones told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from al_charge.errors import InputError
from al_charge.store.addresses import Credentials, complete_uri, split_uri
from al_charge.store.credentials import find_credentials, forget_secrets, read_private, tls_options
from al_charge.store.settings import (
    CREDENTIALS_ENV,
    KEY_PASSWORD_ENV,
    PASSWORD_ENV,
    URI_ENV,
    USERNAME_ENV,
    DatabaseSettings,
    settings_from_environment,
)


def private(path: Path, text: str = "x") -> Path:
    """Write a file that its owner alone can read."""
    path.write_text(text)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "option",
    [
        "tlsInsecure=true",
        "tlsinsecure=TRUE",
        "tlsAllowInvalidCertificates=true",
        "tlsAllowInvalidHostnames=true",
        "tls=true&tlsAllowInvalidHostnames=1",
        "tls=true;tlsInsecure=true",
    ],
)
def test_certificates_are_always_checked(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="let anybody pass for the server"):
        DatabaseSettings(uri=f"mongodb://h/?{option}")
    monkeypatch.setenv(URI_ENV, f"mongodb://h/?{option}")
    with pytest.raises(InputError, match=f"{URI_ENV}: .*tls_ca_file"):
        settings_from_environment()
    assert DatabaseSettings(uri="mongodb://h/?tlsInsecure=false").uri


@pytest.mark.parametrize(
    "fields",
    [
        {"uri": "mongodb://h/?tls=false", "tls_ca_file": "ca.pem"},
        {"uri": "mongodb://h/?SSL=false", "tls_certificate_key_file": "me.pem"},
        {"uri": "mongodb://h", "x509": True},
        {"uri": "mongodb://h/?tlsCertificateKeyFilePassword=x"},
        {"uri": "mongodb://h/?a=b;tlsCertificateKeyFilePassword=x"},
        {"uri": "mongodb://h", "tls_insecure": True},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DatabaseSettings(**fields)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mongodb://localhost", False),
        ("mongodb://127.0.0.1:27017,[::1]:2/", False),
        ("mongodb://%2Frun%2Fm.sock/x", False),
        ("mongodb://db.group/?tls=true", False),
        ("mongodb+srv://cluster.example.org", False),
        ("mongodb+srv://cluster.example.org/?tls=false", True),
        ("mongodb://db.group", True),
        ("mongodb://localhost,db.group", True),
        ("mongodb://localhost.example.org", True),
        ("mongodb://127.example.org", True),
    ],
)
def test_data_in_the_clear_are_told(uri: str, told: bool) -> None:
    found = DatabaseSettings(uri=uri).insecurity()
    assert (found is not None) == told
    assert found is None or ("encryption" in found and "\n" not in found)


def test_a_field_for_tls_is_enough(tmp_path: Path) -> None:
    ca = private(tmp_path / "ca &=?.pem")
    settings = DatabaseSettings(uri="mongodb://db.group", tls_ca_file=ca)
    assert settings.insecurity() is None
    uri = complete_uri(settings.parts, "x", None, tls_options(settings))
    assert "tls=true" in uri and "ca+%26%3D%3F.pem" in uri


def test_a_certificate_is_the_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = private(tmp_path / "me.pem")
    monkeypatch.setenv(USERNAME_ENV, "ada")
    monkeypatch.setenv(PASSWORD_ENV, "s3cret")
    monkeypatch.setenv(KEY_PASSWORD_ENV, "k3y&")
    settings = DatabaseSettings(
        uri="mongodb://h/x?authSource=admin", tls_certificate_key_file=key, x509=True
    )
    assert find_credentials(settings) is None
    uri = complete_uri(settings.parts, "x", find_credentials(settings), tls_options(settings))
    assert "authMechanism=MONGODB-X509" in uri and "authSource=%24external" in uri
    assert "admin" not in uri and "s3cret" not in uri
    assert "tlsCertificateKeyFilePassword=k3y%26" in uri
    assert "k3y" not in repr(settings)
    key.chmod(0o640)
    with pytest.raises(InputError, match=f"chmod 600 {key}"):
        tls_options(settings)


def test_a_certificate_in_the_uri_is_private_as_well(tmp_path: Path) -> None:
    key = private(tmp_path / "me.pem")
    settings = DatabaseSettings(uri=f"mongodb://h/?tls=true&tlscertificatekeyfile={key}")
    tls_options(settings)
    key.chmod(0o604)
    with pytest.raises(InputError, match="others can read it"):
        tls_options(settings)


def test_missing_files_are_told(tmp_path: Path) -> None:
    for fields in (
        {"tls_ca_file": tmp_path / "none"},
        {"tls_certificate_key_file": tmp_path / "none"},
        {"tls_ca_file": tmp_path},
    ):
        with pytest.raises(InputError, match="cannot read it"):
            tls_options(DatabaseSettings(uri="mongodb://h", **fields))  # type: ignore[arg-type]
    other = tmp_path / "binary"
    other.write_bytes(b"\xff\xfe\x00")
    other.chmod(0o600)
    with pytest.raises(InputError, match="not text"):
        read_private(other, "x")


def test_a_credentials_file_may_be_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DatabaseSettings(uri="mongodb://h")
    login = private(tmp_path / "a", json.dumps({"username": "ada", "password": "s3cret"}))
    monkeypatch.setenv(CREDENTIALS_ENV, str(login))
    assert find_credentials(settings) == Credentials("ada", "s3cret")
    monkeypatch.setenv(USERNAME_ENV, "ben")
    monkeypatch.setenv(PASSWORD_ENV, "other")
    assert find_credentials(settings) == Credentials("ben", "other")


def test_programs_that_are_started_inherit_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = [PASSWORD_ENV, KEY_PASSWORD_ENV, "MINE", "KEY"]
    for name in (*secret, USERNAME_ENV):
        monkeypatch.setenv(name, "x")
    forget_secrets(None)
    assert PASSWORD_ENV not in os.environ and "MINE" in os.environ
    forget_secrets(
        DatabaseSettings(uri="mongodb://h", password_env="MINE", tls_key_password_env="KEY")
    )
    assert not set(secret) & set(os.environ)
    assert os.environ[USERNAME_ENV] == "x"


def test_users_live_where_the_uri_says() -> None:
    for uri, keeper in (
        ("mongodb://h", "admin"),
        ("mongodb://h/x", "x"),
        ("mongodb://h/x?authSource=admin", "admin"),
        ("mongodb://h/x?AUTHSOURCE=y", "y"),
    ):
        assert DatabaseSettings(uri=uri).login_database == keeper


def test_options_are_left_out_by_name_whatever_their_value() -> None:
    parts = split_uri("mongodb://h/x?authMechanismProperties=A:b=c&tls=true&AUTHSOURCE=admin")
    assert parts is not None
    assert parts.without("authMechanismProperties", "authSource").options == ("tls=true",)
