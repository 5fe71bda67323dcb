"""Sums of products, for many configurations at once and for single changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from al_charge.crystal.host import Host
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.polynomial import Energy, Polynomial, SiteFunctions, occupations_of

Draw = Callable[..., NDArray[np.int8]]


def test_terms_by_hand(olivine: Host, randomly: Draw) -> None:
    functions, occupations = SiteFunctions(olivine), randomly(olivine, 700)
    # Two states each: -1 or 1, and the first function of a site is its column.
    signs = np.where(occupations == np.array([max(s) for s in olivine.allowed_states]), -1.0, 1.0)
    columns = [own[0] for own in functions.columns]
    a, b, c = columns[0], columns[3], columns[5]
    polynomial = Polynomial.of_terms(
        functions, [{(): 2.0, (a,): 1.0}, {(a, b): 3.0}, {(a, b, c): 1}]
    )
    s, t, u = signs[:, 0], signs[:, 3], signs[:, 5]
    expected = np.stack([2.0 + s, 3.0 * s * t, s * t * u], axis=1)
    assert polynomial.of(occupations) == pytest.approx(expected)
    assert polynomial.combined(np.array([1.0, 10.0, 100.0])).of(occupations) == pytest.approx(
        expected @ [1.0, 10.0, 100.0]
    )
    line = Polynomial.of_terms(functions, [{(a,): 1.5, (c,): -2.0}])
    assert line.combined(np.array([2.0])).of(occupations) == pytest.approx(3.0 * s - 4.0 * u)


@pytest.mark.parametrize("triplets", [0.0, 5.0])
def test_changes_are_differences(
    any_host: Host, spins: Host, randomly: Draw, triplets: float
) -> None:
    rng = np.random.default_rng(3)
    for host in (any_host, spins):
        polynomial = features(host, Clusters(host, 6.0, triplets))
        energy = polynomial.combined(rng.normal(size=polynomial.coefficients.shape[1]))
        occupations = randomly(host, 200)
        sites = rng.integers(occupations.shape[1], size=200)
        states = np.array([rng.choice(host.allowed_states[site]) for site in sites])
        after = occupations.copy()
        after[np.arange(200), sites] = states
        values = energy.functions.of(occupations)
        change, new = energy.change(values, sites, states)
        assert change == pytest.approx(energy.of(after) - energy.of(occupations), abs=1e-8)
        assert new == pytest.approx(energy.functions.of(after))
        assert values == pytest.approx(energy.functions.of(occupations))


def test_nothing_is_zero(olivine: Host) -> None:
    functions = SiteFunctions(olivine)
    none = Polynomial.of_terms(functions, [{}])
    occupations = occupations_of([], olivine)
    assert occupations.shape == (0, 8)
    assert none.of(occupations).shape == (0, 1)
    energy = Energy(functions, np.zeros((0, 0), dtype=np.int64), np.zeros(0))
    assert (
        energy.of(np.tile(np.array([[1] * 4 + [2] * 4], dtype=np.int8), (3, 1))).tolist() == [0] * 3
    )
