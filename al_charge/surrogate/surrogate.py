"""A Gaussian process on the lattice: energies of configurations, with a joint covariance.

The model of an energy per formula unit is a smooth function of composition, plus an expansion in
correlations, plus a multiple of the Ewald energy, plus what none of these describe, which is
independent for each configuration (a nugget).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical, permutations
from al_charge.errors import InputError
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.design import evenly, features_of, groups_of, ions_in, of_composition
from al_charge.surrogate.polynomial import Energy, occupations_of
from al_charge.surrogate.regression import Fit, Scale, fit

TRIPLET_CUTOFF = 7.0
"""Triplets with no distance longer than this, in angstrom, are counted."""
NUGGET = Scale(0.005, 0.3)
"""The same of what no feature describes."""
EXACT = 100_000
"""Configurations, the lowest, whose standard deviations are computed when more are ranked."""
SAMPLED = 2_000
"""Of the others, those that are looked at for the largest standard deviation."""
AT_ONCE = 10_000
"""Configurations per block of predictions; it bounds the memory."""


@dataclass(frozen=True, eq=False)
class Observation:
    """An energy that is known.

    Attributes
    ----------
    host, config
        A cell, and a configuration of it in any symmetry image.
    energy
        eV per formula unit.
    noise
        Standard deviation of the error that it has for itself; 0 for what is exact.
    common
        What its error has in common with those of others: the coefficient of each of some
        independent standard normal variables, eV per formula unit, shape (n_common,).
    """

    host: Host
    config: Configuration
    energy: float
    noise: float = 0.0
    common: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Energies of some configurations as a joint normal distribution.

    Attributes
    ----------
    mean
        eV per formula unit, shape (n_configs,).
    root
        What they have in common: root of a covariance, shape (n_configs, n_weights).
    own
        Standard deviation of what each has for itself, shape (n_configs,).
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64] = field(repr=False)
    own: NDArray[np.float64] = field(repr=False)

    @cached_property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of each, eV per formula unit."""
        found: NDArray[np.float64] = np.sqrt((self.root**2).sum(axis=1) + self.own**2)
        return found

    def covariance(self) -> NDArray[np.float64]:
        """Return the joint covariance.

        Returns
        -------
        ndarray, shape (n_configs, n_configs)
            (eV per formula unit)^2.
        """
        return self.root @ self.root.T + np.diag(self.own**2)

    def samples(self, number: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw energies of all configurations together.

        Parameters
        ----------
        number
            How many draws.
        rng
            Source of all random choices.

        Returns
        -------
        ndarray, shape (number, n_configs)
            eV per formula unit.
        """
        common = rng.standard_normal((number, self.root.shape[1])) @ self.root.T
        each = rng.standard_normal((number, len(self.mean))) * self.own
        drawn: NDArray[np.float64] = self.mean + common + each
        return drawn


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Energies of all configurations of all cells of one crystal; made by `fit_surrogate`.

    Attributes
    ----------
    clusters
        The kinds of clusters.
    fitted
        The posterior of their weights.
    observations
        What it was fitted to, one for each configuration. What errors of these have in common is
        found with the weights, and follows them in ``fitted``.
    line
        What was subtracted before, shape (2, 2): for energies and Ewald energies, by column, the
        value in the middle of the range of compositions and the change across it.
    """

    clusters: Clusters
    fitted: Fit = field(repr=False)
    observations: tuple[Observation, ...] = field(repr=False)
    line: NDArray[np.float64] = field(repr=False)

    def predict(self, host: Host, occupations: NDArray[np.int8]) -> Prediction:
        """Return the energies of configurations of a cell, with their joint covariance.

        What was observed is returned as it was, with what is left of its noise.

        Parameters
        ----------
        host
            A cell of the crystal.
        occupations
            Different configurations, shape (n_configs, n_variable_sites), in any symmetry image.

        Returns
        -------
        Prediction
            It holds ``n_configs * n_weights`` numbers; see `screen` for millions.

        Raises
        ------
        InputError
            If it is a cell of another crystal.
        """
        design, line = self._design(host, occupations)
        n_weights = design.shape[1]
        known, observed = self._observed(host, occupations)
        # Of what is left between an observation and its features, a share is no error.
        square = self.fitted.nugget**2
        share = np.array(
            [square / (square + one.noise**2) if one.noise else 1.0 for one in observed]
        )
        left = np.ones(len(design))
        left[known] = 1 - share
        of_errors = np.zeros((len(design), len(self.fitted.mean) - n_weights))
        for place, one, part in zip(known, observed, share, strict=True):
            of_errors[place, : len(one.common)] = -part * one.common
        told = np.array([one.energy for one in observed])
        mean = line + design @ self.fitted.mean[:n_weights]
        mean[known] += share * (told - mean[known])
        mean += of_errors @ self.fitted.mean[n_weights:]
        root = np.hstack([left[:, None] * design, of_errors]) @ self.fitted.root
        return Prediction(mean, root, self.fitted.nugget * np.sqrt(left))

    def screen(
        self, host: Host, occupations: NDArray[np.int8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return energies and their standard deviations for any number of configurations.

        Of more than `EXACT` it is the lowest whose standard deviations are computed. The others, of
        which there may be millions, get the largest of a sample, so that no chance of being
        low is told too small; what was observed of them does not count.

        Parameters
        ----------
        host
            A cell of the crystal.
        occupations
            Configurations, shape (n_configs, n_variable_sites), in any symmetry image.

        Returns
        -------
        tuple of ndarray
            Means and standard deviations, eV per formula unit, shape (n_configs,).

        Raises
        ------
        InputError
            If it is a cell of another crystal.
        """
        number = len(occupations)
        mean, deviation, lowest = np.empty(number), np.empty(number), np.arange(number)
        if number > EXACT:
            mean = self._means(host, occupations)
            lowest = np.argpartition(mean, EXACT)[:EXACT]
            some = np.random.default_rng(0).choice(number, min(SAMPLED, number), replace=False)
            deviation[:] = self.predict(host, occupations[some]).deviation.max()
        for start in range(0, len(lowest), AT_ONCE):
            part = lowest[start : start + AT_ONCE]
            found = self.predict(host, occupations[part])
            mean[part], deviation[part] = found.mean, found.deviation
        return mean, deviation

    def _means(self, host: Host, occupations: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return what the features say, eV per formula unit."""
        ions = ions_in(host, occupations)
        found = np.empty(len(ions))
        for number in np.unique(ions):
            mine = ions == number
            found[mine] = self.energy(host, int(number)).of(occupations[mine])
        return found

    def energy(self, host: Host, n_ions: int) -> Energy:
        """Return the mean at one composition as a polynomial, for moves and for fast ranking.

        Parameters
        ----------
        host
            A cell of the crystal.
        n_ions
            Working ions in it.

        Returns
        -------
        Energy
            eV per formula unit. It is what the features say, for observed configurations too.

        Raises
        ------
        InputError
            If it is a cell of another crystal.
        """
        polynomial = features(host, self.clusters)
        x = np.array([float(host.composition(n_ions))])
        of_x, of_line = of_composition(self.clusters.host, x)
        n_smooth, n_rest = of_x.shape[1], len(self.clusters.kinds) + 1
        weights = np.append(0.0, self.fitted.mean[n_smooth : n_smooth + n_rest])
        weights[0] = of_x[0] @ self.fitted.mean[: of_x.shape[1]]
        weights[1:-1] *= evenly(self.clusters)
        weights[0] += of_line[0] @ (self.line[:, 0] - weights[-1] * self.line[:, 1])
        return polynomial.combined(weights)

    def left_out(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each observation would have been predicted as, had it not been made.

        Prior scales stay as they are.

        Returns
        -------
        tuple of ndarray
            Observed minus predicted energies, and the standard deviations that were predicted for
            them (noise included); eV per formula unit, shape (n_observations,).
        """
        errors, deviations = self.fitted.left_out
        return errors, deviations

    def _design(
        self, host: Host, occupations: NDArray[np.int8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the features of configurations, and the line under their energies."""
        design, of_line = features_of(host, self.clusters, occupations)
        design[:, -1] -= of_line @ self.line[:, 1]
        return design, of_line @ self.line[:, 0]

    @cached_property
    def _images(self) -> dict[tuple[str, bytes], Observation]:
        """What was observed, by host and occupation of every image."""
        return {
            (one.host.fingerprint, image.tobytes()): one
            for one in self.observations
            for image in one.config.as_array()[permutations(one.host)]
        }

    def _observed(
        self, host: Host, occupations: NDArray[np.int8]
    ) -> tuple[NDArray[np.int64], list[Observation]]:
        """Return which configurations were observed, and what was observed of them."""
        rows = np.ascontiguousarray(occupations, dtype=np.int8)
        found = {
            i: known
            for i, row in enumerate(rows)
            if (known := self._images.get((host.fingerprint, row.tobytes())))
        }
        return np.array(list(found), dtype=np.int64), list(found.values())


def fit_surrogate(
    observations: Sequence[Observation], triplet_cutoff: float = TRIPLET_CUTOFF
) -> Surrogate:
    """Fit a surrogate to energies of configurations of any cells of one crystal.

    Parameters
    ----------
    observations
        Of one configuration that with the least noise counts, of equal ones the lowest.
    triplet_cutoff
        Longest distance in a triplet, in angstrom; 0 for pairs only.

    Returns
    -------
    Surrogate
        Its prior scales are those that make the observations likely whose errors have nothing in
        common; all if there are none.

    Raises
    ------
    InputError
        If there are none, an energy or one of its errors is not a finite number, a noise is
        negative, or the cells are not of one crystal.
    """
    kept: dict[tuple[str, Configuration], Observation] = {}
    for one in sorted(observations, key=_rank, reverse=True):
        if not np.isfinite([one.energy, one.noise, *one.common]).all() or one.noise < 0:
            raise InputError(
                f"an energy of {one.energy} with the noise {one.noise} and the common errors "
                f"{one.common.tolist()} cannot be fitted",
                where="observations",
            )
        kept[one.host.fingerprint, canonical(one.host, one.config)] = one
    if not kept:
        raise InputError("no energies to fit", where="observations")
    content = tuple(
        (*place, one.energy, one.noise, one.common.tobytes()) for place, one in kept.items()
    )
    return _fitted(_Known(content, tuple(kept.values())), triplet_cutoff)


@dataclass(frozen=True)
class _Known:
    """Observations that are equal if they say the same of the same configurations."""

    content: tuple[tuple[object, ...], ...]
    observations: tuple[Observation, ...] = field(compare=False)


@lru_cache(maxsize=32)
def _fitted(known: _Known, triplet_cutoff: float) -> Surrogate:
    """Return the surrogate; the tasks of a round, one for each composition, start from the same."""
    some = known.observations
    smallest = min((one.host for one in some), key=lambda h: (len(h.elements), h.fingerprint))
    clusters = _clusters(smallest, triplet_cutoff)
    design, of_line = _design_of(some, clusters)
    energies = np.array([one.energy for one in some])
    line, *_ = np.linalg.lstsq(of_line, np.stack([energies, design[:, -1]], axis=1), rcond=None)
    design[:, -1] -= of_line @ line[:, 1]
    groups, scales = groups_of(clusters, design.shape[1])
    noise = np.array([one.noise for one in some])
    common = np.zeros((len(some), max(len(one.common) for one in some)))
    for row, one in zip(common, some, strict=True):
        row[: len(one.common)] = one.common
    design = np.hstack([design, common])
    groups = np.append(groups, np.full(common.shape[1], -1))  # standard normal
    # Errors that are alike look smooth: such energies say little of how smooth the true ones are.
    telling = np.array([not len(one.common) for one in some])
    telling |= not telling.any()
    values = energies - of_line @ line[:, 0]
    fitted = fit(design, values, noise, groups, scales, NUGGET, telling)
    return Surrogate(clusters, fitted, some, line)


def _rank(one: Observation) -> tuple[float, float]:
    """Return what the surest observation has the least of, and of equal ones the lowest."""
    return float(np.hypot(one.noise, np.linalg.norm(one.common))), one.energy


@lru_cache(maxsize=16)
def _clusters(host: Host, triplet_cutoff: float) -> Clusters:
    """Return the kinds of clusters, numbered once however often a surrogate is fitted."""
    return Clusters(host, triplet_cutoff=triplet_cutoff)


def _design_of(
    observations: Sequence[Observation], clusters: Clusters
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of observations, as `features_of` does, those of one cell at once."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(observations):
        places.setdefault(one.host.fingerprint, []).append(place)
    parts = []
    for some in places.values():
        host = observations[some[0]].host
        configs = [observations[place].config for place in some]
        parts.append(features_of(host, clusters, occupations_of(configs, host)))
    order = np.argsort([place for some in places.values() for place in some])
    design, of_line = (np.concatenate([part[i] for part in parts])[order] for i in (0, 1))
    return design, of_line
