"""`al-charge label`: label one structure with one engine."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.datafile import split_states
from al_charge.cli.output import json_option, show
from al_charge.cli.progress import busy


@click.command("label")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--engine", metavar="KIND", help="Engine with its default settings, e.g. gpaw.")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path),
    help="YAML file with the engine's settings: a campaign file, or its section 'labeler'.",
)
@click.option(
    "--oxidation",
    metavar="STATES",
    default="",
    help="Charge states, e.g. Fe3+ for all iron, or Fe2+,Fe2+,Fe3+,Fe3+ for each in the order of "
    "the file; other elements have their common one.",
)
@click.option(
    "--relax",
    type=click.Choice(["none", "ions", "cell"]),
    help="What may relax; by default the engine's own setting.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files; by default named after FILE and the engine.",
)
@json_option
def command(
    file: Path,
    engine: str | None,
    settings_file: Path | None,
    oxidation: str,
    relax: str | None,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Label the structure in FILE: energy, moments, Bader charges and charge states.

    FILE is a CIF, a POSCAR, an extended XYZ file or any other that ASE reads. It is refused if
    neither it nor --oxidation gives the charge states. The engine's files are kept, with the result
    as label.json; an interrupted job continues when the command is given again.

    Exits 0 where every charge state is certain and the energy comparable, else 1; 2 where the input
    is refused.
    """
    from al_charge.api.inputs import label
    from al_charge.loop.spec import load_labeler_settings

    settings = load_labeler_settings(settings_file, engine)
    with busy(f"{file.name} with {settings.kind}"):
        found = label(file, settings, oxidation=split_states(oxidation), relax=relax, folder=folder)
    show(found.document, as_json, found.table)
    return 0 if found.usable else 1
