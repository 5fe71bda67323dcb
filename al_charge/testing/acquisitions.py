"""What every acquisition rule must do: inherit from `AcquisitionContract` and say which rule it is.

Example
-------
A test module of another package needs no more than::

    class TestMine(AcquisitionContract):
        plugin = MyPlugin()
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from al_charge.acquisition.plugin import (
    AcquisitionPlugin,
    Candidate,
    Choice,
    Labelled,
    Selection,
)

N_CANDIDATES = 12
COUNT = 5


class AcquisitionContract:
    """Tests that every acquisition rule must pass.

    Attributes
    ----------
    plugin
        The rule.
    options
        Settings other than the defaults.
    """

    plugin: ClassVar[AcquisitionPlugin]
    options: ClassVar[dict[str, Any]] = {}

    def choice(self) -> Choice:
        """Return candidates at three compositions, with a full covariance.

        Returns
        -------
        Choice
            The same whenever it is called.
        """
        rng = np.random.default_rng(5)
        xs = [Fraction(1 + i % 3, 4) for i in range(N_CANDIDATES)]
        features = rng.normal(size=(N_CANDIDATES, 3))
        root = rng.normal(scale=0.01, size=(N_CANDIDATES, N_CANDIDATES))
        ends = [(Fraction(0), 0.0), (Fraction(1, 2), -0.1), (Fraction(1), 0.0)]
        return Choice(
            candidates=[
                Candidate(f"c{i}", x, feature, cost=1.0 if i % 2 else 0.3)
                for i, (x, feature) in enumerate(zip(xs, features, strict=True))
            ],
            mean=rng.normal(loc=-0.05, scale=0.03, size=N_CANDIDATES),
            covariance=root @ root.T + 1e-6 * np.eye(N_CANDIDATES),
            hull=ends,
            labelled=[Labelled(f"l{x}", x, energy, np.zeros(3)) for x, energy in ends],
            pending=frozenset(),
            count=COUNT,
        )

    def select(self, choice: Choice, seed: int = 1) -> list[Selection]:
        """Return what the rule picks.

        Parameters
        ----------
        choice
            What it chooses from.
        seed
            Of chance.

        Returns
        -------
        list of Selection
            The most wanted first.
        """
        settings = self.plugin.settings.model_validate({"kind": self.plugin.kind} | self.options)
        return list(self.plugin.select(choice, settings, np.random.default_rng(seed)))

    def test_candidates_are_picked_once_and_no_more_than_wanted(self) -> None:
        """Each with its reason."""
        choice = self.choice()
        picked = self.select(choice)
        keys = [one.key for one in picked]
        assert 0 < len(keys) <= COUNT
        assert len(set(keys)) == len(keys)
        assert set(keys) <= {candidate.key for candidate in choice.candidates}
        assert all(one.reason and np.isfinite(one.score) for one in picked)

    def test_what_is_pending_is_not_picked_again(self) -> None:
        """Its label is under way."""
        first = self.select(self.choice())
        pending = frozenset(one.key for one in first)
        second = self.select(replace(self.choice(), pending=pending))
        assert second and not pending & {one.key for one in second}

    def test_the_same_chance_picks_the_same(self) -> None:
        """So that a task that was killed and runs again selects the same."""
        assert self.select(self.choice()) == self.select(self.choice())

    def test_nothing_is_picked_of_nothing(self) -> None:
        """Nor where no label is wanted."""
        empty = replace(self.choice(), candidates=[], mean=np.empty(0), covariance=np.empty((0, 0)))
        assert self.select(empty) == []
        assert self.select(replace(self.choice(), count=0)) == []

    def test_what_it_is_given_stays_as_it_is(self) -> None:
        """Other code reads it afterwards."""
        choice = self.choice()
        mean, covariance = choice.mean.copy(), choice.covariance.copy()
        self.select(choice)
        np.testing.assert_array_equal(choice.mean, mean)
        np.testing.assert_array_equal(choice.covariance, covariance)
