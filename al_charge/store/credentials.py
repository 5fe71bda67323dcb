"""Where logins come from: the environment, or files that only their owner can read."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from al_charge.errors import InputError
from al_charge.store.addresses import Credentials, UriParts
from al_charge.store.settings import (
    CREDENTIALS_ENV,
    KEY_PASSWORD_ENV,
    PASSWORD_ENV,
    USERNAME_ENV,
    DatabaseSettings,
)

LARGEST = 2**16
"""Bytes of a file that holds a secret."""
_FORM = 'write {"username": "...", "password": "..."}'


def find_credentials(settings: DatabaseSettings) -> Credentials | None:
    """Return the user name and password to log in with.

    Parameters
    ----------
    settings
        The database.

    Returns
    -------
    Credentials or None
        None where neither settings nor environment give any, or a certificate is the login.

    Raises
    ------
    InputError
        If a variable or file that the settings name is missing, readable by others or incomplete.
    """
    if settings.uses_certificate_login:
        return None
    if settings.credentials_file is not None:
        return read_credentials(settings.credentials_file)
    username = _from_environment(settings.username_env, USERNAME_ENV) or settings.parts.user
    password = _from_environment(settings.password_env, PASSWORD_ENV)
    if username and password:
        return Credentials(username, password)
    if not password and (named := os.environ.get(CREDENTIALS_ENV)):
        return read_credentials(Path(named).expanduser())
    if not (username or password) or _logs_in_otherwise(settings.parts):
        return None
    lacking = ("password", PASSWORD_ENV) if username else ("user name", USERNAME_ENV)
    raise InputError(
        f"the {lacking[0]} is missing",
        where=f"database {settings.uri}",
        remedy=f"set {lacking[1]}, or name a credentials_file",
    )


def read_credentials(path: Path) -> Credentials:
    """Read a credentials file, JSON with ``username`` and ``password``.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Credentials
        What it holds.

    Raises
    ------
    InputError
        If it cannot be read, others can read it, or a field is missing.
    """
    where = f"credentials file {path}"
    text = read_private(path, where)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("it is not JSON", where=where, remedy=_FORM) from error
    fields = document if isinstance(document, dict) else {}
    username, password = fields.get("username"), fields.get("password")
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        raise InputError(
            "it needs two strings, 'username' and 'password'", where=where, remedy=_FORM
        )
    return Credentials(username, password)


def read_private(path: Path, where: str) -> str:
    """Return the text of a file that nobody but its owner may read.

    Parameters
    ----------
    path
        The file.
    where
        What the file is, for the message.

    Returns
    -------
    str
        Its content.

    Raises
    ------
    InputError
        If it cannot be read, is not text, or long, or others can read it.
    """
    try:
        with path.open("rb") as file:
            # Of the open file, so that the file that is read is the one that was checked.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise InputError(
                    f"others can read it (mode {mode:04o})", where=where, remedy=f"chmod 600 {path}"
                )
            if len(content := file.read(LARGEST + 1)) > LARGEST:
                raise InputError(f"it has more than {LARGEST} bytes", where=where)
            return content.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=where) from error
    except UnicodeDecodeError as error:
        raise InputError("it is not text", where=where) from error


def forget_secrets(settings: DatabaseSettings | None) -> None:
    """Remove passwords from this process's environment, which the programs it starts inherit.

    Parameters
    ----------
    settings
        The database, which may name variables of its own; None for the embedded server.
    """
    names = [PASSWORD_ENV, KEY_PASSWORD_ENV]
    if settings is not None:
        names += [settings.password_env or "", settings.tls_key_password_env or ""]
    for name in filter(None, names):
        os.environ.pop(name, None)


def tls_options(settings: DatabaseSettings) -> dict[str, str]:
    """Return the options of a URI by which a client uses TLS as the settings say.

    Parameters
    ----------
    settings
        The database.

    Returns
    -------
    dict
        Values by option, not yet quoted; empty without TLS. May hold a password.

    Raises
    ------
    InputError
        If a file cannot be read, or others can read one that holds a secret.
    """
    key_file = settings.key_file
    options: dict[str, str] = {}
    if settings.wants_tls:
        options["tls"] = "true"
    if settings.tls_ca_file is not None:
        _refuse_unreadable(settings.tls_ca_file)
        options["tlsCAFile"] = str(settings.tls_ca_file)
    if key_file is not None:
        read_private(key_file, f"certificate key file {key_file}")
        options["tlsCertificateKeyFile"] = str(key_file)
        if password := _key_password(settings):
            options["tlsCertificateKeyFilePassword"] = password
    if settings.x509:
        options |= {"authMechanism": "MONGODB-X509", "authSource": "$external"}
    return options


def _key_password(settings: DatabaseSettings) -> str | None:
    file = settings.tls_key_password_file
    if file is not None:
        return read_private(file, f"password file {file}").strip()
    return _from_environment(settings.tls_key_password_env, KEY_PASSWORD_ENV)


def _refuse_unreadable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=f"CA file {path}") from error


def _logs_in_otherwise(parts: UriParts) -> bool:
    """Tell whether the URI chooses a way to log in that may need no password."""
    return parts.option("authMechanism") is not None


def _from_environment(named: str | None, default: str) -> str | None:
    """Return the variable that the settings name, or else the default one if it is set."""
    if named is None:
        return os.environ.get(default)
    value = os.environ.get(named)
    if not value:
        raise InputError(
            "this environment variable is not set", where=named, remedy=f"export {named}=..."
        )
    return value
