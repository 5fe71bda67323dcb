"""The genetic search for low-energy configurations at one composition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from ase_ga.offspring_creator import OperationSelector
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import count_new, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.identity import held
from al_charge.crystal.symmetry import canonical
from al_charge.search.operators import OPERATORS, Operator, spin_change
from al_charge.search.plugin import (
    Evaluate,
    Ranking,
    SearchPlugin,
    SearchResult,
    SearchSettings,
    Space,
)
from al_charge.search.random_occupation import random_occupation
from al_charge.search.screening import guess_energies

ATTEMPTS_PER_CHILD = 6
"""How often a new child is tried for before a random configuration takes its place."""


class OperatorWeights(BaseModel):
    """How often each operator makes a child, relative to the others; 0 turns one off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ion_swap: float = Field(default=1.0, ge=0, description="an ion and a vacancy change places")
    charge_swap: float = Field(
        default=1.0, ge=0, description="two charge states of one element change places"
    )
    coupled_swap: float = Field(
        default=2.0, ge=0, description="an ion hops to a vacancy and its electron follows"
    )
    electron_transfer: float = Field(
        default=0.5,
        ge=0,
        description="electrons move so that the numbers of the states change, as in "
        "disproportionation or transfer between two elements",
    )
    spin_change: float = Field(
        default=1.0,
        ge=0,
        description="an ion takes another spin state, where several of one charge are listed",
    )
    exchange_sublattices: float = Field(
        default=1.0, ge=0, description="ions of one parent, charge states of the other"
    )
    splice: float = Field(
        default=1.0, ge=0, description="half of the cell from one parent, half from the other"
    )


class GeneticSettings(SearchSettings):
    """The genetic search at one composition."""

    kind: Literal["genetic"] = "genetic"
    population: int = Field(default=10, ge=2, description="configurations that may become parents")
    children: int = Field(default=6, ge=1, description="new configurations per generation")
    screening: int = Field(
        default=6,
        ge=1,
        description="children bred for each one evaluated; a fit to pair correlations picks them",
    )
    tournament: int = Field(
        default=2, ge=1, description="a parent is the best of so many drawn at random"
    )
    patience: int = Field(
        default=3, ge=1, description="generations without a lower energy before the search stops"
    )
    operators: OperatorWeights = Field(
        default=OperatorWeights(), description="relative weights of the operators"
    )


class GeneticPlugin(SearchPlugin):
    """A genetic search of each space on its own."""

    kind = "genetic"
    title = "genetic search"
    summary = "children of low-energy configurations, screened by a fit to pair correlations"
    settings = GeneticSettings

    @override
    def search(
        self, spaces: Sequence[Space], evaluate: Evaluate, settings: Any
    ) -> list[SearchResult]:
        """Search one space after the other; see `evolve`. Nothing is told of what is left out."""
        return [self._search(space, evaluate, settings) for space in spaces]

    def _search(self, space: Space, evaluate: Evaluate, settings: GeneticSettings) -> SearchResult:
        ranking = evolve(
            space.host,
            space.n_ions,
            lambda configs: evaluate([(space, config) for config in configs]),
            settings,
            space.rng,
            [
                *space.predicted[: settings.population],
                *space.labelled[: settings.population],
                *space.seeds,
            ],
            space.known,
            space.smaller,
        )
        known = {canonical(space.host, config) for config in space.known}
        return SearchResult(ranking, screened=(len(ranking) + len(known)) / space.number)


def evolve(
    host: Host,
    n_ions: int,
    evaluate: Callable[[list[Configuration]], list[float]],
    settings: GeneticSettings,
    rng: np.random.Generator,
    seeds: Sequence[Configuration],
    known: Mapping[Configuration, float] | None = None,
    smaller: Sequence[Host] = (),
) -> Ranking:
    """Search for the configurations of lowest energy with ``n_ions`` working ions.

    Seeds are evaluated first, then one generation of children after another. The search ends when
    every configuration has an energy, the evaluations are used up, or the lowest energy has not
    fallen for ``settings.patience`` generations. If the evaluations suffice for all distinct
    configurations, all are evaluated. The result depends on nothing but the arguments.

    Parameters
    ----------
    host
        Cell whose configurations are searched.
    n_ions
        Working ions in it.
    evaluate
        Returns one energy for each configuration of a list, in the same order and unit as
        ``known``; called once per generation. An energy that is not finite ranks last.
    settings
        Sizes, numbers of evaluations and weights of operators.
    rng
        Source of all random choices.
    seeds
        Configurations to start from, in any symmetry image.
    known
        Energies of configurations that need no evaluation but may become parents; None for none.
    smaller
        Cells of the same crystal whose configurations are left out.

    Returns
    -------
    list of (Configuration, float)
        Everything evaluated here, in canonical form, lowest energy first. ``known`` is left out.
    """
    inherited = {canonical(host, config): energy for config, energy in (known or {}).items()}
    space = _Space(host, n_ions, settings, rng, inherited, smaller)
    n_distinct = count_new(host, tuple(smaller))[host.composition(n_ions)]
    if n_distinct - len(inherited) <= settings.evaluations:
        batch = space.unseen(enumerate_distinct(host, n_ions))
        space.add(batch, evaluate(batch) if batch else [])
        return space.evaluated()
    batch = space.unseen(seeds)[: settings.evaluations]
    batch += space.random(min(settings.seeds, settings.evaluations) - len(batch))
    space.add(batch, evaluate(batch))
    stale = 0
    while stale < settings.patience and (batch := space.children(settings.children)):
        best = space.lowest()
        space.add(batch, evaluate(batch))
        stale = 0 if space.lowest() < best else stale + 1
    return space.evaluated()


