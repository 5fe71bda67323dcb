"""Bayesian linear regression whose prior variances are as uncertain as the data leave them.

With few data many prior scales agree with them, and the most likely ones are too sure: what was
fitted to nine high energies says that no energy is low. So means and covariances are averages over
the scales' own posterior, by importance sampling about its peak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dtrtri
from scipy.optimize import minimize

DRAWS = 64
"""Sets of scales that are averaged over; a power of 2, for a Sobol sequence."""
PROPOSED = 1.3
"""How much wider they are drawn than their posterior is at its peak, to reach its tails."""
STEP = 0.1
"""Step of the finite differences that its width is found by, in the prior's deviations."""
WIDEST = 3.0
"""Bounds of all scales, in the prior's deviations."""
LEAST_NOISE = 1e-6
"""Smallest standard deviation of an observation that the algebra is done with, eV."""


@dataclass(frozen=True)
class Scale:
    """A standard deviation that is found by marginal likelihood.

    Attributes
    ----------
    usual
        Its value where the data say nothing.
    decades
        By how many powers of ten it usually differs from that: one standard deviation of its
        logarithm. It never differs by more than `WIDEST` times as much.
    """

    usual: float
    decades: float


@dataclass(frozen=True, eq=False)
class Fit:
    """The posterior of weights, and how far energies scatter about what the weights say.

    Attributes
    ----------
    mean
        Mean of every weight, shape (n_weights,).
    root
        Any root of their covariance, ``root @ root.T``, shape (n_weights, n_weights).
    nugget
        Standard deviation of what no feature describes, in the unit of the values.
    scales
        The most likely prior standard deviations by group.
    left_out
        For every value, without it but with scales of the same posterior: by how much it differs
        from its prediction, and the standard deviation that was predicted for it (noise included),
        shape (2, n_values).
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    nugget: float
    scales: NDArray[np.float64]
    left_out: NDArray[np.float64]


def fit(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    noise: NDArray[np.float64],
    groups: NDArray[np.int64],
    scales: Sequence[Scale],
    nugget: Scale,
    telling: NDArray[np.bool_],
) -> Fit:
    """Fit weights with normal priors, averaging over what the scales of these may be.

    For given scales it is the same as a Gaussian process whose kernel is linear in the features,
    plus a nugget. Their logarithms have normal priors.

    Parameters
    ----------
    design
        Features, shape (n_values, n_weights).
    values
        What is fitted, shape (n_values,).
    noise
        Standard deviation of each value that is known beside the nugget, shape (n_values,).
    groups
        Which scale each weight has, shape (n_weights,); -1 for 1.
    scales
        Prior standard deviations of the weights, by group.
    nugget
        That of what no feature describes.
    telling
        Which values tell the scales, shape (n_values,); the others are used for given scales.

    Returns
    -------
    Fit
        Mean and covariance of the posterior.
    """
    priors = [*scales, nugget]
    usual = np.log([prior.usual for prior in priors])
    widths = np.log(10) * np.array([prior.decades for prior in priors])

    some = (design[telling], values[telling], noise[telling], groups)

    def loss(steps: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sizes = np.exp(usual + widths * steps)
        found = _solved(*some, sizes)
        slope = widths * _slope(*some, sizes, *found.posterior())
        evidence = found.evidence
        return 0.5 * float(steps @ steps) - evidence, steps - slope

    bounds = [(-WIDEST, WIDEST)] * len(priors)
    found = minimize(loss, np.zeros(len(priors)), jac=True, method="L-BFGS-B", bounds=bounds)
    likely = []
    average = _Average(design, values, noise)
    proposed, density = _proposed(lambda steps: loss(steps)[1], found.x)
    for steps, log_density in zip(proposed, density, strict=True):
        sizes = np.exp(usual + widths * steps)
        one = told = _solved(*some, sizes)
        if not telling.all():
            one = _solved(design, values, noise, groups, sizes)
        likely.append(told.evidence - 0.5 * float(steps @ steps) - log_density)
        average.parts.append((*one.posterior(), sizes[-1]))
    best = np.exp(usual + widths * found.x)
    return average.fit(np.exp(np.array(likely) - max(likely)), best[:-1])


def _proposed(
    slope: Callable[[NDArray[np.float64]], NDArray[np.float64]], peak: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw scales about the peak of their posterior, as wide as that is there and a bit wider.

    Returns
    -------
    tuple of ndarray
        Steps, shape (n_draws, n_scales), and the logarithms of the density they are drawn from,
        up to a constant.
    """
    moves = STEP * np.eye(len(peak))
    curvature = np.array([slope(peak + one) - slope(peak - one) for one in moves]) / (2 * STEP)
    values, vectors = np.linalg.eigh((curvature + curvature.T) / 2)
    # The prior's curvature is 1: less of it than half comes of a bound or a skew posterior.
    widths = PROPOSED / np.sqrt(np.maximum(values, 0.5))
    drawn = np.concatenate([np.zeros((1, len(peak))), _normal(len(peak))])
    steps = peak + (drawn * widths) @ vectors.T
    inside = (abs(steps) <= WIDEST).all(axis=1)
    inside[0] = True  # the peak itself, to within rounding
    return steps[inside], -0.5 * (drawn[inside] ** 2).sum(axis=1)


