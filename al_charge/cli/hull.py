"""`al-charge hull`: the convex hull of a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, plot_option, show
from al_charge.cli.target import Target, campaign_argument


@click.command("hull")
@campaign_argument
@plot_option
@json_option
def command(target: Target, plot: Path | None, as_json: bool) -> None:
    """Show the hull of CAMPAIGN: vertices, and every labelled configuration's distance to it."""
    found = target.opened().hull()
    if plot is not None:
        found.plot(plot)
    show(found.document, as_json, found.table)
