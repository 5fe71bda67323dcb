"""`al-charge hull`, `voltage`, `labels` and `export`: what a campaign has found."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, plot_option, print_json, show
from al_charge.cli.target import Target, campaign_argument


@click.command("hull")
@campaign_argument
@plot_option
@json_option
def hull(target: Target, plot: Path | None, as_json: bool) -> None:
    """Show the hull of CAMPAIGN: vertices, and every labelled configuration's distance to it."""
    found = target.opened().hull()
    if plot is not None:
        found.plot(plot)
    show(found.document, as_json, found.table)


@click.command("voltage")
@campaign_argument
@plot_option
@json_option
def voltage(target: Target, plot: Path | None, as_json: bool) -> None:
    """Show the voltage profile of CAMPAIGN against the working-ion metal."""
    found = target.opened().voltage()
    if plot is not None:
        found.plot(plot)
    show(found.document, as_json, found.table)


@click.command("labels")
@campaign_argument
@json_option
def labels(target: Target, as_json: bool) -> None:
    """List the labels of CAMPAIGN: charge order, energy, moments, cost, and what is wrong.

    Also, for every composition, the share of labels that have the charge order asked for.
    """
    found = target.opened().labels()
    show(found.document, as_json, found.table)


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
def export(
    target: Target, file: Path, last: bool, usable_only: bool, force: bool, as_json: bool
) -> None:
    """Write every label of CAMPAIGN to FILE.extxyz, and what they are to FILE.json.

    Each frame has energy, forces, stress, moments, Bader charges, the charge states that were asked
    for and those that were found. Labels that no hull may hold are marked, with the reason.
    """
    from al_charge.report.export import export as write_labels

    document = write_labels(
        target.campaign(), file, last=last, usable_only=usable_only, force=force
    )
    if as_json:
        print_json(document)
        return
    counts = document["counts"]
    click.echo(
        f"{counts['frames']} frames of {counts['labels']} labels "
        f"({counts['usable']} usable) written to {file}, described in {file.with_suffix('.json')}"
    )
