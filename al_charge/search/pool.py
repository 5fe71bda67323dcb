"""The configurations of a space that a surrogate ranks: all of them, or those that are met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import LARGEST_LISTED, distinct_occupations
from al_charge.crystal.identity import held
from al_charge.crystal.symmetry import canonical
from al_charge.search.operators import OPERATORS
from al_charge.search.plugin import Space
from al_charge.search.random_occupation import random_occupation

if TYPE_CHECKING:
    from al_charge.surrogate.surrogate import Surrogate

TEMPERATURES = np.geomspace(100.0, 3000.0, 8)
"""Of the tempering, in kelvin."""
STEPS = 1000
"""Moves at each temperature."""
VISITED = 300
"""Configurations that are kept of those that the tempering visits, the lowest."""
CHILDREN = 200
"""Children that the operators of the genetic search are asked for."""


class Pool:
    """Configurations of a space that are ranked, without those whose energies are known.

    Parameters
    ----------
    space
        The space.

    Attributes
    ----------
    complete
        Whether they are all that there are; else `renew` proposes some.
    rows
        Their occupations in canonical form, shape (n_configs, n_variable_sites).
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._number = space.number
        self._met: set[Configuration] = set()
        self._removed: set[Configuration] = set()
        self.complete = self._number <= LARGEST_LISTED
        self.rows = np.empty((0, len(space.host.variable_sites)), dtype=np.int8)
        if self.complete:
            self.rows = distinct_occupations(space.host, space.n_ions)
            if space.smaller:
                self.rows = self.rows[~held(space.host, self.rows, space.smaller)]

    @property
    def share(self) -> float:
        """Share of the distinct configurations of the space that were ranked or removed."""
        return 1.0 if self.complete else len(self._met | self._removed) / self._number

    def remove(self, configs: Iterable[Configuration]) -> None:
        """Leave out configurations from now on.

        Parameters
        ----------
        configs
            In canonical form.
        """
        for config in configs:
            self._removed.add(config)
            self.rows = self.rows[(self.rows != config.as_array()).any(axis=1)]

    def renew(self, surrogate: Surrogate, parents: Sequence[Configuration]) -> None:
        """Propose others, where not all are ranked.

        Tempering on the surrogate visits those that it takes for low; the operators of the genetic
        search make children of those that are known to be low, whatever the surrogate says.

        Parameters
        ----------
        surrogate
            What is known of energies.
        parents
            Configurations with known energies, lowest first.
        """
        if self.complete:
            return
        from al_charge.surrogate.monte_carlo import Tempering, lowest_visited
        from al_charge.surrogate.polynomial import occupations_of

        host, rng = self.space.host, self.space.rng
        energy = surrogate.energy(host, self.space.n_ions)
        starts = [*parents[: len(TEMPERATURES)]]
        while len(starts) < len(TEMPERATURES):
            starts.append(random_occupation(host, self.space.n_ions, rng))
        tempering = Tempering(energy, starts, TEMPERATURES.tolist(), rng)
        found = [config for config, _ in lowest_visited(tempering, STEPS, VISITED)]
        found += self._children(parents or starts)
        found = self.space.without_smaller(found)
        self._met.update(found)
        forms = [form for form in dict.fromkeys(found) if form not in self._removed]
        self.rows = occupations_of(forms, host)

    def _children(self, parents: Sequence[Configuration]) -> list[Configuration]:
        host, rng = self.space.host, self.space.rng
        usable = [one for one in OPERATORS if host.has_spin_states or one.name != "spin_change"]
        children = []
        for _ in range(CHILDREN):
            operator = usable[rng.integers(len(usable))]
            # The lowest of two that are drawn.
            drawn = rng.integers(len(parents), size=(operator.n_parents, 2)).min(axis=1)
            child = operator.make(host, [parents[i] for i in drawn], rng)
            if child is not None:
                children.append(canonical(host, child))
        return children
