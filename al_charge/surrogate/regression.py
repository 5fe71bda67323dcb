"""Bayesian linear regression whose prior variances come from the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

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
        logarithm. It never differs by more than three times as much.
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
        Prior standard deviations by group.
    """

    mean: NDArray[np.float64]
    root: NDArray[np.float64]
    nugget: float
    scales: NDArray[np.float64]


def fit(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    noise: NDArray[np.float64],
    groups: NDArray[np.int64],
    scales: Sequence[Scale],
    nugget: Scale,
) -> Fit:
    """Fit weights with normal priors, whose scales maximise the marginal likelihood.

    The same as a Gaussian process whose kernel is linear in the features, plus a nugget.

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

    Returns
    -------
    Fit
        The posterior.
    """
    priors = [*scales, nugget]
    usual = np.log([prior.usual for prior in priors])
    widths = np.log(10) * np.array([prior.decades for prior in priors])

    def loss(steps: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        sizes = np.exp(usual + widths * steps)
        evidence, mean, root = _evidence(design, values, noise, groups, sizes)
        slope = widths * _slope(design, values, noise, groups, sizes, mean, root)
        return 0.5 * float(steps @ steps) - evidence, steps - slope

    bounds = [(-3.0, 3.0)] * len(priors)
    found = minimize(loss, np.zeros(len(priors)), jac=True, method="L-BFGS-B", bounds=bounds)
    sizes = np.exp(usual + widths * found.x)
    _, mean, root = _evidence(design, values, noise, groups, sizes)
    return Fit(mean, root, float(sizes[-1]), sizes[:-1])


def _evidence(
    design: NDArray[np.float64],
    values: NDArray[np.float64],
    noise: NDArray[np.float64],
    groups: NDArray[np.int64],
    sizes: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the logarithm of the marginal likelihood, and mean and root of the posterior."""
    prior = np.where(groups >= 0, sizes[groups], 1.0)
    each = np.sqrt(noise**2 + sizes[-1] ** 2 + LEAST_NOISE**2)
    scaled = design * prior / each[:, None]
    target = values / each
    precision = scaled.T @ scaled
    precision[np.diag_indices_from(precision)] += 1.0
    lower = cholesky(precision, lower=True)
    half = solve_triangular(lower, scaled.T @ target, lower=True)
    evidence = -0.5 * (target @ target - half @ half)
    evidence -= np.log(np.diag(lower)).sum() + np.log(each).sum()
    evidence -= 0.5 * len(values) * np.log(2 * np.pi)
    # With precision L L^T the covariance is L^-T L^-1, and L^-T is a root of it.
    root = solve_triangular(lower, np.eye(len(lower)), lower=True).T
    return float(evidence), prior * (root @ half), prior[:, None] * root


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
