"""`al-charge converge`: which cutoff, k-points and smearing a material needs."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from al_charge.cli.output import json_option, show
from al_charge.cli.progress import counting

_log = logging.getLogger("al_charge.cli")


@click.command("converge")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--folder",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the calculations; by default NAME-converge.",
)
@click.option(
    "--tolerance",
    default="2 meV",
    show_default=True,
    help="Largest error of energy differences, per formula unit.",
)
@click.option(
    "--voltage-tolerance",
    default="10 mV",
    show_default=True,
    help="Largest error of the mean voltage.",
)
@json_option
def command(
    file: Path, folder: Path | None, tolerance: str, voltage_tolerance: str, as_json: bool
) -> int:
    """Find the cutoff, k-points and smearing that the campaign in FILE needs.

    Run it before you pay for labels. Two configurations of one composition and the end members are
    computed on this machine with cheaper and tighter values of each setting, one at a time. Energy
    differences and the mean voltage are to converge. Results are kept: after Ctrl-C the same
    command continues.

    Exits 0 where every setting has a value within the tolerances, else 1; 2 where the input is
    refused.
    """
    from al_charge.api.convergence import converge

    energy = _quantity(tolerance, "energy", "--tolerance")
    voltage = _quantity(voltage_tolerance, "voltage", "--voltage-tolerance")
    try:
        with counting("converging", "calculations") as progress:
            found = converge(
                file,
                folder=folder,
                energy_tolerance=energy,
                voltage_tolerance=voltage,
                progress=progress,
            )
    except KeyboardInterrupt:
        _log.error("stopped; the same command continues from here")
        return 1
    show(found.document, as_json, found.table)
    return 0 if found.converged else 1


def _quantity(text: str, dimension: str, option: str) -> float:
    from al_charge.errors import InputError
    from al_charge.units import parse_quantity

    try:
        value = parse_quantity(text, dimension)
    except ValueError as error:
        raise InputError(str(error), where=option) from error
    if value <= 0:
        raise InputError(f"'{text}' is not positive", where=option)
    return value
