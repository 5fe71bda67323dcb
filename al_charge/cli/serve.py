"""`al-charge serve`: the live page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.target import database_option, open_store, runs_folder

if TYPE_CHECKING:
    from al_charge.store.settings import DatabaseSettings

PORT = 8431


@click.command("serve")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 for any free port.",
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but this machine's own needs --expose.",
)
@click.option("--expose", is_flag=True, help="Let other machines connect, without encryption.")
@click.option(
    "--runs", type=click.Path(path_type=Path), help="Folder of the jobs' files on this machine."
)
@database_option
def command(
    port: int, address: str, expose: bool, runs: Path | None, database: DatabaseSettings | None
) -> None:
    """Show all campaigns of a database in a browser, as they run.

    The page is read-only; a login with the role reader is enough. Its URL has a random token,
    without which nothing is shown. From another machine use an ssh tunnel.
    """
    import secrets
    import socket

    from al_charge.serve.access import LOOPBACK
    from al_charge.serve.app import create_app
    from al_charge.serve.server import listen, serve
    from al_charge.serve.source import Source

    listener = listen(address, port, expose=expose)
    # Errors of the database are told here, not in a browser.
    open_store(database).close()
    token = secrets.token_urlsafe(32)
    here = (address, socket.gethostname(), socket.getfqdn()) if expose else (address,)
    app = create_app(Source(database, runs or runs_folder()), token, (*LOOPBACK, *here))
    shown, number = listener.getsockname()
    name = socket.gethostname() if shown == "0.0.0.0" else address
    click.echo(f"http://{name}:{number}/?token={token}")
    if not expose:
        tunnel = f"ssh -N -L {number}:127.0.0.1:{number} {socket.gethostname()}"
        click.echo(f"On another machine type '{tunnel}' first. Ctrl-C ends it.")
    serve(app, listener)
