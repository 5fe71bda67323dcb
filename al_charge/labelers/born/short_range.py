"""Short-range pair terms: Morse, a steep wall and an exponential, all cut off smoothly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from al_charge.labelers.born.parameters import (
    SHORT_RANGE_CUTOFF,
    SWITCH_WIDTH,
    PairParameters,
)

Array = NDArray[np.float64]


def switch(distances: Array) -> tuple[Array, Array]:
    """Return the cut-off factor and its derivative.

    1 up to the start of the switch, 0 from the cut-off, in between the quintic
    1 - 10 t^3 + 15 t^4 - 6 t^5, so that energies have two continuous derivatives.

    Parameters
    ----------
    distances
        angstrom, shape (n_pairs,).

    Returns
    -------
    factor : numpy.ndarray
        From 0 to 1, shape (n_pairs,).
    slope : numpy.ndarray
        1/angstrom, shape (n_pairs,).
    """
    t = np.clip((distances - (SHORT_RANGE_CUTOFF - SWITCH_WIDTH)) / SWITCH_WIDTH, 0.0, 1.0)
    value = 1.0 + t**3 * (-10.0 + t * (15.0 - 6.0 * t))
    return value, -30.0 * t**2 * (1.0 - t) ** 2 / SWITCH_WIDTH


def pair_term(values: PairParameters, distances: Array) -> tuple[Array, Array]:
    """Return the energy and derivative of one kind of pair.

    Parameters
    ----------
    values
        Parameters of this kind of pair.
    distances
        angstrom, shape (n_pairs,).

    Returns
    -------
    energy : numpy.ndarray
        eV, shape (n_pairs,).
    slope : numpy.ndarray
        Derivative by the distance, eV/angstrom, shape (n_pairs,).
    """
    energy, slope = np.zeros_like(distances), np.zeros_like(distances)
    if values.depth:
        decay = np.exp(-values.width * (distances - values.length))
        energy += values.depth * decay * (decay - 2.0)
        slope += 2.0 * values.depth * values.width * decay * (1.0 - decay)
    if values.wall:
        wall = values.wall / distances**12
        energy += wall
        slope -= 12.0 * wall / distances
    if values.tail:
        tail = values.tail * np.exp(-(distances - values.contact) / values.decay)
        energy += tail
        slope -= tail / values.decay
    factor, factor_slope = switch(distances)
    return energy * factor, slope * factor + energy * factor_slope


class PairTable:
    """The pair terms of a fixed list of ions.

    Parameters
    ----------
    species
        Species token of every ion.
    pairs
        Parameters by pair of species.
    """

    def __init__(self, species: list[str], pairs: Mapping[tuple[str, str], PairParameters]) -> None:
        kinds = sorted(set(species))
        self._terms: list[PairParameters] = []
        lookup = np.full((len(kinds), len(kinds)), -1)
        for (first, second), values in pairs.items():
            if first in kinds and second in kinds:
                a, b = kinds.index(first), kinds.index(second)
                lookup[a, b] = lookup[b, a] = len(self._terms)
                self._terms.append(values)
        index = np.array([kinds.index(token) for token in species])
        self._term_of = lookup[index[:, None], index[None, :]]

    def evaluate(
        self, i: NDArray[np.int64], j: NDArray[np.int64], distances: Array
    ) -> tuple[Array, Array]:
        """Return the energy and derivative of every pair.

        Parameters
        ----------
        i
            Index of the first ion of every pair, shape (n_pairs,).
        j
            Index of the second.
        distances
            angstrom, shape (n_pairs,).

        Returns
        -------
        energy : numpy.ndarray
            eV, shape (n_pairs,).
        slope : numpy.ndarray
            Derivative by the distance, eV/angstrom, shape (n_pairs,).
        """
        energy, slope = np.zeros_like(distances), np.zeros_like(distances)
        term_of = np.where(distances < SHORT_RANGE_CUTOFF, self._term_of[i, j], -1)
        for number, values in enumerate(self._terms):
            chosen = np.flatnonzero(term_of == number)
            energy[chosen], slope[chosen] = pair_term(values, distances[chosen])
        return energy, slope
