"""The features of a configuration: of its composition, its correlations, and its Ewald energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.host import Host
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.regression import Scale

LENGTH = 0.25
"""Length of the squared exponential in composition, as a fraction of its range."""
NODES = 33
"""Compositions at which that kernel is expanded; it is exact to far below 1 meV with these."""
SCALES = {
    "composition": Scale(0.08, 0.5),
    "sites": Scale(0.15, 0.5),
    "pairs": Scale(0.15, 0.5),
    "triplets": Scale(0.03, 0.5),
    "ewald": Scale(0.1, 0.5),
}
"""Prior standard deviations, eV per formula unit and for the Ewald energy without unit. Those of
correlations are divided by the root of how many there are of them."""


def features_of(
    host: Host, clusters: Clusters, occupations: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of configurations.

    Parameters
    ----------
    host
        A cell of the crystal.
    clusters
        The kinds of clusters.
    occupations
        The configurations, shape (n_configs, n_variable_sites).

    Returns
    -------
    tuple of ndarray
        Features of composition, correlations and the Ewald energy, shape (n_configs, n_weights),
        and the functions of a line, shape (n_configs, 2).
    """
    ions = ions_in(host, occupations)
    numbers, place = np.unique(ions, return_inverse=True)
    x = np.array([float(host.composition(int(number))) for number in numbers])
    of_x, of_line = of_composition(clusters.host, x)
    rest = features(host, clusters).of(occupations)[:, 1:]
    rest[:, :-1] *= evenly(clusters)
    return np.hstack([of_x[place], rest]), of_line[place]


def ions_in(host: Host, occupations: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the number of working ions in each configuration.

    Parameters
    ----------
    host
        A cell of the crystal.
    occupations
        The configurations, shape (n_configs, n_variable_sites).

    Returns
    -------
    ndarray of int, shape (n_configs,)
        In the whole cell.
    """
    of_sites = (occupations[:, : len(host.ion_sites)] > 0).sum(axis=1)
    found: NDArray[np.int64] = host.inert_ions + of_sites
    return found


def evenly(clusters: Clusters) -> NDArray[np.float64]:
    """Return the factor of each correlation: the more of its size there are, the smaller.

    Parameters
    ----------
    clusters
        The kinds of clusters.

    Returns
    -------
    ndarray, shape (n_kinds,)
        One over the root of how many kinds have as many corners.
    """
    sizes = np.array([len(corners) for corners, _ in clusters.kinds])
    factors: NDArray[np.float64] = 1 / np.sqrt(np.bincount(sizes)[sizes])
    return factors


def of_composition(
    host: Host, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of compositions.

    Parameters
    ----------
    host
        A cell of the crystal.
    x
        Working ions per formula unit, shape (n_x,).

    Returns
    -------
    tuple of ndarray
        The functions of a line and then those of a squared exponential, shape (n_x, n_features),
        and those of the line alone, shape (n_x, 2).
    """
    empty, full = (
        float(host.composition(host.inert_ions + number)) for number in (0, len(host.ion_sites))
    )
    place = (x - empty) / (full - empty) - 0.5
    line = np.stack([np.ones(len(x)), place], axis=1)
    nodes = np.linspace(-0.5, 0.5, NODES)

    def kernel(one: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-((one[:, None] - nodes) ** 2) / (2 * LENGTH**2))

    values, vectors = np.linalg.eigh(kernel(nodes))
    large = values > 1e-8 * values[-1]
    smooth = kernel(place) @ vectors[:, large] / np.sqrt(values[large])
    return np.hstack([line, smooth]), line


def groups_of(clusters: Clusters, n_weights: int) -> tuple[NDArray[np.int64], list[Scale]]:
    """Return which prior scale each feature has.

    Parameters
    ----------
    clusters
        The kinds of clusters.
    n_weights
        How many features there are.

    Returns
    -------
    tuple
        The number of each feature's scale, -1 for those of the line, shape (n_weights,), and the
        scales.
    """
    sizes = [len(corners) for corners, _ in clusters.kinds]
    n_smooth = n_weights - len(sizes) - 3
    names = ["line"] * 2 + ["composition"] * n_smooth
    names += [("sites", "pairs", "triplets")[size - 1] for size in sizes] + ["ewald"]
    present = [name for name in SCALES if name in names]
    places = {name: i for i, name in enumerate(present)} | {"line": -1}
    return np.array([places[name] for name in names]), [SCALES[name] for name in present]
