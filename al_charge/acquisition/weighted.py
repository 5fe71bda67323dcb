"""The weighted rule: predicted ground states first, then the highest sum of four merits."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from al_charge.acquisition.diversity import Distances, Point, unlabelled
from al_charge.acquisition.plugin import (
    AcquisitionPlugin,
    AcquisitionSettings,
    Array,
    Choice,
    Hull,
    Selection,
    hull_height,
)
from al_charge.units import Energy


class WeightedSettings(AcquisitionSettings):
    """How candidates are weighed; the weights are relative to each other."""

    kind: Literal["weighted"] = "weighted"
    improvement: float = Field(
        default=1.0, ge=0, description="weight of the expected depth below the labelled hull"
    )
    chance: float = Field(
        default=1.0,
        ge=0,
        description="weight of the probability to lie on or below the labelled hull",
    )
    spread: float = Field(default=0.2, ge=0, description="weight of the committee's spread")
    diversity: float = Field(
        default=0.3, ge=0, description="weight of the distance to what is labelled or picked"
    )
    smallest_spread: Energy = Field(
        default=0.002,
        gt=0,
        description="floor on the spread, eV per formula unit: committees agree too well",
    )
    tolerance: Energy = Field(
        default=0.001,
        ge=0,
        description="a candidate within this of the hull counts as on it, eV per formula unit",
    )


class WeightedPlugin(AcquisitionPlugin):
    """Predicted ground states first, then a weighted sum of four merits."""

    kind = "weighted"
    title = "weighted merits"
    summary = "expected improvement, chance below the hull, spread and diversity, weighted"
    settings = WeightedSettings
    labels_per_composition = (2.0, 8.0)

    @override
    def select(
        self, choice: Choice, settings: Any, rng: np.random.Generator
    ) -> Sequence[Selection]:
        """Return the candidates to label; see `select`.

        Only the diagonal of the covariance is used, and no choice is random.
        """
        spreads = np.sqrt(np.diagonal(choice.covariance))
        points = [
            Point(one.key, one.x, float(mean), float(spread), one.features)
            for one, mean, spread in zip(choice.candidates, choice.mean, spreads, strict=True)
            if one.key not in choice.pending
        ]
        labelled = [Point(one.key, one.x, one.energy, 0.0, one.features) for one in choice.labelled]
        return select(points, choice.hull, settings, choice.count, labelled)


def select(
    candidates: Sequence[Point],
    hull: Hull,
    settings: WeightedSettings,
    n: int,
    labelled: Sequence[Point] = (),
) -> list[Selection]:
    """Select the candidates to label, the most wanted first.

    First come predicted ground states: at each composition the candidate of lowest predicted
    energy, if no label there lies lower and its error bar reaches the hull. The rest is picked one
    by one, always the highest score, a weighted sum of four numbers between 0 and 1. With predicted
    energy E, spread s (not below a floor) and z = (h + tolerance - E) / s for a labelled hull of
    height h at the candidate's composition:

    - expected improvement s (z P(z) + p(z)), relative to the largest among the candidates, with
      P and p the normal distribution and its density;
    - the probability P(z) of lying on or below the hull;
    - the spread, relative to the largest;
    - the distance in feature space to the nearest labelled or picked configuration, relative to
      the largest before anything is picked.

    Expected improvement: D. R. Jones, M. Schonlau, W. J. Welch, J. Global Optim. 13, 455 (1998).

    Parameters
    ----------
    candidates
        Unlabelled candidates; those whose key is among ``labelled`` are passed over.
    hull
        Vertices (x, formation energy in eV per formula unit) of the labelled lower hull. If there
        are none, it is the line between the end members, at zero.
    settings
        Weights, floor and tolerance.
    n
        How many are wanted at most.
    labelled
        All that is labelled, with labelled energies.

    Returns
    -------
    list of Selection
        The most wanted first.
    """
    candidates = unlabelled(candidates, labelled)
    if not candidates or n < 1:
        return []
    odds = _Odds(candidates, hull, settings)
    distances = Distances(candidates, labelled)
    base = (
        settings.improvement * _relative(odds.improvement)
        + settings.chance * odds.chance
        + settings.spread * _relative(odds.spread)
    )
    ground_states = _ground_states(candidates, odds, labelled)
    picked: list[Selection] = []
    while len(picked) < min(n, len(candidates)):
        scores = base + settings.diversity * distances.relative()
        required = bool(ground_states)
        chosen = ground_states.pop(0) if required else distances.best_unpicked(scores)
        reason = odds.reason(chosen)
        if required:
            reason = f"predicted ground state at x = {candidates[chosen].x}, {reason}"
        picked.append(Selection(candidates[chosen].key, float(scores[chosen]), reason))
        distances.pick(chosen)
    return picked


class _Odds:
    """Where candidates lie relative to the labelled hull; arrays of shape (n_candidates,)."""

    def __init__(self, candidates: Sequence[Point], hull: Hull, settings: WeightedSettings) -> None:
        from scipy.stats import norm  # slow to import, and checking a file needs none of it

        self.height = hull_height(hull, [c.x for c in candidates])
        self.above = np.array([c.energy for c in candidates]) - self.height
        self.spread = np.maximum([c.spread for c in candidates], settings.smallest_spread)
        room = settings.tolerance - self.above
        z = room / self.spread
        self.chance: Array = norm.cdf(z)
        density = self.spread * norm.pdf(z)
        self.improvement: Array = np.maximum(room * self.chance + density, 0.0)

    def reason(self, index: int) -> str:
        """Return in a few words why a candidate is worth a label."""
        return (
            f"{100 * self.chance[index]:.0f} % chance below hull "
            f"({1e3 * self.above[index]:+.0f} +- {1e3 * self.spread[index]:.0f} meV/f.u.)"
        )


def _ground_states(
    candidates: Sequence[Point], odds: _Odds, labelled: Sequence[Point]
) -> list[int]:
    """Return predicted ground states whose error bar reaches the hull, the deepest first."""
    lowest_label: dict[Fraction, float] = {}
    for other in labelled:
        lowest_label[other.x] = min(other.energy, lowest_label.get(other.x, np.inf))
    ground: dict[Fraction, int] = {}
    for index in sorted(range(len(candidates)), key=lambda i: candidates[i].energy):
        ground.setdefault(candidates[index].x, index)
    wanted = [
        index
        for x, index in ground.items()
        if candidates[index].energy <= lowest_label.get(x, np.inf)
        and odds.above[index] <= odds.spread[index]
    ]
    return sorted(wanted, key=lambda index: float(odds.above[index]))


def _relative(values: Array) -> Array:
    largest = values.max(initial=0.0)
    return values / largest if largest > 0 else np.zeros_like(values)
