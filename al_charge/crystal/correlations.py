"""Pair correlations: a descriptor of configurations that is equal for symmetry images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host

CUTOFF = 7.0
"""Pairs of variable sites up to this distance in angstrom are counted."""
SHELL_GAP = 0.05
"""Distances that differ by less than this, in angstrom, belong to one shell."""
AT_ONCE = 500
"""Configurations per batch; it bounds the memory."""


def pair_correlations(host: Host, config: Configuration) -> NDArray[np.float64]:
    """Return the pair correlations of one configuration; see `all_pair_correlations`.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    ndarray, shape (n_features,)
        Its row of `all_pair_correlations`.
    """
    row: NDArray[np.float64] = all_pair_correlations(host, [config])[0]
    return row


def all_pair_correlations(host: Host, configs: Sequence[Configuration]) -> NDArray[np.float64]:
    """Return how often each pair of states occurs in each distance shell of each configuration.

    Distances are those of the host's ideal sites, periodic images included. A vacancy counts as a
    state. Space-group operations permute sites of one kind and preserve distances, so the
    result is the same for every symmetry image of a configuration.

    Parameters
    ----------
    host
        The host that they belong to.
    configs
        Configurations; there may be none.

    Returns
    -------
    ndarray, shape (n_configs, n_features)
        Fraction of a shell's pairs that have the two states, divided by the square root of the
        number of shells; the length depends on the host alone.
    """
    shells, labels, possible = _shells(host)
    kinds = _kinds(host)
    occupation = np.array([config.occupation for config in configs], dtype=int).reshape(
        -1, len(kinds)
    )
    occupied = np.stack(
        [(occupation == state) & (kinds == kind) for kind, state in labels], axis=-1
    ).astype(float)
    found: NDArray[np.float64] = np.empty((len(configs), int(possible.sum())))
    for start in range(0, len(configs), AT_ONCE):
        some = occupied[start : start + AT_ONCE]
        beside = np.einsum("sij,njb->nsib", shells, some, optimize=True)
        counts = np.einsum("nia,nsib->nsab", some, beside, optimize=True)
        # A pair of unlike states is met twice, once from each end; one of like states once.
        counts = counts + np.triu(counts.transpose(0, 1, 3, 2), k=1)
        found[start : start + AT_ONCE] = counts[:, possible]
    found /= np.sqrt(len(shells))
    return found


@lru_cache(maxsize=32)
def _shells(
    host: Host,
) -> tuple[NDArray[np.float64], list[tuple[int, int]], NDArray[np.bool_]]:
    """Return pair weights per shell, the states, and which pairs of states a shell may have.

    A shell holds the pairs of two given kinds of sites at one distance. Shapes (n_shells,
    n_variable, n_variable) with each shell summing to 1; (n_states,); (n_shells, n_states,
    n_states), upper triangle.
    """
    variable = Structure.from_sites([host.structure[i] for i in host.variable_sites])
    centres, neighbours, _, distances = variable.get_neighbor_list(CUTOFF)
    kind_of_site = _kinds(host)
    ends = np.sort([kind_of_site[centres], kind_of_site[neighbours]], axis=0)
    keys = np.stack([_shell_numbers(distances), *ends], axis=1)
    shells_found, shell = np.unique(keys, axis=0, return_inverse=True)
    pairs = np.zeros((len(shells_found), len(variable), len(variable)))
    np.add.at(pairs, (shell.ravel(), centres, neighbours), 1.0)
    pairs /= pairs.sum(axis=(1, 2), keepdims=True)

    states = zip(kind_of_site, host.allowed_states, strict=True)
    labels = sorted({(int(kind), state) for kind, allowed in states for state in allowed})
    kind = np.array([label[0] for label in labels])
    low, high = np.minimum.outer(kind, kind), np.maximum.outer(kind, kind)
    fits = (low == shells_found[:, 1, None, None]) & (high == shells_found[:, 2, None, None])
    return pairs, labels, np.triu(fits)


def _kinds(host: Host) -> NDArray[np.int64]:
    """Return a number for each variable site, equal for equal elements with equal states."""
    kinds = [host.kinds[site] for site in host.variable_sites]
    numbers = {kind: number for number, kind in enumerate(sorted(set(kinds)))}
    return np.array([numbers[kind] for kind in kinds])


def _shell_numbers(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the shell that each distance belongs to, from 0 up."""
    ascending = np.sort(distances)
    gaps = ascending[1:][np.diff(ascending) > SHELL_GAP] - SHELL_GAP / 2
    numbers: NDArray[np.int64] = np.searchsorted(gaps, distances)
    return numbers
