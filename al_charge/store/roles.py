"""What the users of a database may do: three roles, each no wider than its work.

A *reader* reads. A *worker* runs campaigns: it reads everything and writes what campaigns and
FireWorks write. It cannot drop a collection or a database, nor change validators, indexes or
users; what is written once, such as a label, it can neither change nor remove. An *admin* of the
database does the rest: users, schema, restoring.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

ROLE_EXISTS = 51002


class Role(StrEnum):
    """What a user is for."""

    ADMIN = "admin"
    WORKER = "worker"
    READER = "reader"


_ONCE = ("insert",)
_KEPT = ("insert", "update")
_REMOVABLE = ("insert", "remove")
_FREE = ("insert", "update", "remove")

WRITES: dict[str, tuple[str, ...]] = {
    # written once and never changed
    "labels": _ONCE,
    "models": _ONCE,
    "proposals": _ONCE,
    "references": _ONCE,
    # files too, even those that no document comes to name
    "frames.chunks": _ONCE,
    "frames.files": _ONCE,
    "weights.chunks": _ONCE,
    "weights.files": _ONCE,
    # grown, and never removed
    "attempts": _KEPT,
    "campaigns": _KEPT,
    "ledger": _KEPT,
    "rounds": _KEPT,
    # until the label is tried again
    "failures": _REMOVABLE,
    # links whose other end is gone are removed
    "label_uses": _REMOVABLE,
    # a task that is run again clears what its first run left
    "candidates": _REMOVABLE,
    # who works on what
    "claims": _FREE,
    "workers": _FREE,
    # FireWorks' own
    "fireworks": _FREE,
    "fw_gridfs.chunks": _FREE,
    "fw_gridfs.files": _FREE,
    "fw_id_assigner": _FREE,
    "launches": _FREE,
    "offline_runs": _FREE,
    "workflows": _FREE,
}
"""What a worker may do to each collection, besides reading it."""


def refresh_roles(database: Database[dict[str, Any]]) -> None:
    """Define the roles of a database as this version of al-charge knows them.

    Parameters
    ----------
    database
        The one with the campaigns, by the connection of an admin.
    """
    name = Role.WORKER.value
    wanted = _privileges(database.name)
    inherited = [{"role": "read", "db": database.name}]
    try:
        database.command("createRole", name, privileges=wanted, roles=inherited)
        return
    except OperationFailure as error:
        if error.code != ROLE_EXISTS:
            raise
    # Neither `updateRole` nor `dropRole` here: an admin of one database may not do the first, and
    # the second would take the role from its users.
    (role,) = database.command("rolesInfo", name, showPrivileges=True)["roles"]
    known = {name: set(actions) for name, actions in WRITES.items()}
    surplus = [
        {"resource": held["resource"], "actions": sorted(extra)}
        for held in role["privileges"]
        if (extra := set(held["actions"]) - known.get(held["resource"].get("collection"), set()))
    ]
    database.command("grantPrivilegesToRole", name, privileges=wanted)
    database.command("grantRolesToRole", name, roles=inherited)
    if surplus:
        database.command("revokePrivilegesFromRole", name, privileges=surplus)


def refresh_used_roles(database: Database[dict[str, Any]]) -> None:
    """Refresh the roles of a database if it has them and the user may see them.

    Parameters
    ----------
    database
        The one with the campaigns.
    """
    try:
        found = database.command("rolesInfo", Role.WORKER.value)["roles"]
    except OperationFailure:
        return  # who may not look at roles has made none
    if found:
        refresh_roles(database)


def _privileges(database: str) -> list[dict[str, Any]]:
    return [
        {"resource": {"db": database, "collection": name}, "actions": list(actions)}
        for name, actions in WRITES.items()
    ]


def granted(role: Role, database: str, login_database: str) -> list[dict[str, str]]:
    """Return the roles of MongoDB that make up one of ours.

    Parameters
    ----------
    role
        One of ours.
    database
        Name of the database with the campaigns.
    login_database
        Name of the one that keeps the user. An admin of users in ``admin`` can give itself any
        right on the server.

    Returns
    -------
    list of dict
        ``role`` and ``db`` of each.
    """
    if role is Role.WORKER:
        return [{"role": Role.WORKER.value, "db": database}]
    if role is Role.READER:
        return [{"role": "read", "db": database}]
    owner = [{"role": "dbOwner", "db": database}]
    if login_database == "admin":
        owner.append({"role": "userAdminAnyDatabase", "db": "admin"})
    return owner


def role_of(roles: list[dict[str, str]], database: str) -> Role | None:
    """Return which of our roles a user's roles of MongoDB make up.

    Parameters
    ----------
    roles
        ``role`` and ``db`` of each.
    database
        Name of the database with the campaigns.

    Returns
    -------
    Role or None
        None for a user without rights on the database.
    """
    names = {role["role"] for role in roles if role["db"] == database}
    everywhere = {role["role"] for role in roles if role["db"] == "admin"}
    if "dbOwner" in names or "root" in everywhere:
        return Role.ADMIN
    if Role.WORKER.value in names:
        return Role.WORKER
    return Role.READER if "read" in names else None
