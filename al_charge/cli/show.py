"""`al-charge show`, `structure` and `why`: one label of a campaign."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, print_json, show
from al_charge.cli.target import Target, campaign_argument

which_argument = click.argument("which", metavar="ID|x")


@click.command("show")
@campaign_argument
@which_argument
@json_option
def command(target: Target, which: str, as_json: bool) -> None:
    """Show one label of CAMPAIGN: energies, charge order, sites, why it was chosen, its files.

    ID is the beginning of a label's id or of its configuration's hash; x, such as 1/2, stands for
    the lowest label there.
    """
    found = target.opened().label(which)
    show(found.document, as_json, found.table)


@click.command("why")
@campaign_argument
@which_argument
@json_option
def why(target: Target, which: str, as_json: bool) -> None:
    """Say why a label of CAMPAIGN was chosen, and how good its prediction was.

    ID and x are as in 'al-charge show'.
    """
    from al_charge.report.label import why_lines

    document = target.opened().label(which).document
    if as_json:
        names = ("campaign", "label", "x", "energy_per_formula", "why")
        print_json({name: document[name] for name in names})
        return
    click.echo(f"label {document['label']}, x = {document['x']}")
    for line in why_lines(document):
        click.echo(line)


@click.command("structure")
@campaign_argument
@click.option("--x", "x", metavar="x", help="Composition, such as 1/2: its lowest label.")
@click.option("--label", "which", metavar="ID", help="Beginning of a label's id instead.")
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .cif, .extxyz, or a name that begins with POSCAR.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def structure(target: Target, x: str | None, which: str | None, path: Path, force: bool) -> None:
    """Write the structure of a label of CAMPAIGN, with its charge states, to a file."""
    from al_charge.crystal.structure_output import kind_of
    from al_charge.errors import InputError

    if (x is None) == (which is None):
        raise InputError("which structure is not said", remedy="give one of --x and --label")
    kind_of(path)
    if path.exists() and not force:
        raise InputError("the file is there already", where=str(path), remedy="add --force")
    campaign = target.opened()
    found = campaign.label(which) if which is not None else campaign.ground_state(x or "")
    found.write(path)
    click.echo(f"label {found.key}, x = {found.document['x']}, written to {path}")
