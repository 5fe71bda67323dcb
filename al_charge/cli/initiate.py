"""`al-charge db initiate`: the replica set of a group's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from al_charge.cli.target import database_option
from al_charge.errors import InputError

if TYPE_CHECKING:
    from al_charge.store.settings import DatabaseSettings


@click.command("initiate")
@click.argument("members", metavar="HOST:PORT...", nargs=-1, required=True)
@database_option
def initiate(members: tuple[str, ...], database: DatabaseSettings | None) -> None:
    """Make a replica set of new servers at HOST:PORT, one or more.

    Run it once, on the machine of the server that is named as the database, before there are
    users. HOST:PORT is what other machines know the servers by.
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
    click.echo(f"replica set made, {len(members)} {'member' if len(members) == 1 else 'members'}")
