"""Bringing a database from an older schema version to the present one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from al_charge.errors import InputError
from al_charge.store.from_version_1 import to_version_2
from al_charge.store.from_version_2 import to_version_3
from al_charge.store.schema import create_collections

_VERSION_ID = "version"


@dataclass(frozen=True)
class Migration:
    """One step from the version before to ``version``.

    Parameters
    ----------
    apply
        Changes the database; it must be safe to repeat, since it may be killed half-way.
    """

    version: int
    apply: Callable[[Database[dict[str, Any]]], None]


MIGRATIONS: tuple[Migration, ...] = (
    Migration(version=1, apply=create_collections),
    Migration(version=2, apply=to_version_2),
    Migration(version=3, apply=to_version_3),
)
"""In order; the last one leads to ``documents.SCHEMA_VERSION``."""


def stored_version(database: Database[dict[str, Any]]) -> int:
    """Return the schema version of a database, 0 for one that has none yet."""
    found = database["schema"].find_one({"_id": _VERSION_ID})
    return 0 if found is None else int(found["version"])


def migrate(
    database: Database[dict[str, Any]], migrations: tuple[Migration, ...] = MIGRATIONS
) -> None:
    """Bring a database to the present schema, one recorded step at a time.

    Raises
    ------
    InputError
        If the database was made by newer code.
    """
    newest = migrations[-1].version
    version = stored_version(database)
    if version > newest:
        raise InputError(
            f"the database has schema version {version}, this al-charge knows up to {newest}",
            where=f"database '{database.name}'",
            remedy="update al-charge, or name another database",
        )
    due = [migration for migration in migrations if migration.version > version]
    if version == 0:
        # Collections are made as they are now, and there is nothing in them to migrate.
        due = [Migration(version=newest, apply=migrations[0].apply)]
    for migration in due:
        migration.apply(database)
        database["schema"].update_one(
            {"_id": _VERSION_ID}, {"$max": {"version": migration.version}}, upsert=True
        )
