"""What may lie below a hull: against closed forms, brute force and exact sampling."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from al_charge.surrogate.surrogate import Prediction
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.uncertainty import Outlook, Unlabelled, lower_hulls, outlook
from al_charge.thermo.voltage import step_voltages

TOLERANCE = 0.001
X = (Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(1))
NOTHING = np.empty(0)
FEW = 20_000
"""Draws, where a figure of them is compared."""


@pytest.fixture
def hull() -> Hull:
    """Formation energies 0, -60, -150, -40, 0 meV/f.u.; vertices at 0, 1/2 and 1."""
    formation = dict(zip(X, (0.0, -0.060, -0.150, -0.040, 0.0), strict=True))
    entries = [Entry(str(x), str(x), x, -10 + 2 * float(x) + e) for x, e in formation.items()]
    return build_hull(
        entries, framework="FePO4", working_ion="Na", metal_energy=-1.0, working_ion_charge=1
    )


def nothing(x: Fraction, columns: int = 1) -> Unlabelled:
    return Unlabelled(x, Prediction(NOTHING, np.empty((0, columns)), NOTHING), NOTHING, NOTHING)


def likely(x: Fraction, mean: object, root: object, own: object) -> Unlabelled:
    arrays = [np.array(one, dtype=float) for one in (mean, root, own)]
    return Unlabelled(x, Prediction(*arrays), NOTHING, NOTHING)


def independent(x: Fraction, mean: object, own: object) -> Unlabelled:
    means = np.array(mean, dtype=float)
    return likely(x, means, np.zeros((len(means), 1)), np.broadcast_to(own, means.shape))


def many(x: Fraction, mean: object, deviation: object) -> Unlabelled:
    return Unlabelled(x, nothing(x).likely, np.array(mean), np.array(deviation))


def ahead(hull: Hull, *some: Unlabelled, draws: int = 1000, seed: int = 1) -> Outlook:
    given = {one.x: one for one in some}
    columns = max((one.likely.root.shape[1] for one in some), default=1)
    every = [given.get(x) or nothing(x, columns) for x in X]
    every = [one if len(one.likely.mean) else _wide(one, columns) for one in every]
    return outlook(hull, every, TOLERANCE, np.random.default_rng(seed), draws)


def _wide(one: Unlabelled, columns: int) -> Unlabelled:
    return Unlabelled(one.x, nothing(one.x, columns).likely, one.mean, one.deviation)


@pytest.mark.parametrize("bar", [0.0, 0.002, 0.020, 0.040, 0.200, 10.0])
def test_two_below_the_hull_are_never_unlikely(hull: Hull, bar: float) -> None:
    two = [hull.lower(X[1]) - 0.030] * 2
    assert ahead(hull, independent(X[1], two, bar)).p_below_hull >= 0.75 - 1e-9


@pytest.mark.parametrize("above", [0.0, 0.003, 0.030, 0.200])
def test_what_lies_above_is_more_likely_below_the_less_is_known(hull: Hull, above: float) -> None:
    bars = [0.0, 0.0005, 0.002, 0.02, 0.2, 2.0]
    mean = [hull.lower(X[1]) + above]
    found = [ahead(hull, independent(X[1], mean, bar)).p_below_hull for bar in bars]
    assert found[0] == pytest.approx(0.0)
    assert found == sorted(found) and found[-1] < 0.5


@pytest.mark.parametrize("kind", [independent, many])
def test_independent_ones_have_the_closed_form(hull: Hull, kind: object) -> None:
    means, bars = np.array([-0.055, -0.050, -0.070]), np.array([0.020, 0.015, 0.010])
    found = ahead(hull, kind(X[1], means, bars))  # type: ignore[operator]
    height, lowest = hull.lower(X[1]), -0.060
    none = np.prod(norm.cdf((means - height + TOLERANCE) / bars))
    assert found.p_below_hull == pytest.approx(1 - none)
    none = np.prod(norm.cdf((means - lowest + TOLERANCE) / bars))
    assert found.p_lower[1] == pytest.approx(1 - none)
    assert found.p_lower[[0, 2, 3, 4]] == pytest.approx(0.0)


def test_how_far_below_has_the_closed_form_of_one(hull: Hull) -> None:
    mean, bar = -0.055, 0.020
    expected = -0.060 - norm.ppf(0.05, mean, bar)
    for one in (independent(X[1], [mean], bar), many(X[1], [mean], [bar])):
        found = ahead(hull, one, draws=FEW)
        assert found.lower_by[1] == pytest.approx(expected, abs=0.0008)
        assert found.lower_by[[0, 2, 3, 4]] == pytest.approx(0.0)


def correlated() -> tuple[list[Unlabelled], np.ndarray, np.ndarray]:
    """Return configurations of two compositions with common errors, and all of them together."""
    rng = np.random.default_rng(5)
    mean = np.array([-0.055, -0.050, -0.070, -0.030, -0.045, -0.060])
    root, own = 0.01 * rng.normal(size=(6, 3)), rng.uniform(0.002, 0.01, 6)
    parts = [
        likely(X[1], mean[:4], root[:4], own[:4]),
        likely(X[3], mean[4:], root[4:], own[4:]),
    ]
    return parts, mean, root @ root.T + np.diag(own**2)


def test_correlated_ones_are_what_brute_force_finds(hull: Hull) -> None:
    parts, mean, covariance = correlated()
    found = ahead(hull, *parts, draws=FEW)
    drawn = np.random.default_rng(6).multivariate_normal(mean, covariance, 400_000)
    low = np.stack([drawn[:, :4].min(axis=1), drawn[:, 4:].min(axis=1)], axis=1)
    heights = np.array([hull.lower(X[1]), hull.lower(X[3])])
    share = (low < heights - TOLERANCE).any(axis=1).mean()
    assert found.p_below_hull == pytest.approx(share, abs=0.008)
    labels = np.array([-0.060, -0.040])
    shares = (low < labels - TOLERANCE).mean(axis=0)
    assert found.p_lower[[1, 3]] == pytest.approx(shares, abs=0.008)
    bounds = np.quantile(np.maximum(labels - low, 0), 0.95, axis=0)
    assert found.lower_by[[1, 3]] == pytest.approx(bounds, abs=0.001)


def test_errors_that_are_shared_make_it_smaller(hull: Hull) -> None:
    mean = np.full(4, hull.lower(X[1]) + 0.010)
    alone = ahead(hull, independent(X[1], mean, 0.010))
    root = np.full((4, 1), 0.010 * np.sqrt(0.7))
    shared = ahead(hull, likely(X[1], mean, root, np.full(4, 0.010 * np.sqrt(0.3))))
    assert shared.p_below_hull < alone.p_below_hull - 0.1


def test_bands_are_those_of_hulls_that_are_built_one_by_one(hull: Hull) -> None:
    parts, mean, covariance = correlated()
    found = ahead(hull, *parts, draws=FEW)
    rng = np.random.default_rng(7)
    labels = {entry.x: hull.formation_energy(entry) for entry in hull.entries}
    heights = []
    for energies in rng.multivariate_normal(mean, covariance, 1500):
        low = labels | {
            X[1]: min(labels[X[1]], energies[:4].min()),
            X[3]: min(labels[X[3]], energies[4:].min()),
        }
        entries = [Entry(str(x), str(x), x, energy) for x, energy in low.items()]
        one = build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=-1.0)
        heights.append([one.lower(x) for x in X])
    for name, ends in (("band_95", (0.025, 0.975)), ("band_68", (0.16, 0.84))):
        expected = np.quantile(heights, ends, axis=0).T
        assert np.array(found.bands()[name]) == pytest.approx(expected, abs=0.004)
    assert np.ptp(np.array(found.bands()["band_95"])[2]) == 0  # nothing may lie lower there


def test_voltages_follow_from_sampled_hulls(hull: Hull) -> None:
    parts, *_ = correlated()
    found = ahead(hull, *parts, draws=50)
    grid = [float(x) for x in X]
    totals = found.hulls + np.array([hull.reference(x) for x in X])
    voltages = -1.0 - np.diff(totals, axis=1) / np.diff(grid)
    assert np.array(found.voltage_bands(hull)["band_68"]) == pytest.approx(
        np.quantile(voltages, (0.16, 0.84), axis=0).T
    )
    at = [X.index(x) for x in hull.compositions]
    steps = np.array([step_voltages(hull, row) for row in totals[:, at].tolist()])
    known = np.array(step_voltages(hull, [vertex.energy for vertex in hull.vertices]))
    errors, mean_error = found.voltage_errors(hull)
    assert errors == pytest.approx(np.sqrt(np.mean((steps - known) ** 2, axis=0)))
    assert mean_error == pytest.approx(0.0, abs=1e-12)


def test_an_end_member_that_lies_lower_moves_the_mean_voltage(hull: Hull) -> None:
    found = ahead(hull, independent(X[-1], [-0.050], 0.0))
    assert found.voltage_errors(hull)[1] == pytest.approx(0.050)


def test_where_nothing_is_labelled_something_is_lower(hull: Hull) -> None:
    x = Fraction(1, 3)
    known = independent(x, [-0.030], 0.001)
    every = [nothing(one) for one in X]
    found = outlook(hull, [*every, known], TOLERANCE, np.random.default_rng(0))
    place = found.x.index(x)
    assert found.p_lower[place] == 1 and np.isnan(found.lower_by[place])
    assert found.hulls[:, place] == pytest.approx(hull.lower(x))


def test_lower_hulls_are_convex_and_below() -> None:
    energies = np.random.default_rng(8).normal(size=(50, 5))
    energies[3, 2] = np.inf
    hulls = lower_hulls(X, energies)
    assert (hulls <= energies).all() and (np.diff(hulls, 2, axis=1) > -1e-12).all()
    assert (hulls[:, [0, -1]] == energies[:, [0, -1]]).all()


def test_nothing_unlabelled_is_nothing_below(hull: Hull) -> None:
    found = ahead(hull)
    assert found.p_below_hull == 0 and (found.p_lower == 0).all() and (found.lower_by == 0).all()
    assert nothing(X[0]).lowest == np.inf
    assert independent(X[0], [3.0, 2.0], 1.0).lowest == 2.0
    assert many(X[0], [3.0, 1.0], [1.0, 1.0]).lowest == 1.0
