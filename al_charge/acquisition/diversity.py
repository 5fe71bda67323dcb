"""Diversity: how far configurations lie from each other, and picks that are spread out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from al_charge.acquisition.plugin import Array, Selection


@dataclass(frozen=True, eq=False)
class Point:
    """A configuration with the energy that the rule knows of it.

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


def select_diverse(
    candidates: Sequence[Point], n: int, labelled: Sequence[Point] = ()
) -> list[Selection]:
    """Pick up to ``n`` candidates without predictions, spread over compositions.

    End members come first, then every other composition in turn, the least covered before the
    others. The first pick at a composition is its first candidate in the given order, which
    should be the most promising one; each later pick is the candidate farthest, in feature space,
    from everything labelled or picked at any composition. Energies and spreads are not read.
    """
    candidates = unlabelled(candidates, labelled)
    distances = Distances(candidates, labelled)
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


class Distances:
    """Distance of each candidate to the nearest labelled or picked configuration.

    Parameters
    ----------
    candidates
        What is picked from; they are known by their index.
    labelled
        What has a label.
    """

    def __init__(self, candidates: Sequence[Point], labelled: Sequence[Point]) -> None:
        self.features = np.array([c.features for c in candidates], dtype=float)
        self.free = np.ones(len(candidates), dtype=bool)
        self.nearest = np.full(len(candidates), np.inf)
        for other in labelled:
            self._shorten(np.asarray(other.features, dtype=float))
        finite = self.nearest[np.isfinite(self.nearest)]
        self.largest = float(finite.max(initial=0.0))

    def pick(self, index: int) -> None:
        """Take a candidate, to which the others now have a distance.

        Parameters
        ----------
        index
            Of the candidate.
        """
        self.free[index] = False
        self._shorten(self.features[index])
        if not self.largest:
            self.largest = float(self.nearest.max())

    def unpicked(self) -> list[int]:
        """Return the candidates that are left.

        Returns
        -------
        list of int
            Their indices.
        """
        return [int(i) for i in np.flatnonzero(self.free)]

    def of(self, index: int) -> float:
        """Return the distance of a candidate.

        Parameters
        ----------
        index
            Of the candidate.

        Returns
        -------
        float
            In feature space; 0 while there is nothing to be near to.
        """
        return float(self.nearest[index]) if np.isfinite(self.nearest[index]) else 0.0

    def farthest(self, members: Sequence[int]) -> int:
        """Return the candidate that is farthest from everything.

        Parameters
        ----------
        members
            Indices to choose from.

        Returns
        -------
        int
            The first of them where several are as far.
        """
        return max(members, key=lambda index: (round(self.of(index), 9), -index))

    def best_unpicked(self, scores: Array) -> int:
        """Return the candidate of highest score among those that are left.

        Parameters
        ----------
        scores
            Shape (n_candidates,).

        Returns
        -------
        int
            Its index.
        """
        return int(np.argmax(np.where(self.free, scores, -np.inf)))

    def relative(self) -> Array:
        """Return the distances relative to the largest before anything was picked.

        Returns
        -------
        numpy.ndarray
            Between 0 and 1, shape (n_candidates,); 1 while there is nothing to be near to.
        """
        if not np.isfinite(self.nearest).all():
            return np.ones(len(self.nearest))
        return np.minimum(self.nearest / self.largest, 1.0) if self.largest else self.nearest

    def _shorten(self, point: Array) -> None:
        distance = np.linalg.norm(self.features - point, axis=1)
        self.nearest = np.minimum(self.nearest, distance)


def unlabelled(candidates: Sequence[Point], labelled: Sequence[Point]) -> list[Point]:
    """Return the candidates whose key is not among those that are labelled, each once.

    Parameters
    ----------
    candidates, labelled
        Configurations.

    Returns
    -------
    list of Point
        In the order of the candidates.
    """
    seen = {other.key for other in labelled}
    unique = {c.key: c for c in candidates if c.key not in seen}
    return list(unique.values())


def _nth(already: int) -> str:
    return "unlike the others" if already else "first"
