"""`al-charge curves`: the training curves of a model or a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.output import json_option, plot_option, show, width_option
from al_charge.cli.target import target_of

if TYPE_CHECKING:
    from al_charge.report.curves import Curve
    from al_charge.report.style import Width


@click.command("curves")
@click.argument("source", metavar="MODEL|CAMPAIGN")
@plot_option
@width_option
@json_option
def command(source: str, plot: Path | None, width: Width, as_json: bool) -> None:
    """Show the training of a file of 'al-charge train', or of CAMPAIGN round by round.

    The numbers are losses, and errors on what was held out. Epochs of a campaign are counted
    through all rounds, since each round starts from the potentials of the one before.
    """
    from al_charge.report.curves import curves_document, curves_table
    from al_charge.report.style import check_ending

    if plot is not None:
        check_ending(plot)
    title, curves = _curves(source)
    if plot is not None:
        from al_charge.report.curve_plots import plot_curves

        plot_curves(curves, plot, title, width)
    document = curves_document(source, curves)
    show(document, as_json, lambda: curves_table(curves))


def _curves(source: str) -> tuple[str, list[Curve]]:
    """Return a title, and the trainings."""
    path = Path(source)
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        return _of_file(path)
    return _of_campaign(source)


def _of_file(path: Path) -> tuple[str, list[Curve]]:
    from al_charge.errors import InputError
    from al_charge.potentials.model_file import read_members
    from al_charge.report.curves import Curve

    members, training = read_members(path)
    histories = training.get("history")
    if not histories:
        raise InputError(
            "it has no training history",
            where=str(path),
            remedy="give a file of 'al-charge train', or a campaign",
        )
    title = f"{members[0].settings.kind}, {path.name}"
    return title, [Curve(member, history) for member, history in enumerate(histories)]


def _of_campaign(name: str) -> tuple[str, list[Curve]]:
    from al_charge.errors import AlChargeError
    from al_charge.report.curves import Curve

    campaign = target_of(name).campaign()
    curves = [
        Curve(model.member, model.history, model.round)
        for model in campaign.store.models.all(campaign.name)
        if model.history
    ]
    if not curves:
        raise AlChargeError(
            "no potential has been trained yet",
            where=f"campaign '{campaign.name}'",
            remedy=f"follow it with 'al-charge campaign watch {campaign.name}'",
        )
    return f"{campaign.spec.potential.kind}, campaign {campaign.name}, by round", curves
