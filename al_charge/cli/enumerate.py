"""`al-charge enumerate`: the distinct configurations of a host."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from al_charge.cli.output import json_option, show

if TYPE_CHECKING:
    from al_charge.crystal.configuration import Configuration
    from al_charge.crystal.host import Host

LARGEST_LISTING = 100_000
"""Most configurations that are listed or written where no limit is given."""
SHORT_LISTING = 1000
"""Fewer configurations than this are listed without showing progress."""
SEED = 1
"""Of the choice where there are more configurations than the limit."""


@click.command("enumerate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--count", is_flag=True, help="Only count, by Burnside's lemma, without listing.")
@click.option("--x", "composition", help="Only this composition, e.g. 1/4.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    help="Write every configuration to a file in this new folder.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["cif", "poscar", "extxyz"]),
    default="cif",
    show_default=True,
    help="Format of the files in FOLDER.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="List or write no more than this, chosen at random where there are more.",
)
@json_option
def command(
    file: Path,
    count: bool,
    composition: str | None,
    folder: Path | None,
    kind: str,
    limit: int | None,
    as_json: bool,
) -> None:
    """Count or list the distinct charge-neutral configurations of the host in a campaign FILE.

    With -o FOLDER they are written there: the charge states are oxidation states in a CIF, words
    behind the coordinates in a POSCAR, and an array beside the moments in extended XYZ. More than
    100000 are refused, unless --limit chooses some of them, of all compositions as evenly as
    possible.
    """
    from al_charge.api.check import meaning_of_x
    from al_charge.cli.progress import busy, counting
    from al_charge.crystal.host import Host
    from al_charge.errors import InputError
    from al_charge.loop.spec import load_spec

    if count and (folder is not None or limit is not None):
        raise InputError("it lists nothing", where="--count", remedy="leave out -o and --limit")
    host = Host.from_spec(load_spec(file).host)
    n_ions = [host.n_ions(_fraction(composition))] if composition else list(host.ion_counts)
    with busy(f"counting the configurations of {file.name}", quiet_below=30.0):
        numbers = _numbers(host, n_ions)
    document: dict[str, Any] = {
        "distinct": sum(numbers.values()),
        "by_composition": {str(host.composition(n)): number for n, number in numbers.items()},
    }
    if folder is not None or (as_json and not count):
        quotas = _quotas(numbers, limit)
        total = sum(quotas.values())
        if folder is not None:
            _make(folder)
        document["listed"] = total
        document["configurations"] = []
        what = "listing configurations" if folder is None else f"writing to {folder.name}"
        with counting(what, "configurations") as progress:
            for n, config in _chosen(host, numbers, quotas):
                entry = _entry(host, n, config)
                if folder is not None:
                    entry["file"] = _write(folder, kind, host, config, entry)
                document["configurations"].append(entry)
                if total > SHORT_LISTING:
                    progress(len(document["configurations"]), total)
    show(document, as_json, lambda: _table(document, meaning_of_x(host)))
    if folder is not None and not as_json:
        click.echo(f"wrote {document['listed']} structures to {folder}")


def _numbers(host: Host, n_ions: list[int]) -> dict[int, int]:
    from al_charge.crystal.enumeration import count_distinct

    counted = count_distinct(host)
    return {n: counted[host.composition(n)] for n in n_ions}


def _quotas(numbers: dict[int, int], limit: int | None) -> dict[int, int]:
    """Return how many configurations of each number of ions are listed."""
    from al_charge.errors import InputError

    total = sum(numbers.values())
    if limit is None and total > LARGEST_LISTING:
        raise InputError(
            f"there are {total} distinct configurations",
            where="host.supercell",
            remedy="count them with --count, choose one composition with --x, or list some with "
            "--limit",
        )
    left = total if limit is None else limit
    quotas: dict[int, int] = {}
    # Those with the fewest first: what they leave of their share goes to the others.
    for place, n in enumerate(sorted(numbers, key=lambda n: numbers[n])):
        quotas[n] = min(numbers[n], left // (len(numbers) - place))
        left -= quotas[n]
    return {n: quotas[n] for n in numbers}


def _chosen(
    host: Host, numbers: dict[int, int], quotas: dict[int, int]
) -> Iterator[tuple[int, Configuration]]:
    import numpy as np

    from al_charge.crystal.enumeration import enumerate_distinct, iterate_distinct
    from al_charge.search.random_occupation import random_distinct

    for n, quota in quotas.items():
        rng = np.random.default_rng((SEED, n))
        if quota == numbers[n]:
            yield from ((n, config) for config in iterate_distinct(host, n))
        elif numbers[n] <= LARGEST_LISTING:
            every = enumerate_distinct(host, n)
            places = sorted(rng.choice(len(every), quota, replace=False).tolist())
            yield from ((n, every[place]) for place in places)
        else:
            yield from ((n, config) for config in random_distinct(host, n, quota, rng))


def _entry(host: Host, n_ions: int, config: Configuration) -> dict[str, Any]:
    from al_charge.crystal.symmetry import canonical_hash, multiplicity

    return {
        "x": str(host.composition(n_ions)),
        "hash": canonical_hash(host, config),
        "multiplicity": multiplicity(host, config),
        "occupation": list(config.occupation),
    }


def _make(folder: Path) -> None:
    from al_charge.errors import InputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError("it is not empty", where=str(folder), remedy="give a new folder")
    except OSError as error:
        raise InputError(f"cannot make it: {error.strerror}", where=str(folder)) from error


def _write(
    folder: Path, kind: str, host: Host, config: Configuration, entry: dict[str, Any]
) -> str:
    """Write one configuration; return the name of its file."""
    from al_charge.crystal.configuration import to_atoms
    from al_charge.crystal.structure_output import file_name, write_structure
    from al_charge.errors import InputError

    atoms = to_atoms(host, config)
    atoms.info = {
        "x": float(Fraction(entry["x"])),
        "config_hash": f'_JSON "{entry["hash"]}"',  # one of digits stays a text
        "multiplicity": entry["multiplicity"],
    }
    name = file_name(f"x_{entry['x'].replace('/', '-')}_{entry['hash']}", kind)
    try:
        write_structure(folder / name, atoms, kind)
    except OSError as error:
        raise InputError(f"cannot write it: {error.strerror}", where=str(folder / name)) from error
    return name


def _table(document: dict[str, Any], meaning: str) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("x", "distinct", show_footer=True)
    table.columns[0].footer, table.columns[1].footer = "all", str(document["distinct"])
    for x, number in document["by_composition"].items():
        table.add_row(x, str(number))
    return Group(Text(meaning), table)


def _fraction(text: str) -> Fraction:
    from al_charge.errors import InputError

    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"'{text}' is not a fraction", where="--x", remedy="write it like 1/4"
        ) from error
