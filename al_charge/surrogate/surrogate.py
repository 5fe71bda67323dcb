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
from al_charge.surrogate.polynomial import Energy, occupations_of
from al_charge.surrogate.regression import Fit, Scale, fit

TRIPLET_CUTOFF = 7.0
"""Triplets with no distance longer than this, in angstrom, are counted."""
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
        Its standard deviation; 0 for a label, the committee's for an energy that it predicts.
    """

    host: Host
    config: Configuration
    energy: float
    noise: float = 0.0


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
        What it was fitted to, one for each configuration.
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
        known, energies, weight = self._observed(host, occupations)
        left = np.ones(len(design))
        left[known] = 1 - weight
        mean = line + design @ self.fitted.mean
        mean[known] += weight * (energies - mean[known])
        root = left[:, None] * (design @ self.fitted.root)
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
        ions = _ions(host, occupations)
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
        of_x, of_line = _of_composition(self.clusters.host, x)
        weights = np.append(0.0, self.fitted.mean[of_x.shape[1] :])
        weights[0] = of_x[0] @ self.fitted.mean[: of_x.shape[1]]
        weights[1:-1] *= _evenly(self.clusters)
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
        design, of_line = _features(host, self.clusters, occupations)
        design[:, -1] -= of_line @ self.line[:, 1]
        return design, of_line @ self.line[:, 0]

    @cached_property
    def _images(self) -> dict[tuple[str, bytes], tuple[float, float]]:
        """Energy and weight of what was observed, by host and occupation of every image."""
        found = {}
        for one in self.observations:
            share = self.fitted.nugget**2 + one.noise**2
            weight = self.fitted.nugget**2 / share if one.noise else 1.0
            for image in one.config.as_array()[permutations(one.host)]:
                found[one.host.fingerprint, image.tobytes()] = one.energy, weight
        return found

    def _observed(
        self, host: Host, occupations: NDArray[np.int8]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return which configurations were observed, their energies, and how much these count."""
        rows = np.ascontiguousarray(occupations, dtype=np.int8)
        found = [
            (i, *known)
            for i, row in enumerate(rows)
            if (known := self._images.get((host.fingerprint, row.tobytes())))
        ]
        which, energies, weights = np.array(found, dtype=float).reshape(-1, 3).T
        return which.astype(np.int64), energies, weights


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
        Its prior scales are those that make the observations most likely.

    Raises
    ------
    InputError
        If there are none, an energy or its noise is no finite number, or the cells are not of one
        crystal.
    """
    kept: dict[tuple[str, Configuration], Observation] = {}
    for one in sorted(observations, key=lambda one: (one.noise, one.energy), reverse=True):
        if not (np.isfinite(one.energy) and np.isfinite(one.noise) and one.noise >= 0):
            raise InputError(
                f"an energy of {one.energy} with the noise {one.noise} cannot be fitted",
                where="observations",
            )
        kept[one.host.fingerprint, canonical(one.host, one.config)] = one
    if not kept:
        raise InputError("no energies to fit", where="observations")
    some = tuple(kept.values())
    smallest = min((one.host for one in some), key=lambda h: (len(h.elements), h.fingerprint))
    clusters = _clusters(smallest, triplet_cutoff)
    design, of_line = _features_of(some, clusters)
    energies = np.array([one.energy for one in some])
    line, *_ = np.linalg.lstsq(of_line, np.stack([energies, design[:, -1]], axis=1), rcond=None)
    design[:, -1] -= of_line @ line[:, 1]
    groups, scales = _groups(clusters, design.shape[1])
    noise = np.array([one.noise for one in some])
    fitted = fit(design, energies - of_line @ line[:, 0], noise, groups, scales, NUGGET)
    return Surrogate(clusters, fitted, some, line)


@lru_cache(maxsize=16)
def _clusters(host: Host, triplet_cutoff: float) -> Clusters:
    """Return the kinds of clusters, numbered once however often a surrogate is fitted."""
    return Clusters(host, triplet_cutoff=triplet_cutoff)


def _features_of(
    observations: Sequence[Observation], clusters: Clusters
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of observations, as `_features` does, those of one cell at once."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(observations):
        places.setdefault(one.host.fingerprint, []).append(place)
    parts = []
    for some in places.values():
        host = observations[some[0]].host
        configs = [observations[place].config for place in some]
        parts.append(_features(host, clusters, occupations_of(configs, host)))
    order = np.argsort([place for some in places.values() for place in some])
    design, of_line = (np.concatenate([part[i] for part in parts])[order] for i in (0, 1))
    return design, of_line


def _features(
    host: Host, clusters: Clusters, occupations: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the features of configurations: of composition, correlations, Ewald energy.

    Returns
    -------
    tuple of ndarray
        Shape (n_configs, n_weights), and the functions of a line, shape (n_configs, 2).
    """
    ions = _ions(host, occupations)
    numbers, place = np.unique(ions, return_inverse=True)
    x = np.array([float(host.composition(int(number))) for number in numbers])
    of_x, of_line = _of_composition(clusters.host, x)
    rest = features(host, clusters).of(occupations)[:, 1:]
    rest[:, :-1] *= _evenly(clusters)
    return np.hstack([of_x[place], rest]), of_line[place]


def _ions(host: Host, occupations: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the number of working ions in each configuration."""
    of_sites = (occupations[:, : len(host.ion_sites)] > 0).sum(axis=1)
    found: NDArray[np.int64] = host.inert_ions + of_sites
    return found


def _evenly(clusters: Clusters) -> NDArray[np.float64]:
    """Return the factor of each correlation: the more of its size there are, the smaller."""
    sizes = np.array([len(corners) for corners, _ in clusters.kinds])
    factors: NDArray[np.float64] = 1 / np.sqrt(np.bincount(sizes)[sizes])
    return factors


def _of_composition(
    host: Host, x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features of composition, a line and then a squared exponential; and the line."""
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


def _groups(clusters: Clusters, n_weights: int) -> tuple[NDArray[np.int64], list[Scale]]:
    """Return which prior scale each feature has, and the scales."""
    sizes = [len(corners) for corners, _ in clusters.kinds]
    n_smooth = n_weights - len(sizes) - 3
    names = ["line"] * 2 + ["composition"] * n_smooth
    names += [("sites", "pairs", "triplets")[size - 1] for size in sizes] + ["ewald"]
    present = [name for name in SCALES if name in names]
    places = {name: i for i, name in enumerate(present)} | {"line": -1}
    return np.array([places[name] for name in names]), [SCALES[name] for name in present]
