"""A private server that answers: its address, its one user, and ending it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from al_charge.errors import AlChargeError, InputError
from al_charge.store.addresses import Credentials, complete_uri, socket_uri_parts

LOST_LOGIN = "restore credentials.json, or make another login with 'al-charge db reset-password'"
"""What those can do who have lost the password."""

_WHERE = "embedded database"
_AUTHENTICATION_FAILED = 18


class RunningServer:
    """A server that answers: where it listens and how to log in.

    Parameters
    ----------
    address
        Path of its unix socket.
    credentials
        Its one user.
    """

    def __init__(self, address: Path, credentials: Credentials) -> None:
        self.address = address
        self._credentials = credentials

    def __repr__(self) -> str:
        """Return the address only."""
        return f"RunningServer({str(self.address)!r})"

    def uri(self, name: str) -> str:
        """Return the URI of one of its databases, password included: never store or print it.

        Parameters
        ----------
        name
            Name of the database.

        Returns
        -------
        str
            The URI.
        """
        return complete_uri(socket_uri_parts(str(self.address)), name, self._credentials)

    def replace_password(self) -> None:
        """Give the user of a server that wants no login this password."""
        from pymongo import MongoClient

        anonymous = complete_uri(socket_uri_parts(str(self.address)), "admin", None)
        with MongoClient[dict[str, Any]](anonymous) as client:
            name = self._credentials.username
            there = client["admin"].command("usersInfo", name)["users"]
            client["admin"].command(
                "updateUser" if there else "createUser",
                name,
                pwd=self._credentials.password,
                roles=["root"],
                writeConcern={"w": "majority", "j": True},
            )

    def ensure_user(self) -> None:
        """Create the server's user unless it is there.

        Raises
        ------
        InputError
            If the server has users, but not ours.
        """
        from pymongo import MongoClient
        from pymongo.errors import OperationFailure

        with MongoClient[dict[str, Any]](self.uri("admin")) as client:
            try:
                client["admin"].command("ping")
                return
            except OperationFailure as error:
                if error.code != _AUTHENTICATION_FAILED:
                    raise
        anonymous = complete_uri(socket_uri_parts(str(self.address)), "admin", None)
        with MongoClient[dict[str, Any]](anonymous) as client:
            try:
                # Allowed without a login as long as the server has no user at all.
                client["admin"].command(
                    "createUser",
                    self._credentials.username,
                    pwd=self._credentials.password,
                    roles=["root"],
                    writeConcern={"w": "majority", "j": True},
                )
            except OperationFailure as error:
                raise InputError(
                    "its stored login is not the one that its data were made with",
                    where=_WHERE,
                    remedy=LOST_LOGIN,
                ) from error

    def shut_down(self) -> None:
        """Ask it to end; it may take a while to.

        Raises
        ------
        AlChargeError
            If it refuses.
        """
        from pymongo import MongoClient
        from pymongo.errors import AutoReconnect, PyMongoError

        with MongoClient[dict[str, Any]](self.uri("admin")) as client:
            try:
                client["admin"].command("shutdown")
            except AutoReconnect:
                pass  # it closes the connection as it goes
            except PyMongoError as error:
                raise AlChargeError(f"mongod refused to stop: {error}", where=_WHERE) from error
