"""`al-charge show`, `structure` and `why`: one label of a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.output import json_option, print_json, show, width_option
from al_charge.cli.target import Target, campaign_argument

if TYPE_CHECKING:
    from al_charge.report.style import Width

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
    from rich.console import Group
    from rich.text import Text

    from al_charge.report.label import why_lines
    from al_charge.report.terminal import console_of_output, print_whole

    document = target.opened().label(which).document
    if as_json:
        names = ("campaign", "state", "round", "label", "x", "energy_per_formula", "why")
        print_json({name: document[name] for name in names})
        return
    lines = [f"label {document['label']}, x = {document['x']}", *why_lines(document)]
    print_whole(console_of_output(), Group(*map(Text, lines)))


@click.command("structure")
@campaign_argument
@click.option("--x", "x", metavar="x", help="Composition, such as 1/2: its lowest label.")
@click.option("--label", "which", metavar="ID", help="Beginning of a label's id instead.")
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File to write: .cif, .extxyz, or a name that begins with POSCAR.",
)
@click.option(
    "--picture",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Draw it with its charge order: .png, .svg or .pdf.",
)
@width_option
@click.option("--force", is_flag=True, help="Replace existing files.")
@json_option
def structure(
    target: Target,
    x: str | None,
    which: str | None,
    path: Path | None,
    picture: Path | None,
    width: Width,
    force: bool,
    as_json: bool,
) -> None:
    """Write the structure of a label of CAMPAIGN, with its charge states, to a file, or draw it."""
    from al_charge.crystal.structure_output import kind_of
    from al_charge.errors import InputError
    from al_charge.report.style import check_image

    if (x is None) == (which is None):
        raise InputError("it needs one structure", remedy="give one of --x and --label")
    if path is None and picture is None:
        raise InputError("there is nothing to write", remedy="give -o or --picture")
    if path is not None:
        kind_of(path)
    if picture is not None:
        check_image(picture)
    files = [one for one in (path, picture) if one is not None]
    for file in files:
        if file.exists() and not force:
            raise InputError("the file is there already", where=str(file), remedy="add --force")
    campaign = target.opened()
    found = campaign.label(which) if which is not None else campaign.ground_state(x or "")
    if path is not None:
        found.write(path)
    if picture is not None:
        found.plot(picture, width)
    if as_json:
        names = ("campaign", "state", "round", "label", "x", "formula", "hash")
        print_json({n: found.document[n] for n in names} | {"files": [str(f) for f in files]})
        return
    written = " and ".join(map(str, files))
    click.echo(f"label {found.key}, x = {found.document['x']}, written to {written}")
