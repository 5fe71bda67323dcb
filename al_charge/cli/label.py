"""`al-charge label`: one structure through one engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.output import json_option, show
from al_charge.cli.progress import busy

if TYPE_CHECKING:
    from al_charge.labelers.settings import LabelerSettings

ENGINES = ("born", "gpaw", "vasp")


@click.command("label")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(ENGINES), help="Engine with its default settings.")
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
    help="What may move; the engine's own setting if not given.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the files go; FILE's name and the engine's in this folder if not given.",
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

    FILE is a CIF, a POSCAR, an extended XYZ file or any other that ASE reads. Where neither it nor
    --oxidation tells the charge states, it is refused. The engine's files are kept, with the result
    as label.json; an interrupted job continues when the command is given again.

    Exits 0 where every charge state is certain and the energy comparable, else 1; 2 where the input
    is refused.
    """
    from al_charge.crystal.structure_file import load_structure
    from al_charge.crystal.valence import Windows
    from al_charge.labelers import make_labeler
    from al_charge.labelers.files import write_json
    from al_charge.labelers.labelling import make_label
    from al_charge.labelers.plugin import LABELERS
    from al_charge.labelers.protocol import Relax
    from al_charge.report.audits import audit_table, label_document

    settings = _settings(engine, settings_file)
    states = [word.strip() for word in oxidation.split(",") if word.strip()]
    atoms, states_from = load_structure(file, states)
    windows = LABELERS.of(settings).windows(settings)
    if windows is not None:
        windows.check(atoms.arrays["species"].tolist())
    labeler = make_labeler(settings)
    moved = Relax(relax) if relax else labeler.relax
    directory = (folder or Path(f"{file.stem}-{settings.kind}")).absolute()
    with busy(f"{atoms.get_chemical_formula('metal')} with {settings.kind} in {directory}"):
        result = make_label(labeler, atoms, directory, relax=moved)
    document = label_document(
        result,
        atoms.numbers.tolist(),
        windows or Windows({}),
        relax=moved.value,
        states_from=states_from,
    )
    write_json(directory / "label.json", document)
    show(document, as_json, lambda: audit_table(document))
    return 0 if document["certain"] and not document["unusable"] else 1


def _settings(engine: str | None, file: Path | None) -> LabelerSettings:
    """Return the settings of the engine that the options name.

    Raises
    ------
    InputError
        If they name none, or two, or the file is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    from al_charge.errors import InputError
    from al_charge.labelers.settings import LabelerSettings
    from al_charge.loop.strict_yaml import read_mapping, refuse_false_numbers

    section: Any = {"kind": engine}
    if file is not None:
        document = read_mapping(file)
        section = document.get("labeler", document)
        if engine is not None and isinstance(section, dict) and section.get("kind") != engine:
            raise InputError(
                f"its labeler is '{section.get('kind')}', not '{engine}'",
                where=str(file),
                remedy="leave --engine out",
            )
    elif engine is None:
        raise InputError(
            "no engine is given",
            where="--engine",
            remedy=f"choose one of {', '.join(ENGINES)}, or give a file with --settings",
        )
    adapter: TypeAdapter[LabelerSettings] = TypeAdapter(LabelerSettings)
    try:
        settings = adapter.validate_python(section)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(["labeler", *map(str, problem["loc"][1:])])
        raise InputError(
            problem["msg"].removeprefix("Value error, "), where=f"{file or '--engine'}: {field}"
        ) from error
    refuse_false_numbers(section, settings, str(file), "labeler")
    return settings
