"""Error bars from predictions that were made before their labels.

The error of a committee's energy is f sqrt((a h / 2)^2 + (b s)^2 + (c d / 4)^2) t. Here s is the
spread of the members that have not seen the label: what they predicted of a candidate when it was
selected. h is how far members typically were off for labels that were held out from them, of which
the mean of all usually errs by half. d is how unsure a surrogate is that knows the labels alone:
members agree where all are wrong, which they are far from what is labelled. All three are of the
same committee, so that the errors of a bad committee of the first rounds say little of a later,
better one: a, b and c have no unit, and are about 1. They change slowly from round to round. f is a
factor of the composition, and t has Student's distribution: a committee that is right to 2 meV for
most candidates is off by 100 for a few.

What committee and surrogate say together has error bars of the same kind: s is the deviation of
their posterior, and there is neither h nor d. More is known of it beforehand, see `TOGETHER`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from al_charge.store.documents import NORMAL_95, Calibration, Coverage, PredictedLabel, Shares

Array = NDArray[np.float64]

USUAL = 0.005
"""Held-out error where nothing is known of errors, eV per formula unit."""
MEDIAN = 0.67448975
"""Median size of normal errors, in standard deviations."""
LEAST = 0.0005
"""Smallest held-out error that counts, eV per formula unit."""
OWN_WIDTH = 0.3
"""The same of log f, of a composition."""
MEMORY = 0.9
"""Correlation of log a, of log b and of log c, between one round with labels and the next."""
SHARE = 0.5
"""Error of the mean of all members, over that of one at labels held out from it, where a is 1."""
NEAR = 0.25
"""Error of the mean of all members, over the deviation of a surrogate of the labels, where c is 1.
Measured: 0.2 in campaigns with potentials that learn a host well, 0.7 with ones that do not."""
FREEDOM = np.array([2.0, 3.0, 5.0, 10.0, 30.0])
"""Degrees of freedom that Student's t may have."""
BANDS = (0.6827, 0.95)
"""Shares of errors within an error bar, and within the wider band that is told."""
GRID = np.linspace(-np.log(32.0), np.log(32.0), 31)


class Prior(NamedTuple):
    """What is known of errors before there are any.

    Attributes
    ----------
    width
        Standard deviation of log a, log b and log c in any round.
    freedom
        How likely each of `FREEDOM` is, up to a factor.
    """

    width: float
    freedom: tuple[float, ...]

    @property
    def sizes(self) -> Array:
        """How likely each of `GRID` is, up to a factor."""
        found: Array = np.exp(-0.5 * (GRID / self.width) ** 2)
        return found

    @property
    def step(self) -> Array:
        """How likely a logarithm goes from one value, by row, to each other in a round."""
        moved = GRID[None, :] - MEMORY * GRID[:, None]
        chance = np.exp(-0.5 * moved**2 / (self.width**2 * (1 - MEMORY**2)))
        found: Array = chance / chance.sum(axis=1, keepdims=True)
        return found


ALONE = Prior(float(np.log(2.0)), (1.0, 1.0, 1.0, 1.0, 1.0))
"""Of what a committee says alone."""
TOGETHER = Prior(0.45, (0.2, 0.5, 1.0, 1.0, 1.0))
"""Of what committee and surrogate say together, whose deviation is meant to be a standard deviation
of errors. Measured: on three hosts errors of first predictions are 0.65 to 1.4 times as large, and
their tails nearly normal."""


class Checked(NamedTuple):
    """The labels of one round, with what had been predicted of them.

    Attributes
    ----------
    held_out
        Typical error of that committee's members for labels that they were not trained on, eV per
        formula unit; 0 for predictions that are not of a committee alone.
    predictions
        Each label with its prediction.
    """

    held_out: float
    predictions: Sequence[PredictedLabel]


