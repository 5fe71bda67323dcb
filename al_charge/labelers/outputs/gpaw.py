"""Reading the output of any GPAW run: its .gpw file or its text log."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, ulm
from ase.io.trajectory import read_atoms

from al_charge.crystal.valence import (
    GPAW_LCAO_WINDOWS,
    GPAW_PW_WINDOWS,
    GPAW_WINDOWS,
    Windows,
)
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.files import BADER, DENSITY, STATE, read_json
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Array, BaderCharges

BANNER = "|__||  | ||/"
"""What a text log of GPAW begins with."""

_WINDOWS = {"lcao": GPAW_LCAO_WINDOWS, "pw": GPAW_PW_WINDOWS}
_NO_SPIN = "the run has no spin: give the atoms initial magnetic moments"
_NUMBER = r"\s*(-?\d+\.\d+)\s*"


def find_gpaw_output(path: Path) -> Path | None:
    """Return the output of GPAW that a path stands for.

    Parameters
    ----------
    path
        A file, or a folder, in which a .gpw file comes before a text log.

    Returns
    -------
    Path or None
        None if it is no output of GPAW and holds none.
    """
    if path.is_file():
        return path if path.suffix == ".gpw" or BANNER in _text(path) else None
    # The state that a labelling job was stopped in is no result.
    if found := sorted(set(path.glob("*.gpw")) - {path / STATE}):
        return found[-1]
    logs = sorted([*path.glob("*.txt"), *path.glob("*.log")])
    return next((log for log in logs if BANNER in _text(log, 400)), None)


def read_gpaw_output(path: Path, *, bader: bool) -> Output:
    """Read a .gpw file, without GPAW, or a text log.

    Parameters
    ----------
    path
        Either of them.
    bader
        Whether to analyse the density: that which a labelling job left in the folder, else that of
        the .gpw file where GPAW is installed.

    Returns
    -------
    Output
        The last geometry, with what was found there.

    Raises
    ------
    InputError
        If GPAW has not ended.
    """
    is_gpw = path.suffix == ".gpw"
    output = _from_gpw(path) if is_gpw else _from_log(path)
    return _with_bader(output, path) if bader else output


def _from_gpw(path: Path) -> Output:
    with ulm.open(path) as file:
        atoms = read_atoms(file.atoms)
        document = file.asdict()
    mode, results = document["parameters"]["mode"], document["results"]
    if "energy" not in results:
        raise InputError("it holds no result", where=str(path), remedy="run GPAW to its end")
    version = document.get("gpaw_version", "")
    return _output(
        path,
        version=version,
        mode=mode["name"] if isinstance(mode, dict) else str(mode),
        atoms=atoms,
        energy=results["energy"],
        moments=results.get("magmoms"),
    )


def _from_log(path: Path) -> Output:
    text = _text(path)
    version = re.search(r"\|__\|\|.*?([\d.]+)\S*$", text, re.MULTILINE)
    mode = re.search(r"^\s*mode(?:=|: |: \{.*name: )['\"]?(\w+)", text, re.MULTILINE)
    _, found, last = text.rpartition("\nAtoms  # ")
    if not found:  # the format of older releases
        old = read(path, format="gpaw-out")
        assert isinstance(old, Atoms)
        atoms = old
        results: dict[str, Any] = atoms.calc.results
        energy, moments = results.get("energy"), results.get("magmoms")
    else:
        energies = re.findall(rf"^\s*Extrapolated:{_NUMBER}$", last, re.MULTILINE)
        if not energies:
            raise InputError(
                "it is truncated, or GPAW has not ended",
                where=str(path),
                remedy="run GPAW to its end",
            )
        atoms, energy, moments = _table_of_atoms(last), float(energies[-1]), _moments(last)
    return _output(
        path,
        version=version.group(1) if version else "",
        mode=mode.group(1).lower() if mode else "",
        atoms=atoms,
        energy=energy,
        moments=moments,
    )


def _text(path: Path, characters: int = -1) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(characters)


def _output(
    path: Path, *, version: str, mode: str, atoms: Atoms, energy: float | None, moments: Any
) -> Output:
    engine = f"GPAW {version}".strip()
    values = None if moments is None else np.asarray(moments, dtype=float)
    windows: Windows = _WINDOWS.get(mode, GPAW_WINDOWS)
    return Output(
        source=path,
        engine=f"{engine}, {mode} mode" if mode else engine,
        atoms=Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
        windows=windows,
        energy=None if energy is None else float(energy),
        moments=values,
        no_moments="" if values is not None else _NO_SPIN,
    )


def _table_of_atoms(text: str) -> Atoms:
    row = rf"^\|\s*(\d+) \|\s*(\w+) \|{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|"
    head, _, rest = text.partition("Unit cell  # ")
    rows = re.findall(row, head, re.MULTILINE)
    axes = re.findall(rf"^\|\s*(yes|no) \|{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|", rest, re.MULTILINE)
    if [int(number) for number, *_ in rows] != list(range(len(rows))) or len(axes) != 3:
        raise ValueError("the table of atoms or of the cell is incomplete")
    return Atoms(
        [symbol for _, symbol, *_ in rows],
        positions=[[float(value) for value in values] for _, _, *values in rows],
        cell=[[float(value) for value in values] for _, *values in axes],
        pbc=[periodic == "yes" for periodic, *_ in axes],
    )


def _moments(text: str) -> Array | None:
    _, found, table = text.rpartition("\nLocal magnetic moments\n")
    # Later tables have rows of the same form: only the first block counts.
    block = table.split("\n\n", 1)[0]
    rows = re.findall(rf"^\|{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|  # ", block, re.MULTILINE)
    return np.array([float(row[2]) for row in rows]) if found else None


def _with_bader(output: Output, path: Path) -> Output:
    from al_charge.labelers.bader import from_gpaw

    try:
        if (file := path.with_name(BADER)).is_file():
            return _as_recorded(output, file)
        if (file := path.with_name(DENSITY)).is_file():
            return replace(output, bader=from_gpaw(file, output.atoms))
        if path.suffix != ".gpw" or find_spec("gpaw") is None:
            return output
        with tempfile.TemporaryDirectory(prefix="bader-") as folder:
            file = Path(folder) / DENSITY
            _write_densities(path, file)
            return replace(output, bader=from_gpaw(file, output.atoms))
    except AlChargeError as error:
        return replace(output, bader_refused=str(error))


def _as_recorded(output: Output, file: Path) -> Output:
    """Return an output with what a labelling job has found from its density, now gone."""
    found = read_json(file)
    if "refused" in found:
        return replace(output, bader_refused=str(found["refused"]))
    if len(found.get("net", [])) != len(output.atoms):
        raise AlChargeError("it belongs to another structure", where=str(file))
    return replace(output, bader=BaderCharges(np.array(found["net"]), np.array(found["electrons"])))


def _write_densities(gpw: Path, file: Path) -> None:
    """Write what `al_charge.labelers.bader.from_gpaw` reads, by GPAW itself."""
    from gpaw import GPAW

    calculator = GPAW(gpw, txt=None)
    np.savez(
        file,
        density=calculator.get_all_electron_density(gridrefinement=2),
        coarse=calculator.get_all_electron_density(gridrefinement=1),
    )
