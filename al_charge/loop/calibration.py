"""Error bars from predictions that were made before their labels.

The error of a committee's energy is normal with variance a^2 + (b s)^2, where s is the spread of
its members. The spread that is meant is always of members that have not seen the label: what they
predicted of a candidate when it was selected. While there are few of these, residuals of the
members' held-out labels say how large errors are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from al_charge.store.documents import Calibration, Coverage, PredictedLabel, Shares

USUAL = 0.005
"""Error where nothing is known of errors, eV per formula unit."""
LEAST = 0.0005
"""Smallest error that held-out residuals may suggest, eV per formula unit."""
WIDTH = float(np.log(2.0))
"""Standard deviation of the priors of log a and log b."""
COUNTED = 10
"""Errors at a composition must be more than this many to weigh more than those of all."""
BANDS = (1.0, 1.96)
"""Half width, in error bars, of the bands that hold 68 and 95 % of normal errors."""
GRID = np.linspace(-np.log(32.0), np.log(32.0), 61)


def calibrate_bars(
    predictions: Iterable[PredictedLabel], residuals: Sequence[float]
) -> Calibration:
    """Return what makes error bars of spreads.

    The variance is the mean over what a and b may be, given the errors (Bayes' theorem on a
    grid, normal likelihood, log-normal priors about the held-out error and 1). So bars are the
    wider the less is known. A composition has a factor of its own, which is 1 without errors there
    and tends to the root mean square of errors over bars.

    Parameters
    ----------
    predictions
        Labels with what was predicted of them before.
    residuals
        Errors of single members for labels that they were not trained on, eV per formula unit.

    Returns
    -------
    Calibration
        It holds for spreads of later committees.
    """
    some = list(predictions)
    held_out = float(np.sqrt(np.mean(np.square(residuals)))) if len(residuals) else USUAL
    error = np.array([one.error for one in some])
    spread = np.array([one.spread for one in some])
    a, b = max(held_out, LEAST) * np.exp(GRID)[:, None, None], np.exp(GRID)[None, :, None]
    variance = a**2 + (b * spread) ** 2
    likely = -0.5 * (error**2 / variance + np.log(variance)).sum(axis=2)
    likely -= 0.5 * (GRID[:, None] ** 2 + GRID[None, :] ** 2) / WIDTH**2
    weight = np.exp(likely - likely.max())
    weight /= weight.sum()
    floor = float(np.sqrt((weight * a[..., 0] ** 2).sum()))
    scale = float(np.sqrt((weight * b[..., 0] ** 2).sum()))
    squares: dict[str, list[float]] = defaultdict(list)
    for one in some:
        squares[one.x].append(one.error**2 / (floor**2 + (scale * one.spread) ** 2))
    return Calibration(
        floor=floor,
        scale=scale,
        factors={
            x: float(np.sqrt((COUNTED + sum(found)) / (COUNTED + len(found))))
            for x, found in sorted(squares.items())
        },
    )


def bar(calibration: Calibration, x: str, spread: float) -> float:
    """Return the error bar of a committee's energy.

    Parameters
    ----------
    calibration
        What its round found.
    x
        Composition.
    spread
        The members' standard deviation times the calibration's scale, eV per formula unit.

    Returns
    -------
    float
        One standard deviation, eV per formula unit.
    """
    return float(calibration.factors.get(x, 1.0) * np.hypot(calibration.floor, spread))


def coverage(predictions: Iterable[PredictedLabel]) -> Coverage:
    """Return how many labels lie where their error bars said, in all and of those that decided.

    Parameters
    ----------
    predictions
        Labels of one round, with what was predicted of them before.

    Returns
    -------
    Coverage
        Shares within the bands that hold 68 and 95 % of normal errors.
    """
    some = list(predictions)
    deciding = _shares([one for one in some if one.deciding])
    return Coverage(**_shares(some).model_dump(), deciding=deciding)


def _shares(some: Sequence[PredictedLabel]) -> Shares:
    inside = [[abs(one.error) <= width * one.bar for one in some] for width in BANDS]
    shares = [float(np.mean(found)) if found else None for found in inside]
    return Shares(labels=len(some), within_68=shares[0], within_95=shares[1])
