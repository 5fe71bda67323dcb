"""`al-charge hull`, `voltage`, `labels` and `export`: what a campaign has found, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from typing_extensions import override

from al_charge.cli.output import (
    Group,
    csv_option,
    json_option,
    plot_option,
    print_json,
    round_option,
    show,
    show_listing,
    width_option,
)
from al_charge.cli.target import (
    Target,
    campaign_argument,
    campaigns_argument,
    database_option,
    open_store,
)

if TYPE_CHECKING:
    from al_charge.api.common_hull import CommonHullResult
    from al_charge.api.hull import HullResult
    from al_charge.report.style import Width
    from al_charge.store.settings import DatabaseSettings


@click.command("hull")
@campaigns_argument
@round_option
@click.option(
    "--predicted",
    is_flag=True,
    help="Also list what is predicted for configurations without a label.",
)
@plot_option
@width_option
@csv_option
@json_option
def hull(
    targets: tuple[Target, ...],
    number: int | None,
    predicted: bool,
    plot: Path | None,
    width: Width,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the hull of CAMPAIGN: vertices, and every labelled configuration's distance to it.

    Several campaigns of one composition and the same settings, such as those of polymorphs, are
    put on one hull, against the lowest end members of all.
    """
    found: HullResult | CommonHullResult
    if len(targets) > 1:
        found = _common_hull(targets, number, predicted)
    else:
        found = targets[0].opened().hull(number)
        if predicted:
            found = found.with_predicted()
    if plot is not None:
        found.plot(plot, width)
    show_listing(found, as_json=as_json, as_csv=as_csv)


def _common_hull(
    targets: Sequence[Target], number: int | None, predicted: bool
) -> CommonHullResult:
    from al_charge.api.common_hull import hull as common_hull
    from al_charge.errors import InputError

    for option, given in (("--round", number is not None), ("--predicted", predicted)):
        if given:
            raise InputError(
                "rounds and predictions are those of one campaign",
                where=option,
                remedy="leave it out, or give one campaign",
            )
    return common_hull([target.opened() for target in targets])


