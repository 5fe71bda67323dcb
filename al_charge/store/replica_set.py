"""Starting a replica set: the first thing that a new server of a group needs."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from al_charge.errors import AlChargeError, InputError
from al_charge.store.addresses import complete_uri
from al_charge.store.credentials import tls_options
from al_charge.store.settings import DatabaseSettings

NAME = "al-charge"
"""Of the replica set, as in `db/mongod.conf`."""
ELECTION_TIMEOUT = 60.0
"""s; how long members may take to agree on a primary."""

_ALREADY = 23
_POLL = 0.2


def initiate(settings: DatabaseSettings, members: Sequence[str]) -> None:
    """Make a replica set of servers that have neither users nor data, and wait for its primary.

    Call it on the first server's own machine, which needs no login for it.

    Parameters
    ----------
    settings
        The first server.
    members
        Addresses, ``host:port``, by which the servers reach each other and clients reach them.

    Raises
    ------
    InputError
        If the server refuses: it has users, is a member already, or does not know an address.
    AlChargeError
        If there is no primary after a minute.
    """
    where = f"database {settings.uri}"
    for member in members:
        if re.fullmatch(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", member) is None:
            raise InputError(f"'{member}' is not an address", where=where, remedy="write host:port")
    config = {
        "_id": settings.parts.option("replicaSet") or NAME,
        "members": [{"_id": number, "host": host} for number, host in enumerate(members)],
    }
    with MongoClient[dict[str, Any]](direct_uri(settings)) as client:
        try:
            client["admin"].command("replSetInitiate", config)
        except ConnectionFailure as error:
            raise InputError("no MongoDB answers there", where=where) from error
        except OperationFailure as error:
            if error.code == _ALREADY:
                raise InputError("its replica set exists already", where=where) from error
            message = str((error.details or {}).get("errmsg", error)).partition(" to execute")[0]
            raise InputError(f"the server refuses: {message}", where=where) from error
        _wait_for_primary(client, where)


def direct_uri(settings: DatabaseSettings) -> str:
    """Return the URI of the one server that the settings name, for a client without a login.

    Parameters
    ----------
    settings
        The server.

    Returns
    -------
    str
        The URI, with the options of TLS.
    """
    one = settings.parts.without("authSource", "authMechanism", "replicaSet", "directConnection")
    extra = tls_options(settings) | {"directConnection": "true"}
    extra = {key: value for key, value in extra.items() if not key.startswith("auth")}
    return complete_uri(one, "admin", None, extra)


def _wait_for_primary(client: MongoClient[dict[str, Any]], where: str) -> None:
    deadline = time.monotonic() + ELECTION_TIMEOUT
    while not client["admin"].command("hello")["isWritablePrimary"]:
        if time.monotonic() > deadline:
            raise AlChargeError(
                f"this server was not the primary after {ELECTION_TIMEOUT:.0f} s",
                where=where,
                remedy="check that its members reach each other, with one key file; another "
                "member may be the primary",
            )
        time.sleep(_POLL)
