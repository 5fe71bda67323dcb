"""Pair correlations: a description of configurations that symmetry copies share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host

CUTOFF = 7.0
"""Pairs of variable sites up to this distance in angstrom are counted."""
SHELL_GAP = 0.05
"""Distances that differ by less than this, in angstrom, belong to one shell."""


def pair_correlations(host: Host, config: Configuration) -> NDArray[np.float64]:
    """Return how often each pair of colours occurs in each distance shell.

    Distances are those of the host's ideal sites, periodic images included. Vacancies count as a
    colour. Space-group operations permute sites of one element and keep distances, so the
    result is the same for every image of a configuration.

    Returns
    -------
    ndarray, shape (n_features,)
        Fraction of a shell's pairs that have the two colours, divided by the square root of the
        number of shells; the length depends on the host alone.
    """
    shells, labels, possible = _shells(host)
    elements = [host.elements[site] for site in host.variable_sites]
    occupied = np.zeros((len(elements), len(labels)))
    index = {label: i for i, label in enumerate(labels)}
    for site, pair in enumerate(zip(elements, config.colours, strict=True)):
        occupied[site, index[pair]] = 1.0
    counts = np.einsum("ia,sij,jb->sab", occupied, shells, occupied, optimize=True)
    # A pair of unlike colours is met twice, once from each end; one of like colours once.
    counts = counts + np.triu(counts.transpose(0, 2, 1), k=1)
    fractions: NDArray[np.float64] = counts[possible] / np.sqrt(len(shells))
    return fractions


@lru_cache(maxsize=32)
def _shells(
    host: Host,
) -> tuple[NDArray[np.float64], list[tuple[str, int]], NDArray[np.bool_]]:
    """Return pair weights per shell, the colours, and which pairs of colours a shell may have.

    Shapes (n_shells, n_variable, n_variable) with each shell summing to 1, (n_colours,), and
    (n_shells, n_colours, n_colours), upper triangle.
    """
    variable = host.structure.__class__.from_sites([host.structure[i] for i in host.variable_sites])
    centres, neighbours, _, distances = variable.get_neighbor_list(CUTOFF)
    order = np.sort(distances)
    edges = order[1:][np.diff(order) > SHELL_GAP] - SHELL_GAP / 2
    shell_of = np.searchsorted(edges, distances)
    elements = np.array([host.elements[i] for i in host.variable_sites])
    # One shell of distance holds up to three kinds of pair: ion-ion, ion-redox, redox-redox.
    kinds = sorted({element for element in elements})
    code = np.searchsorted(kinds, elements)
    low = np.minimum(code[centres], code[neighbours])
    high = np.maximum(code[centres], code[neighbours])
    keys = np.stack([shell_of, low, high], axis=1)
    unique, shell = np.unique(keys, axis=0, return_inverse=True)
    shells = np.zeros((len(unique), len(elements), len(elements)))
    np.add.at(shells, (shell.ravel(), centres, neighbours), 1.0)
    shells /= shells.sum(axis=(1, 2), keepdims=True)
    labels = sorted(
        {
            (str(element), colour)
            for element, colours in zip(elements, host.allowed_colours, strict=True)
            for colour in colours
        }
    )
    kind = np.array([kinds.index(element) for element, _ in labels])
    pair_kind = np.sort(np.stack(np.broadcast_arrays(kind[:, None], kind[None, :])), axis=0)
    fits = (pair_kind[0] == unique[:, 1, None, None]) & (pair_kind[1] == unique[:, 2, None, None])
    return shells, labels, np.triu(fits)
