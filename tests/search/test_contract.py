"""Our search methods pass the contract."""

from __future__ import annotations

import numpy as np

from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical
from al_charge.search.genetic import GeneticPlugin, GeneticSettings
from al_charge.search.plugin import Space
from al_charge.search.screen import ScreenPlugin
from al_charge.testing.searches import Landscape, SearchContract, random_occupation


class TestGenetic(SearchContract):
    plugin = GeneticPlugin()
    options = {"population": 4, "children": 2, "screening": 2}  # noqa: RUF012 - as in the contract

    def test_it_starts_from_the_best_that_is_known_and_then_from_seeds(self, host: Host) -> None:
        """As many predicted and as many labelled ones as may become parents."""
        rng = np.random.default_rng(3)
        drawn = [random_occupation(host, 4, rng) for _ in range(8)]
        forms = [canonical(host, config) for config in drawn]
        assert len(set(forms)) == len(forms)
        space = Space(host, 4, rng=rng, seeds=drawn[6:], predicted=drawn[:3], labelled=drawn[3:6])
        asked = Landscape(host)
        settings = GeneticSettings(evaluations=6, seeds=2, population=2)
        self.plugin.search([space], asked.evaluate, settings)
        started = [forms[i] for i in (0, 1, 3, 4, 6, 7)]
        assert [config for _, config in asked.asked][:6] == started


class TestScreen(SearchContract):
    plugin = ScreenPlugin()
    options = {"batch": 2}  # noqa: RUF012 - as in the contract
