"""The search that ranks every configuration by a surrogate, and relaxes those that could matter.

After every batch of relaxations the surrogate is fitted again, to all that is known. The energies
of those that are most likely to be low are then drawn together from it: how often something
unrelaxed is the lowest, and which one, says whether to go on and what to relax next (Thompson
sampling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from al_charge.crystal.configuration import Configuration, ion_count
from al_charge.crystal.symmetry import canonical
from al_charge.search.plugin import Evaluate, SearchPlugin, SearchResult, SearchSettings, Space
from al_charge.search.pool import Pool
from al_charge.search.random_occupation import random_occupation

if TYPE_CHECKING:
    from al_charge.surrogate.surrogate import Observation

BOUND = 0.001
"""The search ends when anything unrelaxed lies below what is known with less probability."""
TOLERANCE = 0.1e-3
"""Energies that are lower by less than this do not count, eV per formula unit."""
NOISE = 0.5e-3
"""Standard deviation of what forces that are left make of an energy, eV per formula unit."""
LEAST = 1e-6
"""Smallest standard deviation of a prediction, eV per formula unit."""
JOINT = 1000
"""Configurations whose energies are drawn together: those most likely to be low."""
DRAWS = 2000
TRUST = 4.0
"""What is not known of the surrogate's deviations counts like so many predictions that fit them."""


class ScreenSettings(SearchSettings):
    """The search that ranks all configurations of a composition."""

    kind: Literal["screen"] = "screen"
    evaluations: int = Field(
        default=72,
        ge=1,
        description="relaxations by the committee per composition, cell and round at most; fewer "
        "where nothing else is likely to be lower",
    )
    batch: int = Field(default=6, ge=1, description="relaxations between two fits of the surrogate")


class ScreenPlugin(SearchPlugin):
    """Ranks all configurations of each space, and relaxes those that could be the lowest."""

    kind = "screen"
    title = "screening"
    summary = (
        "a lattice model ranks every configuration; those that could be the lowest are relaxed"
    )
    settings = ScreenSettings

    @override
    def search(
        self, spaces: Sequence[Space], evaluate: Evaluate, settings: Any
    ) -> list[SearchResult]:
        """Search one space after the other; what is learned in one counts in the next."""
        found: list[SearchResult] = []
        learned: list[Observation] = []
        for space in spaces:
            screening = _Screening(space, evaluate, settings, learned)
            found.append(screening.run())
            learned += screening.learned()
        return found


@dataclass(frozen=True, eq=False)
class _Ranked:
    """What a surrogate says of configurations whose energies are not known.

    Attributes
    ----------
    batch
        Occupations of those that are most likely to be the lowest.
    mean, deviation
        Their energies as predicted, eV per formula unit.
    gap, gap_deviation, p_missed
        As in `SearchResult`, if the search ends here.
    """

    batch: NDArray[np.int8]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    gap: float
    gap_deviation: float
    p_missed: float


