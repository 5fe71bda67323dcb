"""GPAW runs that al-charge has not made, and whether their settings are those of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import ulm
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike

from al_charge.crystal.bounded import limited
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.kpoints import in_other_vectors
from al_charge.labelers.files import read_json
from al_charge.labelers.foreign import Comparison, ForeignRun
from al_charge.labelers.gpaw.journal import INPUT, RESULT
from al_charge.labelers.gpaw.labeler import gpaw_version
from al_charge.labelers.gpaw.results import reading
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.outputs.gpaw import method_of_parameters, read_gpaw_output
from al_charge.labelers.protocol import Frame

_ENERGY_TOLERANCE = 5e-4
"""GPAW's own, eV per valence electron."""
_SMEARING = ("fermi-dirac", 0.1)
"""GPAW's own for crystals, eV."""
_CUTOFF, _SPACING, _BASIS = 340.0, 0.2, "none"
"""GPAW's own: eV, angstrom, and no atomic orbitals."""


def find_runs(folder: Path) -> list[Path]:
    """Return the runs in a folder: .gpw files, or the folder of a labelling job itself.

    Parameters
    ----------
    folder
        Not those in it.

    Returns
    -------
    list of Path
        Empty if there is none.
    """
    if (folder / INPUT).is_file() and (folder / RESULT).is_file():
        return [folder]
    return sorted(path for path in folder.glob("*.gpw") if path.name != "state.gpw")


def read_run(path: Path) -> ForeignRun:
    """Read a .gpw file, without GPAW, or the folder of a labelling job.

    Parameters
    ----------
    path
        Either of them.

    Returns
    -------
    ForeignRun
        Its last geometry.

    Raises
    ------
    AlChargeError
        If it is truncated, or has no forces.
    """
    return _from_job(path) if path.is_dir() else _from_gpw(path)


def _from_gpw(path: Path) -> ForeignRun:
    try:
        output = read_gpaw_output(path, bader=True)  # refuses what has no result or no axis of spin
    except AlChargeError:
        raise
    except Exception as error:  # GPAW raises whatever a file without a density breaks
        refused = f"GPAW cannot read its density ({type(error).__name__})"
        output = replace(read_gpaw_output(path, bader=False), bader_refused=refused)
    with limited(path), ulm.open(path) as file:
        document = file.asdict()
    results, parameters = document["results"], document["parameters"]
    if "forces" not in results:
        raise InputError(
            "it holds no forces",
            where=str(path),
            remedy="let GPAW compute forces before it writes the file",
        )
    stress = results.get("stress")
    return ForeignRun(
        source=str(path),
        symbols=tuple(output.atoms.get_chemical_symbols()),
        frame=Frame(
            positions=output.atoms.positions,
            cell=output.atoms.cell.array,
            energy=float(results["energy"]),
            forces=np.asarray(results["forces"], dtype=float),
            stress=None if stress is None else voigt_6_to_full_3x3_stress(np.asarray(stress)),
        ),
        moments=output.moments,
        converged=output.converged,
        engine=output.engine,
        bader=output.bader,
        bader_refused=output.bader_refused,
        kind="gpaw",
        settings=parameters | {"version": str(document.get("gpaw_version", ""))},
    )


def _from_job(folder: Path) -> ForeignRun:
    job, found = read_json(folder / INPUT), reading(folder)
    symbols = tuple(Atoms(job["numbers"]).get_chemical_symbols())
    return ForeignRun(
        source=str(folder),
        symbols=symbols,
        frame=found.frames[-1],
        moments=found.moments,
        converged=found.converged,
        engine=found.engine,
        bader=found.bader,
        bader_refused=found.bader_refused,
        datasets=found.datasets,
        kind="gpaw",
        settings=job["parameters"] | {"version": found.engine.rpartition(" ")[2]},
        details=found.details,
        wall_time=found.wall_time,
        cores=found.cores,
    )


