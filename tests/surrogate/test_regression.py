"""Weights against the formulas of a Gaussian process, written with its kernel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from al_charge.surrogate.regression import Scale, _slope, _solved, fit

SCALES, NUGGET = [Scale(0.3, 0.5), Scale(1.0, 0.5)], Scale(0.05, 0.3)
GROUPS = np.array([-1, 0, 0, 0, 1, 1])


def problem(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    design = rng.normal(size=(number, 6))
    weights = np.array([1.0, 0.2, -0.1, 0.4, 2.0, -1.0])
    noise = np.where(np.arange(number) % 3, 0.0, 0.2)
    scatter = np.sqrt(noise**2 + 0.03**2) * rng.normal(size=number)
    return design, design @ weights + scatter, noise


def kernel(design: np.ndarray, noise: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Covariance of the values; ``sizes`` are two scales and the nugget."""
    of_weights = np.array([1.0, *sizes[[0, 0, 0, 1, 1]]])
    return (design * of_weights**2) @ design.T + np.diag(noise**2 + sizes[2] ** 2)


def score(sizes: np.ndarray, design: np.ndarray, values: np.ndarray, noise: np.ndarray) -> float:
    """Logarithm of the scales' posterior, but for a constant."""
    steps = [
        np.log10(size / scale.usual) / scale.decades
        for size, scale in zip(sizes, [*SCALES, NUGGET], strict=True)
    ]
    likely = multivariate_normal(np.zeros(len(values)), kernel(design, noise, sizes))
    return float(likely.logpdf(values)) - 0.5 * sum(step**2 for step in steps)


@pytest.mark.parametrize("number", [1, 4, 60])
def test_posterior_with_fixed_scales_is_that_of_the_kernel(number: int) -> None:
    design, values, noise = problem(number)
    fixed = [Scale(scale.usual, 1e-6) for scale in SCALES]
    found = fit(design, values, noise, GROUPS, fixed, Scale(NUGGET.usual, 1e-6), noise >= 0)
    prior = np.diag(np.array([1.0, 0.3, 0.3, 0.3, 1.0, 1.0]) ** 2)
    matrix = kernel(design, noise, np.array([0.3, 1.0, 0.05]))
    asked = np.random.default_rng(0).normal(size=(5, 6))
    cross = asked @ prior @ design.T
    mean = cross @ np.linalg.solve(matrix, values)
    covariance = asked @ prior @ asked.T - cross @ np.linalg.solve(matrix, cross.T)
    assert asked @ found.mean == pytest.approx(mean, rel=1e-5, abs=1e-7)
    root = asked @ found.root
    assert root @ root.T == pytest.approx(covariance, rel=1e-5, abs=1e-7)
    # Each value left out, by the inverse of the kernel.
    inverse = np.linalg.inv(matrix)
    error, deviation = found.left_out
    assert error == pytest.approx(inverse @ values / np.diag(inverse), rel=1e-4, abs=1e-6)
    assert deviation == pytest.approx(1 / np.sqrt(np.diag(inverse)), rel=1e-4)


@pytest.mark.parametrize("number", [3, 8, 60])
def test_posterior_is_averaged_over_the_scales(number: int) -> None:
    """Against an integral over a grid of all scales."""
    design, values, noise = problem(number)
    found = fit(design, values, noise, GROUPS, SCALES, NUGGET, noise >= 0)
    asked = np.random.default_rng(0).normal(size=(5, 6))
    steps = np.linspace(-3.0, 3.0, 13)
    logs, means, squares, nuggets, missed, missed_squares = [], [], [], [], [], []
    for place in product(steps, repeat=3):
        sizes = np.array(
            [s.usual * 10 ** (s.decades * p) for s, p in zip([*SCALES, NUGGET], place, strict=True)]
        )
        matrix = kernel(design, noise, sizes)
        prior = np.array([1.0, *sizes[[0, 0, 0, 1, 1]]]) ** 2
        solved = np.linalg.solve(matrix, (asked * prior @ design.T).T).T
        mean = solved @ values
        own = (asked**2 * prior).sum(axis=1) - (solved * (asked * prior @ design.T)).sum(axis=1)
        logs.append(score(sizes, design, values, noise))
        means.append(mean)
        squares.append(own + mean**2)
        nuggets.append(sizes[2] ** 2)
        inverse = np.linalg.inv(matrix)
        missed.append(inverse @ values / np.diag(inverse))
        missed_squares.append(1 / np.diag(inverse) + missed[-1] ** 2)
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    mean = weights @ means
    deviation = np.sqrt(weights @ squares - mean**2)
    scale = np.abs(asked) @ np.array([1.0, 0.3, 0.3, 0.3, 1.0, 1.0])
    assert asked @ found.mean == pytest.approx(mean, abs=0.01 * scale.max())
    assert np.linalg.norm(asked @ found.root, axis=1) == pytest.approx(deviation, rel=0.05)
    assert found.nugget == pytest.approx(np.sqrt(weights @ nuggets), rel=0.05)
    error, left_out = found.left_out
    expected = np.sqrt(weights @ missed_squares - (weights @ missed) ** 2)
    assert left_out == pytest.approx(expected, rel=0.05)
    assert error == pytest.approx(weights @ missed, abs=0.05 * expected.max())


