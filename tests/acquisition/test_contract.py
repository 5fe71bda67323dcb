"""Our acquisition rule passes the contract, and reads the diagonal of the covariance alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from al_charge.acquisition.weighted import WeightedPlugin
from al_charge.testing.acquisitions import AcquisitionContract


class TestWeighted(AcquisitionContract):
    plugin = WeightedPlugin()

    def test_only_the_spreads_count(self) -> None:
        choice = self.choice()
        diagonal = replace(choice, covariance=np.diag(np.diagonal(choice.covariance)))
        assert self.select(choice) == self.select(diagonal)
        wider = replace(choice, covariance=4 * choice.covariance)
        assert self.select(choice) != self.select(wider)
        told = {one.key: one.reason for one in self.select(choice)}
        spread = {
            candidate.key: np.sqrt(variance)
            for candidate, variance in zip(
                choice.candidates, np.diagonal(choice.covariance), strict=True
            )
        }
        assert all(f"+- {1e3 * spread[key]:.0f} meV" in reason for key, reason in told.items())
