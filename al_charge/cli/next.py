"""`al-charge next`: what a campaign labels next."""

from __future__ import annotations

import click

from al_charge.cli.output import json_option, show
from al_charge.cli.target import Target, campaign_argument


@click.command("next")
@campaign_argument
@json_option
def command(target: Target, as_json: bool) -> None:
    """Show what CAMPAIGN labels next, with the reasons and how far each label is."""
    from al_charge.report.upcoming import next_document, next_table

    document = next_document(target.campaign())
    show(document, as_json, lambda: next_table(document))