@pytest.mark.parametrize("number", [5, 60])
def test_scales_are_the_most_likely_ones(number: int) -> None:
    design, values, noise = problem(number)
    found = fit(design, values, noise, GROUPS, SCALES, NUGGET, noise >= 0)
    # The nugget that is told is an average; the most likely one goes with the scales.
    nuggets = np.geomspace(0.01, 0.2, 40)

    def best_of(scales: np.ndarray) -> float:
        return max(score(np.append(scales, one), design, values, noise) for one in nuggets)

    best = best_of(found.scales)
    for factor in (0.9, 1.1):
        assert best_of(found.scales * [factor, 1]) < best
        assert best_of(found.scales * [1, factor]) < best
    if number == 60:
        assert found.nugget == pytest.approx(0.03, rel=0.3)


def test_scales_stay_within_bounds() -> None:
    design, values, noise = problem(60)
    found = fit(design, 1e6 * values, noise, GROUPS, SCALES, NUGGET, noise >= 0)
    assert found.scales == pytest.approx([0.3 * 10**1.5, 10**1.5])
    exact = fit(design, design @ np.ones(6), 0 * noise, GROUPS, SCALES, NUGGET, noise >= 0)
    assert exact.nugget >= 0.05 * 10**-0.9 * 0.999


def test_values_that_do_not_tell_the_scales_are_used_for_given_ones() -> None:
    design, values, noise = problem(40)
    smooth = np.arange(40) >= 15
    values[smooth] = (design @ np.array([1.0, 0.2, -0.1, 0.4, 2.0, -1.0]))[smooth]  # no scatter
    told = fit(design, values, noise, GROUPS, SCALES, NUGGET, ~smooth)
    alone = fit(
        *(one[~smooth] for one in (design, values, noise)), GROUPS, SCALES, NUGGET, ~smooth[~smooth]
    )
    both = fit(design, values, noise, GROUPS, SCALES, NUGGET, noise >= 0)
    assert told.scales == pytest.approx(alone.scales) and told.nugget == pytest.approx(alone.nugget)
    assert both.nugget < 0.9 * told.nugget
    asked = np.random.default_rng(0).normal(size=(5, 6))
    wide, narrow = (np.linalg.norm(asked @ one.root, axis=1) for one in (alone, told))
    assert (narrow < 0.8 * wide).all()


@pytest.mark.parametrize("number", [4, 60])
def test_slopes_of_the_evidence_are_its_finite_differences(number: int) -> None:
    """With noise, and a scale that no feature has; the evidence is that of the kernel."""
    design, values, noise = problem(number)
    noise = noise + 0.1
    for sizes in (np.array([0.3, 1.0, 0.05, 0.2]), np.array([2.0, 0.1, 0.5, 0.04])):
        found = _solved(design, values, noise, GROUPS, sizes)
        covariance = kernel(design, noise, sizes[[0, 1, 3]])
        likely = multivariate_normal(np.zeros(number), covariance)
        assert found.evidence == pytest.approx(float(likely.logpdf(values)), rel=1e-6)
        slope = _slope(design, values, noise, GROUPS, sizes, *found.posterior())
        step = 1e-5
        expected = []
        for move in step * np.eye(4):
            up, down = (
                _solved(design, values, noise, GROUPS, sizes * np.exp(sign * move)).evidence
                for sign in (1, -1)
            )
            expected.append((up - down) / (2 * step))
        assert slope == pytest.approx(expected, rel=1e-4, abs=1e-5)
