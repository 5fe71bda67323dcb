"""`al-charge audit`: the charge states that the output of a run shows."""

from __future__ import annotations

from pathlib import Path

import click

from al_charge.cli.output import json_option, show


@click.command("audit")
@click.argument("source", metavar="FILE|FOLDER|LABEL")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="STATE=LOW:HIGH",
    help="Moments (Bohr magnetons) of a charge state, e.g. Fe3+=4.1:4.4; may be repeated.",
)
@click.option(
    "--charge",
    "charges",
    multiple=True,
    metavar="ELEMENT=CHARGE",
    help="Charge of an element with one charge state, e.g. S=6; may be repeated.",
)
@click.option(
    "--end-member",
    "end_members",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Output with all sites in one state, same engine and settings, to calibrate windows on; "
    "may be repeated.",
)
@click.option("--no-bader", is_flag=True, help="Do not analyse the densities beside the output.")
@click.option("--all", "every_site", is_flag=True, help="List the sites of every element.")
@json_option
def command(
    source: str,
    windows: tuple[str, ...],
    charges: tuple[str, ...],
    end_members: tuple[Path, ...],
    no_bader: bool,
    every_site: bool,
    as_json: bool,
) -> int:
    """Determine the charge state of each site from a run's moments and Bader charges.

    FILE or FOLDER is any VASP output (OUTCAR, vasprun.xml, their folder) or GPAW output (.gpw, text
    log); LABEL the key of a stored label. Nothing is written.

    Exits 0 where every charge state is certain and the cell is neutral; 1 where a state is
    ambiguous, the cell is not neutral, or Bader charges were refused; 2 where the output cannot be
    read or an option is wrong.
    """
    from al_charge.api.inputs import audit_of
    from al_charge.api.stored import stored_output
    from al_charge.errors import InputError
    from al_charge.labelers.outputs import read_output
    from al_charge.loop.packed_folder import packed

    if not Path(source).exists() and (archive := packed(Path(source))) is not None:
        remedy = f"run 'tar -xzf {archive} -C {archive.parent}'"
        raise InputError("its files are packed", where=source, remedy=remedy)
    is_file = Path(source).exists() or "/" in source or "." in source
    output = read_output(Path(source), bader=not no_bader) if is_file else stored_output(source)
    found = audit_of(
        output,
        windows=dict(map(_window, windows)),
        charges=dict(map(_charge, charges)),
        end_members=[read_output(path, bader=not no_bader) for path in end_members],
    )
    show(found.document, as_json, lambda: found.table(every_site=every_site))
    return 0 if found.certain else 1


def _window(text: str) -> tuple[str, tuple[float, float]]:
    from al_charge.crystal.species import parse
    from al_charge.errors import InputError

    state, _, bounds = text.partition("=")
    low, _, high = bounds.partition(":")
    try:
        return parse(state), (float(low), float(high))
    except ValueError as error:
        raise InputError(
            f"'{text}' is not a window", where="--window", remedy="write it like Fe3+=4.1:4.4"
        ) from error


def _charge(text: str) -> tuple[str, int]:
    from pymatgen.core.periodic_table import Element

    from al_charge.errors import InputError

    element, _, charge = text.partition("=")
    try:
        return Element(element).symbol, int(charge)
    except ValueError as error:
        raise InputError(
            f"'{text}' is not a charge", where="--charge", remedy="write it like P=5"
        ) from error