def calibrate_bars(history: Iterable[Checked], held_out: float = 0.0) -> Calibration:
    """Return what makes error bars of spreads.

    By Bayes' theorem on a grid, with log-normal priors about 1. From round to round the logarithms
    of a, b and c are autoregressive processes of first order, so that the newest errors count most
    (a discrete filter: G. Kitagawa, J. Am. Stat. Assoc. 82, 1032 (1987)). Bars hold 68 % of errors
    averaged over what a, b, c and the degrees of freedom may be, so that they are the wider the
    less is known.

    Parameters
    ----------
    history
        What had been predicted of labels before, the oldest first.
    held_out
        Typical error of members of the newest committee for labels that they were not trained on,
        eV per formula unit; 0 for predictions that are not of a committee alone.

    Returns
    -------
    Calibration
        For the newest spreads.
    """
    seen = [checked for checked in history if checked.predictions]
    parts = [_sizes(checked.held_out, one) for checked in seen for one in checked.predictions]
    told = np.any(parts or [(0.0, 0.0, 0.0)], axis=0)
    prior = ALONE if held_out or any(checked.held_out for checked in seen) else TOGETHER
    grids = [GRID if one else np.zeros(1) for one in told]
    steps = [prior.step if one else np.ones((1, 1)) for one in told]
    sizes = [prior.sizes if one else np.ones(1) for one in told]
    weight = np.einsum("i,j,k,l->ijkl", *sizes, prior.freedom)
    weight /= weight.sum()
    for checked in seen:
        weight *= _likelihood(checked, grids)
        weight /= weight.sum()
        weight = np.einsum("ia,jb,kc,ijkl->abcl", *steps, weight, optimize=True)
    marginals = _marginals(weight, prior)
    bands = np.array([_half_widths(one) for one in marginals])
    floor, scale, share = bands[:, 0]
    ratios = np.log(bands[:, 1] / bands[:, 0])
    return Calibration(
        floor=SHARE * floor * held_out,
        scale=scale,
        share=NEAR * share if held_out else None,
        factors=_factors(seen, marginals),
        held_out=held_out,
        freedom=_freedom(float(np.exp(ratios[told if told.any() else slice(None)].mean()))),
    )


def held_out_error(residuals: Sequence[float]) -> float:
    """Return the typical size of held-out errors.

    Parameters
    ----------
    residuals
        Errors of members for labels that they were not trained on, eV per formula unit.

    Returns
    -------
    float
        Standard deviation of normal errors with this median size, so that a few very large ones do
        not count; what is usual if there are none.
    """
    if not len(residuals):
        return USUAL
    return max(float(np.median(np.abs(residuals))) / MEDIAN, LEAST)


def _likelihood(checked: Checked, grids: Sequence[Array]) -> Array:
    """Return how likely errors are for each a, b, c and degrees of freedom, up to a factor."""
    squares = [np.exp(2 * grid) for grid in grids]
    likely = np.zeros((*(len(grid) for grid in grids), len(FREEDOM)))
    for one in checked.predictions:
        parts = _sizes(checked.held_out, one)
        of_a, of_b, of_c = (part**2 * some for part, some in zip(parts, squares, strict=True))
        size = np.sqrt(of_a[:, None, None] + of_b[:, None] + of_c)[..., None]
        likely += _log_density(one.error / size, FREEDOM) - np.log(size)
    found: Array = np.exp(likely - likely.max())
    return found


