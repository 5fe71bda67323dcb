"""Draws agree with closed forms of the normal distribution, and hulls with those of Qhull."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.stats import norm

from al_charge.acquisition import outlook as module
from al_charge.acquisition.outlook import Outlook, lower_hulls
from al_charge.acquisition.plugin import Choice

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


def test_lower_hulls_are_those_of_qhull() -> None:
    rng = np.random.default_rng(0)
    x = np.sort(np.append(rng.random(7), [0.0, 1.0]))
    energies = rng.normal(size=(20, 9))
    for lowest, found in zip(energies, lower_hulls(x, energies), strict=True):
        hull = ConvexHull(np.stack([x, lowest], axis=1))
        lower = hull.equations[hull.equations[:, 1] < 0]
        # a x + b y + c = 0 with b < 0 is an edge below; the highest of them is the hull
        edges = -(lower[:, :1] * x + lower[:, 2:]) / lower[:, 1:2]
        np.testing.assert_allclose(found, edges.max(axis=0), atol=1e-12)


def test_labels_leave_the_conditional_distribution(
    choose: Callable[..., Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", 20_000)
    monkeypatch.setattr(module, "WORLDS", 3)
    root = np.random.default_rng(1).normal(size=(3, 4))
    covariance = root @ root.T
    spread = np.sqrt(np.diagonal(covariance))
    correlation = covariance / np.outer(spread, spread)
    mean = np.array([1.0, -2.0, 0.5])
    choice = choose([HALF, HALF, THIRD], mean, spread, correlation)
    outlook = Outlook(choice, np.random.default_rng(2))
    assert outlook.which.tolist() == [2, 0, 1]  # by composition
    outlook.label(1)
    outlook.label(0)
    labels, order = [0, 2], [2, 0, 1]
    solved = np.linalg.solve(covariance[np.ix_(labels, labels)], covariance[labels, 1])
    variance = covariance[1, 1] - covariance[1, labels] @ solved
    for truth, draws in zip(1e3 * outlook._truth, 1e3 * outlook._energies, strict=True):
        told = truth[[order.index(i) for i in labels]]
        expected = mean[1] + (told - mean[labels]) @ solved
        energies = draws[:, order.index(1)]
        assert energies.mean() == pytest.approx(expected, abs=5 * np.sqrt(variance / 20_000))
        assert energies.var() == pytest.approx(variance, rel=0.05)
        for i in labels:
            np.testing.assert_array_equal(draws[:, order.index(i)], truth[order.index(i)])


def test_chance_and_improvement_in_closed_form(
    choose: Callable[..., Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWS", 20_000)
    choice = choose(
        [HALF, THIRD],
        [-10.0, 8.0],
        [20.0, 6.0],
        hull=[(Fraction(0), 0.0), (HALF, -0.004), (Fraction(1), 0.0)],
    )
    outlook = Outlook(choice, np.random.default_rng(0))
    above = np.array([8.0 + 4.0 * 2 / 3, -6.0])  # the third comes first
    spread = np.array([6.0, 20.0])
    each = norm.cdf((-2.0 - above) / spread)
    below = outlook.below(0.002)
    np.testing.assert_allclose(below.mean(axis=(0, 1)), each, atol=0.01)
    assert below.any(axis=2).mean() == pytest.approx(1 - np.prod(1 - each), abs=0.01)
    z = -above / spread
    expected = spread * (z * norm.cdf(z) + norm.pdf(z))
    np.testing.assert_allclose(1e3 * outlook.improvement(), expected, rtol=0.05)


def test_what_cannot_reach_the_hull_is_left_out(choose: Callable[..., Choice]) -> None:
    choice = choose([HALF] * 5, [51.0, 49.0, 1.0, -1.0, 0.0], [10.0, 10.0, 0.0, 0.0, 0.0])
    outlook = Outlook(choice, np.random.default_rng(0))
    assert sorted(outlook.which) == [1, 3]
    deep = [(Fraction(0), 0.0), (HALF, -0.1), (Fraction(1), 0.0)]
    choice = choose([HALF] * 2, [-49.0, -51.0], [10.0, 10.0], hull=deep)  # of which 50 is too far
    assert Outlook(choice, np.random.default_rng(0)).which.tolist() == [1]


def test_the_likeliest_are_kept_where_there_are_too_many(
    choose: Callable[..., Choice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    choice = choose([HALF] * 4, [10.0, 5.0, 20.0, 1.0], [10.0, 10.0, 100.0, 0.5])
    assert sorted(Outlook(choice, np.random.default_rng(0)).which) == [1, 2]


def test_pending_labels_are_told(choose: Callable[..., Choice]) -> None:
    choice = choose([HALF, HALF], [-9.0, -9.0], [3.0, 3.0], pending="b")
    outlook = Outlook(choice, np.random.default_rng(0))
    assert outlook.free.tolist() == [True, False]
    np.testing.assert_allclose(outlook.height[:, 1], np.minimum(outlook._truth[:, 1], 0.0))
    assert np.ptp(outlook.height[:, 1]) > 0.001
    outlook.label(0)
    assert not outlook.below(0.0).any()


def test_trying_a_label_changes_nothing(choose: Callable[..., Choice]) -> None:
    outlook = Outlook(choose([HALF, THIRD], [-9.0, 2.0], [3.0, 3.0]), np.random.default_rng(0))
    height, hulls = outlook.height.copy(), outlook.hulls()
    tried = outlook.after(0)
    np.testing.assert_array_equal(outlook.height, height)
    np.testing.assert_array_equal(outlook.hulls(), hulls)
    outlook.label(0)
    np.testing.assert_array_equal(outlook.height, tried[0])
    np.testing.assert_array_equal(outlook.hulls(), tried[1])
