"""Which candidates to label next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from al_charge.acquisition.settings import AcquisitionSettings

Array = NDArray[np.float64]
Hull = Sequence[tuple[Fraction, float]]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A configuration that may be labelled, or already is.

    Attributes
    ----------
    key
        Identity: the canonical hash.
    x
        Composition, working ions per formula unit.
    energy
        Formation energy in eV per formula unit: predicted, or for a labelled one its label.
    spread
        Calibrated standard deviation of it, eV per formula unit; 0 for a labelled one.
    features
        Description that symmetry copies share, shape (n_features,); only distances matter.
    """

    key: str
    x: Fraction
    energy: float
    spread: float
    features: Array


@dataclass(frozen=True)
class Selection:
    """A candidate that was picked: its key, its score and the reason in a few words."""

    key: str
    score: float
    reason: str


def select(
    candidates: Sequence[Candidate],
    hull: Hull,
    settings: AcquisitionSettings,
    n: int,
    labelled: Sequence[Candidate] = (),
) -> list[Selection]:
    """Pick up to ``n`` candidates to label, the most wanted first.

    First come predicted ground states: at each composition the candidate of lowest predicted
    energy, if no label there lies lower and its error bar reaches the hull. The rest is picked one
    by one by the highest score, a weighted sum of four numbers between 0 and 1. With predicted
    energy E, spread s (not below a floor) and z = (h + tolerance - E) / s for a labelled hull of
    height h at the candidate's composition:

    - expected improvement s (z P(z) + p(z)), relative to the largest among the candidates, with
      P and p the normal distribution and its density;
    - the chance P(z) to lie on or below the hull;
    - the spread, relative to the largest;
    - the distance in feature space to the nearest labelled or picked configuration, relative to
      the largest before anything is picked.

    Expected improvement: D. R. Jones, M. Schonlau, W. J. Welch, J. Global Optim. 13, 455 (1998).

    Parameters
    ----------
    candidates
        Unlabelled candidates; those whose key is among ``labelled`` are passed over.
    hull
        Vertices (x, formation energy in eV per formula unit) of the labelled lower hull. Without
        any the hull is the line between the end members, at zero.
    settings
        Weights, floor and tolerance.
    n
        How many to pick.
    labelled
        All that is labelled, with labelled energies.
    """
    candidates = _unlabelled(candidates, labelled)
    if not candidates or n < 1:
        return []
    odds = _Odds(candidates, hull, settings)
    distances = _Distances(candidates, labelled)
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


def select_diverse(
    candidates: Sequence[Candidate], n: int, labelled: Sequence[Candidate] = ()
) -> list[Selection]:
    """Pick up to ``n`` candidates without predictions, spread over compositions.

    End members come first, then every other composition in turn, the least covered before the
    others. The first pick at a composition is its first candidate in the given order, which
    should be the most promising one; each later pick is the candidate farthest, in feature space,
    from everything labelled or picked at any composition. Energies and spreads are not read.
    """
    candidates = _unlabelled(candidates, labelled)
    distances = _Distances(candidates, labelled)
    covered = Counter(other.x for other in labelled)
    compositions = sorted({c.x for c in [*candidates, *labelled]})
    ends = {*compositions[:1], *compositions[-1:]}
    picked: list[Selection] = []
    while len(picked) < min(n, len(candidates)):
        open_x = {candidates[i].x for i in distances.unpicked()}
        x = min(open_x, key=lambda value: (covered[value], value not in ends, value))
        members = [i for i in distances.unpicked() if candidates[i].x == x]
        chosen = distances.farthest(members) if covered[x] else members[0]
        reason = "end member" if x in ends else f"{_nth(covered[x])} at x = {x}"
        picked.append(Selection(candidates[chosen].key, distances.of(chosen), reason))
        distances.pick(chosen)
        covered[x] += 1
    return picked


class _Odds:
    """Where candidates lie against the labelled hull; arrays of shape (n_candidates,)."""

    def __init__(
        self, candidates: Sequence[Candidate], hull: Hull, settings: AcquisitionSettings
    ) -> None:
        self.height = _hull_height([c.x for c in candidates], hull)
        self.above = np.array([c.energy for c in candidates]) - self.height
        self.spread = np.maximum([c.spread for c in candidates], settings.smallest_spread)
        room = settings.tolerance - self.above
        z = room / self.spread
        self.chance: Array = norm.cdf(z)
        density = self.spread * norm.pdf(z)
        self.improvement: Array = np.maximum(room * self.chance + density, 0.0)

    def reason(self, index: int) -> str:
        """Say in a few words why a candidate is worth a label."""
        return (
            f"{100 * self.chance[index]:.0f} % chance below hull "
            f"({1e3 * self.above[index]:+.0f} +- {1e3 * self.spread[index]:.0f} meV/f.u.)"
        )


class _Distances:
    """Distance of each candidate to the nearest labelled or picked configuration."""

    def __init__(self, candidates: Sequence[Candidate], labelled: Sequence[Candidate]) -> None:
        self.features = np.array([c.features for c in candidates], dtype=float)
        self.free = np.ones(len(candidates), dtype=bool)
        self.nearest = np.full(len(candidates), np.inf)
        for other in labelled:
            self._shorten(np.asarray(other.features, dtype=float))
        finite = self.nearest[np.isfinite(self.nearest)]
        self.largest = float(finite.max(initial=0.0))

    def pick(self, index: int) -> None:
        self.free[index] = False
        self._shorten(self.features[index])
        if not self.largest:
            self.largest = float(self.nearest.max())

    def unpicked(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.free)]

    def of(self, index: int) -> float:
        return float(self.nearest[index]) if np.isfinite(self.nearest[index]) else 0.0

    def farthest(self, members: Sequence[int]) -> int:
        return max(members, key=lambda index: (round(self.of(index), 9), -index))

    def best_unpicked(self, scores: Array) -> int:
        return int(np.argmax(np.where(self.free, scores, -np.inf)))

    def relative(self) -> Array:
        """Return the distances relative to the largest; 1 while there is nothing to be near to."""
        if not np.isfinite(self.nearest).all():
            return np.ones(len(self.nearest))
        return np.minimum(self.nearest / self.largest, 1.0) if self.largest else self.nearest

    def _shorten(self, point: Array) -> None:
        distance = np.linalg.norm(self.features - point, axis=1)
        self.nearest = np.minimum(self.nearest, distance)


def _unlabelled(candidates: Sequence[Candidate], labelled: Sequence[Candidate]) -> list[Candidate]:
    seen = {other.key for other in labelled}
    unique = {c.key: c for c in candidates if c.key not in seen}
    return list(unique.values())


def _ground_states(
    candidates: Sequence[Candidate], odds: _Odds, labelled: Sequence[Candidate]
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


def _hull_height(compositions: Sequence[Fraction], hull: Hull) -> Array:
    """Return the hull's formation energy at each composition, straight between its vertices."""
    vertices = sorted(hull) or [(Fraction(0), 0.0)]
    x, energy = [float(v[0]) for v in vertices], [v[1] for v in vertices]
    return np.interp([float(value) for value in compositions], x, energy)


def _nth(already: int) -> str:
    return "unlike the others" if already else "first"


def _relative(values: Array) -> Array:
    largest = values.max(initial=0.0)
    return values / largest if largest > 0 else np.zeros_like(values)