@click.command("voltage")
@campaign_argument
@round_option
@click.option(
    "--summary",
    is_flag=True,
    help="Show average voltage, capacities, energies and volume change instead of the plateaus.",
)
@click.option(
    "--experiment",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="A measured curve to compare with: columns 'voltage' (V), and 'x' or 'capacity' (mAh/g).",
)
@plot_option
@width_option
@csv_option
@json_option
def voltage(
    target: Target,
    number: int | None,
    summary: bool,
    experiment: Path | None,
    plot: Path | None,
    width: Width,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the voltage profile of CAMPAIGN against the working-ion metal."""
    found = target.opened().voltage(number)
    if experiment is not None:
        found = found.with_measured(experiment)
    if plot is not None:
        found.plot(plot, width)
    if summary and not as_csv:
        show(found.document, as_json, found.summary)
    else:
        show_listing(found, as_json=as_json, as_csv=as_csv)


class _DefaultGroup(Group):
    """A group that takes ``labels CAMPAIGN`` for ``labels list CAMPAIGN``."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("labels", cls=_DefaultGroup)
def labels() -> None:
    """List a campaign's labels: al-charge labels CAMPAIGN. Or import labels."""


@labels.command("list")
@campaign_argument
@click.option(
    "--where",
    metavar="CONDITION",
    help="Only those that meet a condition, such as 'x = 1/2 and Fe2+ >= 4 and not refused'.",
)
@csv_option
@json_option
def list_labels(target: Target, where: str | None, as_csv: bool, as_json: bool) -> None:
    """List the labels of CAMPAIGN: charge order, energy, moments, cost, and what is wrong.

    Also, for every composition, the share of labels that have the charge order asked for. The
    word 'list' may be left out.

    A condition compares x, energy, formation_energy, above_hull (eV per formula unit), volume
    (cubic angstrom per formula unit), round, atoms, ions, label, hash, settings, engine, relax,
    refusal, or the number of ions of a species in the cell; or it is 'refused' or 'delocalised'.
    """
    found = target.opened().labels(where)
    show_listing(found, as_json=as_json, as_csv=as_csv)


@labels.command("import")
@click.argument("path", metavar="PATH")
@click.option(
    "--campaign",
    metavar="CAMPAIGN",
    help="Name or file of the campaign that the labels are for; needed for results of other "
    "programs, another database, and exports of version 0.2.",
)
@click.option(
    "--same-settings",
    is_flag=True,
    help="Declare that results of other programs were computed with the campaign's settings. "
    "Settings that they do contain must still agree.",
)
@database_option
@json_option
def import_labels(
    path: str,
    campaign: str | None,
    same_settings: bool,
    database: DatabaseSettings | None,
    as_json: bool,
) -> int:
    """Import labels from PATH, each audited: an export of al-charge, or results of other programs.

    PATH is the .extxyz file of 'al-charge export'; a folder with runs of VASP or GPAW, at any
    depth; extended XYZ under the keys of ASE or MACE; a database of ASE (.db); JSON of atomate2,
    jobflow, MatPES or MPtrj; a store of jobflow, by jobflow.yaml or
    mongodb://HOST/DATABASE.COLLECTION; or mongodb://HOST/NAME, another database of al-charge.

    Results of other programs are mapped onto the host of --campaign, their charge states are read
    from their moments, and their settings are compared with the campaign's: runs that differ are
    refused, with the reason. Everything is read before anything is written.

    Campaigns with the same host and settings use imported labels from their next selection on. A
    second import changes nothing.

    Exits 0 where every label is in the database; 1 where some were left out; 2 where PATH cannot be
    read, and nothing was imported.
    """
    from al_charge.api.imports import import_into

    found = import_into(open_store(database), path, campaign, same_settings=same_settings)
    if "runs" in found.document:
        show(found.document, as_json, found.table)
    elif as_json:
        print_json(found.document)
    else:
        click.echo(str(found))
    return 1 if found.left_out else 0


@click.command("export")
@campaign_argument
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "name",
    type=click.Choice(["extxyz", "mace", "ase", "csv", "parquet", "entries", "optimade"]),
    default="extxyz",
    show_default=True,
    help="What is written: extended XYZ, which 'labels import' reads back; the keys that "
    "mace_run_train reads; a database of ASE; a table; entries of pymatgen; OPTIMADE.",
)
@click.option("--last", is_flag=True, help="Only the last frame of each label, its result.")
@click.option(
    "--usable-only",
    is_flag=True,
    help="Leave out labels that are ambiguous, unusable or not converged.",
)
@click.option("--force", is_flag=True, help="Replace existing files.")
@json_option
def export(
    target: Target,
    file: Path,
    name: str,
    last: bool,
    usable_only: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write every label of CAMPAIGN to FILE; with extended XYZ, also a .json with their settings.

    Each frame has energy, forces, stress, moments, Bader charges, the charge states that were asked
    for and those that were found. Labels that are on no hull are marked, with the reason; mace
    leaves out those that are unusable or not converged.
    """
    if name == "extxyz":
        from al_charge.report.export import export as write_labels

        document = write_labels(
            target.campaign(), file, last=last, usable_only=usable_only, force=force
        )
        counts = document["counts"]
        line = (
            f"{counts['frames']} frames of {counts['labels']} labels ({counts['usable']} usable) "
            f"written to {file}, described in {file.with_suffix('.json')}"
        )
    else:
        from al_charge.report.formats import export_as

        document = export_as(
            target.campaign(), file, name, last=last, usable_only=usable_only, force=force
        )
        line = f"{document['labels']} labels written to {file} as {name}" + (
            f"; {document['left_out']} left out, unusable or not converged"
            if document["left_out"]
            else ""
        )
    if as_json:
        print_json(document)
    else:
        click.echo(line)
