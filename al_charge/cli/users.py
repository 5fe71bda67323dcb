"""`al-charge db users`: who may use the database, and for what."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.output import Group, json_option, show
from al_charge.cli.target import Target, database_option, open_database, open_store
from al_charge.errors import AlChargeError, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from al_charge.store.settings import DatabaseSettings
    from al_charge.store.users import Users

NEW_PASSWORD_ENV = "AL_CHARGE_NEW_PASSWORD"
ROLES = ("admin", "worker", "reader")

_log = logging.getLogger("al_charge.cli")

credentials_option = click.option(
    "--credentials",
    type=click.Path(path_type=Path),
    help="File for a random password, readable by you only. Without it the password is asked "
    f"for, or taken from {NEW_PASSWORD_ENV}.",
)


@click.group("users", cls=Group)
def users() -> None:
    """Create, list and remove users of a database.

    Log in as one of its admins; the first admin of a new server is created without a login, on the
    server's own machine.
    """


@users.command("add")
@click.argument("name")
@click.option(
    "--role",
    required=True,
    type=click.Choice(ROLES),
    help="reader: reads; worker: submits and runs campaigns; admin: users, schema, restoring.",
)
@credentials_option
@click.option(
    "--certificate",
    is_flag=True,
    help="NAME is the subject of a certificate, such as 'CN=anna,O=group', and logs in by it.",
)
@database_option
def add(
    name: str,
    role: str,
    credentials: Path | None,
    certificate: bool,
    database: DatabaseSettings | None,
) -> None:
    """Create the user NAME, and prepare the database for it."""
    from al_charge.store.roles import Role
    from al_charge.store.users import reserve_credentials_file

    if certificate and credentials is not None:
        raise InputError("a login by certificate has no password", where="--credentials")
    if not name.strip():
        raise InputError("a user needs a name", where="NAME")
    if credentials is not None:
        reserve_credentials_file(credentials)
    password = None if certificate else _new_password(credentials)
    if role == "admin" and database is not None and _nobody_logs_in(database):
        _add_first(database, name, password)
    else:
        _prepare(database)
        _users(database).add(name, Role(role), password)
    _keep(credentials, name, password)
    click.echo(f"user '{name}' created, role {role}")


@users.command("list")
@database_option
@json_option
def list_users(as_json: bool, database: DatabaseSettings | None) -> None:
    """List the users of a database."""
    found = _users(database).everyone()
    document = [{"name": u.name, "role": str(u.role), "login": u.login} for u in found]
    show({"users": document}, as_json, lambda: _table(document))


@users.command("remove")
@click.argument("name")
@database_option
def remove(name: str, database: DatabaseSettings | None) -> None:
    """Remove the user NAME; its open connections lose their rights."""
    _users(database).remove(name)
    click.echo(f"user '{name}' removed")


@users.command("password")
@click.argument("name")
@credentials_option
@database_option
def password(name: str, credentials: Path | None, database: DatabaseSettings | None) -> None:
    """Give the user NAME another password."""
    from al_charge.store.credentials import read_credentials

    if credentials is not None and credentials.exists():
        owner = read_credentials(credentials).username
        if owner != name:
            raise InputError(
                f"it holds the password of '{owner}'",
                where=str(credentials),
                remedy="name another file",
            )
    new = _new_password(credentials)
    _users(database).set_password(name, new)
    _keep(credentials, name, new)
    click.echo(f"user '{name}' has a new password")


def _users(settings: DatabaseSettings | None) -> Users:
    from al_charge.store.users import Users

    return Users(open_database(settings), "admin" if settings is None else settings.login_database)


def _nobody_logs_in(settings: DatabaseSettings) -> bool:
    from al_charge.store.credentials import find_credentials

    mechanism = settings.parts.option("authMechanism")
    return find_credentials(settings) is None and not settings.x509 and mechanism is None


def _add_first(settings: DatabaseSettings, name: str, password: str | None) -> None:
    from al_charge.store.addresses import Credentials
    from al_charge.store.users import add_first_admin

    if password is None:
        raise InputError("the first user of a server logs in by a password", where="--certificate")
    add_first_admin(settings, Credentials(name, password))


def _prepare(settings: DatabaseSettings | None) -> None:
    """Make what a worker has no right to make: collections, indexes, counters, roles."""
    from al_charge.store.roles import refresh_roles
    from al_charge.store.schema import create_file_indexes

    store = open_store(settings)
    create_file_indexes(store.database)
    refresh_roles(store.database)
    Target("", settings).launchpad()


def _new_password(credentials: Path | None) -> str:
    """Return a password: random, from the environment, or from a prompt."""
    from al_charge.store.users import new_password

    if credentials is not None:
        return new_password()
    if given := os.environ.get(NEW_PASSWORD_ENV):
        return given
    typed: str = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    return typed


def _keep(credentials: Path | None, name: str, password: str | None) -> None:
    from al_charge.store.private_files import write_private

    if credentials is None:
        return
    try:
        write_private(credentials, {"username": name, "password": password})
    except OSError as error:
        raise AlChargeError(
            f"the password was not saved, since the file cannot be written: {error.strerror}",
            where=str(credentials),
            remedy=f"'al-charge db users password {name}' sets another one",
        ) from error
    _log.info("login in %s", credentials)


def _table(document: list[dict[str, str]]) -> Table:
    from rich.table import Table

    table = Table("user", "role", "logs in by")
    for row in document:
        table.add_row(row["name"], row["role"], row["login"])
    return table
