"""Reading the output of any VASP run."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.io import read
from ase.io.vasp_parsers.vasp_outcar_parsers import OutcarHeaderParser, outcarchunks

from al_charge.crystal import compressed
from al_charge.crystal.bounded import limited
from al_charge.crystal.valence import VASP_WINDOWS
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.method import Method
from al_charge.labelers.output import Output
from al_charge.labelers.protocol import Array
from al_charge.labelers.vasp_run import functional_of, settled

_U_TAGS = ("LDAUU", "LDAUJ", "LDAUL")
_DENSITIES = ("AECCAR", "CHGCAR")
_NO_SPIN = "the run has no spin: set ISPIN = 2 and LORBIT = 11"
_NO_TABLE = "the OUTCAR has no moments: set LORBIT = 11"
_NOT_IN_XML = "vasprun.xml has no moments: put the OUTCAR of a run with LORBIT = 11 beside it"


class _Stream(io.StringIO):
    """A text with the name that ASE asks a file for."""

    name = "OUTCAR"


def find_vasp_output(path: Path) -> Path | None:
    """Return the output of VASP that a path stands for.

    Parameters
    ----------
    path
        A file, or a folder, in which OUTCAR comes before vasprun.xml, which has no moments.

    Returns
    -------
    Path or None
        None if it is not output of VASP and holds none.

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
    return compressed.find(path, "OUTCAR") or compressed.find(path, "vasprun.xml")


def read_vasp_output(path: Path, *, bader: bool) -> Output:
    """Read an OUTCAR or vasprun.xml, and the densities in its folder.

    Parameters
    ----------
    path
        Either of them, compressed as its name says. Moments, which a vasprun.xml does not have, are
        taken from the OUTCAR beside it.
    bader
        Whether to analyse AECCAR0, AECCAR2 and CHGCAR where they are there.

    Returns
    -------
    Output
        The last geometry, with what was found there.

    Raises
    ------
    InputError
        If the file is truncated (VASP has not finished), or the run non-collinear.
    """
    is_xml = path.name.startswith("vasprun")
    with limited(path):
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
    text = compressed.read_text(path)
    if "magnetization (z)" in text:
        raise _non_collinear(path)
    if "General timing and accounting" not in text:
        raise InputError(
            "it is truncated, or VASP has not finished", where=str(path), remedy="let VASP finish"
        )
    # Without a folder ASE looks for no constraints in the CONTCAR there, which may be damaged.
    *_, last = outcarchunks(_Stream(text), header_parser=OutcarHeaderParser(workdir=None))
    atoms = last.build()
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
        converged=_converged(text),
        method=_method_of_outcar(text, atoms.get_chemical_symbols()),
    )
    return output, _zval_of_outcar(text)


def _converged(text: str) -> bool:
    """Return whether the electrons of the last geometry of an OUTCAR converged.

    VASP 5 says that EDIFF is reached where NELM has stopped it, too.
    """
    head, _, last = text.rpartition("Iteration")
    if "aborting loop because EDIFF is reached" not in last:
        return False
    step = re.match(r"\s*\d+\(\s*(\d+)\)", last)
    most = re.findall(r"^\s*NELM\s*=\s*(\d+)", head, re.MULTILINE)
    if step and most and int(step[1]) >= int(most[-1]):
        return False
    change = re.search(r"total energy-change \(2\. order\) :\s*(\S+)", last)
    limits = re.findall(r"^\s*EDIFF\s*=\s*(\S+)", head, re.MULTILINE)
    if not change or not limits or (step and int(step[1]) == 1):
        return True
    # OUTCAR writes EDIFF with one digit, so that 0.1E-05 may be up to 1.5E-06.
    return abs(float(change[1])) <= 1.5 * float(limits[-1])


def _from_vasprun(path: Path) -> tuple[Output, Array]:
    text = compressed.read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError("it defines XML entities, which VASP never does", where=str(path))
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(
            f"it is truncated or damaged ({error})", where=str(path), remedy="let VASP finish"
        ) from error
    if root.findtext("parameters//i[@name='LNONCOLLINEAR']", "F").strip() == "T":
        raise _non_collinear(path)
    if root.find("atominfo") is None or root.find("calculation") is None:
        raise InputError("it has no atoms, or no calculation", where=str(path))
    atoms = read(io.BytesIO(text.encode()), format="vasp-xml")
    assert isinstance(atoms, Atoms)
    version = root.findtext("generator/i[@name='version']", "").split()
    energy = float(atoms.get_potential_energy())
    moments, no_moments = _moments_beside(path, len(atoms), energy)
    output = Output(
        source=path,
        engine=f"VASP {re.split(r'[^0-9.]', version[0])[0].strip('.')}" if version else "VASP",
        atoms=_bare(atoms),
        windows=VASP_WINDOWS,
        energy=energy,
        moments=moments,
        no_moments=no_moments,
        converged=_xml_converged(root),
    )
    rows = root.findall("atominfo/array[@name='atomtypes']/set/rc")
    # count, element, mass, valence electrons, dataset
    per_type = [[(cell.text or "").strip() for cell in row.findall("c")] for row in rows]
    counts = [int(row[0]) for row in per_type]
    symbols = [row[1] for row in per_type]
    output = replace(output, method=_method_of_vasprun(root, symbols, per_type[0][4]))
    return output, np.repeat([float(row[3]) for row in per_type], counts)


