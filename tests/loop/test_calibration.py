"""Error bars: against errors whose size is known, and by hand where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm, t

from al_charge.loop.calibration import (
    ALONE,
    FREEDOM,
    LEAST,
    MEMORY,
    OWN_WIDTH,
    TOGETHER,
    USUAL,
    Checked,
    bar,
    calibrate_bars,
    coverage,
    held_out_error,
    wide_band,
)
from al_charge.store.documents import Calibration, PredictedLabel

HELD_OUT = 0.005
TYPICAL = float(norm.ppf(0.75))
"""Median size of normal errors with a standard deviation of 1."""
Floats = NDArray[np.float64]


def drawn(
    number: int, a: float, b: float, seed: int = 0, x: str = "1/2", freedom: float = 30.0
) -> list[PredictedLabel]:
    """Return errors of known size, a given in eV."""
    rng = np.random.default_rng(seed)
    spreads = rng.uniform(0.001, 0.02, number)
    errors = np.hypot(a, b * spreads) * rng.standard_t(freedom, number)
    return [PredictedLabel(x, e, s, 0.0, False) for e, s in zip(errors, spreads, strict=True)]


def predicted(x: str, error: float, spread: float, deviation: float) -> PredictedLabel:
    return PredictedLabel(x, error, spread, 0.0, False, deviation=deviation)


def bare(found: Calibration) -> Calibration:
    return found.model_copy(update={"factors": {}})


def half_widths(errors: Floats, weight: Floats | None = None) -> Floats:
    """Return within what sizes 68.27 and 95 % of errors lie."""
    order = np.argsort(np.abs(errors))
    share = np.cumsum(np.ones(len(errors)) if weight is None else weight[order])
    return np.abs(errors)[order[np.searchsorted(share, np.array([0.6827, 0.95]) * share[-1])]]


@pytest.mark.parametrize(
    ("a", "b", "freedom"), [(0.004, 1.0, 30.0), (0.008, 0.3, 5.0), (0.003, 2.0, 2.0)]
)
def test_of_many_errors_the_true_size_is_found(a: float, b: float, freedom: float) -> None:
    """But for what may have changed since, as Monte Carlo tells it."""
    some = drawn(4000, a, b, freedom=freedom)
    found = bare(calibrate_bars([Checked(HELD_OUT, some)], HELD_OUT))
    rng = np.random.default_rng(1)
    moved = np.exp(ALONE.width * np.sqrt(1 - MEMORY**2) * rng.standard_normal((2, 100_000)))
    later = HELD_OUT / 2 * (2 * a / HELD_OUT) ** MEMORY * moved[0], b**MEMORY * moved[1]
    errors = rng.standard_t(freedom, 100_000)
    for spread in (0.002, 0.010, 0.020):
        expected = half_widths(np.hypot(later[0], later[1] * spread) * errors)
        told = bar(found, "1/2", found.scale * spread)
        assert told == pytest.approx(expected[0], rel=0.1)
        assert wide_band(found) * told == pytest.approx(expected[1], rel=0.15)


def test_it_is_the_filter_that_sums_over_all_that_may_have_been() -> None:
    """Against Monte Carlo: whole histories of a, b and c, drawn from the prior and weighted."""
    history = [
        Checked(0.020, [predicted("0", 0.050, 0.010, 0.060)]),
        Checked(0.010, [predicted("0", -0.003, 0.004, 0.040)]),
        Checked(0.004, [predicted("0", e, 0.002, 0.030) for e in (0.001, -0.004)]),
    ]
    rng = np.random.default_rng(1)
    steps = len(history) + 1
    correlation = MEMORY ** np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    process = multivariate_normal(np.zeros(steps), ALONE.width**2 * correlation)
    a, b, c = (np.exp(process.rvs(400_000, random_state=rng)) for _ in range(3))
    freedom = rng.choice(FREEDOM, len(a))
    weight = np.ones(len(a))
    for i, (held_out, predictions) in enumerate(history):
        for one in predictions:
            parts = 0.5 * a[:, i] * held_out, b[:, i] * one.spread, 0.25 * c[:, i] * one.deviation
            weight *= t.pdf(one.error, freedom, scale=np.linalg.norm(parts, axis=0))
    found = calibrate_bars(history, 0.003)
    errors = rng.standard_t(freedom)
    floors = half_widths(0.0015 * a[:, -1] * errors, weight)
    scales = half_widths(b[:, -1] * errors, weight)
    assert found.floor == pytest.approx(floors[0], rel=0.03)
    assert found.scale == pytest.approx(scales[0], rel=0.03)
    shares = half_widths(0.25 * c[:, -1] * errors, weight)
    assert found.share == pytest.approx(shares[0], rel=0.03)
    ratio = np.cbrt(np.prod([wide / narrow for narrow, wide in (floors, scales, shares)]))
    assert wide_band(found) == pytest.approx(ratio, rel=0.03)


def test_more_is_known_beforehand_of_committee_and_surrogate_together() -> None:
    """Against Monte Carlo, without errors and with a few."""
    some = [PredictedLabel("0", e, 0.004, 0.0, False) for e in (0.002, -0.009, 0.001)]
    rng = np.random.default_rng(3)
    process = multivariate_normal(np.zeros(2), TOGETHER.width**2 * np.array([[1, 0.9], [0.9, 1]]))
    before, now = np.exp(process.rvs(400_000, random_state=rng)).T
    share = np.array(TOGETHER.freedom) / np.sum(TOGETHER.freedom)
    freedom = rng.choice(FREEDOM, len(now), p=share)
    weight = np.prod([t.pdf(one.error, freedom, scale=before * 0.004) for one in some], axis=0)
    errors = now * rng.standard_t(freedom)
    for history, counted in (([], None), ([Checked(0.0, some)], weight)):
        found, (narrow, wide) = calibrate_bars(history), half_widths(errors, counted)
        assert found.scale == pytest.approx(narrow, rel=0.03)
        assert wide_band(found) == pytest.approx(wide / narrow, rel=0.03)


@pytest.mark.parametrize("freedom", [3.0])
def test_they_cover_what_they_say(freedom: float) -> None:
    """Errors of later rounds, of committees that get better while a and b wander."""
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        a, b, history = 0.0, 0.0, []
        inside = []
        for number in range(12):
            a, b = (
                MEMORY * one + ALONE.width * np.sqrt(1 - MEMORY**2) * rng.standard_normal()
                for one in (a, b)
            )
            held_out = 0.1 * 0.6**number
            spreads = held_out * rng.uniform(0.1, 2.0, 16)
            sizes = np.hypot(np.exp(a) * held_out / 2, np.exp(b) * spreads)
            found = calibrate_bars(history, held_out)
            some = []
            for e, s in zip(sizes * rng.standard_t(freedom, 16), spreads, strict=True):
                one = bar(found, "1/2", found.scale * s)
                some.append(PredictedLabel("1/2", e, s, one, False, wide_band(found) * one))
            told = coverage(some)
            inside.append((told.within_68, told.within_95))
            history.append(Checked(held_out, some))
        shares.append(np.mean(inside[4:], axis=0))
    within_68, within_95 = np.mean(shares, axis=0)
    assert 0.62 < within_68 < 0.76
    assert 0.92 < within_95 < 0.99


def test_a_few_errors_that_are_very_large_do_not_widen_the_bars_of_the_others() -> None:
    """But for the wider band, and where their spreads do not tell them."""
    calm = drawn(20, 0.005, 0.5)
    odd = [PredictedLabel("1/4", -0.130, 0.004, 0.0, False)] * 2
    some, all_of_them = (
        bare(
            calibrate_bars(
                [Checked(HELD_OUT, told)],
                held_out_error([HELD_OUT * TYPICAL, -0.003, 0.004, *held]),
            )
        )
        for told, held in ((calm, []), ([*calm, *odd], [0.396]))
    )
    assert bar(all_of_them, "1/2", 0.0) < 1.7 * bar(some, "1/2", 0.0)
    assert wide_band(all_of_them) > 1.25 * wide_band(some)


def test_errors_of_a_bad_committee_do_not_widen_the_bars_of_a_good_one() -> None:
    """It was bad at labels held out from it as well, so that its errors were to be expected."""
    bad = Checked(1.0, drawn(20, 1.0, 1.0))
    good = Checked(0.01, drawn(20, 0.01, 1.0, seed=1))
    both, alone = (calibrate_bars(told, 0.01) for told in ([bad, good], [good]))
    assert both.floor < 1.2 * alone.floor < 0.02


@pytest.mark.parametrize("worse", [3.0, 0.3])
def test_the_newest_errors_count_most(worse: float) -> None:
    """Not more than the held-out errors say, in a way that has changed since."""
    old = [Checked(HELD_OUT, drawn(20, worse * HELD_OUT, 0.1, seed=seed)) for seed in range(3)]
    new = [Checked(HELD_OUT, drawn(20, HELD_OUT, 0.1, seed=9 + seed)) for seed in range(3)]
    now, then = calibrate_bars([*old, *new], HELD_OUT), calibrate_bars([*new, *old], HELD_OUT)
    fresh = calibrate_bars(new, HELD_OUT)
    assert now.floor == pytest.approx(fresh.floor, rel=0.2)
    assert (then.floor > 1.7 * now.floor) == (worse > 1)
    assert (then.floor < 0.7 * now.floor) == (worse < 1)


def test_bars_do_not_shrink_because_less_is_known() -> None:
    """Errors as large as was to be expected: the more of them, the narrower the bars."""
    sizes = []
    for number in (0, 3, 10, 30, 300):
        signs = np.where(np.arange(number) % 2, 1.0, -1.0)
        some = [PredictedLabel("0", s * np.hypot(0.005, 0.01), 0.01, 0.0, False) for s in signs]
        found = bare(calibrate_bars([Checked(HELD_OUT, some)], HELD_OUT))
        sizes.append(wide_band(found) * bar(found, "0", found.scale * 0.01))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > np.hypot(0.005, 0.01)


def test_what_is_small_is_believed_for_some_rounds_only() -> None:
    """Errors that were ten times smaller than the held-out ones narrow the bars, and less so as
    rounds go by whose labels tell little."""
    small = [Checked(HELD_OUT, drawn(200, 0.05 * HELD_OUT, 0.05, freedom=3.0))]
    silent = Checked(HELD_OUT, [PredictedLabel("0", 0.0, 1.0, 0.0, False)])  # its spread is huge
    floors = [calibrate_bars([*small, *[silent] * n], HELD_OUT).floor for n in (0, 2, 30)]
    assert floors == sorted(floors)
    usual = calibrate_bars([], HELD_OUT).floor
    assert floors[0] < 0.2 * usual and 0.8 * usual < floors[2] <= usual


@pytest.mark.parametrize("freedom", [2.0, 30.0])
def test_bars_of_committee_and_surrogate_have_no_held_out_error(freedom: float) -> None:
    """They are their deviations times what errors over these have been."""
    rng = np.random.default_rng(2)
    deviations = rng.uniform(0.001, 0.02, 4000)
    errors = 1.8 * deviations * rng.standard_t(freedom, 4000)
    some = [PredictedLabel("1/2", *one, 0.0, False) for one in zip(errors, deviations, strict=True)]
    found = bare(calibrate_bars([Checked(0.0, some)]))
    moved = np.exp(TOGETHER.width * np.sqrt(1 - MEMORY**2) * rng.standard_normal(100_000))
    expected = half_widths(1.8**MEMORY * moved * rng.standard_t(freedom, 100_000))
    assert bar(found, "1/2", 0.0) == 0.0
    assert found.scale == pytest.approx(expected[0], rel=0.1)
    assert wide_band(found) == pytest.approx(expected[1] / expected[0], rel=0.1)


def test_how_far_a_label_is_from_others_tells_where_members_agree_on_what_is_wrong() -> None:
    """Errors that neither spreads nor held-out labels announce, in ratio to a surrogate's."""
    rng = np.random.default_rng(4)
    deviations = rng.uniform(0.005, 0.08, 500)
    errors = 0.35 * deviations * rng.standard_t(30.0, 500)
    some = [
        predicted("1/2", *one) for one in zip(errors, 0.02 * deviations, deviations, strict=True)
    ]
    found = bare(calibrate_bars([Checked(LEAST, some)], LEAST))
    moved = np.exp(ALONE.width * np.sqrt(1 - MEMORY**2) * rng.standard_normal(100_000))
    later = 0.25 * (0.35 / 0.25) ** MEMORY * moved * rng.standard_t(30.0, 100_000)
    for deviation in (0.01, 0.08):
        told = bar(found, "1/2", found.scale * 0.02 * deviation, deviation)
        assert told == pytest.approx(half_widths(deviation * later)[0], rel=0.1)
    assert bar(found, "1/2", 0.001) < 0.1 * told
    # Predictions that came without such a deviation tell nothing of it, but for the tails.
    usual = calibrate_bars([], HELD_OUT)
    without = calibrate_bars([Checked(HELD_OUT, drawn(20, 0.1, 3.0))], HELD_OUT)
    assert without.share == pytest.approx(usual.share, rel=0.15)
    assert usual.share == pytest.approx(0.25 * usual.scale)
    assert calibrate_bars([Checked(0.0, drawn(20, 0.0, 1.0))]).share is None


