"""`al-charge init`: a campaign file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.templates import template, templates_folder
from al_charge.errors import InputError


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--template", "name", default="nafepo4_born", show_default=True, help="Which one to copy."
)
@click.option("--list", "listing", is_flag=True, help="List the templates.")
def command(folder: Path, name: str, listing: bool) -> None:
    """Copy a commented campaign file, with its host, into FOLDER."""
    if listing:
        for path in sorted(templates_folder().glob("*.yaml")):
            click.echo(f"{path.stem:28} {_first_comment(path)}")
        return
    source = template(name)
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
