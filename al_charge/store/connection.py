"""Reaching the database: the embedded server, or any MongoDB by URI.

Passwords come from the environment or from a private file. They are put into URIs in memory only,
never into a campaign, a Firework or a message.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from al_charge.errors import InputError
from al_charge.store.addresses import Credentials, complete_uri, limits
from al_charge.store.credentials import find_credentials, tls_options
from al_charge.store.outages import reason_of
from al_charge.store.settings import (
    DEFAULT_NAME,
    PASSWORD_ENV,
    USERNAME_ENV,
    DatabaseSettings,
)

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

AUTHENTICATION_FAILED = 18
UNAUTHORIZED = 13


def connect(
    settings: DatabaseSettings | None, credentials: Credentials | None = None
) -> Database[dict[str, Any]]:
    """Return a database after checking that it answers and can be read, but not without a login.

    Parameters
    ----------
    settings
        The database; None for the embedded server, which is started if it does not run.
    credentials
        Who logs in; None for the user that the settings name.

    Returns
    -------
    Database
        The database; times in it have a time zone.

    Raises
    ------
    InputError
        If it cannot be reached, refuses us, or is open to everybody.
    """
    uri, name = launchpad_uri(settings, credentials)
    where = f"database {settings.uri}" if settings is not None else "embedded database"
    if settings is not None:
        _refuse_open(settings, where)
    client = _client(uri, where)
    try:
        _read(client, name, where)
    except InputError:
        client.close()
        raise
    return client[name]


def launchpad_uri(
    settings: DatabaseSettings | None, credentials: Credentials | None = None
) -> tuple[str, str]:
    """Return the URI of a database, credentials included, and its name.

    For clients that are made in this process, such as FireWorks' LaunchPad in URI mode. Never
    store or print it.

    Parameters
    ----------
    settings
        The database; None for the embedded server, which is started if it does not run.
    credentials
        Who logs in; None for the user that the settings name.

    Returns
    -------
    str
        The URI.
    str
        Name of the database.
    """
    if settings is None:
        from al_charge.store.embedded import EmbeddedServer

        return EmbeddedServer().start().uri(DEFAULT_NAME), DEFAULT_NAME
    login = credentials or find_credentials(settings)
    uri = complete_uri(settings.parts, settings.database_name, login, tls_options(settings))
    return uri, settings.database_name


def _refuse_open(settings: DatabaseSettings, where: str) -> None:
    """Refuse a server on which anybody may read: it runs without authentication.

    Raises
    ------
    InputError
        If it does, or if no server answers.
    """
    options = tls_options(settings)
    for option in ("authMechanism", "authSource"):
        options.pop(option, None)
    anonymous = settings.parts.without("authMechanism", "authSource", "authMechanismProperties")
    client = _client(complete_uri(anonymous, settings.database_name, None, options), where)
    try:
        _read(client, settings.database_name, where)
    except _RefusedError:
        return
    finally:
        client.close()
    raise InputError(
        "this server lets anybody in without a login",
        where=where,
        remedy="start it with authentication (db/mongod.conf), make users ('al-charge db users')",
    )


class _RefusedError(InputError):
    """The server answers, but denies us access."""


def _read(client: MongoClient[dict[str, Any]], name: str, where: str) -> None:
    from pymongo.errors import ConnectionFailure, OperationFailure

    try:
        # Unlike a ping, this needs a login where the server has users.
        client[name]["schema"].find_one({}, {"_id": True})
    except ConnectionFailure as error:
        remedy = "check that it runs, and its host and port"
        if where.startswith("embedded"):
            remedy = "try again, or look at 'al-charge db status'"
        raise InputError(reason_of(error), where=where, remedy=remedy) from error
    except OperationFailure as error:
        raise _refused(error.code, reason_of(error), where) from error


def _client(uri: str, where: str) -> MongoClient[dict[str, Any]]:
    from pymongo import MongoClient
    from pymongo.errors import ConfigurationError

    try:
        with warnings.catch_warnings():
            # pymongo only warns of an option with a wrong value, and then leaves it out.
            warnings.simplefilter("error", UserWarning)
            options: dict[str, Any] = {**limits(uri)}
            return MongoClient(uri, tz_aware=True, appname="al-charge", **options)
    except (ConfigurationError, ValueError, TypeError, UserWarning) as error:
        if "rivate key" in str(error):
            raise InputError(
                "the private key of the certificate cannot be read",
                where=where,
                remedy="check that both belong together, and the key's password",
            ) from error
        raise InputError(f"its URI is not valid: {error}", where=where) from error


def _refused(code: int | None, message: str, where: str) -> InputError:
    if code == AUTHENTICATION_FAILED:
        return _RefusedError(
            "the server refuses the user name or password", where=where, remedy="check both"
        )
    if code == UNAUTHORIZED:
        return _RefusedError(
            "the server does not let us read this database",
            where=where,
            remedy=f"set {USERNAME_ENV} and {PASSWORD_ENV}, or give that user a role on it "
            "('al-charge db users')",
        )
    return InputError(f"the server refuses: {message}", where=where)
