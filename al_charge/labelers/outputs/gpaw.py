"""Reading the output of any GPAW run: its .gpw file or its text log."""

from __future__ import annotations

import io
import re
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from lzma import LZMAError
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read, ulm
from ase.io.trajectory import read_atoms
from monty.io import zopen

from al_charge.crystal import compressed
from al_charge.crystal.bounded import limited
from al_charge.crystal.valence import (
    GPAW_LCAO_WINDOWS,
    GPAW_PW_WINDOWS,
    GPAW_WINDOWS,
    Windows,
)
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.files import BADER, DENSITY, STATE, read_json
from al_charge.labelers.method import Method
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
        None if it is not output of GPAW and holds none.
    """
    if path.is_file():
        is_output = path.suffix == ".gpw" or BANNER in compressed.read_text(path)
        return path if is_output else None
    # The state that a labelling job was stopped in is no result.
    if found := sorted(set(path.glob("*.gpw")) - {path / STATE}):
        return found[-1]
    names = [f"*{kind}{ending}" for kind in (".txt", ".log") for ending in compressed.ENDINGS]
    logs = sorted(log for name in names for log in path.glob(name))
    return next((log for log in logs if BANNER in _start(log)), None)


def read_gpaw_output(path: Path, *, bader: bool) -> Output:
    """Read a .gpw file, without GPAW, or a text log, which may be compressed.

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
        If GPAW has not finished, or the run is non-collinear.
    """
    is_gpw = path.suffix == ".gpw"
    with limited(path):
        output = _from_gpw(path) if is_gpw else _from_log(path)
    return _with_bader(output, path) if bader else output


def _from_gpw(path: Path) -> Output:
    with ulm.open(path) as file:
        atoms = read_atoms(file.atoms)
        document = file.asdict()
    mode, results = document["parameters"]["mode"], document["results"]
    if "energy" not in results:
        raise InputError("it holds no result", where=str(path), remedy="let GPAW finish")
    vectors = results.get("non_collinear_magmoms")
    given = document["parameters"].get("magmoms")
    if document["parameters"].get("soc") or np.ndim(given) > 1 or _tilted(vectors):
        raise _non_collinear(path)
    version = document.get("gpaw_version", "")
    return _output(
        path,
        version=version,
        mode=mode["name"] if isinstance(mode, dict) else str(mode),
        atoms=atoms,
        energy=results["energy"],
        moments=results.get("magmoms"),
        method=method_of_parameters(document["parameters"], atoms.get_chemical_symbols()),
    )


def _from_log(path: Path) -> Output:
    text = compressed.read_text(path)
    if re.search(r"^Non-collinear calculation|^\s*soc(=|: )True", text, re.MULTILINE):
        raise _non_collinear(path)
    version = re.search(r"\|__\|\|.*?([\d.]+)\S*$", text, re.MULTILINE)
    mode = re.search(r"^\s*mode(?:=|: |: \{.*name: )['\"]?(\w+)", text, re.MULTILINE)
    _, found, last = text.rpartition("\nAtoms  # ")
    if not found:  # the format of older releases
        old = read(io.StringIO(text), format="gpaw-out")
        assert isinstance(old, Atoms)
        atoms = old
        results: dict[str, Any] = atoms.calc.results
        energy, moments = results.get("energy"), results.get("magmoms")
    else:
        energies = re.findall(rf"^\s*Extrapolated:{_NUMBER}$", last, re.MULTILINE)
        if not energies:
            raise InputError(
                "it is truncated, or GPAW has not finished",
                where=str(path),
                remedy="let GPAW finish",
            )
        atoms, energy, vectors = _table_of_atoms(last), float(energies[-1]), _moments(last)
        if _tilted(vectors):
            raise _non_collinear(path)
        moments = None if vectors is None else vectors[:, 2]
    return _output(
        path,
        version=version.group(1) if version else "",
        mode=mode.group(1).lower() if mode else "",
        atoms=atoms,
        energy=energy,
        moments=moments,
        method=_method_of_log(text),
    )


def _start(path: Path) -> str:
    """Return the first characters of a file; none of one that cannot be decompressed."""
    try:
        with zopen(path, "rt", encoding="utf-8", errors="replace") as file:
            return str(file.read(400))
    except (OSError, EOFError, LZMAError, zlib.error):
        return ""


def _tilted(moments: Any) -> bool:
    """Return whether moments, shape (n_atoms, 3) in Bohr magnetons, are not all along z."""
    return moments is not None and bool((np.abs(np.asarray(moments)[:, :2]) > 1e-3).any())


def _non_collinear(path: Path) -> InputError:
    return InputError(
        "the run is non-collinear, which is not supported",
        where=str(path),
        remedy="run GPAW with one moment per atom, and without soc",
    )


def method_of_parameters(parameters: Mapping[str, Any], symbols: Sequence[str]) -> Method:
    """Return functional and U of a .gpw file; GPAW takes LDA where none is given.

    Parameters
    ----------
    parameters
        As GPAW was given them.
    symbols
        Element of every atom.

    Returns
    -------
    Method
        U in eV.
    """
    xc = parameters.get("xc", "LDA")
    setups = parameters.get("setups", {})
    setups = setups if isinstance(setups, Mapping) else {"default": setups}
    by_symbol = {symbol: setups.get(symbol, setups.get("default", "")) for symbol in set(symbols)}
    by_symbol |= {symbols[int(key)]: s for key, s in setups.items() if str(key).isdigit()}
    found = {symbol: re.search(r":[spdf],([\d.]+)", str(s)) for symbol, s in by_symbol.items()}
    return Method(
        str(xc["name"] if isinstance(xc, Mapping) else xc),
        {symbol: float(match[1]) for symbol, match in found.items() if match},
    )


def _method_of_log(text: str) -> Method | None:
    """Return functional and U as a log tells them; those of older releases do not."""
    name = re.search(r"^xc functional:\n\s+name:\s+(\S+)", text, re.MULTILINE)
    if name is None:
        return None
    species = re.findall(r"^  ([A-Z][a-z]?):\n((?:    .*\n)+)", text, re.MULTILINE)
    found = {symbol: re.search(r"Hubbard: \{U: ([\d.]+)", about) for symbol, about in species}
    return Method(name[1], {symbol: float(match[1]) for symbol, match in found.items() if match})


def _output(
    path: Path,
    *,
    version: str,
    mode: str,
    atoms: Atoms,
    energy: float | None,
    moments: Any,
    method: Method | None,
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
        method=method,
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
    """Return the vectors of the local moments, shape (n_atoms, 3)."""
    _, found, table = text.rpartition("\nLocal magnetic moments\n")
    # Later tables have rows of the same form: only the first block counts.
    block = table.split("\n\n", 1)[0]
    rows = re.findall(rf"^\|{_NUMBER}\|{_NUMBER}\|{_NUMBER}\|  # ", block, re.MULTILINE)
    return np.array(rows, dtype=float).reshape(-1, 3) if found else None


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
