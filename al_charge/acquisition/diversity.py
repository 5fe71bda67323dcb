"""Diversity: distances between configurations, and selections that are spread out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from al_charge.acquisition.plugin import Array, Selection


@dataclass(frozen=True, eq=False)
class Point:
    """A configuration with its predicted or labelled energy.

    Attributes
    ----------
    key
        Identity: the canonical hash.
    x
        Composition, working ions per formula unit.
    energy
        Formation energy, eV per formula unit: predicted, or that of its label.
    spread
        Calibrated standard deviation of it, eV per formula unit; 0 for a labelled one.
    features
        Descriptor that is equal for symmetry images, shape (n_features,); only distances matter.
    """

    key: str
    x: Fraction
    energy: float
    spread: float
    features: Array


def select_diverse(
    candidates: Sequence[Point], n: int, labelled: Sequence[Point] = ()
) -> list[Selection]:
    """Select candidates without predictions, spread over compositions.

    End members come first, then the other compositions in turn, always one with the fewest labels
    and picks. The first pick at a composition is its first candidate in the given order, which
    should be the most promising one; each later pick is the candidate farthest, in feature space,
    from everything labelled or picked at any composition. Energies and spreads are not read.

    Parameters
    ----------
    candidates
        Configurations to choose from; those that are among ``labelled`` are passed over.
    n
        How many are wanted at most.
    labelled
        All that is labelled.

    Returns
    -------
    list of Selection
        In the order of selection; the score is the distance in feature space.
    """
    candidates = unlabelled(candidates, labelled)
    if not candidates:
        return []
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
        Configurations to choose from; methods refer to them by index.
    labelled
        Configurations with a label.
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
        """Mark a candidate as picked, and count the others' distances to it.

        Parameters
        ----------
        index
            The candidate's.
        """
        self.free[index] = False
        self._shorten(self.features[index])
        if not self.largest:
            self.largest = float(self.nearest.max())

    def unpicked(self) -> list[int]:
        """Return the candidates that have not been picked.

        Returns
        -------
        list of int
            Their indices, ascending.
        """
        return [int(i) for i in np.flatnonzero(self.free)]

    def of(self, index: int) -> float:
        """Return a candidate's distance to the nearest labelled or picked configuration.

        Parameters
        ----------
        index
            The candidate's.

        Returns
        -------
        float
            In feature space; 0 while nothing is labelled or picked.
        """
        return float(self.nearest[index]) if np.isfinite(self.nearest[index]) else 0.0

    def farthest(self, members: Sequence[int]) -> int:
        """Return the candidate that is farthest from everything labelled or picked.

        Parameters
        ----------
        members
            Indices to choose from.

        Returns
        -------
        int
            Its index; the lowest where several are equally far.
        """
        return max(members, key=lambda index: (round(self.of(index), 9), -index))

    def best_unpicked(self, scores: Array) -> int:
        """Return the candidate of highest score among those not picked.

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
        """Return all distances relative to the largest one before anything was picked.

        Returns
        -------
        ndarray, shape (n_candidates,)
            Between 0 and 1; all 1 while nothing is labelled or picked.
        """
        if not np.isfinite(self.nearest).all():
            return np.ones(len(self.nearest))
        return self.nearest / self.largest if self.largest else self.nearest

    def _shorten(self, point: Array) -> None:
        distance = np.linalg.norm(self.features - point, axis=1)
        self.nearest = np.minimum(self.nearest, distance)


def unlabelled(candidates: Sequence[Point], labelled: Sequence[Point]) -> list[Point]:
    """Return the candidates that have no label, each once.

    Parameters
    ----------
    candidates
        Configurations to choose from.
    labelled
        Configurations with a label; keys are compared.

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
