"""What a GPAW run is asked to do, as a JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.species import charge_of, tokens_of
from al_charge.labelers.dft.kpoints import Grid
from al_charge.labelers.dft.steering import start_moments, total_moment
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.protocol import Relax

METAL_SCALES = (0.97, 0.985, 1.0, 1.015, 1.03)
"""Lattice constants of the metal, relative to that of experiment."""

Document = dict[str, Any]


def label(
    settings: GpawSettings,
    atoms: Atoms,
    start: Atoms | None,
    relax: Relax,
    rungs: list[Document],
    *,
    hold_moment: bool = False,
) -> Document:
    """Return the request for a label.

    Parameters
    ----------
    settings
        The engine's settings.
    atoms
        The geometry to label, with species and initial moments.
    start
        The same cell with moved atoms, where the density is made that the run starts from; None to
        start at the geometry itself.
    relax
        What may move.
    rungs
        See `al_charge.labelers.gpaw.ladder.rungs`.
    hold_moment
        Whether a stage fixes the total moment, even where the result does not.

    Returns
    -------
    dict
        The contents of ``input.json``.
    """
    u = settings.u_of(set(atoms.get_chemical_symbols()))
    grid = settings.grid(atoms)
    # Every atom is kept apart: a charge order may be lower in symmetry than its geometry. Spins
    # without spin-orbit coupling leave k and -k alike.
    symmetry: Any = "off" if max(grid) == 1 else {"point_group": False}
    parameters = _parameters(settings, u, grid) | {"symmetry": symmetry}
    if settings.holds_moment:
        parameters["occupations"]["fixmagmom"] = True
    exact = settings.holds_moment or hold_moment
    first = moments(settings, atoms, exact=exact)
    if exact and not first.any():  # else GPAW computes one spin, of which it can hold no moment
        parameters["spinpol"] = True
    return _geometry(atoms) | {
        "species": tokens_of(atoms),
        "moments": first.tolist(),
        "start_positions": start.positions.tolist() if start is not None else None,
        "parameters": parameters,
        "rungs": rungs,
        "forces": True,
        "stress": settings.mode == "pw",
        "relax": _relax(settings, relax),
        "density_refinement": settings.bader_refinement if settings.bader else None,
        "save_interval": float(settings.save_interval),
    }


def metal(settings: GpawSettings, atoms: Atoms, rungs: list[Document]) -> Document:
    """Return the request for the energy of a metal, which has no U.

    Parameters
    ----------
    settings
        The engine's settings.
    atoms
        The primitive cell of the metal.
    rungs
        See `al_charge.labelers.gpaw.ladder.rungs`.

    Returns
    -------
    dict
        The contents of ``input.json``.
    """
    return _geometry(atoms) | {
        "moments": None,
        "start_positions": None,
        "parameters": _parameters(settings, {}, (settings.metal_kpoints,) * 3),
        "rungs": rungs,
        "forces": False,
        "stress": False,
        "relax": None,
        "scales": list(METAL_SCALES),
        "density_refinement": None,
        "save_interval": float(settings.save_interval),
    }


def moments(settings: GpawSettings, atoms: Atoms, *, exact: bool) -> NDArray[np.float64]:
    """Return the moments to start from.

    Those that are not given by hand are within the limit, with the signs of the magnetic order.
    GPAW holds the sum that it starts from, so where that must be exact, the anions get what is
    missing.

    Parameters
    ----------
    settings
        The engine's settings.
    atoms
        With species and initial moments.
    exact
        Whether they must sum to the total moment: the given one, or that of the charge states.

    Returns
    -------
    numpy.ndarray
        Bohr magnetons, shape (n_atoms,).
    """
    first = initial_moments(atoms, settings.moment_limit)
    full = start_moments(atoms, settings)
    if settings.magnetic_order == "antiferromagnetic":
        first = np.abs(first) * np.sign(full)
    given = np.isin(atoms.arrays["species"].astype(str), list(settings.moments))
    first[given] = full[given]
    if exact:
        anions = np.array([charge_of(token) < 0 for token in tokens_of(atoms)])
        holders = anions if anions.any() else np.ones(len(atoms), dtype=bool)
        first[holders] += (total_moment(atoms, settings) - first.sum()) / holders.sum()
    return first


def initial_moments(atoms: Atoms, limit: float) -> NDArray[np.float64]:
    """Return the atoms' initial moments, scaled to a limit.

    Where an element exceeds the limit all its moments shrink by one factor, so that different
    charge states still start from different moments.

    Parameters
    ----------
    atoms
        With initial moments.
    limit
        Largest moment, Bohr magnetons.

    Returns
    -------
    numpy.ndarray
        Bohr magnetons, shape (n_atoms,).
    """
    initial: NDArray[np.float64] = atoms.get_initial_magnetic_moments().astype(float)
    for number in np.unique(atoms.numbers):
        same = atoms.numbers == number
        largest = np.abs(initial[same]).max()
        if largest > limit:
            initial[same] *= limit / largest
    return initial


def _geometry(atoms: Atoms) -> Document:
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
    }


def _relax(settings: GpawSettings, relax: Relax) -> Document | None:
    if relax == Relax.NONE:
        return None
    return {
        "cell": relax == Relax.CELL,
        "fmax": float(settings.fmax),
        "max_steps": settings.max_steps,
    }


def _parameters(settings: GpawSettings, u: Mapping[str, float], kpoints: Grid) -> dict[str, Any]:
    return _expansion(settings) | {
        "xc": settings.xc,
        "setups": {element: f":d,{value:g}" for element, value in u.items()},
        "occupations": {"name": "fermi-dirac", "width": float(settings.smearing)},
        "kpts": {"size": list(kpoints), "gamma": True},
        "maxiter": settings.max_iterations,
    }


def _expansion(settings: GpawSettings) -> Document:
    """Return what the two modes have for themselves."""
    convergence = {
        "energy": float(settings.energy_tolerance),
        "density": settings.density_tolerance,
    }
    if settings.mode == "lcao":
        return {
            "mode": {"name": "lcao"},
            "basis": settings.basis,
            "h": float(settings.grid_spacing),
            "convergence": convergence,
        }
    return {
        "mode": {"name": "pw", "ecut": float(settings.cutoff)},
        "convergence": convergence | {"eigenstates": settings.eigenstates_tolerance},
    }
