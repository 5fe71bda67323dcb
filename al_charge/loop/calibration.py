"""Error bars from predictions that were made before their labels.

The error of a committee's energy is normal with variance (a h)^2 + (b s)^2. Here s is the spread of
the members that have not seen the label: what they predicted of a candidate when it was selected.
h is how far members were off for labels that were held out from them, root mean square. It is of
the same committee, so that the errors of a bad committee of the first rounds say little of a later,
better one: a and b have no unit, and are about 1. They change slowly from round to round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al_charge.store.documents import Calibration, Coverage, PredictedLabel, Shares

Array = NDArray[np.float64]

USUAL = 0.005
"""Held-out error where nothing is known of errors, eV per formula unit."""
LEAST = 0.0005
"""Smallest held-out error that counts, eV per formula unit."""
WIDTH = float(np.log(2.0))
"""Standard deviation of log a and log b in any round, before errors are known."""
MEMORY = 0.9
"""Correlation of log a, and of log b, between one round with labels and the next."""
COUNTED = 10
"""Errors at a composition must be more than this many to weigh more than those of all."""
BANDS = (1.0, 1.96)
"""Half width, in error bars, of the bands that hold 68 and 95 % of normal errors."""
GRID = np.linspace(-np.log(32.0), np.log(32.0), 61)


class Checked(NamedTuple):
    """The labels of one round, with what a committee had predicted of them.

    Attributes
    ----------
    held_out
        Error of that committee's members for labels that they were not trained on, root mean
        square, eV per formula unit.
    predictions
        Each label with its prediction.
    """

    held_out: float
    predictions: Sequence[PredictedLabel]


def calibrate_bars(history: Iterable[Checked], residuals: Sequence[float]) -> Calibration:
    """Return what makes error bars of spreads.

    The variance is the mean over what a and b may be, given the errors: Bayes' theorem on a grid,
    normal likelihood, log-normal priors about 1. From round to round their logarithms are an
    autoregressive process of first order, so that the newest errors count most (a discrete filter:
    G. Kitagawa, J. Am. Stat. Assoc. 82, 1032 (1987)). So bars are the wider the less is known. A
    composition has a factor of its own, which is 1 without errors there and tends to the root mean
    square of errors over the bars of their round.

    Parameters
    ----------
    history
        What earlier committees had predicted of labels, the oldest first.
    residuals
        Errors of single members of the newest committee for labels that they were not trained on,
        eV per formula unit.

    Returns
    -------
    Calibration
        Of the newest committee's spreads.
    """
    weight = np.exp(-0.5 * (GRID[:, None] ** 2 + GRID[None, :] ** 2) / WIDTH**2)
    weight /= weight.sum()
    squares: dict[str, list[float]] = defaultdict(list)
    for held_out, predictions in history:
        if not predictions:
            continue
        weight *= _likelihood(held_out, predictions)
        weight /= weight.sum()
        a, b = _sizes(weight)
        for one in predictions:
            variance = (a * held_out) ** 2 + (b * one.spread) ** 2
            squares[one.x].append(one.error**2 / variance)
        weight = STEP.T @ weight @ STEP
    held_out = held_out_error(residuals)
    a, b = _sizes(weight)
    return Calibration(
        floor=a * held_out,
        scale=b,
        factors={
            x: float(np.sqrt((COUNTED + sum(found)) / (COUNTED + len(found))))
            for x, found in sorted(squares.items())
        },
        held_out=held_out,
    )


def held_out_error(residuals: Sequence[float]) -> float:
    """Return the size of held-out errors.

    Parameters
    ----------
    residuals
        Errors of members for labels that they were not trained on, eV per formula unit.

    Returns
    -------
    float
        Root mean square; what is usual if there are none.
    """
    return max(float(np.sqrt(np.mean(np.square(residuals)))), LEAST) if len(residuals) else USUAL


def _likelihood(held_out: float, predictions: Sequence[PredictedLabel]) -> Array:
    """Return how likely errors are for each a and b, up to a factor."""
    error = np.array([one.error for one in predictions])
    spread = np.array([one.spread for one in predictions])
    a, b = np.exp(GRID)[:, None, None], np.exp(GRID)[None, :, None]
    variance = (a * held_out) ** 2 + (b * spread) ** 2
    likely = -0.5 * (error**2 / variance + np.log(variance)).sum(axis=2)
    found: Array = np.exp(likely - likely.max())
    return found


def _sizes(weight: Array) -> tuple[float, float]:
    """Return the root mean squares of a and b."""
    square = np.exp(2 * GRID)
    a, b = (float(np.sqrt(weight.sum(axis=axis) @ square)) for axis in (1, 0))
    return a, b


def _step() -> Array:
    """Return how likely the logarithm of a or b goes from one value, by row, to each other."""
    moved = GRID[None, :] - MEMORY * GRID[:, None]
    chance = np.exp(-0.5 * moved**2 / (WIDTH**2 * (1 - MEMORY**2)))
    found: Array = chance / chance.sum(axis=1, keepdims=True)
    return found


STEP = _step()


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
