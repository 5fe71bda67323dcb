"""`al-charge check`: say whether a campaign file is right."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, print_json


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Check a campaign FILE: every field, the host, its compositions. Nothing is written.

    What the labeler needs and this machine has not is told, and is no fault of the file.
    """
    from al_charge.crystal.enumeration import count_distinct
    from al_charge.crystal.host import Host
    from al_charge.errors import NotInstalledError
    from al_charge.loop.rounds import check_spec
    from al_charge.loop.spec import load_spec

    spec = load_spec(file)
    missing = ""
    try:
        check_spec(spec)
    except NotInstalledError as error:
        missing = str(error)
    counts = count_distinct(Host.from_spec(spec.host))
    if as_json:
        compositions = {str(x): n for x, n in counts.items()}
        print_json({"name": spec.name, "compositions": compositions, "missing": missing})
        return
    click.echo(
        f"{file}: campaign '{spec.name}' is right: {sum(counts.values())} distinct configurations "
        f"at {len(counts)} compositions, labelled by {spec.labeler.kind}, "
        f"{spec.committee.size} {spec.potential.kind} potentials"
    )
    if missing:
        click.echo(f"not ready to submit on this machine: {missing}")
