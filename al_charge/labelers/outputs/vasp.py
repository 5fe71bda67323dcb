"""Reading the output of any VASP run."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.io import read

from al_charge.crystal.valence import VASP_WINDOWS
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Array

LARGEST = 2**30
"""Characters of an output, decompressed; what is longer was made to fill the memory."""
_DENSITIES = ("AECCAR", "CHGCAR")
_NO_SPIN = "the run has no spin: set ISPIN = 2 and LORBIT = 11"
_NO_TABLE = "the OUTCAR has no moments: set LORBIT = 11"
_NOT_IN_XML = "vasprun.xml has no moments: put the OUTCAR of a run with LORBIT = 11 beside it"


def find_vasp_output(path: Path) -> Path | None:
    """Return the output of VASP that a path stands for.

    Parameters
    ----------
    path
        A file, or a folder, in which OUTCAR comes before vasprun.xml, which has no moments.

    Returns
    -------
    Path or None
        None if it is no output of VASP and holds none.

    Raises
    ------
    InputError
        If it is a density, which has no moments.
    """
    if path.name.startswith(_DENSITIES) and path.is_file():
        raise InputError(
            "a density alone has no moments", where=str(path), remedy="give its folder"
        )
    if path.is_file():
        return path if path.name.startswith(("OUTCAR", "vasprun")) else None
    names = ("OUTCAR", "OUTCAR.gz", "vasprun.xml", "vasprun.xml.gz")
    return next((path / name for name in names if (path / name).exists()), None)


def read_vasp_output(path: Path, *, bader: bool) -> Output:
    """Read an OUTCAR or vasprun.xml, and the densities in its folder.

    Parameters
    ----------
    path
        Compressed by gzip if its name ends in ``.gz``.
    bader
        Whether to analyse AECCAR0, AECCAR2 and CHGCAR where they are there.

    Returns
    -------
    Output
        The last geometry, with what was found there.

    Raises
    ------
    InputError
        If the file is truncated: VASP has not ended.
    """
    is_xml = path.name.startswith("vasprun")
    output, zval = _from_vasprun(path) if is_xml else _from_outcar(path)
    if not bader or not _has_densities(path.parent):
        return output
    from al_charge.labelers.bader import from_aeccar

    try:
        charges = from_aeccar(path.parent, output.atoms, zval)
    except AlChargeError as error:
        return replace(output, bader_refused=str(error))
    return replace(output, bader=charges)


def _from_outcar(path: Path) -> tuple[Output, Array]:
    text = _text(path)
    if "General timing and accounting" not in text:
        raise InputError(
            "it is truncated, or VASP has not ended", where=str(path), remedy="run VASP to its end"
        )
    atoms = read(path, format="vasp-out")
    assert isinstance(atoms, Atoms)
    results = atoms.calc.results
    moments = _moments(text)
    version = re.search(r"^\s*vasp\.([\d.]*\d)", text, re.MULTILINE)
    output = Output(
        source=path,
        engine=f"VASP {version.group(1)}" if version else "VASP",
        atoms=_bare(atoms),
        windows=VASP_WINDOWS,
        energy=float(results["energy"]),
        moments=moments,
        no_moments="" if moments is not None else _why_no_moments(text),
        converged="aborting loop because EDIFF is reached" in text.rsplit("Iteration", 1)[-1],
    )
    return output, _zval_of_outcar(text)


def _from_vasprun(path: Path) -> tuple[Output, Array]:
    text = _text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError("it defines XML entities, which VASP never does", where=str(path))
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(
            f"it is truncated or damaged ({error})", where=str(path), remedy="run VASP to its end"
        ) from error
    atoms = read(path, format="vasp-xml")
    assert isinstance(atoms, Atoms)
    version = root.findtext("generator/i[@name='version']", "").split()
    steps = root.findall("calculation")
    electronic_steps = len(steps[-1].findall("scstep")) if steps else 0
    most = int(root.findtext("parameters//i[@name='NELM']", "0"))
    output = Output(
        source=path,
        engine=f"VASP {re.split(r'[^0-9.]', version[0])[0].strip('.')}" if version else "VASP",
        atoms=_bare(atoms),
        windows=VASP_WINDOWS,
        energy=float(atoms.get_potential_energy()),
        moments=None,
        no_moments=_NOT_IN_XML,
        converged=0 < electronic_steps < most,
    )
    rows = root.findall("atominfo/array[@name='atomtypes']/set/rc")
    # count, element, mass, valence electrons, dataset
    per_type = [[(cell.text or "").strip() for cell in row.findall("c")] for row in rows]
    counts = [int(row[0]) for row in per_type]
    return output, np.repeat([float(row[3]) for row in per_type], counts)


def _moments(text: str) -> Array | None:
    """Return the last total moments in Bohr magnetons, shape (n_atoms,), of a collinear run."""
    _, found, table = text.rpartition("magnetization (x)")
    if not found or "magnetization (z)" in text:
        return None
    # A heading between two empty lines and a rule; the rows end with a rule.
    heading, body, after = table.split("----\n", 2)
    columns = heading.partition("# of ion")[2].split()[:-1]  # the last is the rule
    rows = [row.split() for row in re.findall(r"^\s*\d+(?:\s+-?\d+\.\d+)+\s*$", body, re.M)]
    numbers = [int(row[0]) for row in rows]
    if numbers != list(range(1, len(rows) + 1)) or {len(row) for row in rows} != {1 + len(columns)}:
        raise ValueError("the table of moments is incomplete")
    moments = np.array([float(row[-1]) for row in rows])
    total = re.match(r"tot .*?(\S+)\n", after)
    # Every moment is rounded to three digits.
    if total and abs(float(total[1]) - moments.sum()) > 0.001 * (len(rows) + 1):
        raise ValueError(f"its moments sum to {moments.sum():.3f}, not to {total[1]} as it says")
    return moments


def _why_no_moments(text: str) -> str:
    if "magnetization (z)" in text:
        return "the run is non-collinear, which is not supported"
    return _NO_SPIN if re.search(r"ISPIN\s*=\s*1\b", text) else _NO_TABLE


def _zval_of_outcar(text: str) -> Array:
    """Return the valence electrons of every atom's dataset, shape (n_atoms,)."""
    zval = [float(value) for value in re.findall(r"ZVAL\s*=\s*([\d.]+)\s+mass", text)]
    counts = re.search(r"ions per type =((?:\s+\d+)+)", text)
    if counts is None:
        raise InputError("it does not say how many atoms of each type there are", where="OUTCAR")
    per_type = [int(count) for count in counts.group(1).split()]
    return np.repeat(zval[: len(per_type)], per_type)


def _has_densities(folder: Path) -> bool:
    return any(
        (folder / f"{name}{ending}").is_file()
        for name in ("AECCAR0", "AECCAR2", "CHGCAR")
        for ending in ("", ".gz")
    )


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def _text(path: Path) -> str:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        text = str(file.read(LARGEST + 1))
    if len(text) > LARGEST:
        raise InputError(f"it has more than {LARGEST} characters", where=str(path))
    return text
