"""`al-charge db migrate`: bring an older database to the present schema."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.target import database_option, open_database
from al_charge.errors import InputError

if TYPE_CHECKING:
    from pymongo.database import Database

    from al_charge.store.settings import DatabaseSettings


@click.command("migrate")
@click.option(
    "--backups",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder for the backup that is made first; by default 'backups' in al-charge's folder.",
)
@database_option
def migrate(folder: Path | None, database: DatabaseSettings | None) -> None:
    """Bring a database to the schema of this al-charge, after a backup.

    A database that has it already gets the indexes that it lacks, which make queries faster, and
    the validators of this version, which know its newest fields.

    Stop every worker first. If it is interrupted, run it again to complete it.
    """
    from al_charge.store import migrations
    from al_charge.store.documents import SCHEMA_VERSION
    from al_charge.store.roles import refresh_used_roles
    from al_charge.store.schema import (
        create_missing_indexes,
        create_task_indexes,
        renew_validators,
    )

    connected = open_database(database)
    version = migrations.stored_version(connected)
    migrations.refuse_newer(version, f"database '{connected.name}'")
    if not migrations.is_due(connected):
        found = f"has schema version {version}" if version else "is empty"
        click.echo(f"nothing to migrate: database '{connected.name}' {found}")
        if version and (made := create_missing_indexes(connected)):
            click.echo(f"missing indexes created: {made}")
        if version and (renewed := renew_validators(connected)):
            click.echo(f"validators renewed: {renewed}")
        return
    _refuse_workers(connected)
    click.echo(f"backup first: {_back_up(connected, folder)}")
    # What does not depend on the version comes first: a finished migration is not run again.
    create_task_indexes(connected)
    refresh_used_roles(connected)
    migrations.migrate(connected)
    click.echo(f"migrated from schema version {version} to {SCHEMA_VERSION}")


def _back_up(database: Database[dict[str, Any]], folder: Path | None) -> Path:
    """Make a backup and return its path.

    Raises
    ------
    InputError
        If the disk has no room for it.
    """
    from al_charge.cli.progress import counting_documents
    from al_charge.store.backup.make import dated_file, make_backup, needed_space
    from al_charge.store.embedded import default_home
    from al_charge.store.private_files import private_folder

    if folder is None:
        folder = default_home() / "backups"
        private_folder(folder)
    elif not folder.is_dir():
        raise InputError("no such folder", where=str(folder), remedy="make it first")
    needed, free = needed_space(database), shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"the backup may need {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free",
            where=str(folder),
            remedy="free some space, or name another folder with --backups",
        )
    path = dated_file(folder, database.name)
    with counting_documents() as progress:
        make_backup(database, path, progress)
    return path


def _refuse_workers(database: Database[dict[str, Any]]) -> None:
    """Refuse a database that workers write to.

    Raises
    ------
    InputError
        If a worker has sent a heartbeat lately and is not known to have ended.
    """
    from al_charge.fw.worker_registry import live_workers

    live = sorted(worker["_id"] for worker in live_workers(database))
    if live:
        some = ", ".join(live[:3]) + (" ..." if len(live) > 3 else "")
        raise InputError(
            f"workers are still running: {some}",
            where=f"database '{database.name}'",
            remedy="stop them first; one that crashed is forgotten after a few minutes",
        )
