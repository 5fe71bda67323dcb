"""Tempering against exact sums over all configurations of small cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from ase.units import kB
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration, configuration, ion_count
from al_charge.crystal.enumeration import count_occupations, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical
from al_charge.errors import InputError
from al_charge.surrogate import monte_carlo
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.monte_carlo import Tempering, _at_once, lowest_visited
from al_charge.surrogate.polynomial import Energy, occupations_of

Draw = Callable[..., NDArray[np.int8]]


def some_energy(host: Host, scale: float = 0.1, triplets: float = 4.5) -> Energy:
    """Return an energy without meaning, in which every kind of cluster counts."""
    polynomial = features(host, Clusters(host, 5.5, triplets))
    weights = scale * np.random.default_rng(4).normal(size=polynomial.coefficients.shape[1])
    weights[-1] = 0.0
    return polynomial.combined(weights)


def configs_of(occupations: NDArray[np.int8]) -> list[Configuration]:
    return [Configuration(tuple(row.tolist())) for row in occupations]


def every_occupation(host: Host, n_ions: int) -> list[Configuration]:
    """List all neutral configurations of a composition, by trying every combination of states."""
    found = []
    for states in product(*host.allowed_states):
        try:
            config = configuration(host, states)
        except InputError:
            continue
        if ion_count(host, config) == n_ions:
            found.append(config)
    assert len(found) == count_occupations(host, n_ions)
    return found


HOSTS = {"olivine": 2, "mixed": 2, "vanadium": 2, "overlapping": 2, "spins": 2}


@pytest.fixture(scope="module", params=HOSTS)
def case(request: pytest.FixtureRequest) -> tuple[Host, int]:
    return request.getfixturevalue(request.param), HOSTS[request.param]


def test_moves_are_in_detailed_balance(case: tuple[Host, int]) -> None:
    """As many go from one configuration to another as back, of an ensemble in equilibrium."""
    host, n_ions = case
    every = every_occupation(host, n_ions)
    energy = some_energy(host)
    energies = energy.of(occupations_of(every, host)) * host.formula_units
    temperature = 1.5 * energies.std() / kB
    number = {config.as_array().tobytes(): i for i, config in enumerate(every)}
    each, runs = max(1, 600 // len(every)), 40
    rng = np.random.default_rng(1)
    moves = np.zeros((len(every), len(every)))
    for _ in range(runs):
        ladder = temperature * (1 + 1e-9 * np.arange(each * len(every)))
        tempering = Tempering(energy, every * each, ladder, rng)
        tempering.advance(1)
        for start, row in enumerate(tempering.occupations):
            moves[start % len(every), number[row.tobytes()]] += 1
    weights = np.exp(-(energies - energies.min()) / (kB * temperature))
    weights /= weights.sum() * each * runs
    one, other = np.triu_indices(len(every), 1)
    both = (moves + moves.T)[one, other]
    seen = both > 0
    one, other, both = one[seen], other[seen], both[seen]
    flow = both / (1 / weights[one] + 1 / weights[other])
    error = np.sqrt((weights[one] + weights[other]) * flow)
    scores = (weights[one] * moves[one, other] - weights[other] * moves[other, one]) / error
    uphill = np.sign(energies[other] - energies[one])
    assert (scores**2).mean() == pytest.approx(1.0, abs=5 * np.sqrt(2 / len(scores)))
    assert abs((uphill * scores).sum()) < 4 * np.sqrt(len(scores))
    assert len(scores) > 3 * len(every) / 2


def test_visits_follow_boltzmann_through_exchanges(
    olivine: Host, randomly: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monte_carlo, "EXCHANGE_EVERY", 1)
    every = every_occupation(olivine, 2)
    energy = some_energy(olivine)
    energies = energy.of(occupations_of(every, olivine)) * olivine.formula_units
    ladder = np.array([0.3, 0.6, 1.2]) * energies.std() / kB
    starts = configs_of(randomly(olivine, 3, 2))
    tempering = Tempering(energy, starts, ladder, np.random.default_rng(11))
    tempering.advance(100)
    seen = []
    for _ in range(4000):
        tempering.advance(1)
        seen.append(tempering.energies.copy())
    blocks = np.reshape(seen, (20, 200, 3)).mean(axis=1)
    for temperature, found in zip(ladder, blocks.T, strict=True):
        weights = np.exp(-(energies - energies.min()) / (kB * temperature))
        expected = weights @ energies / weights.sum()
        assert found.mean() == pytest.approx(expected, abs=4 * found.std() / np.sqrt(19))
    assert (tempering.accepted > 0.05 * tempering.tried).all()
    assert (tempering.exchanged > 40).all()


def test_every_configuration_is_reached(case: tuple[Host, int]) -> None:
    host, n_ions = case
    every = every_occupation(host, n_ions)
    flat = some_energy(host, scale=0.0)
    tempering = Tempering(flat, [every[0]], [300.0], np.random.default_rng(0))
    seen = set()
    for _ in range(40 * len(every)):
        tempering.advance(1)
        seen.add(tempering.occupations[0].tobytes())
        if len(seen) == len(every):
            break
    assert len(seen) == len(every)


def test_sums_of_differences_are_energies(any_host: Host, spins: Host, randomly: Draw) -> None:
    for host in (any_host, spins):
        n_ions = host.ion_counts[len(host.ion_counts) // 2]
        energy = some_energy(host)
        starts = configs_of(randomly(host, 5, n_ions))
        rng = np.random.default_rng(5)
        tempering = Tempering(energy, starts, [100, 300, 1000, 3000, 1e5], rng)
        tempering.advance(300)
        full = energy.of(tempering.occupations) * host.formula_units
        assert tempering.energies == pytest.approx(full, abs=1e-9)
        for config in configs_of(tempering.occupations):
            assert ion_count(host, configuration(host, config.occupation)) == n_ions


def test_the_seed_decides(olivine: Host, randomly: Draw) -> None:
    def run(seed: int) -> NDArray[np.int8]:
        starts = configs_of(randomly(olivine, 2, 2))
        rng = np.random.default_rng(seed)
        tempering = Tempering(some_energy(olivine), starts, [1e3, 1e4], rng)
        tempering.advance(50)
        return tempering.occupations

    assert (run(1) == run(1)).all()
    assert (run(1) != run(2)).any()


def test_the_lowest_configurations_are_found(olivine_doubled: Host, randomly: Draw) -> None:
    host = olivine_doubled
    energy = some_energy(host)
    every = enumerate_distinct(host, 3)
    energies = np.sort(energy.of(occupations_of(every, host)))
    spread = energies.std() * host.formula_units
    starts = configs_of(randomly(host, 4, 3))
    ladder = np.geomspace(0.05, 1.0, 4) * spread / kB
    tempering = Tempering(energy, starts, ladder, np.random.default_rng(1))
    found = lowest_visited(tempering, 3000, 8)
    assert [value for _, value in found] == pytest.approx(energies[:8], abs=1e-9)
    assert len({config for config, _ in found}) == 8
    assert all(canonical(host, config) == config for config, _ in found)
    assert energy.of(occupations_of([c for c, _ in found], host)) == pytest.approx(energies[:8])
    assert (tempering.tried == 3000).all()


def test_what_is_visited_is_ranked_however_little_it_is(olivine: Host) -> None:
    """Less than twice what is wanted, and then less than that."""
    energy = some_energy(olivine)
    every = enumerate_distinct(olivine, 2)
    energies = np.sort(energy.of(occupations_of(every, olivine)))
    for wanted in (len(every) - 2, len(every) + 5):
        tempering = Tempering(energy, every[:1], [1e5], np.random.default_rng(0))
        found = lowest_visited(tempering, 2000, wanted)
        assert [value for _, value in found] == pytest.approx(energies[:wanted], abs=1e-9)
    still = Tempering(energy, every[:5], [1.0, 2.0, 3.0, 4.0, 5.0], np.random.default_rng(0))
    expected = np.sort(energy.of(occupations_of(every[:5], olivine)))[:3]
    assert [value for _, value in lowest_visited(still, 0, 3)] == pytest.approx(expected)


def test_no_more_is_kept_than_may_be_wanted(olivine_doubled: Host, randomly: Draw) -> None:
    """Canonical forms are found of what is lower than the worst of those, and of nothing else."""
    energy, (start,) = some_energy(olivine_doubled), configs_of(randomly(olivine_doubled, 1, 3))
    made: list[Configuration] = []

    def counted(host: Host, one: Configuration) -> Configuration:
        made.append(one)
        return canonical(host, one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monte_carlo, "canonical", counted)
        tempering = Tempering(energy, [start], [1e5], np.random.default_rng(0))
        lowest_visited(tempering, 1500, 3)
    assert len(made) < 150 < tempering.accepted[0]


def test_end_members_stay(olivine: Host) -> None:
    for n_ions in (0, 4):
        (only,) = enumerate_distinct(olivine, n_ions)
        tempering = Tempering(some_energy(olivine), [only], [1e4], np.random.default_rng(0))
        assert lowest_visited(tempering, 20, 3)[0][0] == only


def test_as_many_sites_change_at_once_as_reach_everything(
    olivine: Host, vanadium: Host, spins: Host
) -> None:
    """Two, or three where a site has no charge between two of its charges."""
    sites = (olivine.ion_sites, olivine.variable_sites)
    states = tuple((2, 4) if one == (2, 3) else one for one in olivine.allowed_states)
    gap = SimpleNamespace(ion_sites=sites[0], variable_sites=sites[1], allowed_states=states)
    hosts = (olivine, vanadium, spins, cast(Host, gap))
    assert [_at_once(host) for host in hosts] == [2, 2, 2, 3]


def test_what_is_no_start_is_refused(olivine: Host, overlapping: Host) -> None:
    energy, rng = some_energy(olivine), np.random.default_rng(0)
    one, two = enumerate_distinct(olivine, 1)[0], enumerate_distinct(olivine, 2)[0]
    charged = Configuration((*one.occupation[:-1], 5 - one.occupation[-1]))
    for starts, temperatures, message in [
        ([one, two], [1, 2], "not of one composition"),
        ([charged], [1], "the charges sum to"),
        ([], [], "not of one composition"),
        ([one], [1, 2], "positive temperature for each"),
        ([one, one], [0, 2], "positive temperature for each"),
        ([one, one], [2, 2], "do not ascend"),
    ]:
        with pytest.raises(InputError, match=message) as refused:
            Tempering(energy, starts, temperatures, rng)
        assert (refused.value.where == "temperatures") is ("temperature" in str(refused.value))
    window = replace(olivine, window=(Fraction(1, 2), Fraction(1)))
    with pytest.raises(InputError, match="not of one composition of the host"):
        Tempering(some_energy(window), [one], [300], rng)
    Tempering(some_energy(window), [two], [300], rng).advance(3)
    filled = Configuration((1,) * 8 + (3,) * 4)
    with pytest.raises(InputError, match="too near"):
        Tempering(some_energy(overlapping), [filled], [300], rng)
