"""How a run is steered towards a charge order: where its density starts, and with which moments."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.magnetic_order import signs
from al_charge.crystal.shells import charge_order_contrast
from al_charge.crystal.species import unpaired_electrons
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


def start_moments(atoms: Atoms, magnetic_order: str) -> NDArray[np.float64]:
    """Return the spin-only moments of the species with the signs of a magnetic order.

    Parameters
    ----------
    atoms
        With a ``species`` array.
    magnetic_order
        ``ferromagnetic`` or ``antiferromagnetic``.

    Returns
    -------
    numpy.ndarray
        Bohr magnetons, shape (n_atoms,); zero on ions without open d or f shells.
    """
    species = map(str, atoms.arrays["species"])
    moments = np.array([unpaired_electrons(token) for token in species], dtype=float)
    if magnetic_order == "antiferromagnetic":
        moments *= np.asarray(signs(atoms), dtype=float)
    return moments
