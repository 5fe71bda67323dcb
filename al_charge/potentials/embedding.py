"""Embeddings of redox sites: scalar features of a potential's layers, in two dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.charges import redox_elements
from al_charge.errors import InputError, NotInstalledError
from al_charge.potentials.networks.graph import collate
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.potential import Potential

Array = NDArray[np.float64]

PER_BATCH = 8
"""Structures whose features are computed at once."""
PERPLEXITY = 30.0
"""Neighbours of a site that t-SNE keeps close, its own default; a third of the sites at most."""
FEWEST_FOR_TSNE = 8
"""Sites below which t-SNE's neighbourhoods are meaningless."""
ROUNDING = 1e-6
"""Fraction of the features' size below which a difference is rounding in single precision."""


@dataclass(frozen=True)
class Layer:
    """The features of all redox sites at one depth of a network.

    Attributes
    ----------
    number
        0 before the first layer.
    points
        In two dimensions, shape (n_sites, 2).
    separation
        Fraction of the features' variance that lies between the means of the charge states: how
        clearly the layer distinguishes them. None where there is one state, or no variance.
    explained
        Fraction of the variance along the two dimensions; None where they are not principal axes.
    """

    number: int
    points: Array
    separation: float | None
    explained: float | None


@dataclass(frozen=True)
class Embedding:
    """Features of the redox sites of structures in a potential.

    Attributes
    ----------
    states
        Charge state of every site, shape (n_sites,).
    layers
        From the first to the last.
    method
        ``pca`` or ``tsne``.
    """

    states: list[str]
    layers: list[Layer]
    method: str


def embed(potential: Potential, structures: Sequence[Atoms], method: str = "pca") -> Embedding:
    """Return the features of all redox sites, layer by layer, in two dimensions.

    Parameters
    ----------
    potential
        Whose features are taken.
    structures
        With ``species`` arrays.
    method
        ``pca``, the two principal axes of every layer, or ``tsne`` (van der Maaten and Hinton,
        J. Mach. Learn. Res. 9, 2579, 2008).

    Returns
    -------
    Embedding
        Of all layers.

    Raises
    ------
    InputError
        If there is no redox site, or too few for t-SNE.
    NotInstalledError
        If scikit-learn is needed and not installed.
    """
    reduce = _tsne() if method == "tsne" else principal_axes
    states, features = site_features(potential, structures)
    layers = []
    for number, values in enumerate(features):
        points, explained = reduce(values)
        layers.append(Layer(number, points, separation(values, states), explained))
    return Embedding(states, layers, method)


def site_features(
    potential: Potential, structures: Sequence[Atoms]
) -> tuple[list[str], list[Array]]:
    """Return the charge state of every redox site, and its features at every depth.

    Parameters
    ----------
    potential
        Whose features are taken.
    structures
        With ``species`` arrays.

    Returns
    -------
    states : list of str
        Species tokens, shape (n_sites,).
    features : list of ndarray
        One array per depth, shape (n_sites, n_features).

    Raises
    ------
    InputError
        If there is no redox site.
    """
    states: list[str] = []
    parts: list[list[Array]] = []
    for start in range(0, len(structures), PER_BATCH):
        batch = structures[start : start + PER_BATCH]
        graph = collate(
            [potential.graph(a, find_neighbours(a, potential.neighbour_cutoff)) for a in batch]
        )
        with torch.no_grad():
            layers = potential.module.features(graph.to(potential.dtype, potential.device))
        chosen = np.concatenate([_is_redox(atoms) for atoms in batch])
        tokens = np.concatenate([atoms.arrays["species"] for atoms in batch])
        states += [str(token) for token in tokens[chosen]]
        parts.append([layer.double().cpu().numpy()[chosen] for layer in layers])
    if not states:
        raise InputError("the structures have no redox site", where="embedding")
    return states, [np.concatenate(depth) for depth in zip(*parts, strict=True)]


def principal_axes(values: Array) -> tuple[Array, float | None]:
    """Return values along their two principal axes.

    Parameters
    ----------
    values
        Shape (n_points, n_features).

    Returns
    -------
    points : ndarray, shape (n_points, 2)
        Centred on the mean.
    explained : float or None
        Fraction of the variance along these axes; None where there is no variance.
    """
    centred = values - values.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    sizes[sizes < ROUNDING * np.linalg.norm(values)] = 0.0
    points = np.zeros((len(values), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = left[:, :kept] * sizes[:kept]
    total = float(np.sum(sizes**2))
    return points, float(np.sum(sizes[:2] ** 2)) / total if total > 0 else None


def separation(values: Array, states: Sequence[str]) -> float | None:
    """Return the fraction of the variance that lies between the means of the states.

    Parameters
    ----------
    values
        Features, shape (n_sites, n_features).
    states
        Charge state of every site, shape (n_sites,).

    Returns
    -------
    float or None
        From 0 to 1; None where there is one state, or no variance.
    """
    centred = values - values.mean(axis=0)
    total = float(np.sum(centred**2))
    names = np.asarray(states)
    if len(set(states)) < 2 or total <= (ROUNDING * np.linalg.norm(values)) ** 2:
        return None
    between = sum(
        np.count_nonzero(names == name) * float(np.sum(centred[names == name].mean(axis=0) ** 2))
        for name in set(states)
    )
    return between / total


def _is_redox(atoms: Atoms) -> NDArray[np.bool_]:
    symbols = atoms.get_chemical_symbols()
    found: NDArray[np.bool_] = np.isin(symbols, redox_elements(symbols))
    return found


def _tsne() -> Callable[[Array], tuple[Array, None]]:
    """Return a reduction by t-SNE with a fixed seed."""
    try:
        manifold: Any = import_module("sklearn.manifold")
    except ImportError as error:
        raise NotInstalledError(
            "scikit-learn is not installed",
            where="--method tsne",
            remedy="run 'pip install scikit-learn', or use --method pca",
        ) from error

    def reduce(values: Array) -> tuple[Array, None]:
        if len(values) < FEWEST_FOR_TSNE:
            raise InputError(
                f"{len(values)} redox sites are too few for t-SNE",
                where="--method tsne",
                remedy="use --method pca",
            )
        perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
        reducer = manifold.TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1)
        return np.asarray(reducer.fit_transform(values), dtype=float), None

    return reduce
