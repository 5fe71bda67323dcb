"""`al-charge export`: a campaign's labels as extended XYZ."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, print_json
from al_charge.cli.target import Target, campaign_argument


@click.command("export")
@campaign_argument
@click.argument("file", metavar="FILE.extxyz", type=click.Path(path_type=Path))
@click.option("--last", is_flag=True, help="Only the last frame of each label, its result.")
@click.option(
    "--usable-only",
    is_flag=True,
    help="Leave out labels that are ambiguous, unusable or not converged.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@json_option
def command(
    target: Target, file: Path, last: bool, usable_only: bool, force: bool, as_json: bool
) -> None:
    """Write every label of CAMPAIGN to FILE.extxyz, and what they are to FILE.json.

    Each frame has energy, forces, stress, moments, Bader charges, the charge states that were asked
    for and those that were found. Labels that no hull may hold are marked, with the reason.
    """
    from al_charge.report.export import export

    document = export(target.campaign(), file, last=last, usable_only=usable_only, force=force)
    if as_json:
        print_json(document)
        return
    counts = document["counts"]
    click.echo(
        f"{counts['frames']} frames of {counts['labels']} labels "
        f"({counts['usable']} usable) written to {file}, described in {file.with_suffix('.json')}"
    )
