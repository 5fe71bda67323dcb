"""What a GPAW run is asked to do, as a JSON document."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.labelers.settings import GpawSettings

_MIXERS: dict[str, dict[str, Any]] = {
    "msr1": {"name": "msr1"},
    "pulay": {"name": "pulay", "beta": 0.1, "nmaxold": 5, "weight": 50.0},
}


def single_point(settings: GpawSettings, atoms: Atoms, start: Atoms | None) -> dict[str, Any]:
    """Return the request for energy, forces and moments of a cell.

    Parameters
    ----------
    atoms
        The geometry that is labelled, with initial moments.
    start
        The same cell with moved atoms, where the density is made that the run starts from; None to
        start at the geometry itself.
    """
    # Every atom is kept apart: a charge order may be lower in symmetry than its geometry.
    parameters = _parameters(settings, atoms, settings.kpoints) | {"symmetry": "off"}
    return _geometry(atoms) | {
        "moments": initial_moments(atoms, settings.moment_limit).tolist(),
        "start_positions": start.positions.tolist() if start is not None else None,
        "forces": True,
        "parameters": parameters,
    }


def metal(settings: GpawSettings, atoms: Atoms) -> dict[str, Any]:
    """Return the request for the energy of a metal with one atom or few in its cell."""
    kpoints = (settings.metal_kpoints,) * 3
    return _geometry(atoms) | {
        "moments": None,
        "start_positions": None,
        "forces": False,
        "parameters": _parameters(settings, atoms, kpoints),
    }


def initial_moments(atoms: Atoms, limit: float) -> NDArray[np.float64]:
    """Return initial moments within a limit, in Bohr magnetons, shape (n_atoms,).

    Where an element exceeds the limit all its moments shrink by one factor, so that different
    charge states still start from different moments.
    """
    moments: NDArray[np.float64] = atoms.get_initial_magnetic_moments().astype(float)
    for number in np.unique(atoms.numbers):
        same = atoms.numbers == number
        largest = np.abs(moments[same]).max()
        if largest > limit:
            moments[same] *= limit / largest
    return moments


def _geometry(atoms: Atoms) -> dict[str, Any]:
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
    }


def _parameters(
    settings: GpawSettings, atoms: Atoms, kpoints: tuple[int, int, int]
) -> dict[str, Any]:
    present = set(atoms.get_chemical_symbols())
    return {
        "mode": settings.mode,
        "basis": settings.basis,
        "h": settings.grid_spacing,
        "xc": settings.xc,
        "setups": {
            element: f":d,{u:g}" for element, u in settings.hubbard_u.items() if element in present
        },
        "occupations": {"name": "fermi-dirac", "width": settings.smearing},
        "kpts": {"size": list(kpoints), "gamma": True},
        "convergence": {
            "energy": settings.energy_tolerance,
            "density": settings.density_tolerance,
        },
        "mixer": _MIXERS[settings.mixer],
        "maxiter": settings.max_iterations,
    }