class _Screening:
    """One space: what is known of it, and what a surrogate says of the rest."""

    def __init__(
        self,
        space: Space,
        evaluate: Evaluate,
        settings: ScreenSettings,
        learned: Sequence[Observation],
    ) -> None:
        self.space, self.host, self.settings, self.evaluate = space, space.host, settings, evaluate
        self.energies = {
            canonical(self.host, config): energy / self.host.formula_units
            for config, energy in space.known.items()
        }
        self.known = frozenset(self.energies)
        self.told = [*space.observations, *learned]
        here = [one for one in self.told if one.host is self.host and one.noise <= NOISE]
        self.exact = {canonical(self.host, one.config) for one in here}
        self.pool = Pool(space)
        self.pool.remove(self.known)
        self.scores: list[float] = []

    def run(self) -> SearchResult:
        """Relax what could be lowest, until little is likely to be or no evaluation is left."""
        if self.pool.complete and len(self.pool.rows) <= self.left:
            self.relax(_configurations(self.pool.rows))
            return SearchResult(self.ranking(), screened=1.0, p_missed=0.0)
        self.relax(self.starts()[: self.left])
        while not self.observations():
            if not self.left:
                return SearchResult(self.ranking())
            self.relax(self.random())
        while True:
            ranked = self.ranked()
            settled = ranked.p_missed < BOUND and self.left < self.settings.evaluations
            if settled or not self.left:
                return SearchResult(
                    self.ranking(),
                    self.pool.share,
                    ranked.gap,
                    ranked.gap_deviation,
                    ranked.p_missed,
                )
            taken = slice(0, self.left)
            found = self.relax(_configurations(ranked.batch[taken]))
            scores = (found - ranked.mean[taken]) / ranked.deviation[taken]
            self.scores += scores[np.isfinite(scores)].tolist()

    @property
    def left(self) -> int:
        """How many evaluations are left."""
        return self.settings.evaluations - len(self.energies) + len(self.known)

    def starts(self) -> list[Configuration]:
        """Return what is relaxed before anything is ranked.

        Labels of one geometry leave open whether their configurations have a lower one. Where
        nothing is known of the composition, seeds make a start.
        """
        labelled = [canonical(self.host, config) for config in self.space.labelled]
        chosen = [form for form in labelled if form not in self.known][: self.settings.batch]
        if not any(self._is_here(one) for one in self.told):
            chosen += [canonical(self.host, config) for config in self.space.seeds]
        return [form for form in dict.fromkeys(chosen) if form not in self.known]

    def random(self) -> list[Configuration]:
        """Return a batch of random configurations whose energies are not known.

        There are always more of these than evaluations left, or all would be relaxed.
        """
        found: dict[Configuration, None] = {}
        while len(found) < min(self.settings.batch, self.left):
            drawn = random_occupation(self.host, self.space.n_ions, self.space.rng)
            form = canonical(self.host, drawn)
            if form not in self.energies and self.space.without_smaller([form]):
                found[form] = None
        return list(found)

    def relax(self, configs: list[Configuration]) -> NDArray[np.float64]:
        """Evaluate configurations in canonical form; return energies, eV per formula unit."""
        if not configs:
            return np.empty(0)
        found = np.array(self.evaluate([(self.space, config) for config in configs]), dtype=float)
        found[~np.isfinite(found)] = np.inf
        found /= self.host.formula_units
        self.energies |= zip(configs, found.tolist(), strict=True)
        self.pool.remove(configs)
        return found

    def ranking(self) -> list[tuple[Configuration, float]]:
        """Return everything that was evaluated here, lowest energy first, eV per cell."""
        found = [
            (config, energy * self.host.formula_units)
            for config, energy in self.energies.items()
            if config not in self.known
        ]
        return sorted(found, key=lambda pair: (pair[1], pair[0].occupation))

    def learned(self) -> list[Observation]:
        """Return what was evaluated here, now or before."""
        from al_charge.surrogate.surrogate import Observation

        return [
            Observation(self.host, config, energy, NOISE)
            for config, energy in self.energies.items()
            if config not in self.exact and math.isfinite(energy)
        ]

    def observations(self) -> list[Observation]:
        """Return all that is known. What was evaluated here replaces what was told of it."""
        mine = self.learned()
        replaced = {one.config for one in mine}
        return mine + [
            one
            for one in self.told
            if one.host is not self.host or canonical(self.host, one.config) not in replaced
        ]

    def lowest(self) -> float:
        """Return the lowest known energy at the composition, in any cell, eV per formula unit."""
        labels = [one.energy for one in self.told if one.noise <= NOISE and self._is_here(one)]
        return min([*self.energies.values(), *labels], default=math.inf)

    def ranked(self) -> _Ranked:
        """Fit the surrogate, and say what could be lowest."""
        from scipy.special import ndtr

        from al_charge.surrogate.surrogate import fit_surrogate

        surrogate = fit_surrogate(self.observations())
        parents = sorted(self.energies, key=lambda config: self.energies[config])
        self.pool.renew(surrogate, parents)
        rows, lowest, wider = self.pool.rows, self.lowest(), self.widening()
        mean, deviation = surrogate.screen(self.host, rows)
        deviation = np.maximum(deviation, LEAST)
        least = mean.argmin()
        # While nothing is known to be low, what is predicted stands in for it.
        level = (lowest if math.isfinite(lowest) else mean[least]) - TOLERANCE
        order = np.argsort((mean - level) / deviation, kind="stable")
        likely, others = order[:JOINT], order[JOINT:]
        drawn = surrogate.predict(self.host, rows[likely]).samples(DRAWS, self.space.rng)
        wins = np.bincount(drawn.argmin(axis=1), minlength=len(likely))
        wins[0] += DRAWS  # the one with the largest chance, whatever the draws
        batch = likely[np.argsort(-wins, kind="stable")[: self.settings.batch]]
        wide = mean[likely] + wider * (drawn - mean[likely])
        # Draws say nothing of what happens less often than once.
        below = max(float((wide.min(axis=1) < level).mean()), 1 / DRAWS)
        below += float(ndtr((level - mean[others]) / (wider * deviation[others])).sum())
        return _Ranked(
            rows[batch],
            mean[batch],
            deviation[batch],
            gap=float(mean[least] - lowest),
            gap_deviation=float(wider * deviation[least]),
            p_missed=min(1.0, below) if math.isfinite(lowest) else 1.0,
        )

    def widening(self) -> float:
        """Return how much larger errors are than the surrogate thinks, from those that were seen.

        Each is of a prediction that was made before its configuration was relaxed.
        """
        seen = self.scores
        return max(1.0, math.sqrt((TRUST + sum(z * z for z in seen)) / (TRUST + len(seen))))

    def _is_here(self, one: Observation) -> bool:
        x = one.host.composition(ion_count(one.host, one.config))
        return x == self.host.composition(self.space.n_ions)


def _configurations(rows: NDArray[np.int8]) -> list[Configuration]:
    return [Configuration(tuple(row)) for row in rows.tolist()]