def test_a_factor_counts_how_far_a_label_is_from_others() -> None:
    """Errors in ratio to it belong to no composition."""
    rng = np.random.default_rng(6)
    near, far = (
        [predicted(x, e, 1e-4, d) for e in 0.25 * d * rng.standard_normal(40)]
        for x, d in (("1/4", 0.004), ("3/4", 0.080))
    )
    found = calibrate_bars([Checked(LEAST, [*near, *far])], LEAST)
    assert found.factors == pytest.approx({"1/4": 1.0, "3/4": 1.0}, abs=0.2)


def test_rounds_without_labels_change_nothing() -> None:
    one, none = Checked(HELD_OUT, drawn(5, 0.01, 1.0)), Checked(1.0, [])
    assert calibrate_bars([none, one, none], 0.004) == calibrate_bars([one], 0.004)


def test_without_predictions_held_out_errors_say_how_large_errors_are() -> None:
    rng = np.random.default_rng(0)
    size = np.exp(ALONE.width * rng.standard_normal(400_000))
    usual = half_widths(size * rng.standard_t(rng.choice(FREEDOM, len(size))))
    small, large = (calibrate_bars([], e) for e in (0.003, 0.012))
    assert large.floor == pytest.approx(4 * small.floor)
    assert small.floor == pytest.approx(0.0015 * usual[0], rel=0.01)
    assert small.scale == pytest.approx(usual[0], rel=0.01) and small.factors == {}
    assert wide_band(small) == pytest.approx(usual[1] / usual[0], rel=0.01)
    assert large.scale == pytest.approx(small.scale)
    assert (small.held_out, large.held_out) == (0.003, 0.012)
    many = 0.007 * rng.standard_normal(100_000)
    assert held_out_error(many.tolist()) == pytest.approx(0.007, rel=0.01)
    assert held_out_error([0.003, -0.001, 0.396]) == pytest.approx(0.003 / TYPICAL, rel=1e-4)
    assert (held_out_error([]), held_out_error([0.0, 1e-5])) == (USUAL, LEAST)


