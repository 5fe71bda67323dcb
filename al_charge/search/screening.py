"""A quick guess at energies, to choose which children are worth an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.correlations import all_pair_correlations
from al_charge.crystal.host import Host

RIDGE = 0.03
"""Regularisation of the linear model, relative to the mean squared length of its inputs."""


def guess_energies(
    host: Host, known: Mapping[Configuration, float], configs: Sequence[Configuration]
) -> NDArray[np.float64]:
    """Return energies guessed from those known at the same composition.

    Ridge regression on pair correlations: a cluster expansion truncated after pairs, good enough
    to tell promising children from others, and fitted anew for each generation.

    Parameters
    ----------
    host
        Cell of all configurations.
    known
        Energies to fit, in any unit; those that are not finite are left out.
    configs
        Configurations whose energies are wanted.

    Returns
    -------
    ndarray, shape (n_configs,)
        In the unit of ``known``; zeros if no known energy is finite.
    """
    fitted = [config for config, energy in known.items() if np.isfinite(energy)]
    if not fitted:
        return np.zeros(len(configs))
    energies = np.array([known[config] for config in fitted])
    inputs = all_pair_correlations(host, fitted)
    centre, mean = inputs.mean(axis=0), energies.mean()
    inputs = inputs - centre
    # Solved among configurations rather than features: there are often fewer of them.
    products = inputs @ inputs.T
    strength = RIDGE * np.trace(products) / len(products) + 1e-12
    weights = inputs.T @ np.linalg.solve(
        products + strength * np.eye(len(products)), energies - mean
    )
    asked = all_pair_correlations(host, configs)
    guesses: NDArray[np.float64] = (asked - centre) @ weights + mean
    return guesses
