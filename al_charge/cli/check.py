"""`al-charge check`: say whether a campaign file is valid."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, print_json


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Check a campaign FILE: every field, the host, its compositions. Nothing is written.

    If the labeler needs something that is not installed on this machine, that is reported, but the
    file is valid all the same.
    """
    from al_charge.api.inputs import check

    found = check(file)
    if as_json:
        print_json(found.document)
    else:
        click.echo(f"{file}: {found}")
