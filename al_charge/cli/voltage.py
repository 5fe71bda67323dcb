"""`al-charge voltage`: the voltage profile of a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, plot_option, show
from al_charge.cli.target import Target, campaign_argument


@click.command("voltage")
@campaign_argument
@plot_option
@json_option
def command(target: Target, plot: Path | None, as_json: bool) -> None:
    """Show the voltage profile of CAMPAIGN against the working-ion metal."""
    from al_charge.report.results import plot_voltage, voltage_result
    from al_charge.report.tables import voltage_table

    campaign = target.campaign()
    document = voltage_result(campaign)
    if plot is not None:
        plot_voltage(campaign, plot)
    show(document, as_json, lambda: voltage_table(document))
