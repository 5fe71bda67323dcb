"""`al-charge check`: say whether a campaign file is right."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, print_json


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Check a campaign FILE: every field, the host, its compositions. Nothing is written."""
    from al_charge.crystal.enumeration import count_distinct
    from al_charge.crystal.host import Host
    from al_charge.loop.rounds import check_spec
    from al_charge.loop.spec import load_spec

    spec = load_spec(file)
    check_spec(spec)
    counts = count_distinct(Host.from_spec(spec.host))
    if as_json:
        print_json({"name": spec.name, "compositions": {str(x): n for x, n in counts.items()}})
        return
    click.echo(
        f"{file}: campaign '{spec.name}' is right: {sum(counts.values())} distinct configurations "
        f"at {len(counts)} compositions, labelled by {spec.labeler.kind}, "
        f"{spec.committee.size} {spec.potential.kind} potentials"
    )