def _marginals(weight: Array, prior: Prior) -> list[Array]:
    """Return the weights by size and degrees of freedom, of a, b and c each.

    Where errors tell nothing of one of them, it is what it was before.
    """
    unknown = (prior.sizes / prior.sizes.sum())[:, None]
    some = [weight.sum(axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
    return [one * unknown if len(one) == 1 else one for one in some]


def _sizes(held_out: float, one: PredictedLabel) -> tuple[float, float, float]:
    """Return the three parts of an error where a, b and c are 1, eV per formula unit."""
    return SHARE * held_out, one.spread, NEAR * one.deviation


def _log_density(t: Array, freedom: Array | float) -> Array:
    """Return the logarithm of Student's density."""
    from scipy.special import gammaln  # slow to import

    usual = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - np.log(freedom * np.pi) / 2
    found: Array = usual - (freedom + 1) / 2 * np.log1p(t**2 / freedom)
    return found


def _half_widths(weight: Array) -> tuple[float, float]:
    """Return the half widths of the bands of errors, for a size of 1, of weights by size and t."""
    from scipy.optimize import brentq
    from scipy.special import stdtr

    def surplus(logarithm: float, share: float) -> float:
        inside = 2 * stdtr(FREEDOM, np.exp(logarithm - GRID)[:, None]) - 1
        return float((weight * inside).sum()) - share

    low, high = (float(np.exp(brentq(surplus, -10, 15, args=(share,)))) for share in BANDS)
    return low, high


def _factors(history: Sequence[Checked], marginals: Sequence[Array]) -> dict[str, float]:
    """Return the factor of every composition with errors, for the most likely a, b, c and t."""
    of_each = np.exp([one.sum(axis=1) @ GRID for one in marginals])
    freedom = float(np.exp(marginals[0].sum(axis=0) @ np.log(FREEDOM)))
    likely: dict[str, Array] = defaultdict(lambda: -0.5 * (GRID / OWN_WIDTH) ** 2)
    for held_out, predictions in history:
        for one in predictions:
            size = np.linalg.norm(of_each * _sizes(held_out, one)) * np.exp(GRID)
            likely[one.x] = likely[one.x] + _log_density(one.error / size, freedom) - np.log(size)
    found = {}
    for x, logarithms in sorted(likely.items()):
        share = np.exp(logarithms - logarithms.max())
        found[x] = float(np.exp(share @ GRID / share.sum()))
    return found


def _freedom(ratio: float) -> float:
    """Return the degrees of freedom for which the wide band is so many times the bar."""
    from scipy.optimize import brentq

    def surplus(logarithm: float) -> float:
        return wide_band(Calibration(freedom=np.exp(logarithm))) - ratio

    least, most = np.log(1.0), np.log(1000.0)
    if surplus(least) < 0 or surplus(most) > 0:
        return float(np.exp(least if surplus(least) < 0 else most))
    return float(np.exp(brentq(surplus, least, most)))


def wide_band(calibration: Calibration) -> float:
    """Return how many error bars wide the band is, to each side, that holds 95 % of errors.

    Parameters
    ----------
    calibration
        What its round found; without degrees of freedom, errors are normal.

    Returns
    -------
    float
        More than for normal errors, if tails are heavier.
    """
    from scipy.special import stdtrit

    if calibration.freedom is None:
        return NORMAL_95
    bar, wide = (stdtrit(calibration.freedom, (1 + share) / 2) for share in BANDS)
    return float(wide / bar)


def bar(calibration: Calibration, x: str, spread: float, deviation: float = 0.0) -> float:
    """Return the error bar of a committee's energy.

    Parameters
    ----------
    calibration
        What its round found.
    x
        Composition.
    spread
        The members' standard deviation times the calibration's scale, eV per formula unit.
    deviation
        That of a surrogate that knows the labels alone, eV per formula unit.

    Returns
    -------
    float
        Half width of the band that holds 68 % of errors, eV per formula unit.
    """
    parts = calibration.floor, spread, (calibration.share or 0.0) * deviation
    return float(calibration.factors.get(x, 1.0) * np.linalg.norm(parts))


def coverage(predictions: Iterable[PredictedLabel]) -> Coverage:
    """Return how many labels lie where their error bars said, in all and of those that decided.

    Parameters
    ----------
    predictions
        Labels of one round, with what was predicted of them before.

    Returns
    -------
    Coverage
        Shares within the bands that should hold 68 and 95 % of errors.
    """
    some = list(predictions)
    deciding = _shares([one for one in some if one.deciding])
    return Coverage(**_shares(some).model_dump(), deciding=deciding)


def _shares(some: Sequence[PredictedLabel]) -> Shares:
    inside = np.array([[abs(one.error) <= width for width in one.bands] for one in some])
    shares = inside.mean(axis=0).tolist() if some else [None, None]
    return Shares(labels=len(some), within_68=shares[0], within_95=shares[1])
