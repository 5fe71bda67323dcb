"""`al-charge labels`: a campaign's labels one by one."""

from __future__ import annotations

import click

from al_charge.cli.output import json_option, show
from al_charge.cli.target import Target, campaign_argument


@click.command("labels")
@campaign_argument
@json_option
def command(target: Target, as_json: bool) -> None:
    """List the labels of CAMPAIGN: charge order, energy, moments, cost, and what is wrong.

    Also, for every composition, the share of labels that have the charge order asked for.
    """
    found = target.opened().labels()
    show(found.document, as_json, found.table)
