"""Guesses from pair correlations."""

from __future__ import annotations

import numpy as np
import pytest

from al_charge.crystal.correlations import all_pair_correlations, pair_correlations
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.search.screening import RIDGE, guess_energies


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


def test_guesses_are_those_of_ridge_regression(olivine_doubled: Host) -> None:
    """Against least squares with a row for each weight that pulls it to zero."""
    host, rng = olivine_doubled, np.random.default_rng(0)
    configs = enumerate_distinct(host, 2)
    energies = rng.normal(size=20)
    inputs = all_pair_correlations(host, configs)
    centred = inputs - inputs[:20].mean(axis=0)
    pull = np.sqrt(RIDGE * (centred[:20] ** 2).sum() / 20) * np.eye(inputs.shape[1])
    weights, *_ = np.linalg.lstsq(
        np.concatenate([centred[:20], pull]),
        np.concatenate([energies - energies.mean(), np.zeros(len(pull))]),
    )
    guesses = guess_energies(host, dict(zip(configs, energies.tolist(), strict=False)), configs)
    assert guesses == pytest.approx(centred @ weights + energies.mean(), abs=1e-6)


def test_failures_are_left_out(olivine: Host) -> None:
    configs = enumerate_distinct(olivine, 2)
    known = {configs[0]: -3.0, configs[1]: np.inf}
    assert guess_energies(olivine, known, configs) == pytest.approx(-3.0)
    assert guess_energies(olivine, {configs[1]: np.inf}, configs) == pytest.approx(0.0)
