"""Electrostatic ranking of configurations: formal point charges on the host's ideal sites."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import VACANCY, Host


def ewald_energies(host: Host, configs: Sequence[Configuration]) -> NDArray[np.float64]:
    """Return the Ewald energies of neutral configurations.

    The energy is quadratic in the site charges, so the lattice sums are done once per host and
    each configuration costs one small matrix product.

    Returns
    -------
    ndarray, shape (n_configs,)
        eV per cell, for formal charges; large, and of use for ranking only.
    """
    charges = np.zeros((len(configs), len(host.elements)))
    charges[:] = [host.fixed.get(element, 0) for element in host.elements]
    occupation = np.array([config.occupation for config in configs], dtype=float)
    ions = occupation[:, : len(host.ion_sites)]
    ions[ions == VACANCY] = 0.0
    charges[:, host.variable_sites] = occupation
    energies: NDArray[np.float64] = np.einsum(
        "ci,ij,cj->c", charges, _pair_energies(host), charges, optimize=True
    )
    return energies


@lru_cache(maxsize=8)
def _pair_energies(host: Host) -> NDArray[np.float64]:
    """Return energies of unit charges, eV/e^2, shape (n_sites, n_sites), self terms included."""
    charged = host.structure.copy()
    charged.add_oxidation_state_by_site([1] * len(charged))
    charged.set_charge(len(charged))
    # The background that makes a charged cell finite drops out of every neutral configuration.
    pairs: NDArray[np.float64] = EwaldSummation(charged).total_energy_matrix
    return pairs
