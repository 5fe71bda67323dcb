"""What may still lie below a labelled hull, and the bands of hull and voltage that follow.

Labels are exact. The energies of all configurations without a label are a joint normal
distribution. Of those that are most likely to matter it is sampled: what they have in common is
drawn, and what each has for itself is integrated where only a probability is asked. The many
others enter as independent. Errors that are correlated positively make it less likely that any of
them lies low (D. Slepian, Bell Syst. Tech. J. 41, 463 (1962)), so that errs on the safe side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from al_charge.surrogate.surrogate import Prediction
from al_charge.thermo.hull import Hull

Array = NDArray[np.float64]

DRAWS = 1000
"""How often energies are drawn."""
LEVELS = 400
"""Energies at which the probability of the lowest of many independent ones is tabulated."""
LEAST_OWN = 1e-9
"""Smallest deviation of an energy that the algebra is done with, eV per formula unit."""
QUANTILES = {"band_95": (0.025, 0.975), "band_68": (0.16, 0.84)}
"""Both ends of the bands that are told."""


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """The configurations of one composition that have no label.

    Energies are formation energies in eV per formula unit.

    Attributes
    ----------
    x
        The composition, working ions per formula unit.
    likely
        Those that are most likely to be low, with all that energies of different compositions
        have in common: the columns of ``root`` are the same for every composition.
    mean, deviation
        Of the others, each for itself, shape (n_others,).
    """

    x: Fraction
    likely: Prediction
    mean: Array = field(repr=False)
    deviation: Array = field(repr=False)

    @property
    def lowest(self) -> float:
        """Lowest mean; infinite if there are no such configurations."""
        return float(min(self.likely.mean.min(initial=np.inf), self.mean.min(initial=np.inf)))


@dataclass(frozen=True, eq=False)
class Outlook:
    """What may lie below a labelled hull, from energies that were drawn.

    Attributes
    ----------
    x
        Every composition, ascending.
    p_below_hull
        Probability that anything lies below the labelled hull by more than the tolerance.
    p_lower
        Probability by composition that anything lies below the lowest label by more than the
        tolerance; 1 where nothing is labelled.
    lower_by
        Bound, with 95 %, of how far anything lies below the lowest label, shape (n_x,); NaN where
        nothing is labelled.
    hulls
        Lower hulls with what was drawn, shape (n_draws, n_x).
    """

    x: tuple[Fraction, ...]
    p_below_hull: float
    p_lower: Array
    lower_by: Array
    hulls: Array = field(repr=False)

    def bands(self) -> dict[str, list[tuple[float, float]]]:
        """Return the intervals in which the hull lies, by composition.

        Returns
        -------
        dict
            ``band_95`` and ``band_68``, eV per formula unit.
        """
        return _bands(self.hulls)

    def voltage_bands(self, hull: Hull) -> dict[str, list[tuple[float, float]]]:
        """Return the intervals in which the voltage lies between neighbouring compositions.

        Parameters
        ----------
        hull
            The labelled hull.

        Returns
        -------
        dict
            ``band_95`` and ``band_68``, V.
        """
        places = [float(x) for x in self.x]
        straight = np.diff([hull.reference(x) for x in self.x]) / np.diff(places)
        slopes = straight + np.diff(self.hulls, axis=1) / np.diff(places)
        return _bands((hull.metal_energy - slopes) / hull.working_ion_charge)

    def voltage_errors(self, hull: Hull) -> tuple[list[float], float]:
        """Return how far the voltages of the labelled hull are from those of sampled hulls.

        Parameters
        ----------
        hull
            The labelled hull.

        Returns
        -------
        tuple
            Root mean square difference of each step in order, and of the mean voltage, V.
        """
        at = [self.x.index(x) for x in hull.compositions]
        moved = self.hulls[:, at] - np.array([hull.formation_energy(v) for v in hull.vertices])
        widths = np.diff([float(x) for x in hull.compositions])
        steps = np.diff(moved, axis=1) / widths / hull.working_ion_charge
        mean = (moved[:, -1] - moved[:, 0]) / widths.sum() / hull.working_ion_charge
        return _size(steps).tolist(), float(_size(mean))


def outlook(
    hull: Hull,
    unlabelled: Sequence[Unlabelled],
    tolerance: float,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Outlook:
    """Return what may lie below a labelled hull.

    Parameters
    ----------
    hull
        The labelled hull.
    unlabelled
        What has no label, one for each composition of the host.
    tolerance
        How far below counts as below, eV per formula unit.
    rng
        Source of all random choices.
    draws
        How often energies are drawn.

    Returns
    -------
    Outlook
        For the compositions of ``unlabelled``.
    """
    parts = sorted(unlabelled, key=lambda one: one.x)
    labelled: dict[Fraction, float] = {}
    for entry in hull.entries:
        energy = hull.formation_energy(entry)
        labelled[entry.x] = min(energy, labelled.get(entry.x, np.inf))
    lowest = np.array([labelled.get(one.x, np.inf) for one in parts])
    columns = max(one.likely.root.shape[1] for one in parts)
    common = rng.standard_normal((draws, columns))
    drawn = [one.likely.mean + common @ one.likely.root.T for one in parts]
    # Probability, given what was drawn, that nothing of a composition lies low.
    nothing = np.ones(draws)
    p_lower = np.ones(len(parts))
    sampled = np.empty((draws, len(parts)))
    for i, (one, energies) in enumerate(zip(parts, drawn, strict=True)):
        nothing *= _none_below(one, energies, hull.lower(one.x) - tolerance)
        if np.isfinite(lowest[i]):
            p_lower[i] = 1 - _none_below(one, energies, lowest[i] - tolerance).mean()
        own = one.likely.own * rng.standard_normal(energies.shape)
        sampled[:, i] = np.minimum(
            (energies + own).min(axis=1, initial=np.inf), _lowest_of_many(one, draws, rng)
        )
    known = np.isfinite(lowest)
    below = np.full(len(parts), np.nan)
    deeper = np.maximum(lowest[known] - sampled[:, known], 0.0)
    below[known] = np.quantile(deeper, 0.95, axis=0)
    return Outlook(
        x=tuple(one.x for one in parts),
        p_below_hull=float(1 - nothing.mean()),
        p_lower=p_lower,
        lower_by=below,
        hulls=lower_hulls([one.x for one in parts], np.minimum(sampled, lowest)),
    )


def lower_hulls(x: Sequence[Fraction], energies: Array) -> Array:
    """Return the lower hulls of many sets of energies at the same compositions.

    Parameters
    ----------
    x
        Compositions, ascending.
    energies
        Shape (n_sets, n_x); infinite where there is nothing, but not at the ends.

    Returns
    -------
    ndarray, shape (n_sets, n_x)
        Height of each hull at every composition.
    """
    places = np.array([float(one) for one in x])
    hulls = energies.copy()
    for i in range(len(places)):
        for j in range(i + 2, len(places)):
            part = (places[i + 1 : j] - places[i]) / (places[j] - places[i])
            line = energies[:, [i]] * (1 - part) + energies[:, [j]] * part
            hulls[:, i + 1 : j] = np.minimum(hulls[:, i + 1 : j], line)
    return hulls


def _none_below(one: Unlabelled, drawn: Array, threshold: float) -> Array:
    """Return the probability in each draw that nothing lies below a threshold."""
    from scipy.special import log_ndtr  # slow to import

    own = np.maximum(one.likely.own, LEAST_OWN)
    none = log_ndtr((drawn - threshold) / own).sum(axis=1)
    none += log_ndtr((one.mean - threshold) / np.maximum(one.deviation, LEAST_OWN)).sum()
    found: Array = np.exp(none)
    return found


def _lowest_of_many(one: Unlabelled, draws: int, rng: np.random.Generator) -> Array:
    """Draw the lowest energy of those that are independent."""
    from scipy.special import log_ndtr

    if not len(one.mean):
        return np.full(draws, np.inf)
    deviation = np.maximum(one.deviation, LEAST_OWN)
    levels = np.linspace((one.mean - 6 * deviation).min(), (one.mean + 6 * deviation).min(), LEVELS)
    above = [np.exp(log_ndtr((one.mean - level) / deviation).sum()) for level in levels]
    # Probability that the lowest lies below each level: it grows from 0 to 1.
    return np.interp(rng.random(draws), 1 - np.array(above), levels)


def _bands(values: Array) -> dict[str, list[tuple[float, float]]]:
    found = {}
    for name, ends in QUANTILES.items():
        low, high = np.quantile(values, ends, axis=0)
        found[name] = list(zip(low.tolist(), high.tolist(), strict=True))
    return found


def _size(moved: Array) -> Array:
    root: Array = np.sqrt(np.mean(moved**2, axis=0))
    return root
