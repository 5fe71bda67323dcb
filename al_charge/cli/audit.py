"""`al-charge audit`: the charge states that the output of a run shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from al_charge.cli.output import json_option, show

if TYPE_CHECKING:
    from al_charge.crystal.valence import Windows
    from al_charge.labelers.outputs import Output


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
    help="Charge of an element that has one only, e.g. S=6; may be repeated.",
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
    """Tell the charge state of every site from a run's moments and Bader charges.

    FILE or FOLDER is any VASP output (OUTCAR, vasprun.xml, their folder) or GPAW output (.gpw, text
    log); LABEL the key of a stored label. Nothing is written.

    Exits 0 where every charge state is certain and the cell is neutral; 1 where a state is
    ambiguous, the cell is not neutral, or Bader charges were refused; 2 where the output cannot be
    read or an option is wrong.
    """
    from al_charge.labelers.outputs import (
        audit_output,
        read_output,
        requested_species,
        windows_from_end_members,
    )
    from al_charge.report.audits import audit_document, audit_table

    output = _read(source, bader=not no_bader)
    given = dict(map(_charge, charges))
    if output.species is None or given or windows or end_members:
        known = output.windows
        if end_members:
            ends = [read_output(path, bader=not no_bader) for path in end_members]
            known = windows_from_end_members(ends, known, given)
        known = _with_windows(known, windows)
        species, used = requested_species(output, known, given)
    else:
        species, used = output.species, output.windows
    audit = audit_output(output, species, used)
    document = audit_document(output, audit, species, used)
    show(document, as_json, lambda: audit_table(document, every_site=every_site))
    return 0 if document["certain"] else 1


def _read(source: str, *, bader: bool) -> Output:
    path = Path(source)
    if path.exists() or "/" in source or "." in source:
        from al_charge.labelers.outputs import read_output

        return read_output(path, bader=bader)
    return _stored(source)


def _stored(key: str) -> Output:
    import numpy as np
    from ase import Atoms

    from al_charge.cli.target import open_store
    from al_charge.crystal.valence import Windows
    from al_charge.errors import InputError
    from al_charge.labelers.outputs import Output
    from al_charge.labelers.protocol import BaderCharges
    from al_charge.store.settings import settings_from_environment

    label = open_store(settings_from_environment()).labels.get(key)
    if label is None:
        raise InputError(
            "there is no such file, and no label with this key in the database", where=key
        )
    last = label.frames[-1]
    bader = None
    if label.bader is not None and label.bader_electrons is not None:
        bader = BaderCharges(np.array(label.bader), np.array(label.bader_electrons))
    windows = {token: (low, high) for token, (low, high) in label.windows.items()}
    return Output(
        source=f"label {key}",
        engine=label.engine,
        atoms=Atoms(label.numbers, positions=last.positions, cell=last.cell, pbc=True),
        windows=Windows(windows, label.bader_centres),
        energy=label.energy,
        moments=np.array(label.moments) if label.moments is not None else None,
        no_moments="" if label.moments is not None else "its engine gives no moments",
        converged=label.converged,
        bader=bader,
        bader_refused=label.bader_refused,
        species=tuple(label.requested),
    )


def _with_windows(known: Windows, options: tuple[str, ...]) -> Windows:
    """Return the windows with those of the options in their place."""
    from al_charge.crystal.valence import Windows

    given = dict(map(_window, options))
    return Windows({**known.ranges, **given}, known.charges)


def _window(text: str) -> tuple[str, tuple[float, float]]:
    from al_charge.crystal.species import parse
    from al_charge.errors import InputError

    state, _, bounds = text.partition("=")
    low, _, high = bounds.partition(":")
    try:
        return parse(state), (float(low), float(high))
    except ValueError as error:
        raise InputError(
            f"'{text}' is no window", where="--window", remedy="write it like Fe3+=4.1:4.4"
        ) from error


def _charge(text: str) -> tuple[str, int]:
    from pymatgen.core.periodic_table import Element

    from al_charge.errors import InputError

    element, _, charge = text.partition("=")
    try:
        return Element(element).symbol, int(charge)
    except ValueError as error:
        raise InputError(
            f"'{text}' is no charge", where="--charge", remedy="write it like P=5"
        ) from error
