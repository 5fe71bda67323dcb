"""Rounds of selection on a synthetic landscape find its hull with fewer labels than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from al_charge.acquisition.diversity import Point, select_diverse
from al_charge.acquisition.plugin import Selection
from al_charge.acquisition.weighted import WeightedSettings, select
from al_charge.crystal.correlations import pair_correlations
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host

TOLERANCE = 1e-3
Pick = Callable[[list[Point], list[tuple[Fraction, float]], list[Point], int], list[str]]


@dataclass
class Landscape:
    """True formation energies of every configuration, in eV per formula unit."""

    truth: list[Point]

    @classmethod
    def random(cls, host: Host, seed: int) -> Landscape:
        """Draw random pair energies, and a part that no pair energy explains."""
        rng = np.random.default_rng(seed)
        configs = [config for n in host.ion_counts for config in enumerate_distinct(host, n)]
        features = np.array([pair_correlations(host, config) for config in configs])
        n_ions = np.array([sum(c == 1 for c in config.occupation[:8]) for config in configs])
        energies = features @ rng.normal(size=features.shape[1])
        energies = 0.06 * (energies - energies.mean()) / energies.std()
        energies += rng.normal(scale=0.01, size=len(energies))
        x = n_ions / host.formula_units
        energies -= (1 - x) * energies[n_ions == 0][0] + x * energies[n_ions == 8][0]
        return cls(
            [
                Point(str(i), host.composition(int(n)), float(energy), 0.0, feature)
                for i, (n, energy, feature) in enumerate(
                    zip(n_ions, energies, features, strict=True)
                )
            ]
        )

    def predictions(self, error: float, rng: np.random.Generator) -> list[Point]:
        """Return the truth with errors as large as the spread says."""
        errors = rng.normal(scale=error, size=len(self.truth))
        return [
            replace(c, energy=c.energy + float(e), spread=error)
            for c, e in zip(self.truth, errors, strict=True)
        ]


def lower_hull(points: list[Point]) -> list[tuple[Fraction, float]]:
    """Return the vertices of the lower hull, by composition."""
    lowest: dict[Fraction, float] = {}
    for point in points:
        lowest[point.x] = min(point.energy, lowest.get(point.x, np.inf))
    hull: list[tuple[Fraction, float]] = []
    for x, energy in sorted(lowest.items()):
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], (x, energy)):
            hull.pop()
        hull.append((x, energy))
    return hull


def _turns_down(
    a: tuple[Fraction, float], b: tuple[Fraction, float], c: tuple[Fraction, float]
) -> bool:
    return (b[1] - a[1]) * float(c[0] - a[0]) >= (c[1] - a[1]) * float(b[0] - a[0])


def labels_needed(landscape: Landscape, pick: Pick, seed: int, budget: int = 120) -> int:
    """Return after how many labels every vertex of the true hull is labelled."""
    rng = np.random.default_rng(seed)
    by_key = {c.key: c for c in landscape.truth}
    vertices = lower_hull(landscape.truth)
    labelled = [by_key[s.key] for s in select_diverse(landscape.truth, 18)]
    error = 0.015
    while len(labelled) < budget:
        hull = lower_hull(labelled)
        predicted = landscape.predictions(error, rng)
        for key in pick(predicted, hull, labelled, 10):
            labelled.append(by_key[key])
            found = {(c.x, round(c.energy / TOLERANCE)) for c in labelled}
            if all((x, round(energy / TOLERANCE)) in found for x, energy in vertices):
                return len(labelled)
        error *= 0.8
    return budget


def by_acquisition(
    candidates: list[Point],
    hull: list[tuple[Fraction, float]],
    labelled: list[Point],
    n: int,
) -> list[str]:
    picked: list[Selection] = select(candidates, hull, WeightedSettings(), n, labelled)
    return [selection.key for selection in picked]


def by_chance(
    candidates: list[Point],
    hull: list[tuple[Fraction, float]],
    labelled: list[Point],
    n: int,
) -> list[str]:
    done = {c.key for c in labelled}
    left = [c.key for c in candidates if c.key not in done]
    rng = np.random.default_rng(len(labelled))
    return [left[i] for i in rng.choice(len(left), size=n, replace=False)]


def test_selection_needs_fewer_labels_than_chance(olivine_doubled: Host) -> None:
    landscapes = [Landscape.random(olivine_doubled, seed) for seed in range(6)]
    chosen = [labels_needed(land, by_acquisition, i) for i, land in enumerate(landscapes)]
    random = [labels_needed(land, by_chance, i) for i, land in enumerate(landscapes)]
    assert max(chosen) <= 100
    assert np.mean(chosen) < 0.6 * np.mean(random)
