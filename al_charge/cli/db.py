"""`al-charge db`: the embedded MongoDB, and what is done to any database as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from al_charge.cli.backup import backup, restore
from al_charge.cli.migrate import migrate
from al_charge.cli.output import Group, json_option, print_json
from al_charge.cli.target import database_option
from al_charge.cli.users import users
from al_charge.errors import InputError

if TYPE_CHECKING:
    from al_charge.store.settings import DatabaseSettings


@click.group("db", cls=Group)
def db() -> None:
    """Run the embedded MongoDB; back up, restore and migrate any database."""


@db.command("start")
def start() -> None:
    """Start the embedded server, unless it runs."""
    from al_charge.store.embedded import EmbeddedServer

    running = EmbeddedServer().start()
    click.echo(f"running; listening on {running.address}")


@db.command("stop")
def stop() -> None:
    """Stop the embedded server; its data are kept."""
    from al_charge.store.embedded import EmbeddedServer

    click.echo("stopped" if EmbeddedServer().stop() else "it was not running")


@db.command("status")
@json_option
def status(as_json: bool) -> None:
    """Show whether the embedded server runs, and where its files are."""
    from al_charge.store.embedded import EmbeddedServer

    found = EmbeddedServer().status()
    if as_json:
        print_json(found)
        return
    if found["silent"]:
        click.echo(f"{found['silent']}; wait, or end it with 'al-charge db stop'")
    else:
        click.echo(f"running, process {found['pid']}" if found["running"] else "not running")
    if found["last_error"]:
        click.echo(f"last error: {found['last_error']}")
    click.echo(f"files in {found['folder']}")


@db.command("reset-password")
def reset_password() -> None:
    """Create a new login for the embedded server's data if the password is lost.

    Only the owner of the files can. Restart workers that still run: they have the old login.
    """
    from al_charge.store.embedded import EmbeddedServer

    EmbeddedServer().reset_password()
    click.echo("the embedded database has a new login; start its workers again")


@db.command("initiate")
@click.argument("members", metavar="HOST:PORT...", nargs=-1, required=True)
@database_option
def initiate(members: tuple[str, ...], database: DatabaseSettings | None) -> None:
    """Create a replica set of one or more new servers at HOST:PORT.

    Run it once, on the machine of the server that is named as the database, before there are users.
    HOST:PORT is how other machines reach the servers.
    """
    from al_charge.store.replica_set import initiate as make
    from al_charge.store.settings import URI_ENV

    if database is None:
        raise InputError(
            "no new server is named",
            where="db initiate",
            remedy=f"export {URI_ENV}='mongodb://127.0.0.1:27017/al_charge?authSource=admin'",
        )
    make(database, members)
    click.echo(
        f"replica set created, {len(members)} {'member' if len(members) == 1 else 'members'}"
    )


for part in (backup, restore, migrate, users):
    db.add_command(part)
command = db