def test_a_composition_with_errors_of_its_own_has_a_factor() -> None:
    calm, wild = drawn(60, 0.004, 0.5, x="1/4"), drawn(60, 0.016, 0.5, seed=3, x="3/4")
    found = calibrate_bars([Checked(HELD_OUT, [*calm, *wild])], HELD_OUT)
    assert found.factors["1/4"] < 0.9 < 1.2 < found.factors["3/4"]
    # A single error, however large, moves it by little.
    alone = calibrate_bars(
        [Checked(HELD_OUT, [PredictedLabel("1/8", 0.5, 0.001, 0.0, False)])], USUAL
    )
    assert 1.0 < alone.factors["1/8"] < 3.0


def test_factors_are_the_means_of_their_logarithms() -> None:
    """Against an integral by hand, for errors that say of a and b what the prior says."""
    some = [PredictedLabel("1/4", e, 1e-9, 0.0, False) for e in (0.030, -0.022, 0.041, 0.0)]
    rest = drawn(3000, HELD_OUT / 2, 1.0, seed=5, x="0", freedom=5.0)
    found = calibrate_bars([Checked(HELD_OUT, [*rest, *some])], HELD_OUT)
    places = np.linspace(-4, 4, 4001)
    likely = norm.logpdf(places, scale=OWN_WIDTH)
    for one in some:
        likely += t.logpdf(one.error, 5.0, scale=HELD_OUT / 2 * np.exp(places))
    share = np.exp(likely - likely.max())
    assert found.factors["1/4"] == pytest.approx(np.exp(share @ places / share.sum()), rel=0.08)