def _xml_converged(root: ElementTree.Element) -> bool:
    """Return whether the electrons of the last geometry of a vasprun.xml converged."""
    steps = root.findall("calculation")
    energies = [
        float(step.findtext("energy/i[@name='e_fr_energy']", "nan"))
        for step in (steps[-1].findall("scstep") if steps else [])
    ]
    most = int(root.findtext("parameters//i[@name='NELM']", "0"))
    return settled(energies, most, float(root.findtext("parameters//i[@name='EDIFF']", "inf")))


def _moments_beside(path: Path, n_atoms: int, energy: float) -> tuple[Array | None, str]:
    """Return the moments of the OUTCAR beside a vasprun.xml, or why there are none."""
    name = compressed.bare_name(path).replace("vasprun", "OUTCAR", 1).replace(".xml", "", 1)
    file = compressed.find(path.parent, name)
    if file is None:
        return None, _NOT_IN_XML
    try:
        output, _ = _from_outcar(file)
    except Exception:  # parsers raise whatever a broken file breaks
        return None, f"vasprun.xml has no moments, and the {file.name} beside it cannot be read"
    if len(output.atoms) != n_atoms or abs((output.energy or 0.0) - energy) > 1e-5:
        return (
            None,
            f"vasprun.xml has no moments, and the {file.name} beside it is from another run",
        )
    return output.moments, output.no_moments


def _method_of_outcar(text: str, symbols: Sequence[str]) -> Method | None:
    """Return functional and U; None where the OUTCAR does not tell its functional."""
    tags: dict[str, str] = {}
    for tag in ("GGA", "METAGGA", "LHFCALC"):
        if found := re.findall(rf"^\s*{tag}\s*=\s*(\S+)", text, re.MULTILINE):
            tags[tag] = found[-1]
    if "GGA" not in tags:
        return None
    of_datasets = re.search(r"^\s*LEXCH\s*=\s*([A-Z0-9]{2})\s", text, re.MULTILINE)
    if tags["GGA"] == "--" and of_datasets:
        tags["GGA"] = of_datasets[1]
    u, j, angular = (
        _per_type(rf"for each species {tag}\s*=([-\s\d.]+?)$", text) for tag in _U_TAGS
    )
    counts = _counts(text)
    elements = [symbols[sum(counts[:number])] for number in range(len(counts))]
    return Method(functional_of(tags), _effective_u(elements, u, j, angular))


def _method_of_vasprun(root: ElementTree.Element, symbols: Sequence[str], dataset: str) -> Method:
    def tag(section: str, name: str) -> str:
        node = root.find(f"{section}//*[@name='{name}']")
        return "" if node is None or node.text is None else node.text.strip()

    tags = {
        "GGA": tag("parameters", "GGA") or "--",
        "METAGGA": tag("incar", "METAGGA"),
        "LHFCALC": tag("parameters", "LHFCALC"),
    }
    if tags["GGA"] == "--":
        family = dataset.partition(" ")[0]
        tags["GGA"] = {"PAW": "CA", "PAW_GGA": "91"}.get(family, "PE")
    if tag("parameters", "LDAU") not in ("T", ".TRUE."):
        return Method(functional_of(tags), {})
    # Where the parameters list these, they list those of the first element alone.
    u, j, angular = ([float(v) for v in tag("incar", n).split()] for n in _U_TAGS)
    return Method(functional_of(tags), _effective_u(symbols, u, j, angular))


def _per_type(pattern: str, text: str) -> list[float]:
    found = re.findall(pattern, text, re.MULTILINE)
    return [float(value) for value in found[-1].split()] if found else []


def _effective_u(
    elements: Sequence[str], u: Sequence[float], j: Sequence[float], angular: Sequence[float]
) -> dict[str, float]:
    """Return U - J of the elements on whose electrons it acts."""
    j = j or [0.0] * len(u)
    angular = angular or [2.0] * len(u)
    per_type = zip(elements, u, j, angular, strict=False)
    return {el: one - other for el, one, other, l_ in per_type if l_ >= 0 and one != other}


def _moments(text: str) -> Array | None:
    """Return the last total moments in Bohr magnetons, shape (n_atoms,)."""
    _, found, table = text.rpartition("magnetization (x)")
    if not found:
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
    return _NO_SPIN if re.search(r"ISPIN\s*=\s*1\b", text) else _NO_TABLE


def _zval_of_outcar(text: str) -> Array:
    """Return the valence electrons of every atom's dataset, shape (n_atoms,)."""
    zval = [float(value) for value in re.findall(r"ZVAL\s*=\s*([\d.]+)\s+mass", text)]
    counts = _counts(text)
    if not counts:
        raise InputError("it does not say how many atoms of each type there are", where="OUTCAR")
    return np.repeat(zval[: len(counts)], counts)


def _counts(text: str) -> list[int]:
    """Return the number of atoms of each type."""
    found = re.search(r"ions per type =((?:\s+\d+)+)", text)
    return [int(count) for count in found.group(1).split()] if found else []


def _non_collinear(path: Path) -> InputError:
    return InputError(
        "the run is non-collinear, which is not supported",
        where=str(path),
        remedy="run VASP without LNONCOLLINEAR and LSORBIT",
    )


def _has_densities(folder: Path) -> bool:
    return any(compressed.find(folder, name) for name in ("AECCAR0", "AECCAR2", "CHGCAR"))


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
