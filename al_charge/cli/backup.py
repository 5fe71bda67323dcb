"""`al-charge db backup` and `al-charge db restore`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.progress import counting_documents
from al_charge.cli.target import database_option, open_database
from al_charge.errors import InputError, one_line

if TYPE_CHECKING:
    from al_charge.store.backup.manifest import Manifest
    from al_charge.store.settings import DatabaseSettings

_log = logging.getLogger("al_charge.cli")


@click.command("backup")
@click.argument("target", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    help="Delete all but this many of the newest backups of this database in FOLDER.",
)
@database_option
def backup(target: Path, keep: int | None, database: DatabaseSettings | None) -> None:
    """Back up a database into a new file; workers may keep running.

    In a FOLDER that exists, the file is named after the database and the time. Prints its path.
    """
    from al_charge.store.backup.make import dated_file, keep_newest, make_backup

    if keep is not None and not target.is_dir():
        raise InputError(
            "old backups are deleted in a folder only", where="--keep", remedy="name a folder"
        )
    connected = open_database(database)
    path = dated_file(target, connected.name) if target.is_dir() else target
    with counting_documents() as progress:
        made = make_backup(connected, path, progress)
    click.echo(path)
    _log.info("%s, %.1f MB in the file", summary(made), path.stat().st_size / 1e6)
    if keep is not None:
        for old in keep_newest(target, connected.name, keep):
            _log.info("deleted %s", old)


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask about programs that its campaigns start.")
@database_option
def restore(file: Path, yes: bool, database: DatabaseSettings | None) -> None:
    """Write a backup into an empty database, and compare the two.

    The file is checked before anything is written. A restore that was interrupted is completed by
    the same command. The commands with which its campaigns start engines are shown for
    confirmation.
    """
    from al_charge.store.backup.restore import restore as restore_backup

    if not file.is_file():
        raise InputError("no such file", where=str(file))
    connected = open_database(database)
    with counting_documents() as progress:
        done = restore_backup(connected, file, progress, _show if yes else _ask)
    click.echo(f"{summary(done)}, as they were at {done.started:%Y-%m-%d %H:%M} UTC")
    _log.info("continue each campaign with 'al-charge campaign resume CAMPAIGN'")


def _show(programs: list[tuple[str, str]]) -> None:
    for campaign, line in programs:
        _log.info("workers of campaign '%s' will run: %s", campaign, one_line(line))


def _ask(programs: list[tuple[str, str]]) -> None:
    """Show the command lines of campaigns, and go on if the user agrees.

    Raises
    ------
    InputError
        If not, or if there is nobody to ask.
    """
    if not sys.stdin.isatty():
        campaign, line = programs[0]
        more = f", and {len(programs) - 1} more" if len(programs) > 1 else ""
        raise InputError(
            f"workers of its campaign '{campaign}' would run: {one_line(line)}{more}",
            where="db restore",
            remedy="nothing was written; add --yes if that is what they should run",
        )
    _show(programs)
    if not click.confirm("restore it?", err=True):
        raise InputError("not restored", where="db restore", remedy="nothing was written")


def summary(manifest: Manifest) -> str:
    """Return how much a backup holds, in words.

    Parameters
    ----------
    manifest
        The backup's manifest.

    Returns
    -------
    str
        Numbers of documents and collections, and their size in MB.
    """
    return (
        f"{manifest.documents} documents in {len(manifest.collections)} collections "
        f"({manifest.size / 1e6:.1f} MB)"
    )
