"""`al-charge compare`: two campaigns side by side."""

from __future__ import annotations

import click

from al_charge.cli.output import json_option, show
from al_charge.cli.target import (
    Target,
    campaign_argument,
    complete_campaigns,
    target_of,
)


@click.command("compare")
@campaign_argument
@click.argument("other", metavar="OTHER", shell_complete=complete_campaigns)
@json_option
def command(target: Target, other: str, as_json: bool) -> None:
    """Compare CAMPAIGN with OTHER: what differs in their settings, their hulls and voltages."""
    from al_charge.report.compared import comparison, comparison_table

    document = comparison(target.campaign(), target_of(other).campaign())
    show(document, as_json, lambda: comparison_table(document))
