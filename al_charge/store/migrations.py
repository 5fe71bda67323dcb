"""Bringing a database from an older schema version to the present one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from al_charge.errors import AlChargeError, InputError
from al_charge.store.fields import now
from al_charge.store.from_version_4 import to_version_5
from al_charge.store.from_version_13 import to_version_14
from al_charge.store.from_versions_1_to_3 import to_version_2, to_version_3, to_version_4
from al_charge.store.from_versions_5_to_12 import (
    to_version_6,
    to_version_7,
    to_version_8,
    to_version_9,
    to_version_10,
    to_version_11,
    to_version_12,
    to_version_13,
)
from al_charge.store.schema import create_collections

SCHEMA = "schema"
"""The collection that tells the version of all others, and what is being done to them."""
MIGRATION_ID = "migration"
RESTORE_ID = "restore"
"""Markers of a migration and a restore that have not ended."""
RESTORED_ID = "restored"
"""Note of the restore by which a database came to be."""

_VERSION_ID = "version"
_REMEDIES = {
    MIGRATION_ID: "wait for it, or run 'al-charge db migrate' again if it was killed",
    RESTORE_ID: "wait for it, or restore the same file again if it was killed",
}

_log = logging.getLogger("al_charge.store")


@dataclass(frozen=True)
class Migration:
    """One step from the version before to ``version``.

    Attributes
    ----------
    version
        Version that it leads to.
    apply
        Changes the database; it must be safe to repeat, since it may be killed half-way.
    """

    version: int
    apply: Callable[[Database[dict[str, Any]]], None]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(version=1, apply=create_collections),
    Migration(version=2, apply=to_version_2),
    Migration(version=3, apply=to_version_3),
    Migration(version=4, apply=to_version_4),
    Migration(version=5, apply=to_version_5),
    Migration(version=6, apply=to_version_6),
    Migration(version=7, apply=to_version_7),
    Migration(version=8, apply=to_version_8),
    Migration(version=9, apply=to_version_9),
    Migration(version=10, apply=to_version_10),
    Migration(version=11, apply=to_version_11),
    Migration(version=12, apply=to_version_12),
    Migration(version=13, apply=to_version_13),
    Migration(version=14, apply=to_version_14),
)
"""In order; the last one leads to ``documents.SCHEMA_VERSION``."""


def stored_version(database: Database[dict[str, Any]]) -> int:
    """Return the schema version of a database.

    Parameters
    ----------
    database
        The database.

    Returns
    -------
    int
        0 for one that has none yet.

    Raises
    ------
    AlChargeError
        If it is damaged.
    """
    found = database[SCHEMA].find_one({"_id": _VERSION_ID})
    if found is None:
        return 0
    version = found.get("version")
    if not isinstance(version, int) or version < 1:
        raise AlChargeError(
            "its schema version is damaged",
            where=f"database '{database.name}'",
            remedy="restore the database from a backup",
        )
    return version


def prepare(
    database: Database[dict[str, Any]], migrations: tuple[Migration, ...] = MIGRATIONS
) -> None:
    """Make a new database ready; refuse one that is not of the present schema.

    Parameters
    ----------
    database
        The database.
    migrations
        All steps, in order.

    Raises
    ------
    InputError
        If the database is older or newer than this code, or half migrated or restored.
    """
    refuse_unfinished(database, MIGRATION_ID, RESTORE_ID)
    version, newest = stored_version(database), migrations[-1].version
    refuse_newer(version, f"database '{database.name}'", newest)
    if version == 0:
        # Collections are made as they are now, and there is nothing in them to migrate.
        migrations[0].apply(database)
        _record(database, newest)
    elif version < newest:
        raise InputError(
            f"the database has schema version {version}, this al-charge needs {newest}",
            where=f"database '{database.name}'",
            remedy="run 'al-charge db migrate', which makes a backup first",
        )


def migrate(
    database: Database[dict[str, Any]], migrations: tuple[Migration, ...] = MIGRATIONS
) -> int:
    """Bring a database to the present schema, one recorded step at a time; safe to repeat.

    Only while no worker runs, and with a backup at hand: there is no way back.

    Parameters
    ----------
    database
        The database.
    migrations
        All steps, in order.

    Returns
    -------
    int
        The version from which it started.

    Raises
    ------
    InputError
        If the database is newer than this code, or half restored.
    """
    refuse_unfinished(database, RESTORE_ID)
    version, newest = stored_version(database), migrations[-1].version
    refuse_newer(version, f"database '{database.name}'", newest)
    marker = {"_id": MIGRATION_ID}
    database[SCHEMA].update_one(marker, {"$set": {"started": now()}}, upsert=True)
    for migration in migrations:
        if migration.version > version:
            migration.apply(database)
            _record(database, migration.version)
            _log.info("database '%s' has schema version %d now", database.name, migration.version)
    database[SCHEMA].delete_one(marker)
    return version


def restored_from(database: Database[dict[str, Any]]) -> Any:
    """Return what tells a database from the same one before or after it was restored.

    Parameters
    ----------
    database
        The database.

    Returns
    -------
    object
        Archive and time of the restore; None for one that was not restored.
    """
    return database[SCHEMA].find_one({"_id": RESTORED_ID})


def is_due(database: Database[dict[str, Any]]) -> bool:
    """Tell whether a database is older than this code, or half migrated.

    Parameters
    ----------
    database
        The database.

    Returns
    -------
    bool
        Whether it must be migrated.
    """
    version = stored_version(database)
    begun = database[SCHEMA].find_one({"_id": MIGRATION_ID}) is not None
    return begun or 0 < version < MIGRATIONS[-1].version


def refuse_newer(version: int, where: str, newest: int = MIGRATIONS[-1].version) -> None:
    """Refuse a schema that this code does not know.

    Parameters
    ----------
    version
        Version of the schema.
    where
        What has it, for the message.
    newest
        The newest version that this code knows.

    Raises
    ------
    InputError
        If it was made by newer code.
    """
    if version > newest:
        raise InputError(
            f"it has schema version {version}, this al-charge knows up to {newest}",
            where=where,
            remedy="update al-charge",
        )


def refuse_unfinished(database: Database[dict[str, Any]], *markers: str) -> None:
    """Refuse a database that is half migrated or half restored.

    Parameters
    ----------
    database
        The database.
    *markers
        What to look for: `MIGRATION_ID`, `RESTORE_ID` or both.

    Raises
    ------
    InputError
        If one of the markers is there.
    """
    found = database[SCHEMA].find_one({"_id": {"$in": list(markers)}})
    if found is not None:
        raise InputError(
            f"a {found['_id']} began at {found['started']:%Y-%m-%d %H:%M} UTC and has not ended",
            where=f"database '{database.name}'",
            remedy=_REMEDIES[found["_id"]],
        )


def _record(database: Database[dict[str, Any]], version: int) -> None:
    database[SCHEMA].update_one({"_id": _VERSION_ID}, {"$max": {"version": version}}, upsert=True)
