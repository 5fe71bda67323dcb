"""How a run is steered towards a charge order: where its density starts, and with which moments."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.magnetic_order import signs
from al_charge.crystal.shells import charge_order_contrast
from al_charge.crystal.species import tokens_of, unpaired_electrons
from al_charge.labelers.dft.settings import DftSettings


def starts_distorted(settings: DftSettings, atoms: Atoms, attempt: int) -> bool:
    """Tell whether a run starts from a density made at distorted shells.

    It does if the geometry's bond lengths do not hold the charge order, and whenever an earlier
    attempt ended in another one; never if all sites of each element are in one state.

    Parameters
    ----------
    settings
        Of the engine.
    atoms
        With a ``species`` array.
    attempt
        Number of the steering, from 0.

    Returns
    -------
    bool
        False also where the user has switched the distortion off.
    """
    contrast = charge_order_contrast(atoms)
    if contrast == np.inf or settings.shell_distortion == 0:
        return False
    return attempt > 0 or contrast < settings.shell_contrast


def start_moments(atoms: Atoms, settings: DftSettings) -> NDArray[np.float64]:
    """Return the moments to start from, with the signs of the magnetic order.

    Parameters
    ----------
    atoms
        With a ``species`` array.
    settings
        Of the engine.

    Returns
    -------
    numpy.ndarray
        Bohr magnetons, shape (n_atoms,): those given by hand, else the spin-only moments of the
        species, which are zero on ions without open d or f shells.
    """
    species = tokens_of(atoms)
    spin_only = np.array([unpaired_electrons(token) for token in species], dtype=float)
    given = settings.moments
    moments = np.array([given.get(t, s) for t, s in zip(species, spin_only, strict=True)])
    if settings.magnetic_order == "antiferromagnetic":
        moments *= np.asarray(signs(atoms), dtype=float)
    return moments


def total_moment(atoms: Atoms, settings: DftSettings) -> float:
    """Return the total moment of a cell: the given one, or that of its charge states.

    Parameters
    ----------
    atoms
        With a ``species`` array.
    settings
        Of the engine.

    Returns
    -------
    float
        Bohr magnetons: the sum of the spin-only moments, with the signs of those to start from.
    """
    if settings.total_moment is not None:
        return float(settings.total_moment)
    down = start_moments(atoms, settings) < 0
    spin_only = [unpaired_electrons(token) for token in tokens_of(atoms)]
    return float(np.where(down, -1.0, 1.0) @ np.array(spin_only, dtype=float))
