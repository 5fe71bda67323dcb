"""Error bars: against errors whose size is known, and by hand where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from al_charge.loop.calibration import (
    COUNTED,
    LEAST,
    MEMORY,
    USUAL,
    WIDTH,
    Checked,
    bar,
    calibrate_bars,
    coverage,
    held_out_error,
)
from al_charge.store.documents import Calibration, PredictedLabel

HELD_OUT = 0.005


def drawn(number: int, a: float, b: float, seed: int = 0, x: str = "1/2") -> list[PredictedLabel]:
    """Return errors of known size, a given in eV."""
    rng = np.random.default_rng(seed)
    spreads = rng.uniform(0.001, 0.02, number)
    errors = np.hypot(a, b * spreads) * rng.standard_normal(number)
    return [PredictedLabel(x, e, s, 0.0, False) for e, s in zip(errors, spreads, strict=True)]


def bare(found: Calibration) -> Calibration:
    return found.model_copy(update={"factors": {}})


@pytest.mark.parametrize(("a", "b"), [(0.004, 1.0), (0.008, 0.3), (0.003, 2.0)])
def test_of_many_errors_the_true_size_is_found(a: float, b: float) -> None:
    """But for what may have changed since, as a closed form tells it."""
    found = bare(calibrate_bars([Checked(HELD_OUT, drawn(4000, a, b))], [HELD_OUT]))
    unsure = np.exp(WIDTH**2 * (1 - MEMORY**2))
    floor = unsure * HELD_OUT * (a / HELD_OUT) ** MEMORY
    scale = unsure * b**MEMORY
    for spread in (0.002, 0.010, 0.020):
        expected = np.hypot(floor, scale * spread)
        assert bar(found, "1/2", found.scale * spread) == pytest.approx(expected, rel=0.1)
        assert bar(found, "1/2", found.scale * spread) >= 0.9 * np.hypot(a, b * spread)


def test_it_is_the_filter_that_sums_over_all_that_may_have_been() -> None:
    """Against Monte Carlo: whole histories of a and b, drawn from the prior and weighted."""
    history = [
        Checked(0.020, [PredictedLabel("0", 0.050, 0.010, 0.0, False)]),
        Checked(0.010, [PredictedLabel("0", -0.003, 0.004, 0.0, False)]),
        Checked(0.004, [PredictedLabel("0", e, 0.002, 0.0, False) for e in (0.001, -0.004)]),
    ]
    rng = np.random.default_rng(1)
    steps = len(history) + 1
    correlation = MEMORY ** np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    process = multivariate_normal(np.zeros(steps), WIDTH**2 * correlation)
    a, b = (np.exp(process.rvs(400_000, random_state=rng)) for _ in range(2))
    weight = np.ones(len(a))
    for i, (held_out, predictions) in enumerate(history):
        for one in predictions:
            size = np.hypot(a[:, i] * held_out, b[:, i] * one.spread)
            weight *= norm.pdf(one.error, scale=size)
    weight /= weight.sum()
    found = calibrate_bars(history, [0.003, -0.003])
    assert found.floor == pytest.approx(0.003 * np.sqrt(weight @ a[:, -1] ** 2), rel=0.03)
    assert found.scale == pytest.approx(np.sqrt(weight @ b[:, -1] ** 2), rel=0.03)


def test_they_cover_what_they_say() -> None:
    """Errors of later rounds, of committees that get better while a and b wander."""
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        a, b, history = 0.0, 0.0, []
        inside = []
        for number in range(12):
            a, b = (
                MEMORY * one + WIDTH * np.sqrt(1 - MEMORY**2) * rng.standard_normal()
                for one in (a, b)
            )
            held_out = 0.1 * 0.6**number
            spreads = held_out * rng.uniform(0.1, 2.0, 16)
            errors = np.hypot(np.exp(a) * held_out, np.exp(b) * spreads) * rng.standard_normal(16)
            found = calibrate_bars(history, [held_out, -held_out])
            some = [
                PredictedLabel("1/2", e, s, bar(found, "1/2", found.scale * s), False)
                for e, s in zip(errors, spreads, strict=True)
            ]
            told = coverage(some)
            inside.append((told.within_68, told.within_95))
            history.append(Checked(held_out, some))
        shares.append(np.mean(inside[4:], axis=0))
    within_68, within_95 = np.mean(shares, axis=0)
    assert 0.62 < within_68 < 0.76
    assert 0.92 < within_95 < 0.99


def test_errors_of_a_bad_committee_do_not_widen_the_bars_of_a_good_one() -> None:
    """It was bad at labels held out from it as well, so that its errors were to be expected."""
    bad = Checked(1.0, drawn(6, 1.0, 1.0))
    good = Checked(0.01, drawn(6, 0.01, 1.0, seed=1))
    both, alone = calibrate_bars([bad, good], [0.01]), calibrate_bars([good], [0.01])
    assert both.floor < 1.2 * alone.floor < 0.02


@pytest.mark.parametrize("worse", [3.0, 0.3])
def test_the_newest_errors_count_most(worse: float) -> None:
    """Not more than the held-out errors say, in a way that has changed since."""
    old = [Checked(HELD_OUT, drawn(20, worse * HELD_OUT, 0.1, seed=seed)) for seed in range(3)]
    new = [Checked(HELD_OUT, drawn(20, HELD_OUT, 0.1, seed=9 + seed)) for seed in range(3)]
    now, then = calibrate_bars([*old, *new], [HELD_OUT]), calibrate_bars([*new, *old], [HELD_OUT])
    fresh = calibrate_bars(new, [HELD_OUT])
    assert now.floor == pytest.approx(fresh.floor, rel=0.2)
    assert (then.floor > 1.7 * now.floor) == (worse > 1)
    assert (then.floor < 0.7 * now.floor) == (worse < 1)


def test_bars_do_not_shrink_because_less_is_known() -> None:
    """Errors as large as was to be expected: the more of them, the narrower the bars."""
    sizes = []
    for number in (0, 3, 10, 30, 300):
        signs = np.where(np.arange(number) % 2, 1.0, -1.0)
        some = [PredictedLabel("0", s * np.hypot(0.005, 0.01), 0.01, 0.0, False) for s in signs]
        found = calibrate_bars([Checked(HELD_OUT, some)], [HELD_OUT])
        sizes.append(bar(found, "0", found.scale * 0.01))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] > np.hypot(0.005, 0.01)


def test_what_is_small_is_believed_for_some_rounds_only() -> None:
    """Errors that were ten times smaller than the held-out ones narrow the bars, and less so as
    rounds go by whose labels tell little."""
    small = [Checked(HELD_OUT, drawn(200, 0.1 * HELD_OUT, 0.1))]
    silent = Checked(HELD_OUT, [PredictedLabel("0", 0.0, 1.0, 0.0, False)])  # its spread is huge
    floors = [calibrate_bars([*small, *[silent] * n], [HELD_OUT]).floor for n in (0, 2, 30)]
    assert floors == sorted(floors)
    usual = calibrate_bars([], [HELD_OUT]).floor
    assert floors[0] < 0.2 * usual and 0.8 * usual < floors[2] <= usual


def test_rounds_without_labels_change_nothing() -> None:
    one, none = Checked(HELD_OUT, drawn(5, 0.01, 1.0)), Checked(1.0, [])
    assert calibrate_bars([none, one, none], [0.004]) == calibrate_bars([one], [0.004])


def test_without_predictions_held_out_errors_say_how_large_errors_are() -> None:
    small, large = (calibrate_bars([], [e, -e]) for e in (0.003, 0.012))
    assert large.floor == pytest.approx(4 * small.floor)
    assert small.floor == pytest.approx(0.003 * np.exp(WIDTH**2), rel=0.01)
    assert small.scale == pytest.approx(np.exp(WIDTH**2), rel=0.01) and small.factors == {}
    assert large.scale == pytest.approx(small.scale)
    assert calibrate_bars([], []).floor == pytest.approx(calibrate_bars([], [USUAL]).floor)
    assert calibrate_bars([], [0.0]).floor == pytest.approx(calibrate_bars([], [LEAST]).floor)
    assert small.held_out == pytest.approx(0.003)
    assert held_out_error([0.003, -0.004, 0.0]) == pytest.approx(0.005 / np.sqrt(3))
    assert (held_out_error([]), held_out_error([0.0, 1e-5])) == (USUAL, LEAST)


def test_a_composition_with_errors_of_its_own_has_a_factor() -> None:
    calm, wild = drawn(60, 0.004, 0.5, x="1/4"), drawn(60, 0.016, 0.5, seed=3, x="3/4")
    found = calibrate_bars([Checked(HELD_OUT, [*calm, *wild])], [HELD_OUT])
    assert found.factors["1/4"] < 0.9 < 1.2 < found.factors["3/4"]
    # A single error of which the bars of its round say that it is usual moves nothing much.
    alone = calibrate_bars([Checked(HELD_OUT, [PredictedLabel("1/8", 0.5, 0.001, 0.0, False)])], [])
    assert 1.0 < alone.factors["1/8"] < np.sqrt((COUNTED + 100) / (COUNTED + 1))


def test_a_factor_is_of_errors_over_the_bars_of_their_round() -> None:
    """So a composition that was labelled while the committee was bad has none for it."""
    calm = Checked(0.005, drawn(40, 0.005, 0.1, x="1/4"))
    bad = Checked(0.5, drawn(40, 0.5, 10.0, seed=2, x="3/4"))
    for history in ([calm, bad], [bad, calm]):
        found = calibrate_bars(history, [0.005])
        assert found.factors == pytest.approx({"1/4": 1.0, "3/4": 1.0}, abs=0.2)


def test_a_bar_is_made_of_floor_spread_and_factor() -> None:
    calibration = Calibration(floor=0.003, scale=7.0, factors={"1/4": 2.0})
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
    empty = coverage([])
    assert (empty.labels, empty.within_68, empty.within_95) == (0, None, None)
