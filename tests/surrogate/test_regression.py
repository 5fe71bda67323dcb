"""Weights against the formulas of a Gaussian process, written with its kernel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from al_charge.surrogate.regression import Fit, Scale, fit

SCALES, NUGGET = [Scale(0.3, 0.5), Scale(1.0, 0.5)], Scale(0.05, 0.3)
GROUPS = np.array([-1, 0, 0, 0, 1, 1])


def problem(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    design = rng.normal(size=(number, 6))
    weights = np.array([1.0, 0.2, -0.1, 0.4, 2.0, -1.0])
    noise = np.where(np.arange(number) % 3, 0.0, 0.2)
    scatter = np.sqrt(noise**2 + 0.03**2) * rng.normal(size=number)
    return design, design @ weights + scatter, noise


def prior(found: Fit) -> np.ndarray:
    return np.diag(np.array([1.0, *found.scales[[0, 0, 0, 1, 1]]]) ** 2)


@pytest.mark.parametrize("number", [1, 4, 60])
def test_posterior_is_that_of_the_kernel(number: int) -> None:
    design, values, noise = problem(number)
    found = fit(design, values, noise, GROUPS, SCALES, NUGGET)
    kernel = design @ prior(found) @ design.T + np.diag(noise**2 + found.nugget**2)
    asked = np.random.default_rng(0).normal(size=(5, 6))
    cross = asked @ prior(found) @ design.T
    mean = cross @ np.linalg.solve(kernel, values)
    covariance = asked @ prior(found) @ asked.T - cross @ np.linalg.solve(kernel, cross.T)
    assert asked @ found.mean == pytest.approx(mean, rel=1e-5, abs=1e-7)
    root = asked @ found.root
    assert root @ root.T == pytest.approx(covariance, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("number", [5, 60])
def test_scales_are_the_most_likely_ones(number: int) -> None:
    design, values, noise = problem(number)
    found = fit(design, values, noise, GROUPS, SCALES, NUGGET)

    def score(scales: np.ndarray, nugget: float) -> float:
        sizes = np.array([1.0, *scales[[0, 0, 0, 1, 1]]])
        kernel = (design * sizes**2) @ design.T + np.diag(noise**2 + nugget**2)
        steps = [
            np.log10(size / scale.usual) / scale.decades
            for size, scale in zip([*scales, nugget], [*SCALES, NUGGET], strict=True)
        ]
        likely = multivariate_normal(np.zeros(len(values)), kernel).logpdf(values)
        return float(likely) - 0.5 * sum(step**2 for step in steps)

    best = score(found.scales, found.nugget)
    for factor in (0.9, 1.1):
        assert score(found.scales * [factor, 1], found.nugget) < best
        assert score(found.scales * [1, factor], found.nugget) < best
        assert score(found.scales, found.nugget * factor) < best
    if number == 60:
        assert found.nugget == pytest.approx(0.03, rel=0.3)


def test_scales_stay_within_bounds() -> None:
    design, values, noise = problem(60)
    found = fit(design, 1e6 * values, noise, GROUPS, SCALES, NUGGET)
    assert found.scales == pytest.approx([0.3 * 10**1.5, 10**1.5])
    exact = fit(design, design @ np.ones(6), 0 * noise, GROUPS, SCALES, NUGGET)
    assert exact.nugget >= 0.05 * 10**-0.9 * 0.999