def compare(
    settings: GpawSettings, parameters: Mapping[str, Any], atoms: Atoms, vectors: ArrayLike
) -> Comparison:
    """Compare the parameters of a run with the settings of a campaign.

    Parameters
    ----------
    settings
        Of the campaign.
    parameters
        Of the run, as GPAW's, and its ``version``.
    atoms
        Its geometry in the campaign's vectors.
    vectors
        Those vectors in units of the run's own, shape (3, 3).

    Returns
    -------
    Comparison
        A run does not tell its datasets.
    """
    symbols = atoms.get_chemical_symbols()
    found, asked = _of_run(parameters, symbols), _of_settings(settings, atoms, vectors)
    differ = [
        f"{name} is {found.get(name, 'none')} instead of {value}"
        for name, value in asked.items()
        if found.get(name) != value
    ]
    method = method_of_parameters(parameters, symbols)
    tolerance = float((parameters.get("convergence") or {}).get("energy", _ENERGY_TOLERANCE))
    if tolerance > settings.energy_tolerance * (1 + 1e-6):
        differ.append(
            f"the energy is converged to {tolerance:g} instead of {settings.energy_tolerance:g} eV "
            "per electron"
        )
    u, wanted = dict(method.hubbard_u), settings.u_of(set(symbols))
    differ += [
        f"U is {u.get(element, 0.0):g} instead of {wanted.get(element, 0.0):g} eV on {element}"
        for element in sorted({*u, *wanted})
        if abs(u.get(element, 0.0) - wanted.get(element, 0.0)) > 1e-6
    ]
    return Comparison("; ".join(differ), "its PAW datasets")


def _of_settings(settings: GpawSettings, atoms: Atoms, vectors: ArrayLike) -> dict[str, str]:
    grid = in_other_vectors(settings.grid(atoms), vectors)
    pw = settings.mode == "pw"
    return {
        "version": gpaw_version(),
        "mode": settings.mode,
        "functional": settings.xc,
        **(
            {"cutoff": f"{settings.cutoff:g} eV"}
            if pw
            else {"basis": settings.basis, "grid spacing": f"{settings.grid_spacing:g} A"}
        ),
        "smearing": f"fermi-dirac {settings.smearing:g} eV",
        "k-point grid": "not one along these axes" if grid is None else " ".join(map(str, grid)),
        "fixed moment": str(settings.holds_moment),
    }


def _of_run(parameters: Mapping[str, Any], symbols: Sequence[str]) -> dict[str, str]:
    mode = parameters.get("mode", "fd")
    mode = mode if isinstance(mode, Mapping) else {"name": str(mode)}
    occupations = parameters.get("occupations") or {}
    name = str(occupations.get("name", _SMEARING[0]))
    width = float(occupations.get("width", _SMEARING[1]))
    return {
        "version": str(parameters.get("version", "")),
        "mode": str(mode["name"]),
        "functional": method_of_parameters(parameters, symbols).functional,
        "cutoff": f"{float(mode.get('ecut', _CUTOFF)):g} eV",
        "basis": str(parameters.get("basis", _BASIS)),
        "grid spacing": f"{float(parameters.get('h') or _SPACING):g} A",
        "smearing": f"{name} {width:g} eV",
        "k-point grid": _grid(parameters.get("kpts")),
        "fixed moment": str(bool(occupations.get("fixmagmom", False))),
    }


def _grid(kpts: Any) -> str:
    """Return the divisions of a grid with Gamma; of any other, what it is."""
    if kpts is None:
        return "1 1 1"
    if isinstance(kpts, Mapping):
        size, gamma = kpts.get("size"), bool(kpts.get("gamma", False))
    else:
        size, gamma = kpts, False
    if size is None or np.shape(size) != (3,):
        return "not a regular grid"
    divisions = [int(n) for n in np.asarray(size)]
    text = " ".join(map(str, divisions))
    return text if gamma or all(n % 2 for n in divisions) else f"{text} off Gamma"
