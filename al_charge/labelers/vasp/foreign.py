"""VASP runs that al-charge has not made, and whether their settings are those of a campaign."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.vasp_parsers.vasp_outcar_parsers import OutcarHeaderParser, outcarchunks
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike

from al_charge.crystal import compressed
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.kpoints import in_other_vectors
from al_charge.labelers.foreign import ForeignRun
from al_charge.labelers.outputs.vasp import read_vasp_output
from al_charge.labelers.protocol import BaderCharges, Frame, Relax
from al_charge.labelers.vasp import comparability, outputs, potcars
from al_charge.labelers.vasp.outputs import Run
from al_charge.labelers.vasp.request import plan_label
from al_charge.labelers.vasp.settings import VaspSettings

MOST_VOLUME = 0.01
"""Part of the volume that a relaxation may change: its plane waves stay those of the first cell."""
_NO_GRID = (0, 0, 0)
_OF_KPOINTS = ("KSPACING", "KGAMMA")
"""Tags that choose a grid, which is compared itself."""
_IN_OUTCAR = {
    "ENCUT": r"^\s*ENCUT\s*=\s*([\d.]+) eV",
    "PREC": r"^\s*PREC\s*=\s*(\w+)",
    "ISPIN": r"^\s*ISPIN\s*=\s*(\d+)",
    "LASPH": r"^\s*LASPH\s*=\s*([TF])\b",
    "ISMEAR": r"^\s*ISMEAR\s*=\s*(-?\d+);",
    "SIGMA": r"^\s*ISMEAR\s*=.*SIGMA\s*=\s*([\d.]+)",
    "NUPDOWN": r"^\s*NUPDOWN\s*=\s*(-?[\d.]+)",
    "LHFCALC": r"^\s*LHFCALC\s*=\s*([TF])\b",
    "GGA": r"^\s*GGA\s*=\s*(\w\w)\s",
    "NELM": r"^\s*NELM\s*=\s*(\d+)",
    "LDAUTYPE": r"type is set to LDAUTYPE\s*=\s*(\d+)",
    "LDAUL": r"for each species LDAUL\s*=([-\s\d]+?)$",
    "LDAUU": r"for each species LDAUU\s*=([-\s\d.]+?)$",
    "LDAUJ": r"for each species LDAUJ\s*=([-\s\d.]+?)$",
}
"""Where an OUTCAR tells what VASP took for a tag; its INCAR may have been edited since."""


def read_folder(folder: Path) -> ForeignRun:
    """Read a run from its folder: vasprun.xml, or else OUTCAR.

    Parameters
    ----------
    folder
        With vasprun.xml and OUTCAR, or an OUTCAR of VASP 6, or one with INCAR beside it; each
        compressed or not.

    Returns
    -------
    ForeignRun
        Its last geometry.

    Raises
    ------
    InputError
        If its files are of two runs.
    AlChargeError
        If one is truncated.
    """
    if compressed.find(folder, "vasprun.xml") is None:
        return _from_outcar(folder)
    run = outputs.read_vasprun(folder)
    moments, seconds, cores = None, None, None
    if compressed.find(folder, "OUTCAR") is not None:
        summary = outputs.read_outcar(folder)
        moments, seconds, cores = summary.moments, summary.seconds, summary.cores
        told = summary.free_energy
        if told is not None and abs(told - run.free_energy) > 1e-4:
            raise InputError(
                "vasprun.xml and OUTCAR are from different runs: their energies differ",
                where=str(folder),
            )
    found = foreign_run(str(folder), run, moments)
    bader, refused = _bader(folder, found)
    return replace(
        found, bader=bader, bader_refused=refused, wall_time=seconds or None, cores=cores
    )


def foreign_run(source: str, run: Run, moments: ArrayLike | None) -> ForeignRun:
    """Return a run of VASP as a foreign run.

    Parameters
    ----------
    source
        Where it was read.
    run
        What its files say.
    moments
        Bohr magnetons, shape (n_atoms,); None without spin.

    Returns
    -------
    ForeignRun
        Its last geometry; unusable where the cell has changed too much on the way.

    Raises
    ------
    AlChargeError
        If no step of it converged.
    """
    if not run.electrons_converged or not run.frames:
        raise AlChargeError("its SCF did not converge", where=source)
    volumes = [abs(np.linalg.det(frame.cell)) for frame in (run.frames[0], run.frames[-1])]
    change = volumes[1] / volumes[0] - 1
    unusable = ""
    if abs(change) > MOST_VOLUME:
        unusable = (
            f"its volume changed by {100 * change:+.1f} % with the plane waves of the first cell; "
            "compute the last geometry once more"
        )
    return ForeignRun(
        source=source,
        symbols=run.symbols,
        frame=run.frames[-1],
        moments=None if moments is None else np.asarray(moments, dtype=float),
        engine=f"VASP {run.version}".strip(),
        unusable=unusable,
        datasets=run.titles,
        kind="vasp",
        settings=run,
        details={
            "free_energy": run.free_energy,
            "hubbard_u": dict(run.hubbard_u),
            "kpoints": run.kpoints,
        },
    )


def unlike(settings: VaspSettings, run: Run, atoms: Atoms, vectors: ArrayLike) -> str:
    """Say how the settings of a run differ from those of a campaign.

    Parameters
    ----------
    settings
        Of the campaign.
    run
        What the files of the run say.
    atoms
        Its geometry in the campaign's vectors, with the charge states that were found.
    vectors
        Those vectors in units of the run's own, shape (3, 3).

    Returns
    -------
    str
        One line that names every difference; empty if there is none.
    """
    request = plan_label(settings, atoms, Relax.NONE, 0)
    requested = {
        tag: [value[element] for element in run.types] if isinstance(value, dict) else value
        for tag, value in request.stages[-1].incar.items()
    }
    grid = in_other_vectors(request.kpoints, vectors) or _NO_GRID
    told = {tag: value for tag, value in run.incar.items() if tag not in _OF_KPOINTS}
    parts = [comparability.broken_by(replace(run, incar=told), requested, grid, {})]
    held = float(run.incar.get("NUPDOWN", run.parameters.get("NUPDOWN", -1)))
    if not settings.holds_moment and held != -1:
        parts.append(f"NUPDOWN is {held:g} instead of a free moment")
    parts += _datasets(settings, run.titles)
    return "; ".join(part for part in parts if part)


def _datasets(settings: VaspSettings, titles: Mapping[str, str]) -> list[str]:
    """Return which datasets are not those that the campaign takes."""
    from pymatgen.io.vasp.inputs import PotcarSingle

    release = settings.potcar_functional
    known = getattr(PotcarSingle, "_potcar_summary_stats", {}).get(release, {})
    found = []
    for element, title in titles.items():
        wanted = potcars.dataset_name(element, settings.potcars, release)
        words = title.split()
        if len(words) < 2 or words[0] != "PAW_PBE" or words[1] != wanted:
            found.append(f"the POTCAR of {element} is {title}, not PAW_PBE {wanted}")
        elif settings.verify_potcars and known and title.replace(" ", "") not in known:
            found.append(f"the POTCAR of {element} is {title}, which {release} does not have")
    return found


def _from_outcar(folder: Path) -> ForeignRun:
    file = outputs.find(folder, "OUTCAR")
    output = read_vasp_output(file, bader=True)  # refuses truncated and non-collinear runs
    text = compressed.read_text(file)
    incar = _incar(folder, text)
    # Without a folder ASE looks for no constraints in a CONTCAR.
    chunks = list(outcarchunks(_Named(text), header_parser=OutcarHeaderParser(workdir=None)))
    frames = tuple(_frame(chunk.build()) for chunk in chunks)
    titles = re.findall(r"^\s*TITEL\s*=\s*(.+?)\s*$", text, re.MULTILINE)
    energies = re.findall(r"free  energy   TOTEN  =\s*(-?[\d.]+)", text)
    symbols = tuple(output.atoms.get_chemical_symbols())
    run = Run(
        frames=frames if output.converged else (),
        free_energy=float(energies[-1]),
        converged=output.converged,
        electrons_converged=output.converged,
        version=output.engine.removeprefix("VASP").strip(),
        titles={title.split()[1].split("_")[0].split(".")[0]: title for title in titles},
        hubbard_u=dict(output.method.hubbard_u) if output.method is not None else {},
        incar=incar,
        parameters={},
        kpoints=_grid(folder, text),
        symbols=symbols,
    )
    found = foreign_run(str(folder), run, output.moments)
    return replace(found, bader=output.bader, bader_refused=output.bader_refused)


class _Named(io.StringIO):
    """A text with the name that ASE asks a file for."""

    name = "OUTCAR"


def _incar(folder: Path, text: str) -> dict[str, Any]:
    """Return the tags of a run: those that OUTCAR or INCAR lists, and what VASP took for them."""
    from pymatgen.io.vasp.inputs import Incar

    listed = re.search(r"^ INCAR:\n((?:   .+\n)+)", text, re.MULTILINE)
    file = compressed.find(folder, "INCAR")
    if listed is None and file is None:
        raise InputError(
            "OUTCAR does not list its INCAR", where=str(folder), remedy="put the INCAR beside it"
        )
    tags = dict(Incar.from_str(listed[1] if listed else compressed.read_text(file or folder)))
    for tag, pattern in _IN_OUTCAR.items():
        found = re.findall(pattern, text, re.MULTILINE)
        if found and not (tag == "GGA" and found[-1] == "--"):
            tags[tag] = Incar.proc_val(tag, found[-1].strip())
    return tags


def _grid(folder: Path, text: str) -> str:
    """Return the k-point grid that an OUTCAR tells."""
    from pymatgen.io.vasp.inputs import Kpoints

    if file := compressed.find(folder, "KPOINTS"):
        grid = outputs.grid_of(Kpoints.from_str(compressed.read_text(file)))
        told = re.search(r"generate k-points for:((?:\s+\d+){3})", text)
        if told is None or grid.split()[:3] == told[1].split():
            return grid
    return "unknown without the run's KPOINTS"


def _frame(atoms: Atoms) -> Frame:
    results = atoms.calc.results
    stress = results.get("stress")
    return Frame(
        positions=atoms.positions,
        cell=atoms.cell.array,
        energy=float(results["energy"]),
        forces=np.asarray(results["forces"], dtype=float),
        stress=None if stress is None else voigt_6_to_full_3x3_stress(stress),
    )


def _bader(folder: Path, run: ForeignRun) -> tuple[BaderCharges | None, str]:
    """Return the charges of the densities in a folder, and why there are none."""
    if any(compressed.find(folder, name) is None for name in ("AECCAR0", "AECCAR2")):
        return None, ""
    output = read_vasp_output(outputs.find(folder, "vasprun.xml"), bader=True)
    return output.bader, output.bader_refused


def read_task(document: Mapping[str, Any], source: str) -> ForeignRun:
    """Read the document of a VASP task, as atomate2 writes it.

    Parameters
    ----------
    document
        A TaskDoc of emmet as plain data, with its calculations.
    source
        Where it was read.

    Returns
    -------
    ForeignRun
        The last geometry of its last calculation.

    Raises
    ------
    InputError
        If it lacks what a label needs.
    """
    try:
        return _of_calculation(document["calcs_reversed"][0], source)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"it is not a document of a VASP task ({type(error).__name__}: {error})", where=source
        ) from error


def _of_calculation(calculation: Mapping[str, Any], source: str) -> ForeignRun:
    from pymatgen.core.structure import Structure
    from pymatgen.io.vasp.inputs import Kpoints

    given, found = calculation["input"], calculation["output"]
    if not isinstance(found["ionic_steps"], list):
        raise InputError(
            "its ionic steps are stored elsewhere (store_trajectory)",
            where=source,
            remedy="give the folder of its run",
        )
    steps = []
    for step in found["ionic_steps"]:
        structure = Structure.from_dict(_plain(step["structure"], "Structure"))
        steps.append({**step, "structure": structure})
    parameters = dict(given["parameters"])
    settled = [outputs.is_settled(step, parameters) for step in steps]
    titles: Sequence[str] = [str(one["titel"]) for one in given["potcar_spec"]]
    symbols = tuple(site.specie.symbol for site in steps[-1]["structure"])
    elements = list(dict.fromkeys(symbols))
    sites = (found.get("outcar") or {}).get("magnetization") or []
    hubbards = given.get("hubbards") or {}
    run = Run(
        frames=tuple(
            outputs.frame_of(step) for step, good in zip(steps, settled, strict=True) if good
        ),
        free_energy=float(steps[-1]["e_fr_energy"]),
        converged=bool(calculation.get("has_vasp_completed")) and settled[-1],
        electrons_converged=settled[-1],
        version=str(calculation.get("vasp_version") or ""),
        titles=dict(zip(elements, dict.fromkeys(titles), strict=True)),
        hubbard_u={str(element): float(u) for element, u in hubbards.items()},
        incar=dict(given["incar"]),
        parameters=parameters,
        kpoints=outputs.grid_of(Kpoints.from_dict(_plain(given["kpoints"], "Kpoints"))),
        symbols=symbols,
    )
    moments = [float(site["tot"]) for site in sites]
    return foreign_run(source, run, moments if len(moments) == len(symbols) else None)


def _plain(document: Any, name: str) -> dict[str, Any]:
    """Return a serialised object; of other classes than the one that is due it is refused."""
    if not isinstance(document, dict) or document.get("@class", name) != name:
        raise ValueError(f"no {name}")
    return dict(document)
