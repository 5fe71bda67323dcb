"""Error bars: against errors whose size is known, and by hand where nothing is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from al_charge.loop.calibration import COUNTED, LEAST, USUAL, bar, calibrate_bars, coverage
from al_charge.store.documents import Calibration, PredictedLabel

Errors = Callable[[np.ndarray], np.ndarray]


def drawn(number: int, a: float, b: float, seed: int = 0, x: str = "1/2") -> list[PredictedLabel]:
    rng = np.random.default_rng(seed)
    spreads = rng.uniform(0.001, 0.02, number)
    errors = np.hypot(a, b * spreads) * rng.standard_normal(number)
    return [PredictedLabel(x, e, s, 0.0, False) for e, s in zip(errors, spreads, strict=True)]


def bare(found: Calibration) -> Calibration:
    return found.model_copy(update={"factors": {}})


@pytest.mark.parametrize(("a", "b"), [(0.004, 1.0), (0.008, 0.3), (0.001, 2.5), (0.003, 3.0)])
def test_of_many_errors_the_true_size_is_found(a: float, b: float) -> None:
    found = bare(calibrate_bars(drawn(4000, a, b), [0.005, -0.005]))
    for spread in (0.002, 0.010, 0.020):
        true = np.hypot(a, b * spread)
        assert bar(found, "1/2", found.scale * spread) == pytest.approx(true, rel=0.1)


def test_they_cover_what_they_say() -> None:
    """Calibrated on some errors, bars hold as many others as normal errors should."""
    shares = []
    for seed in range(8):
        found = calibrate_bars(drawn(100, 0.004, 1.5, seed=seed), [0.005])
        fresh = [
            one._replace(bar=bar(found, one.x, found.scale * one.spread))
            for one in drawn(500, 0.004, 1.5, seed=100 + seed)
        ]
        told = coverage(fresh)
        shares.append((told.within_68, told.within_95))
    assert np.mean(shares, axis=0) == pytest.approx([0.68, 0.95], abs=0.03)


def test_bars_do_not_shrink_because_less_is_known() -> None:
    """Errors as large as was to be expected: the more of them, the narrower the bars."""
    sizes = []
    for number in (0, 3, 10, 30, 300):
        signs = np.where(np.arange(number) % 2, 1.0, -1.0)
        some = [PredictedLabel("0", s * np.hypot(0.005, 0.01), 0.01, 0.0, False) for s in signs]
        found = calibrate_bars(some, [0.005])
        sizes.append(bar(found, "0", found.scale * 0.01))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx(np.hypot(0.005, 0.01), rel=0.1)


def test_without_predictions_held_out_errors_say_how_large_errors_are() -> None:
    small, large = (calibrate_bars([], [e, -e]) for e in (0.003, 0.012))
    assert large.floor == pytest.approx(4 * small.floor)
    assert small.floor > 0.003 and small.scale > 1 and small.factors == {}
    assert large.scale == pytest.approx(small.scale)
    assert calibrate_bars([], []).floor == pytest.approx(calibrate_bars([], [USUAL]).floor)
    assert calibrate_bars([], [0.0]).floor == pytest.approx(calibrate_bars([], [LEAST]).floor)


def test_a_composition_with_errors_of_its_own_has_a_factor() -> None:
    calm, wild = drawn(60, 0.004, 0.5, x="1/4"), drawn(60, 0.016, 0.5, seed=3, x="3/4")
    found = calibrate_bars([*calm, *wild], [0.005])
    assert found.factors["1/4"] < 0.9 < 1.2 < found.factors["3/4"]
    one = PredictedLabel("1/8", 0.5, 0.001, 0.0, False)
    alone = calibrate_bars([one], [0.005])
    square = one.error**2 / (alone.floor**2 + (alone.scale * one.spread) ** 2)
    assert alone.factors["1/8"] ** 2 == pytest.approx((COUNTED + square) / (COUNTED + 1))


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
