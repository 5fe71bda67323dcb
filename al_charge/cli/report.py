"""`al-charge report`: everything about a campaign in one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.target import Target, campaign_argument


@click.command("report")
@campaign_argument
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE.html",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(target: Target, path: Path, force: bool) -> None:
    """Write the report of CAMPAIGN: one HTML file that opens without a network.

    It has the answer, hull, voltage, structures, convergence, failures, cost, methods, what to cite
    and all settings, whatever state the campaign is in.
    """
    from al_charge.errors import InputError

    if path.suffix not in (".html", ".htm"):
        raise InputError("a report is an HTML file", where=str(path), remedy="end it in .html")
    if path.exists() and not force:
        raise InputError("the file is there already", where=str(path), remedy="add --force")
    target.opened().report(path)
    click.echo(f"report written to {path} ({path.stat().st_size / 1e6:.1f} MB)")
