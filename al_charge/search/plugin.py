"""What a search method is, and all methods that are installed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import count_new
from al_charge.crystal.host import Host
from al_charge.crystal.identity import held
from al_charge.plugins import Plugin, Plugins, PluginSettings

if TYPE_CHECKING:
    from al_charge.surrogate.surrogate import Observation


class SearchSettings(PluginSettings):
    """What the settings of every method have."""

    evaluations: int = Field(
        default=36, ge=1, description="relaxations by the committee per composition, cell and round"
    )
    seeds: int = Field(
        default=12,
        ge=1,
        description="how many of them start the search, half ranked by Ewald energy",
    )


@dataclass(frozen=True, eq=False)
class Space:
    """All configurations of one composition in one cell, but for those that smaller cells hold.

    Attributes
    ----------
    host
        The cell.
    n_ions
        Working ions in it.
    rng
        Source of all random choices in this space, so that a repeated task finds the same.
    seeds
        Configurations to start from, in any symmetry image: half of lowest Ewald energy, half
        random.
    predicted
        Candidates of the previous round, lowest predicted energy first.
    labelled
        Configurations with a label, lowest energy first.
    known
        Energies, eV per cell, of configurations that need no evaluation.
    observations
        What is known at all compositions and in all cells, eV per formula unit: labels, static ones
        with noise where they are but bounds, and what the committee of the round before has
        relaxed, with its error bar as noise.
    smaller
        Cells of the same crystal whose configurations are left out.
    """

    host: Host
    n_ions: int
    rng: np.random.Generator
    seeds: Sequence[Configuration]
    predicted: Sequence[Configuration] = ()
    labelled: Sequence[Configuration] = ()
    known: Mapping[Configuration, float] = field(default_factory=dict)
    observations: Sequence[Observation] = ()
    smaller: Sequence[Host] = ()

    @cached_property
    def number(self) -> int:
        """How many distinct configurations there are."""
        return count_new(self.host, tuple(self.smaller))[self.host.composition(self.n_ions)]

    def without_smaller(self, configs: Iterable[Configuration]) -> list[Configuration]:
        """Leave out configurations that smaller cells hold, which are not of this space.

        Parameters
        ----------
        configs
            Configurations of the cell.

        Returns
        -------
        list of Configuration
            In the order given.
        """
        some = list(configs)
        if not (some and self.smaller):
            return some
        rows = np.array([config.occupation for config in some], dtype=np.int8)
        elsewhere = held(self.host, rows, self.smaller)
        return [config for config, there in zip(some, elsewhere, strict=True) if not there]


Evaluate = Callable[[Sequence[tuple[Space, Configuration]]], list[float]]
"""Relaxes configurations with the committee, whatever their spaces, and returns their energies in
eV per cell, in the same order."""

Ranking = list[tuple[Configuration, float]]
"""Configurations in canonical form with their energies, eV per cell, lowest first."""


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search has found in one space, and what it says of the rest.

    Numbers that a method cannot tell are None.

    Attributes
    ----------
    ranking
        Everything that was evaluated, without what was known already.
    screened
        Share of the distinct configurations of the space that were evaluated, known or ranked by a
        prediction; 1 if none was left out.
    gap
        How far above the lowest known energy the lowest of the others is predicted, eV per formula
        unit; negative if below. Known is what has a label or was evaluated.
    gap_deviation
        Its standard deviation, eV per formula unit.
    p_missed
        Probability that any other of those that were ranked lies below the lowest known energy.
    """

    ranking: Ranking
    screened: float | None = None
    gap: float | None = None
    gap_deviation: float | None = None
    p_missed: float | None = None


class SearchPlugin(Plugin):
    """A method that searches for configurations of low energy."""

    settings: ClassVar[type[SearchSettings]]

    @abstractmethod
    def search(
        self, spaces: Sequence[Space], evaluate: Evaluate, settings: Any
    ) -> list[SearchResult]:
        """Search all spaces together.

        A campaign's task asks for one composition or for several; the method may use what it
        learns in one space in the others.

        Parameters
        ----------
        spaces
            Compositions and cells to search.
        evaluate
            Relaxes batches; at most ``settings.evaluations`` configurations of each space.
        settings
            An instance of this plug-in's settings model.

        Returns
        -------
        list of SearchResult
            One for each space, in order.
        """

    def check(self, host: Host, settings: Any) -> None:
        """Refuse settings that do not suit a host, before anything is computed.

        Parameters
        ----------
        host
            The campaign's.
        settings
            An instance of this plug-in's settings model.

        Raises
        ------
        InputError
            If they do not suit it.
        """


SEARCHES: Plugins[SearchPlugin] = Plugins(
    "al_charge.searches", SearchPlugin, "search method", default="screen"
)
"""All search methods that are installed."""
