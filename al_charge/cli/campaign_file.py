"""`al-charge init` and `al-charge check`: campaign files, and those that come with the package."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from al_charge.cli.output import json_option, print_json
from al_charge.errors import AlChargeError, InputError, did_you_mean

ENGINES = {"vasp": "nafepo4_vasp", "gpaw": "nafepo4_gpaw", "born": "nafepo4_born"}
"""Templates by engine; the first is offered."""


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--engine",
    type=click.Choice(list(ENGINES)),
    help="Engine of the labels: vasp, gpaw, or born, an analytic model for trials.",
)
@click.option("--template", "name", help="Copy this one, whatever its engine.")
@click.option("--list", "listing", is_flag=True, help="List the templates.")
def init(folder: Path, engine: str | None, name: str | None, listing: bool) -> None:
    """Copy a commented campaign file, with its host, into FOLDER.

    On a terminal it asks for the engine; otherwise it takes born.
    """
    if engine is not None and name is not None:
        raise InputError(
            "--engine and --template both choose a file", where="--template", remedy="give one"
        )
    if listing:
        for path in sorted(templates_folder().glob("*.yaml")):
            click.echo(f"{path.stem:28} {_first_comment(path)}")
        return
    if engine is None and name is None and sys.stdin.isatty():
        engine = click.prompt(
            "engine", type=click.Choice(list(ENGINES)), default=next(iter(ENGINES)), err=True
        )
    source = template(name or ENGINES[engine or "born"])
    files = [source, *sorted((templates_folder() / "hosts").iterdir())]
    targets = {file: folder / file.relative_to(templates_folder()) for file in files}
    for target in targets.values():
        if target.exists():
            raise InputError("the file already exists", where=str(target), remedy="remove it")
    try:
        for file, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    except OSError as error:
        for target in targets.values():
            if target.is_file():
                target.unlink()
        raise InputError(f"cannot write there: {error.strerror}", where=str(folder)) from error
    click.echo(f"wrote {targets[source]}; edit it, then 'al-charge check {targets[source]}'")


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return next(lines).lstrip("# ").strip()


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> None:
    """Check a campaign FILE: every field, the host, its compositions. Nothing is written.

    If the labeler needs something that is not installed on this machine, that is reported, but the
    file is valid all the same.
    """
    from al_charge.api.check import check as check_file
    from al_charge.cli.progress import busy

    with busy(f"checking {file.name}", quiet_below=30.0):
        found = check_file(file)
    if as_json:
        print_json(found.document)
    else:
        _print_lines(f"{file}: {found}")


def _print_lines(text: str) -> None:
    """Print lines, which wrap between quantities if they are longer than the terminal is wide."""
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.text import Text

    from al_charge.report.terminal import Unbroken, console_of_output

    console = console_of_output()
    for line in text.splitlines():
        console.print(Unbroken(Text(line)))


def packaged_folder(name: str) -> Path:
    """Return a folder of files: inside an installed package, or beside its source.

    Parameters
    ----------
    name
        Name of the folder: ``launchers`` or ``workflows``.

    Returns
    -------
    Path
        It exists.

    Raises
    ------
    AlChargeError
        If the folder is missing.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise AlChargeError(f"the folder '{name}' of the package is missing", remedy="reinstall it")


def templates_folder() -> Path:
    """Return the folder of the campaign files that come with the package.

    Returns
    -------
    Path
        It holds YAML files, and their structures in ``hosts/``.
    """
    return packaged_folder("workflows")


def template(name: str) -> Path:
    """Return one of the campaign files that come with the package.

    Parameters
    ----------
    name
        Its name without the ending.

    Returns
    -------
    Path
        The YAML file.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    known = {path.stem: path for path in sorted(templates_folder().glob("*.yaml"))}
    if name not in known:
        raise InputError(f"no template '{name}'", remedy=did_you_mean(name, known))
    return known[name]