class _Space:
    """All configurations that have an energy, and ways to find others."""

    def __init__(
        self,
        host: Host,
        n_ions: int,
        settings: GeneticSettings,
        rng: np.random.Generator,
        known: Mapping[Configuration, float],
        smaller: Sequence[Host],
    ) -> None:
        self.host = host
        self.smaller = smaller
        self.n_ions = n_ions
        self.settings = settings
        self.rng = rng
        self.energies = dict(known)
        self.inherited = frozenset(known)
        self.selector = _selector(host, settings.operators, rng)

    @property
    def n_evaluated(self) -> int:
        return len(self.energies) - len(self.inherited)

    def add(self, batch: Sequence[Configuration], energies: Sequence[float]) -> None:
        for config, energy in zip(batch, energies, strict=True):
            self.energies[config] = float(energy) if math.isfinite(energy) else math.inf

    def lowest(self) -> float:
        return min(self.energies.values(), default=math.inf)

    def evaluated(self) -> list[tuple[Configuration, float]]:
        return [pair for pair in self._ranked() if pair[0] not in self.inherited]

    def unseen(self, configs: Sequence[Configuration]) -> list[Configuration]:
        """Return the canonical forms that have no energy yet, each once."""
        forms = dict.fromkeys(canonical(self.host, config) for config in configs)
        return [form for form in forms if self._is_new(form)]

    def _is_new(self, form: Configuration) -> bool:
        known = form in self.energies
        return not known and not held(self.host, form.as_array()[None], self.smaller)[0]

    def children(self, count: int) -> list[Configuration]:
        """Return new configurations; none if the evaluations are used up or nothing new exists.

        More are bred than wanted. All but one are those of lowest guessed energy; the last is
        drawn at random from the others, in case the guesses mislead.
        """
        count = min(count, self.settings.evaluations - self.n_evaluated)
        pool = self._bred(self.settings.screening * count)
        if len(pool) <= count:
            return pool
        guesses = guess_energies(self.host, self.energies, pool)
        ranked = [pool[i] for i in np.argsort(guesses, kind="stable")]
        other = int(self.rng.integers(count - 1, len(ranked)))
        return [*ranked[: count - 1], ranked[other]]

    def _bred(self, count: int) -> list[Configuration]:
        """Return new children, and as many random configurations as it takes for ``count``."""
        parents = [config for config, _ in self._ranked()[: self.settings.population]]
        batch: dict[Configuration, None] = {}
        for _ in range(ATTEMPTS_PER_CHILD * count):
            if len(batch) == count:
                break
            child = self._child(parents)
            if child is not None and self._is_new(child):
                batch[child] = None
        return [*batch, *self.random(count - len(batch), exclude=batch)]

    def random(
        self, count: int, exclude: Mapping[Configuration, None] | None = None
    ) -> list[Configuration]:
        """Return up to ``count`` new random configurations."""
        batch: dict[Configuration, None] = {}
        for _ in range(ATTEMPTS_PER_CHILD * count):
            if len(batch) == count:
                break
            form = canonical(self.host, random_occupation(self.host, self.n_ions, self.rng))
            if form not in (exclude or {}) and self._is_new(form):
                batch[form] = None
        return list(batch)

    def _child(self, parents: Sequence[Configuration]) -> Configuration | None:
        if self.selector is None:
            return None
        operator: Operator = self.selector.get_operator()
        chosen = [self._tournament(parents) for _ in range(operator.n_parents)]
        child = operator.make(self.host, chosen, self.rng)
        return None if child is None else canonical(self.host, child)

    def _tournament(self, parents: Sequence[Configuration]) -> Configuration:
        # Parents are ranked, so the smallest of the drawn indices is the fittest.
        return parents[int(self.rng.integers(len(parents), size=self.settings.tournament).min())]

    def _ranked(self) -> list[tuple[Configuration, float]]:
        return sorted(self.energies.items(), key=lambda pair: (pair[1], pair[0].occupation))


def _selector(
    host: Host, weights: OperatorWeights, rng: np.random.Generator
) -> OperationSelector | None:
    """Return what draws operators by weight, or None if all are turned off."""
    usable = [one for one in OPERATORS if one.make is not spin_change or host.has_spin_states]
    shares = [getattr(weights, operator.name) for operator in usable]
    return OperationSelector(shares, usable, rng=rng) if sum(shares) else None
