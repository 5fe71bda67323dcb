"""Ewald sums over the sites of a cell, done once for whatever charges they have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core.structure import Structure


def pair_energies(cell: Structure) -> NDArray[np.float64]:
    """Return the energies of unit charges on all sites of a cell.

    Parameters
    ----------
    cell
        Whatever lies on its sites.

    Returns
    -------
    ndarray, shape (n_sites, n_sites)
        eV/e^2, self terms included, so that charges ``q`` with the sum zero have the energy
        ``q @ pairs @ q``. Where the sum is not zero, a uniform background makes up for it, and is
        counted.
    """
    charged = Structure(cell.lattice, ["H+"] * len(cell), cell.frac_coords, charge=len(cell))
    summed = EwaldSummation(charged)
    # What its matrix lacks of the energy of a charged cell depends on the width of its Gaussians.
    background = summed.CONV_FACT / 2 * np.pi / cell.volume / summed.eta
    pairs: NDArray[np.float64] = summed.total_energy_matrix - background
    return pairs