@lru_cache(maxsize=16)
def _normal(n_dimensions: int) -> NDArray[np.float64]:
    """Return points that fill a normal distribution evenly, shape (n_draws, n_dimensions)."""
    from scipy.stats import qmc

    found: NDArray[np.float64] = qmc.MultivariateNormalQMC(np.zeros(n_dimensions), rng=0).random(
        DRAWS
    )
    return found


@dataclass(frozen=True, eq=False)
class _Average:
    """Posteriors with different scales; each of ``parts`` is mean, root and nugget of one."""

    design: NDArray[np.float64]
    values: NDArray[np.float64]
    noise: NDArray[np.float64]
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64], float]] = field(
        default_factory=list
    )

    def fit(self, weights: NDArray[np.float64], scales: NDArray[np.float64]) -> Fit:
        """Return mean and covariance of their mixture."""
        weights = weights / weights.sum()
        kept = np.flatnonzero(weights > 1e-6)
        weights = weights[kept] / weights[kept].sum()
        parts = [self.parts[i] for i in kept]
        means = np.array([mean for mean, _, _ in parts])
        mean = weights @ means
        apart = np.sqrt(weights)[:, None] * (means - mean)
        covariance = apart.T @ apart
        roots = np.hstack(
            [np.sqrt(one) * root for one, (_, root, _) in zip(weights, parts, strict=True)]
        )
        covariance += roots @ roots.T
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        nugget = float(np.sqrt(weights @ [own**2 for _, _, own in parts]))
        left_out = [self._left_out(*part) for part in parts]
        residual, variance = np.array(left_out).swapaxes(0, 1)
        middle = weights @ residual
        spread = np.sqrt(weights @ (variance + (residual - middle) ** 2))
        return Fit(mean, root, nugget, scales, np.array([middle, spread]))

    def _left_out(
        self, mean: NDArray[np.float64], root: NDArray[np.float64], nugget: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return errors and variances of predictions that were made without each value."""
        own = self.noise**2 + nugget**2 + LEAST_NOISE**2
        free = 1 - ((self.design @ root) ** 2).sum(axis=1) / own
        return (self.values - self.design @ mean) / free, own / free


@dataclass(frozen=True, eq=False)
class _Solved:
    """The regression with given scales.

    Attributes
    ----------
    evidence
        Logarithm of the marginal likelihood.
    prior
        Prior standard deviation of every weight.
    lower
        Cholesky factor of the precision of weights in units of these.
    half
        What is left to solve for the mean.
    """

    evidence: float
    prior: NDArray[np.float64]
    lower: NDArray[np.float64]
    half: NDArray[np.float64]

    def posterior(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and root of the posterior of the weights."""
        # With precision L L^T the covariance is L^-T L^-1, and L^-T is a root of it.
        inverse, _ = dtrtri(self.lower, lower=1)
        root = self.prior[:, None] * inverse.T
        return root @ self.half, root


def _solved(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    noise: NDArray[np.float64],
    groups: NDArray[np.int64],
    sizes: NDArray[np.float64],
) -> _Solved:
    """Solve the regression with given scales."""
    prior = np.where(groups >= 0, sizes[groups], 1.0)
    each = np.sqrt(noise**2 + sizes[-1] ** 2 + LEAST_NOISE**2)
    scaled = design * prior / each[:, None]
    target = values / each
    precision = scaled.T @ scaled
    precision[np.diag_indices_from(precision)] += 1.0
    lower = cholesky(precision, lower=True, overwrite_a=True, check_finite=False)
    half = solve_triangular(lower, scaled.T @ target, lower=True, check_finite=False)
    evidence = -0.5 * (target @ target - half @ half)
    evidence -= np.log(np.diag(lower)).sum() + np.log(each).sum()
    evidence -= 0.5 * len(values) * np.log(2 * np.pi)
    return _Solved(float(evidence), prior, lower, half)


def _slope(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    noise: NDArray[np.float64],
    groups: NDArray[np.int64],
    sizes: NDArray[np.float64],
    mean: NDArray[np.float64],
    root: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return by how much the evidence grows with the logarithm of each scale (Fisher's identity).

    It is the mean, over the posterior, of what the likelihood with given weights grows by.
    """
    own = groups >= 0
    square = (mean**2 + (root**2).sum(axis=1))[own] / sizes[groups[own]] ** 2
    of_scales = np.bincount(groups[own], square - 1.0, minlength=len(sizes) - 1)
    variance = noise**2 + sizes[-1] ** 2 + LEAST_NOISE**2
    misfit = (values - design @ mean) ** 2 + ((design @ root) ** 2).sum(axis=1)
    of_nugget = sizes[-1] ** 2 / variance @ (misfit / variance - 1.0)
    return np.append(of_scales, of_nugget)
