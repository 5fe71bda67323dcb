"""`al-charge cite`: what to cite for a campaign."""

from __future__ import annotations

import click

from al_charge.cli.output import json_option, print_json
from al_charge.cli.target import Target, campaign_argument


@click.command("cite")
@campaign_argument
@json_option
def command(target: Target, as_json: bool) -> None:
    """Print what to cite for CAMPAIGN, as BibTeX: its engine, its potential, and the packages."""
    from al_charge.report.references import bibtex, references_of

    found = references_of(target.campaign())
    if as_json:
        print_json({"campaign": target.name, "references": [one._asdict() for one in found]})
    else:
        click.echo(bibtex(found), nl=False)
