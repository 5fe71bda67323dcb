"""The genetic search on landscapes whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration, ion_count, total_charge
from al_charge.crystal.correlations import pair_correlations
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical
from al_charge.search import genetic
from al_charge.search.genetic import GeneticSettings, OperatorWeights, evolve
from al_charge.search.operators import Operator
from al_charge.search.seeds import seeds


class Landscape:
    """Random pair energies on a host, and a record of what was asked for."""

    def __init__(self, host: Host, seed: int) -> None:
        self.host = host
        self.seed = seed
        self.asked: list[Configuration] = []
        self.batches: list[int] = []

    def energy(self, config: Configuration) -> float:
        features = pair_correlations(self.host, config)
        weights = np.random.default_rng(self.seed).normal(size=len(features))
        return float(weights @ features)

    def __call__(self, configs: list[Configuration]) -> list[float]:
        self.asked += configs
        self.batches.append(len(configs))
        return [self.energy(config) for config in configs]


def test_small_spaces_are_exhausted(olivine: Host) -> None:
    landscape = Landscape(olivine, 0)
    for n_ions in olivine.ion_counts:
        rng = np.random.default_rng(0)
        landscape.asked.clear()
        found = evolve(olivine, n_ions, landscape, GeneticSettings(), rng, seeds=[])
        assert {config for config, _ in found} == set(enumerate_distinct(olivine, n_ions))
        assert len(landscape.asked) == len(found)


def test_nothing_is_evaluated_twice_and_the_budget_holds(olivine_doubled: Host) -> None:
    host, rng = olivine_doubled, np.random.default_rng(3)
    landscape = Landscape(host, 1)
    start = seeds(host, 4, 12, rng)
    settings = GeneticSettings(evaluations=40, patience=100)
    found = evolve(host, 4, landscape, settings, rng, seeds=[*start, *start])
    forms = [canonical(host, config) for config in landscape.asked]
    assert len(forms) == len(set(forms)) == len(found) == 40
    assert landscape.asked == forms
    assert landscape.batches == [12, 6, 6, 6, 6, 4]
    assert [energy for _, energy in found] == sorted(landscape.energy(c) for c in forms)
    assert all(ion_count(host, c) == 4 and total_charge(host, c) == 0 for c, _ in found)


def test_same_generator_same_result(olivine_doubled: Host) -> None:
    def run(seed: int) -> list[tuple[Configuration, float]]:
        rng = np.random.default_rng(seed)
        start = seeds(olivine_doubled, 4, 12, rng)
        return evolve(
            olivine_doubled, 4, Landscape(olivine_doubled, 1), GeneticSettings(), rng, start
        )

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_known_configurations_are_parents_only(olivine_doubled: Host) -> None:
    host = olivine_doubled
    landscape = Landscape(host, 1)
    ranked = sorted(enumerate_distinct(host, 4), key=landscape.energy)
    known = {config: landscape.energy(config) for config in ranked[1:9]}
    settings = GeneticSettings(evaluations=30, patience=100, seeds=1)
    rng = np.random.default_rng(0)
    found = evolve(host, 4, landscape, settings, rng, seeds=ranked[1:9], known=known)
    assert not set(landscape.asked) & set(known)
    assert not {config for config, _ in found} & set(known)
    assert len(found) == 30
    # Children of good parents: far better than chance.
    rank = {config: place for place, config in enumerate(ranked)}
    assert np.median([rank[config] for config, _ in found]) < 0.35 * len(ranked)


def test_everything_known_leaves_nothing_to_do(olivine: Host) -> None:
    known = dict.fromkeys(enumerate_distinct(olivine, 2), 0.0)
    landscape = Landscape(olivine, 0)
    rng = np.random.default_rng(0)
    assert evolve(olivine, 2, landscape, GeneticSettings(), rng, seeds=[], known=known) == []
    assert landscape.batches == []


def test_what_smaller_cells_hold_entirely_leaves_nothing_to_do(
    olivine: Host, olivine_doubled: Host
) -> None:
    landscape = Landscape(olivine_doubled, 0)
    rng = np.random.default_rng(0)
    smaller = [olivine]
    found = evolve(olivine_doubled, 0, landscape, GeneticSettings(), rng, seeds=[], smaller=smaller)
    assert found == []
    assert landscape.batches == []


@pytest.mark.parametrize("spare", [0, -1])
def test_evaluations_that_just_suffice_exhaust_a_space(olivine: Host, spare: int) -> None:
    """What is known needs none. With one less, seeds come first."""
    landscape = Landscape(olivine, 0)
    every = enumerate_distinct(olivine, 2)
    known = {config: landscape.energy(config) for config in every[:3]}
    settings = GeneticSettings(evaluations=len(every) - 3 + spare, seeds=2, patience=100)
    found = evolve(olivine, 2, landscape, settings, np.random.default_rng(0), seeds=[], known=known)
    assert {config for config, _ in found} <= set(every[3:])
    assert landscape.batches[0] == (len(every) - 3 if spare == 0 else 2)
    assert len(found) == sum(landscape.batches) <= settings.evaluations


def test_patience_ends_a_search_without_progress(olivine_doubled: Host) -> None:
    batches = []

    def flat(configs: list[Configuration]) -> list[float]:
        batches.append(len(configs))
        return [0.0] * len(configs)

    settings = GeneticSettings(evaluations=60, seeds=8, children=5, patience=2)
    evolve(olivine_doubled, 4, flat, settings, np.random.default_rng(0), seeds=[])
    assert batches == [8, 5, 5]


def test_patience_counts_from_the_last_lower_energy(olivine_doubled: Host) -> None:
    """Two of the generations bring one, with one generation between them."""
    lowest = iter([0.0, -1.0, -1.0, -2.0, -2.0, -2.0])
    settings = GeneticSettings(evaluations=60, seeds=4, children=2, screening=1, patience=2)
    found = evolve(
        olivine_doubled,
        4,
        lambda configs: [next(lowest)] * len(configs),
        settings,
        np.random.default_rng(0),
        seeds=[],
    )
    assert len(found) == 4 + 5 * 2
    assert next(lowest, None) is None


def test_energies_that_are_missing_are_noticed(olivine: Host) -> None:
    with pytest.raises(ValueError, match="shorter"):
        evolve(
            olivine,
            2,
            lambda configs: [0.0] * (len(configs) - 1),
            GeneticSettings(),
            np.random.default_rng(0),
            seeds=[],
        )


def test_failed_evaluations_rank_last(olivine: Host) -> None:
    def sometimes(configs: list[Configuration]) -> list[float]:
        return [math.nan if i == 0 else float(i) for i in range(len(configs))]

    found = evolve(olivine, 2, sometimes, GeneticSettings(), np.random.default_rng(0), seeds=[])
    assert found[0][1] == 1.0 and found[-1][1] == math.inf


def test_without_operators_the_search_is_random(olivine_doubled: Host) -> None:
    none = OperatorWeights(**dict.fromkeys(OperatorWeights.model_fields, 0.0))
    settings = GeneticSettings(evaluations=20, patience=100, operators=none)
    landscape = Landscape(olivine_doubled, 0)
    found = evolve(olivine_doubled, 4, landscape, settings, np.random.default_rng(0), seeds=[])
    assert len(found) == 20


def test_a_parent_is_the_best_of_its_tournament(
    olivine_doubled: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two drawn from ten: the best wins 19 of 100 draws, the worst 1, and none outside the ten."""
    host = olivine_doubled
    landscape = Landscape(host, 1)
    ranked = sorted(enumerate_distinct(host, 4), key=landscape.energy)
    known = {config: landscape.energy(config) for config in ranked[:12]}
    chosen: list[int] = []

    def record(host: Host, parents: Sequence[Configuration], rng: np.random.Generator) -> None:
        chosen.extend(ranked.index(parent) for parent in parents)

    monkeypatch.setattr(genetic, "OPERATORS", (Operator("ion_swap", 1, record),))
    settings = GeneticSettings(
        evaluations=40, seeds=1, children=2, screening=60, tournament=2, patience=1
    )
    evolve(
        host,
        4,
        lambda configs: [0.0] * len(configs),
        settings,
        np.random.default_rng(0),
        ranked[:1],
        known,
    )
    shares = np.bincount(chosen, minlength=12) / len(chosen)
    assert len(chosen) > 500
    np.testing.assert_allclose(shares[:10], (19 - 2 * np.arange(10)) / 100, atol=0.05)
    assert shares[10:].sum() == 0