def test_a_factor_is_of_errors_over_the_bars_of_their_round() -> None:
    """So a composition that was labelled while the committee was bad has none for it."""
    calm = Checked(0.010, drawn(40, 0.005, 0.1, x="1/4"))
    bad = Checked(1.0, drawn(40, 0.5, 10.0, seed=2, x="3/4"))
    for history in ([calm, bad], [bad, calm]):
        found = calibrate_bars(history, 0.005)
        assert found.factors == pytest.approx({"1/4": 1.0, "3/4": 1.0}, abs=0.2)


def test_a_bar_is_made_of_floor_spread_and_factor() -> None:
    calibration = Calibration(floor=0.003, scale=7.0, factors={"1/4": 2.0})
    far = calibration.model_copy(update={"share": 0.1})
    assert bar(far, "1/4", 0.004, 0.12) == pytest.approx(0.026)
    assert bar(far, "1/4", 0.004) == bar(calibration, "1/4", 0.004, 0.12)
    assert bar(calibration, "1/4", 0.004) == pytest.approx(0.010)
    assert bar(calibration, "1/2", 0.004) == pytest.approx(0.005)
    assert bar(Calibration(), "1/2", 0.004) == pytest.approx(0.004)


def test_coverage_is_counted() -> None:
    some = [
        PredictedLabel("0", error, 0.0, 0.010, deciding)
        for error, deciding in (
            (0.009, True),
            (-0.0099, False),
            (0.011, False),
            (-0.019, True),
            (0.0197, False),
            (-0.030, False),
            (0.010, False),
            (-0.0196, True),
        )
    ]
    found = coverage(some)
    assert (found.labels, found.within_68, found.within_95) == (8, 3 / 8, 6 / 8)
    decided = found.deciding
    assert (decided.labels, decided.within_68, decided.within_95) == (3, 1 / 3, 1.0)
    wider = coverage([one._replace(band_95=0.0296) for one in some])
    assert (wider.within_68, wider.within_95) == (3 / 8, 7 / 8)
    empty = coverage([])
    assert (empty.labels, empty.within_68, empty.within_95) == (0, None, None)
