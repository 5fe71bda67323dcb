"""Users of a database: adding, listing and removing them, and changing their passwords."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, OperationFailure

from al_charge.errors import AlChargeError, InputError, did_you_mean
from al_charge.store.addresses import Credentials
from al_charge.store.connection import UNAUTHORIZED
from al_charge.store.replica_set import direct_uri
from al_charge.store.roles import Role, granted, role_of
from al_charge.store.settings import DatabaseSettings

CERTIFICATES = "$external"
"""Where MongoDB keeps users who log in by a certificate."""

_MECHANISMS = ["SCRAM-SHA-256"]
_USER_EXISTS = 51003
_NO_USER = 11


@dataclass(frozen=True)
class User:
    """A user of the database.

    Attributes
    ----------
    name
        Name of the user, or the subject of the certificate.
    role
        None for a user whose roles are not of al-charge's making.
    login
        ``password`` or ``certificate``.
    """

    name: str
    role: Role | None
    login: str


@dataclass(frozen=True)
class Users:
    """The users of one database.

    Attributes
    ----------
    database
        The one with the campaigns, by the connection of an admin.
    login_database
        Name of the one that keeps the users: those of the same URI log in there.
    """

    database: Database[dict[str, Any]]
    login_database: str

    def add(self, name: str, role: Role, password: str | None) -> None:
        """Create a user.

        Parameters
        ----------
        name
            For a login by certificate the certificate's subject, such as ``CN=anna,O=group``.
        role
            What the user may do.
        password
            None for a login by certificate.

        Raises
        ------
        InputError
            If there is one of that name, or we may not create any.
        """
        keeper = CERTIFICATES if password is None else self.login_database
        roles = granted(role, self.database.name, self.login_database)
        secret: dict[str, Any] = {}
        if password is not None:
            secret = {"pwd": password, "mechanisms": _MECHANISMS}
        try:
            self._in(keeper).command("createUser", name, roles=roles, **secret)
        except OperationFailure as error:
            if error.code == _USER_EXISTS:
                raise InputError(
                    f"there is a user '{name}' already",
                    where=f"database '{keeper}'",
                    remedy="remove it first, or change its password",
                ) from error
            raise self._refusal(error) from error

    def everyone(self) -> list[User]:
        """Return the users who have a role on the database.

        Returns
        -------
        list of User
            By name.

        Raises
        ------
        AlChargeError
            If the server refuses, as it does for users who are not an admin.
        """
        found = []
        for keeper, login in ((self.login_database, "password"), (CERTIFICATES, "certificate")):
            try:
                reply = self._in(keeper).command("usersInfo", 1)
            except OperationFailure as error:
                if keeper == CERTIFICATES and error.code == UNAUTHORIZED:
                    continue  # an admin of this database alone knows no certificates
                raise self._refusal(error) from error
            for user in reply["users"]:
                role = role_of(user["roles"], self.database.name)
                if role is not None:
                    found.append(User(user["user"], role, login))
        return sorted(found, key=lambda user: user.name)

    def remove(self, name: str) -> None:
        """Remove a user.

        Parameters
        ----------
        name
            Name of the user.

        Raises
        ------
        InputError
            If there is none of that name, or it is the one who is logged in.
        """
        user = self._known(name)
        keeper = CERTIFICATES if user.login == "certificate" else self.login_database
        self._refuse_own(name, "remove")
        self._change(keeper, "dropUser", name)

    def set_password(self, name: str, password: str) -> None:
        """Change a user's password.

        Parameters
        ----------
        name
            Name of the user.
        password
            The new password.

        Raises
        ------
        InputError
            If there is no user of that name who has one.
        """
        if self._known(name).login == "certificate":
            raise InputError("this user logs in by a certificate", where=f"user '{name}'")
        self._change(self.login_database, "updateUser", name, pwd=password, mechanisms=_MECHANISMS)

    def _known(self, name: str) -> User:
        users = {user.name: user for user in self.everyone()}
        if name not in users:
            raise InputError(
                f"there is no user '{name}'",
                where=f"database '{self.database.name}'",
                remedy=did_you_mean(name, users),
            )
        return users[name]

    def _refuse_own(self, name: str, what: str) -> None:
        status = self.database.command("connectionStatus")
        if name in {user["user"] for user in status["authInfo"]["authenticatedUsers"]}:
            raise InputError(f"you cannot {what} the user you are logged in as", where=name)

    def _change(self, keeper: str, command: str, name: str, **fields: Any) -> None:
        try:
            self._in(keeper).command(command, name, **fields)
        except OperationFailure as error:
            raise self._refusal(error) from error

    def _in(self, name: str) -> Database[dict[str, Any]]:
        return self.database.client[name]

    def _refusal(self, error: OperationFailure) -> AlChargeError:
        """Return the error without the server's own message, which may hold a password."""
        where = f"database '{self.database.name}'"
        if error.code == UNAUTHORIZED:
            return InputError(
                "your user may not manage users there", where=where, remedy="log in as an admin"
            )
        if error.code == _NO_USER:
            return InputError("there is no such user", where=where)
        return AlChargeError(f"the server refused (code {error.code})", where=where)


def add_first_admin(settings: DatabaseSettings, credentials: Credentials) -> None:
    """Create the first user of a server that has none; on the server's machine it needs no login.

    Parameters
    ----------
    settings
        The server.
    credentials
        Name and password of the new user.

    Raises
    ------
    InputError
        If the server has users already, or is another machine.
    """
    where = f"database {settings.uri}"
    if settings.login_database != "admin":
        raise InputError(
            "the first user of a server is one of its database 'admin'",
            where=where,
            remedy="add ?authSource=admin to the URI",
        )
    with MongoClient[dict[str, Any]](direct_uri(settings)) as client:
        try:
            client["admin"].command(
                "createUser",
                credentials.username,
                pwd=credentials.password,
                roles=["root"],  # no other may be given before there is a user
                mechanisms=_MECHANISMS,
            )
        except ConnectionFailure as error:
            raise InputError("no MongoDB answers there", where=where) from error
        except OperationFailure as error:
            raise InputError(
                "nobody is logged in, and the server does not take a first user from here",
                where=where,
                remedy="log in as an admin (AL_CHARGE_DATABASE_USER and _PASSWORD); the first "
                "one is made on the server's own machine",
            ) from error


def new_password() -> str:
    """Return a random password.

    Returns
    -------
    str
        24 random bytes in 32 characters.
    """
    return secrets.token_urlsafe(24)


def reserve_credentials_file(path: Path) -> None:
    """Refuse a file that exists, before a user is created whose password it would hold.

    Parameters
    ----------
    path
        File that is to be written.

    Raises
    ------
    InputError
        If the file exists, or its folder does not.
    """
    if path.exists() or path.is_symlink():
        raise InputError("the file exists", where=str(path), remedy="name another one")
    if not path.parent.is_dir():
        raise InputError("there is no such folder", where=str(path.parent))
