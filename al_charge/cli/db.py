"""`al-charge db`: the embedded MongoDB, and what is done to any database as a whole."""

from __future__ import annotations

import json

import click

from al_charge.cli.backup import backup, restore
from al_charge.cli.initiate import initiate
from al_charge.cli.migrate import migrate
from al_charge.cli.users import users


@click.group("db")
def db() -> None:
    """Run the embedded MongoDB; back up, restore and migrate any."""


@db.command("start")
def start() -> None:
    """Start the embedded server, unless it runs."""
    from al_charge.store.embedded import EmbeddedServer

    running = EmbeddedServer().start()
    click.echo(f"running; listening on {running.address}")


@db.command("stop")
def stop() -> None:
    """Stop the embedded server; what was stored stays."""
    from al_charge.store.embedded import EmbeddedServer

    click.echo("stopped" if EmbeddedServer().stop() else "it was not running")


@db.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def status(as_json: bool) -> None:
    """Show whether the embedded server runs, and where its files are."""
    from al_charge.store.embedded import EmbeddedServer

    found = EmbeddedServer().status()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"running, process {found['pid']}" if found["running"] else "not running")
    if found["last_error"]:
        click.echo(f"last error: {found['last_error']}")
    click.echo(f"files in {found['folder']}")


for part in (backup, restore, migrate, initiate, users):
    db.add_command(part)
command = db