def test_all_children_but_one_are_those_with_the_lowest_guesses(
    olivine_doubled: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last is drawn from all others, in case the guesses mislead."""
    host = olivine_doubled
    ranked = sorted(enumerate_distinct(host, 4), key=Landscape(host, 1).energy)
    bred: list[list[int]] = []
    evaluated: list[list[int]] = []

    def guess(
        host: Host, known: dict[Configuration, float], pool: Sequence[Configuration]
    ) -> NDArray[np.float64]:
        bred.append(sorted(ranked.index(config) for config in pool))
        return np.array([float(ranked.index(config)) for config in pool])

    def evaluate(configs: list[Configuration]) -> list[float]:
        evaluated.append([ranked.index(config) for config in configs])
        return [0.0] * len(configs)

    monkeypatch.setattr(genetic, "guess_energies", guess)
    settings = GeneticSettings(evaluations=64, seeds=4, children=3, screening=5, patience=100)
    evolve(host, 4, evaluate, settings, np.random.default_rng(2), seeds=ranked[50:54])
    assert len(bred) == 20
    places = []
    for pool, batch in zip(bred, evaluated[1:], strict=True):
        assert len(pool) == 15
        assert batch[:2] == pool[:2]
        places.append(pool.index(batch[2]))
    assert min(places) >= 2 and max(places) >= 12
    assert 5 < np.mean(places) < 11  # 8 if all thirteen others are as likely


def mean_rank(host: Host, settings: GeneticSettings, runs: range) -> float:
    """Return the mean place of the lowest energy found, 0 for the ground state."""
    places = []
    for seed in runs:
        landscape = Landscape(host, seed)
        energies = np.sort([landscape.energy(config) for config in enumerate_distinct(host, 4)])
        rng = np.random.default_rng(seed)
        found = evolve(host, 4, landscape, settings, rng, seeds=[])
        places.append(int(np.searchsorted(energies, found[0][1] - 1e-9)))
    return float(np.mean(places))


def test_search_beats_chance(olivine_doubled: Host) -> None:
    none = OperatorWeights(**dict.fromkeys(OperatorWeights.model_fields, 0.0))
    guided = GeneticSettings(evaluations=36, patience=100)
    chance = guided.model_copy(update={"operators": none})
    runs = range(8)
    assert mean_rank(olivine_doubled, guided, runs) < 0.4 * mean_rank(olivine_doubled, chance, runs)
