"""`al-charge plot`: figures of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.output import csv_option, json_option, show_listing, width_option
from al_charge.cli.target import Target, campaign_argument
from al_charge.report.style import CHARTS

if TYPE_CHECKING:
    from al_charge.report.style import Width


@click.command("plot")
@campaign_argument
@click.argument("kind", metavar="KIND", type=click.Choice(CHARTS))
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File to write: .png, .svg, .pdf, or .html for an interactive plot.",
)
@width_option
@csv_option
@json_option
def command(
    target: Target, kind: str, path: Path | None, width: Width, as_csv: bool, as_json: bool
) -> None:
    """Draw a figure of CAMPAIGN, or print the numbers behind it.

    KIND is parity (predictions made before the labels against the labels), error (of these
    predictions, with their error bars, by round), evolution (the hull after every round), volume
    and lattice (against x), moments and charges (by charge state), or cost (by round and task).

    Hull, voltage and trainings have commands of their own, which draw with --plot.
    """
    from al_charge.report.style import check_ending

    if path is not None:
        check_ending(path)
    found = target.opened().chart(kind)
    if path is not None:
        found.plot(path, width)
    if path is None or as_json or as_csv:
        show_listing(found, as_json=as_json, as_csv=as_csv)
    else:
        click.echo(f"{kind} of {target.name} written to {path}")
