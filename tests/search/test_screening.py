"""Guesses from pair correlations."""

from __future__ import annotations

import numpy as np
import pytest

from al_charge.crystal.correlations import pair_correlations
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.search.screening import guess_energies


def test_pair_energies_are_learnt_from_a_part(olivine_doubled: Host) -> None:
    host = olivine_doubled
    rng = np.random.default_rng(0)
    configs = enumerate_distinct(host, 4)
    features = np.array([pair_correlations(host, config) for config in configs])
    energies = 100.0 + features @ rng.normal(size=features.shape[1])
    order = rng.permutation(len(configs))
    known = {configs[i]: float(energies[i]) for i in order[:60]}
    rest = order[60:]
    guesses = guess_energies(host, known, [configs[i] for i in rest])
    assert np.corrcoef(guesses, energies[rest])[0, 1] > 0.8
    assert guesses.mean() == pytest.approx(energies.mean(), abs=0.2)


def test_failures_are_left_out(olivine: Host) -> None:
    configs = enumerate_distinct(olivine, 2)
    known = {configs[0]: -3.0, configs[1]: np.inf}
    assert guess_energies(olivine, known, configs) == pytest.approx(-3.0)
    assert guess_energies(olivine, {configs[1]: np.inf}, configs) == pytest.approx(0.0)
