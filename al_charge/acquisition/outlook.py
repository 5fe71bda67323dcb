"""What labels may turn out to be, and the hulls that they would make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from al_charge.acquisition.plugin import Array, Choice, hull_height

WORLDS = 12
DRAWS = 200
"""Draws in every world."""
REACH = 5.0
"""Candidates whose mean lies above the hull by more than this many standard deviations are left
out: each has a chance of 3e-7."""
MOST = 1000
"""Candidates that are kept at most."""


def lower_hulls(x: Array, energies: Array) -> Array:
    """Return the lower convex hulls of many sets of energies at the same compositions.

    Parameters
    ----------
    x
        Compositions, ascending, shape (n_x,).
    energies
        The lowest at each, finite, shape (..., n_x).

    Returns
    -------
    ndarray, shape (..., n_x)
        Each hull at each composition.
    """
    hulls = energies.copy()
    for i in range(len(x) - 2):
        for j in range(i + 2, len(x)):
            part = (x[i + 1 : j] - x[i]) / (x[j] - x[i])
            chord = energies[..., i, None] * (1 - part) + energies[..., j, None] * part
            inner = hulls[..., i + 1 : j]
            np.minimum(inner, chord, out=inner)
    return hulls


class Outlook:
    """Candidates that may reach the hull, in several worlds.

    The posterior is drawn from twice. Each world has one draw that says what labels would be, and
    many that agree with all labels which it has told so far (by Matheron's rule: J. T. Wilson et
    al., J. Mach. Learn. Res. 22, 105 (2021)).

    Parameters
    ----------
    choice
        Candidates, their joint posterior, and the labelled hull. Pending labels are told.
    rng
        Source of the draws.

    Attributes
    ----------
    which
        Candidates that may reach the hull, by composition, shape (n,); methods count in these.
    cost
        Of the label of each, shape (n,).
    free
        Whether each has neither a label nor one under way, shape (n,).
    x
        All compositions, ascending, shape (n_x,).
    height
        The hull of what is labelled in each world, eV per formula unit, shape (n_worlds, n_x).
    """

    def __init__(self, choice: Choice, rng: np.random.Generator) -> None:
        some = choice.candidates
        fractions = sorted({*(one.x for one in some), *(x for x, _ in choice.hull)})
        number = {x: place for place, x in enumerate(fractions)}
        places = np.array([number[one.x] for one in some], dtype=np.int64)
        above = choice.mean - choice.height
        far = np.where(above < 0, -np.inf, np.inf)
        np.divide(above, choice.spread, out=far, where=choice.spread > 0)
        near = np.argsort(far, kind="stable")[:MOST]
        near = np.sort(near[far[near] < REACH])
        self.which: NDArray[np.int64] = near[np.argsort(places[near], kind="stable")]
        self.cost = np.array([some[i].cost for i in self.which])
        self.free = np.array([some[i].key not in choice.pending for i in self.which], dtype=bool)
        self.x = np.array([float(x) for x in fractions])
        self._place = places[self.which]
        self._covariance = choice.covariance[np.ix_(self.which, self.which)].copy()
        self.height = np.tile(hull_height(choice.hull, fractions), (WORLDS, 1))
        drawn = choice.mean[self.which] + self._draw(rng, WORLDS * (DRAWS + 1))
        self._truth = drawn[:WORLDS]
        self._energies = drawn[WORLDS:].reshape(WORLDS, DRAWS, -1)
        for i in np.flatnonzero(~self.free):
            self.label(int(i))

    def label(self, i: int) -> None:
        """Let every world tell the label of a candidate.

        Parameters
        ----------
        i
            The candidate.
        """
        self.height, self._energies = self._told(i)
        weights = self._weights(i)
        self._covariance -= np.outer(weights, self._covariance[i])
        self._covariance[i] = self._covariance[:, i] = 0.0
        self.free[i] = False

    def hulls(self) -> Array:
        """Return the hulls that are possible.

        Returns
        -------
        ndarray, shape (n_worlds, n_draws, n_x)
            eV per formula unit.
        """
        return self._hulls(self.height, self._energies)

    def after(self, i: int) -> tuple[Array, Array]:
        """Return what would be known with the label of a candidate.

        Parameters
        ----------
        i
            The candidate.

        Returns
        -------
        tuple of ndarray
            ``height`` and `hulls` as they would be.
        """
        height, energies = self._told(i)
        return height, self._hulls(height, energies)

    def improvement(self) -> Array:
        """Return how far every candidate is expected to lie below the hull of what is labelled.

        Returns
        -------
        ndarray, shape (n,)
            Mean over worlds and draws, counting 0 where it lies above, eV per formula unit.
        """
        depth = self.height[:, None, self._place] - self._energies
        found: Array = np.maximum(depth, 0.0).mean(axis=(0, 1))
        return found

    def below(self, tolerance: float) -> NDArray[np.bool_]:
        """Return which candidates lie below the hull of what is labelled.

        Parameters
        ----------
        tolerance
            What lies less than this below counts as on it, eV per formula unit.

        Returns
        -------
        ndarray of bool, shape (n_worlds, n_draws, n)
            In every world and draw.
        """
        found: NDArray[np.bool_] = self._energies < self.height[:, None, self._place] - tolerance
        return found

    def _draw(self, rng: np.random.Generator, number: int) -> Array:
        values, vectors = np.linalg.eigh(self._covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        drawn: Array = rng.standard_normal((number, len(root))) @ root.T
        return drawn

    def _weights(self, i: int) -> Array:
        """Return by how much every energy moves with that of a candidate."""
        own = self._covariance[i, i]
        return self._covariance[i] / own if own > 0 else np.zeros(len(self._covariance))

    def _told(self, i: int) -> tuple[Array, Array]:
        """Return heights and energies as they are with the label of a candidate."""
        label = self._truth[:, i]
        moved = (label[:, None] - self._energies[:, :, i])[..., None] * self._weights(i)
        energies = self._energies + moved
        energies[:, :, i] = label[:, None]
        height = self.height.copy()
        place = self._place[i]
        height[:, place] = np.minimum(height[:, place], label)
        return lower_hulls(self.x, height), energies

    def _hulls(self, height: Array, energies: Array) -> Array:
        """Return the hulls of labels and candidates together."""
        lowest = np.repeat(height[:, None], energies.shape[1], axis=1)
        if energies.shape[2]:
            there, starts = np.unique(self._place, return_index=True)
            least = np.minimum.reduceat(energies, starts, axis=2)
            lowest[:, :, there] = np.minimum(lowest[:, :, there], least)
        return lower_hulls(self.x, lowest)
