"""The energy baseline: a reference energy per species, fitted before the network is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RIDGE = 1e-5
"""Penalty on squared reference energies relative to squared errors, both per atom.

In one host all configurations are neutral, so that counts of species depend on each other
linearly and plain least squares leaves some combinations of reference energies undetermined. The
penalty sets those to zero, and keeps combinations that the data barely determine small."""


def fit_references(counts: NDArray[np.int64], energies: Array, *, ridge: float = RIDGE) -> Array:
    """Return the reference energy of every species by ridge regression.

    Parameters
    ----------
    counts
        Atoms of every species in every structure, shape (n_structures, n_species).
    energies
        eV per cell, shape (n_structures,).
    ridge
        Penalty, as in ``RIDGE``.

    Returns
    -------
    ndarray, shape (n_species,), eV
    """
    atoms = counts.sum(axis=1)
    fractions = counts / atoms[:, None]
    target = energies / atoms
    n_structures, n_species = counts.shape
    # The penalty as extra rows keeps the problem as well conditioned as the data are.
    penalty = np.sqrt(ridge * n_structures) * np.eye(n_species)
    rows = np.concatenate([fractions, penalty])
    values = np.concatenate([target, np.zeros(n_species)])
    references: Array = np.linalg.lstsq(rows, values, rcond=None)[0]
    return references


def count_species(species: NDArray[np.int64], n_species: int) -> NDArray[np.int64]:
    """Return how often each row of the vocabulary occurs, shape (n_species,)."""
    return np.bincount(species, minlength=n_species)
