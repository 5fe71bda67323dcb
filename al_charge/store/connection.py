"""Reaching the database: the embedded server, or any MongoDB by URI.

Passwords come from the environment or from a private file. They are put into URIs in memory only,
never into a campaign, a Firework or a message.
"""

from __future__ import annotations

import json
import os
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from al_charge.errors import InputError
from al_charge.store.addresses import Credentials, UriParts, complete_uri, split_uri

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

DEFAULT_NAME = "al_charge"
URI_ENV = "AL_CHARGE_DATABASE"
USERNAME_ENV = "AL_CHARGE_DATABASE_USER"
PASSWORD_ENV = "AL_CHARGE_DATABASE_PASSWORD"

_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13


class DatabaseSettings(BaseModel):
    """An external MongoDB: where it is, and where its credentials are found."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    uri: str = Field(description="mongodb://host:port or mongodb+srv://host, without a password")
    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,38}$",
        description="database; by default the one that the URI names, else al_charge",
    )
    username_env: str | None = Field(
        default=None,
        description=f"environment variable with the user name; {USERNAME_ENV} when absent",
    )
    password_env: str | None = Field(
        default=None,
        description=f"environment variable with the password; {PASSWORD_ENV} when absent",
    )
    credentials_file: Path | None = Field(
        default=None,
        description="JSON file with 'username' and 'password', readable by its owner only",
    )

    @field_validator("uri")
    @classmethod
    def _is_uri_without_password(cls, uri: str) -> str:
        parts = split_uri(uri)
        if parts is None:
            raise ValueError("this is no MongoDB URI; write it like mongodb://host:27017")
        if parts.has_password:
            raise ValueError(
                "a URI may not hold a password; put it into the environment variable "
                f"{PASSWORD_ENV} or name a credentials_file"
            )
        return uri.strip()

    @property
    def parts(self) -> UriParts:
        """The URI taken apart."""
        parts = split_uri(self.uri)
        if parts is None:  # the validator has refused it
            raise InputError("this is no MongoDB URI", where="database.uri")
        return parts

    @property
    def database_name(self) -> str:
        """The name of the database in use."""
        return self.name or self.parts.path or DEFAULT_NAME


def settings_from_environment() -> DatabaseSettings | None:
    """Return the database that AL_CHARGE_DATABASE names, None where it is not set.

    Raises
    ------
    InputError
        If it is no MongoDB URI, or holds a password.
    """
    uri = os.environ.get(URI_ENV)
    if not uri:
        return None
    try:
        return DatabaseSettings(uri=uri)
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(what, where=URI_ENV) from None


def connect(settings: DatabaseSettings | None) -> Database[dict[str, Any]]:
    """Return a database that answers and lets us read.

    Parameters
    ----------
    settings
        The database; None for the embedded server, which is started if it does not run.

    Raises
    ------
    InputError
        If it cannot be reached, or refuses us.
    """
    from pymongo.errors import ConnectionFailure, OperationFailure

    uri, name = launchpad_uri(settings)
    where = f"database {settings.uri}" if settings is not None else "embedded database"
    client = _client(uri, where)
    try:
        # Unlike a ping, this needs a login where the server has users.
        client[name]["schema"].find_one({}, {"_id": True})
    except ConnectionFailure as error:
        client.close()
        remedy = "check that it runs and that its host and port are right"
        if settings is None:
            remedy = "try again, or look at 'al-charge db status'"
        raise InputError("no MongoDB answers there", where=where, remedy=remedy) from error
    except OperationFailure as error:
        client.close()
        message = str((error.details or {}).get("errmsg", error))
        raise _refused(error.code, message, where) from error
    return client[name]


def launchpad_uri(settings: DatabaseSettings | None) -> tuple[str, str]:
    """Return the URI of a database, credentials included, and its name.

    For clients that are made in this process, such as FireWorks' LaunchPad in URI mode. Never
    store or print it.

    Parameters
    ----------
    settings
        The database; None for the embedded server, which is started if it does not run.
    """
    if settings is None:
        from al_charge.store.embedded import EmbeddedServer

        return EmbeddedServer().start().uri(DEFAULT_NAME), DEFAULT_NAME
    credentials = find_credentials(settings)
    return complete_uri(settings.parts, settings.database_name, credentials), settings.database_name


def find_credentials(settings: DatabaseSettings) -> Credentials | None:
    """Return who to log in as; None where nothing is said about it.

    Raises
    ------
    InputError
        If a variable or file that the settings name is missing, open to others or incomplete.
    """
    if settings.credentials_file is not None:
        return read_credentials(settings.credentials_file)
    username = _from_environment(settings.username_env, USERNAME_ENV) or settings.parts.user
    password = _from_environment(settings.password_env, PASSWORD_ENV)
    if username and password:
        return Credentials(username, password)
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

    Raises
    ------
    InputError
        If it cannot be read, others can read it, or a field is missing.
    """
    where = f"credentials file {path}"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise InputError(
                f"others can read it (mode {mode:04o})", where=where, remedy=f"chmod 600 {path}"
            )
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=where) from error
    except ValueError as error:
        raise InputError(
            "it is no JSON", where=where, remedy='write {"username": "...", "password": "..."}'
        ) from error
    fields = document if isinstance(document, dict) else {}
    username, password = fields.get("username"), fields.get("password")
    if not (isinstance(username, str) and username and isinstance(password, str) and password):
        raise InputError(
            "it needs two texts, 'username' and 'password'",
            where=where,
            remedy='write {"username": "...", "password": "..."}',
        )
    return Credentials(username, password)


def _logs_in_otherwise(parts: UriParts) -> bool:
    """Tell whether the URI chooses a way to log in that may need no password, such as X.509."""
    return any(option.lower().startswith("authmechanism=") for option in parts.options)


def _client(uri: str, where: str) -> MongoClient[dict[str, Any]]:
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError

    try:
        with warnings.catch_warnings():
            # pymongo only warns of an option with a wrong value, and then leaves it out.
            warnings.simplefilter("error", UserWarning)
            return MongoClient(uri, tz_aware=True, appname="al-charge")
    except (ConfigurationError, ValueError, TypeError, UserWarning) as error:
        raise InputError(f"its URI is wrong: {error}", where=where) from error


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


def _refused(code: int | None, message: str, where: str) -> InputError:
    if code == _AUTHENTICATION_FAILED:
        return InputError(
            "the server refuses the user name or password", where=where, remedy="check both"
        )
    if code == _UNAUTHORIZED:
        return InputError(
            "the server does not let us read this database",
            where=where,
            remedy=f"set {USERNAME_ENV} and {PASSWORD_ENV}, or give that user the readWrite role",
        )
    return InputError(f"the server refuses: {message}", where=where)
