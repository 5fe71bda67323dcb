"""A small file of labelled structures, as another program would have written it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

SPECIES = ("Na+", "O2-", "Fe2+", "O2-", "Fe3+", "O2-", "Mg2+", "O2-")
CHARGES = np.array([0.9, -1.2, 1.3, -1.3, 1.7, -1.4, 1.4, -1.4])


def salt(seed: int) -> Atoms:
    """Return eight atoms on a rattled lattice, with both charge states of iron.

    Parameters
    ----------
    seed
        Seed of the random displacements.

    Returns
    -------
    Atoms
        The structure, without charge states.
    """
    grid = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
    symbols = [token.rstrip("+-0123456789") for token in SPECIES]
    atoms = Atoms(symbols, 2.2 * grid, cell=[4.4, 4.5, 4.3], pbc=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def labelled(seed: int, **changes: Any) -> Atoms:
    """Return the salt with random results.

    Parameters
    ----------
    seed
        Seed of displacements and results; two successive seeds share a ``config_hash``.
    **changes
        Results or arrays to replace, by name; None leaves one out.

    Returns
    -------
    Atoms
        Energy (eV), forces (eV/angstrom), stress (eV/angstrom^3) and moments (Bohr magnetons) as
        results; resolved species and Bader charges (e) as arrays.
    """
    rng = np.random.default_rng(seed)
    atoms = salt(seed)
    stress = rng.normal(scale=0.01, size=6)
    moments = np.array([0, 0, 3.7, 0, 4.2, 0, 0, 0]) + rng.normal(scale=0.01, size=8)
    results: dict[str, Any] = {
        "energy": rng.normal(-50.0, 0.5),
        "forces": rng.normal(scale=0.3, size=(8, 3)),
        "stress": stress,
        "magmoms": moments,
    }
    arrays: dict[str, Any] = {"resolved_species": np.array(SPECIES), "bader_charges": CHARGES}
    for name, value in changes.items():
        (results if name in results else arrays)[name] = value
    for name, value in arrays.items():
        if value is not None:
            atoms.set_array(name, np.asarray(value))
    known = {name: value for name, value in results.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **known)
    atoms.info["config_hash"] = f"c{seed // 2}"
    return atoms


def write_labels(path: Path, images: list[Atoms]) -> Path:
    """Write structures as extended XYZ.

    Parameters
    ----------
    path
        The file.
    images
        The structures.

    Returns
    -------
    Path
        The file.
    """
    write(path, images, format="extxyz")
    return path
