"""`al-charge enumerate`: the distinct configurations of a host."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.output import json_option, show

if TYPE_CHECKING:
    from al_charge.crystal.host import Host


@click.command("enumerate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--count", is_flag=True, help="Only count, by Burnside's lemma, without listing.")
@click.option("--x", "composition", help="Only this composition, e.g. 1/4.")
@json_option
def command(file: Path, count: bool, composition: str | None, as_json: bool) -> None:
    """Count or list the distinct charge-neutral configurations of the host in a campaign FILE."""
    from al_charge.crystal.host import Host
    from al_charge.loop.spec import load_spec

    host = Host.from_spec(load_spec(file).host)
    n_ions = [host.n_ions(_fraction(composition))] if composition else list(host.ion_counts)
    document = _counts(host, n_ions) if count else _listing(host, n_ions)
    show(document, as_json, lambda: _table(document))


def _counts(host: Host, n_ions: list[int]) -> dict[str, Any]:
    from al_charge.crystal.enumeration import count_distinct

    wanted = {host.composition(n) for n in n_ions}
    counts = {str(x): number for x, number in count_distinct(host).items() if x in wanted}
    return {"distinct": sum(counts.values()), "by_composition": counts}


def _listing(host: Host, n_ions: list[int]) -> dict[str, Any]:
    from al_charge.crystal.enumeration import enumerate_distinct
    from al_charge.crystal.symmetry import canonical_hash, multiplicity

    found = {str(host.composition(n)): enumerate_distinct(host, n) for n in n_ions}
    return {
        "distinct": sum(map(len, found.values())),
        "by_composition": {x: len(configs) for x, configs in found.items()},
        "configurations": [
            {
                "x": x,
                "hash": canonical_hash(host, config),
                "multiplicity": multiplicity(host, config),
                "occupation": list(config.occupation),
            }
            for x, configs in found.items()
            for config in configs
        ],
    }


def _table(document: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("x", "distinct", caption=f"{document['distinct']} distinct in all")
    for x, number in document["by_composition"].items():
        table.add_row(x, str(number))
    return table


def _fraction(text: str) -> Fraction:
    from al_charge.errors import InputError

    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"'{text}' is not a fraction", where="--x", remedy="write it like 1/4"
        ) from error
