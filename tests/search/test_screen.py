"""Screening on landscapes whose answer is known, and what it says of what it has not relaxed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.correlations import pair_correlations
from al_charge.crystal.enumeration import distinct_occupations, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical
from al_charge.search import pool, screen
from al_charge.search.genetic import GeneticPlugin, GeneticSettings, OperatorWeights
from al_charge.search.operators import Operator
from al_charge.search.plugin import SearchResult, Space
from al_charge.search.screen import BOUND, TOLERANCE, ScreenPlugin, ScreenSettings
from al_charge.search.seeds import seeds
from al_charge.surrogate.surrogate import Observation, fit_surrogate
from al_charge.testing.searches import olivine


class Landscape:
    """Pair energies of some 50 meV per formula unit, and a record of what was asked for."""

    def __init__(self, host: Host, seed: int) -> None:
        size = len(pair_correlations(host, enumerate_distinct(host, 4)[0]))
        self.host = host
        self.weights = 0.05 * np.random.default_rng(seed).normal(size=size)
        self.batches: list[list[Configuration]] = []

    def energy(self, config: Configuration) -> float:
        """Return the energy per formula unit."""
        return float(self.weights @ pair_correlations(self.host, config))

    def evaluate(self, points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        """Return energies per cell."""
        self.batches.append([config for _, config in points])
        return [self.energy(config) * self.host.formula_units for _, config in points]

    @property
    def asked(self) -> list[Configuration]:
        """Everything that was asked for."""
        return [config for batch in self.batches for config in batch]

    def observed(self, configs: Sequence[Configuration], noise: float = 0.0) -> list[Observation]:
        """Return what is known of some configurations."""
        return [Observation(self.host, one, self.energy(one), noise) for one in configs]


@pytest.fixture(scope="module")
def host() -> Host:
    return olivine((1, 2, 1))


@pytest.fixture(scope="module")
def every(host: Host) -> list[Configuration]:
    return enumerate_distinct(host, 4)


def searched(
    landscape: Landscape, settings: ScreenSettings | None = None, **space: object
) -> SearchResult:
    """Search at four ions."""
    rng = np.random.default_rng(1)
    given = {"seeds": seeds(landscape.host, 4, 12, rng), "rng": rng} | space
    (found,) = ScreenPlugin().search(
        [Space(landscape.host, 4, **given)],  # type: ignore[arg-type]
        landscape.evaluate,
        settings or ScreenSettings(),
    )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_is_found_and_the_rest_is_told(
    host: Host, every: list[Configuration], seed: int
) -> None:
    landscape = Landscape(host, seed)
    found = searched(landscape)
    ranked = sorted(every, key=landscape.energy)
    assert landscape.energy(found.ranking[0][0]) == pytest.approx(landscape.energy(ranked[0]))
    assert len(found.ranking) == len(set(landscape.asked)) < 72
    assert landscape.batches[0] == list(dict.fromkeys(landscape.batches[0]))
    assert [len(batch) for batch in landscape.batches] == [
        12,
        *[6] * (len(landscape.batches) - 1),
    ]
    assert found.screened == 1.0
    assert found.p_missed is not None and found.p_missed < BOUND
    rest = min(landscape.energy(one) for one in every if one not in landscape.asked)
    assert found.gap is not None and found.gap_deviation is not None
    above = rest - landscape.energy(ranked[0])
    assert found.gap - above == pytest.approx(0.0, abs=5 * found.gap_deviation + TOLERANCE)
    assert found.gap > 0


def test_a_search_that_is_cut_short_says_so(host: Host, every: list[Configuration]) -> None:
    landscape = Landscape(host, 0)
    found = searched(landscape, ScreenSettings(evaluations=12))
    assert len(landscape.asked) == 12
    assert min(map(landscape.energy, every)) < landscape.energy(found.ranking[0][0]) - TOLERANCE
    assert found.p_missed is not None and found.p_missed > 0.5
    assert found.gap is not None and found.gap < 0


@pytest.mark.parametrize(("scores", "wider"), [((), 1.0), ((3.0, -3.0, 1.0), math.sqrt(23 / 7))])
def test_what_is_missed_is_the_joint_probability(
    host: Host,
    every: list[Configuration],
    scores: tuple[float, ...],
    wider: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against draws from the joint normal distribution by SciPy, and a bound for the rest."""
    landscape = Landscape(host, 0)
    ranked = sorted(every, key=landscape.energy)
    told = landscape.observed(ranked[6::20])
    space = Space(host, 4, rng=np.random.default_rng(1), seeds=[], observations=told)
    one = screen._Screening(space, landscape.evaluate, ScreenSettings(), [])
    one.scores = list(scores)
    one.relax([ranked[1]])
    found = one.ranked()

    surrogate = fit_surrogate([*told, *landscape.observed([ranked[1]], screen.NOISE)])
    open_ = [config for config in every if config not in ranked[6::20] and config != ranked[1]]
    predicted = surrogate.predict(host, np.array([c.occupation for c in open_], dtype=np.int8))
    level = landscape.energy(ranked[1]) - TOLERANCE
    drawn = multivariate_normal(
        predicted.mean, wider**2 * predicted.covariance(), allow_singular=True
    ).rvs(20_000, random_state=2)
    below = float((drawn.min(axis=1) < level).mean())
    assert 0.02 < below < 0.98
    assert found.p_missed == pytest.approx(below, abs=4 * math.sqrt(0.25 / screen.DRAWS))
    least = predicted.mean.argmin()
    assert found.gap == pytest.approx(predicted.mean[least] - level - TOLERANCE, abs=1e-6)
    assert found.gap_deviation == pytest.approx(wider * predicted.deviation[least], rel=1e-4)
    # What is relaxed next: first that with the largest chance, whatever errors were seen.
    chances = (level - predicted.mean) / predicted.deviation
    assert tuple(found.batch[0].tolist()) == open_[chances.argmax()].occupation
    # With few drawn together the others count one by one, which is never less.
    monkeypatch.setattr(screen, "JOINT", 3)
    assert one.ranked().p_missed >= found.p_missed - 0.03


def test_what_is_known_at_a_composition_replaces_seeds(
    host: Host, every: list[Configuration]
) -> None:
    landscape = Landscape(host, 2)
    ranked = sorted(every, key=landscape.energy)
    known = {one: landscape.energy(one) * host.formula_units for one in ranked[5::10]}
    found = searched(landscape, known=known, observations=landscape.observed(list(known)))
    assert all(len(batch) == 6 for batch in landscape.batches)
    assert ranked[0] in landscape.batches[0]
    assert not set(known) & set(landscape.asked)
    assert not set(known) & {config for config, _ in found.ranking}


def test_what_was_relaxed_before_teaches_like_what_is_relaxed_now(
    host: Host, every: list[Configuration]
) -> None:
    """The bar of its energy is the committee's; a search asks what the committee would say."""
    landscape, rng = Landscape(host, 2), np.random.default_rng(1)
    label, *relaxed = every[::60]
    known = {one: landscape.energy(one) * host.formula_units for one in (label, *relaxed)}
    told = [*landscape.observed([label]), *landscape.observed(relaxed, 0.02)]
    space = Space(host, 4, rng=rng, seeds=[], known=known, observations=told)
    one = screen._Screening(space, landscape.evaluate, ScreenSettings(), [])
    learnt = [*landscape.observed(relaxed, screen.NOISE), *landscape.observed([label])]
    assert [(o.config, o.energy, o.noise) for o in one.observations()] == [
        (canonical(host, o.config), pytest.approx(o.energy), o.noise) for o in learnt
    ]
    assert not one.ranking() and not landscape.asked


def test_labels_of_one_geometry_are_relaxed_first(host: Host, every: list[Configuration]) -> None:
    """Their configurations may have a lower one; what the search finds replaces the label."""
    landscape = Landscape(host, 2)
    labelled = sorted(every, key=landscape.energy)[40:50]
    high = [Observation(host, one, landscape.energy(one) + 0.3) for one in labelled]
    searched(landscape, labelled=labelled, observations=high)
    assert landscape.batches[0] == labelled[:6]


def test_energies_of_the_round_before_are_no_knowledge(
    host: Host, every: list[Configuration]
) -> None:
    """A low one is relaxed again; it does not make all others look high."""
    landscape = Landscape(host, 1)
    ranked = sorted(every, key=landscape.energy)
    told = landscape.observed(ranked[10::20])
    low = Observation(host, ranked[0], landscape.energy(ranked[0]) - 0.02, noise=0.01)
    space = Space(host, 4, rng=np.random.default_rng(1), seeds=[], observations=[*told, low])
    one = screen._Screening(space, landscape.evaluate, ScreenSettings(), [])
    assert one.lowest() == pytest.approx(landscape.energy(ranked[10]))
    assert list(ranked[0].occupation) in one.ranked().batch.tolist()
    one.relax([ranked[0]])
    mine = [o for o in one.observations() if canonical(host, o.config) == ranked[0]]
    assert [(o.energy, o.noise) for o in mine] == [
        (pytest.approx(landscape.energy(ranked[0])), screen.NOISE)
    ]


def test_what_is_learned_in_one_cell_counts_in_the_next() -> None:
    """Nothing is known of either; only the first starts from seeds."""
    small, large = olivine((1, 1, 1)), olivine((1, 2, 1))
    asked: list[tuple[Space, Configuration]] = []

    def evaluate(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        asked.extend(points)
        return [0.01 * len(asked)] * len(points)

    spaces = []
    for host, n_ions in ((small, 2), (large, 4)):
        rng = np.random.default_rng(1)
        start = seeds(host, n_ions, 4, rng)
        spaces.append(Space(host, n_ions, rng=rng, seeds=start))
    settings = ScreenSettings(evaluations=7, batch=3)
    first, second = ScreenPlugin().search(spaces, evaluate, settings)
    assert 0 < len(first.ranking) <= 7 and 0 < len(second.ranking) <= 7
    assert [config for at, config in asked if at is spaces[1]][:4] != list(spaces[1].seeds)


def test_failed_relaxations_rank_last_and_are_not_fitted(host: Host) -> None:
    landscape = Landscape(host, 0)
    count = 0

    def evaluate(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        nonlocal count
        count += len(points)
        return [math.nan] * len(points) if count < 15 else landscape.evaluate(points)

    rng = np.random.default_rng(1)
    space = Space(host, 4, rng=rng, seeds=seeds(host, 4, 12, rng))
    settings = ScreenSettings(evaluations=30)
    (found,) = ScreenPlugin().search([space], evaluate, settings)
    energies = [energy for _, energy in found.ranking]
    assert sum(map(math.isinf, energies)) == 12
    assert energies == sorted(energies) and len(energies) <= 30

    batches: list[int] = []

    def fail(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        batches.append(len(points))
        return [math.inf] * len(points)

    (failed,) = ScreenPlugin().search([space], fail, settings)
    assert batches == [12, 6, 6, 6]
    assert len(failed.ranking) == 30
    assert (failed.gap, failed.p_missed) == (None, None)


def test_a_search_ends_where_all_relaxations_fail_and_few_are_left() -> None:
    """Ten configurations, nine evaluations: the last batch is smaller than any other."""
    space = Space(olivine((1, 1, 1)), 2, rng=np.random.default_rng(1), seeds=[])
    batches: list[int] = []

    def fail(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        batches.append(len(points))
        return [math.nan] * len(points)

    settings = ScreenSettings(evaluations=space.number - 1, batch=4)
    (found,) = ScreenPlugin().search([space], fail, settings)
    assert space.number == 10 and batches == [4, 4, 1]
    assert len({config for config, _ in found.ranking}) == 9


@pytest.mark.parametrize("spare", [0, -1])
def test_evaluations_that_just_suffice_exhaust_a_space(spare: int) -> None:
    """What is known needs none. With one less there is a rest, which is predicted."""
    host = olivine((1, 1, 1))
    every = enumerate_distinct(host, 2)
    space = Space(
        host, 2, rng=np.random.default_rng(1), seeds=every[5:7], known=dict.fromkeys(every[:3], 0.5)
    )
    batches: list[int] = []

    def evaluate(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        batches.append(len(points))
        return [0.1 * every.index(config) for _, config in points]

    settings = ScreenSettings(evaluations=len(every) - 3 + spare)
    (found,) = ScreenPlugin().search([space], evaluate, settings)
    assert batches[0] == (len(every) - 3 if spare == 0 else 2)
    assert (found.p_missed == 0.0 and found.gap is None) == (spare == 0)
    assert found.screened == 1.0


def test_errors_are_counted_in_predicted_deviations(
    host: Host, every: list[Configuration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all batches but the one that is not relaxed any more."""
    landscape = Landscape(host, 0)
    told = landscape.observed(every[::40])
    space = Space(host, 4, rng=np.random.default_rng(1), seeds=[], observations=told)
    one = screen._Screening(space, landscape.evaluate, ScreenSettings(evaluations=10), [])
    predicted: list[screen._Ranked] = []
    rank = one.ranked

    def record() -> screen._Ranked:
        predicted.append(rank())
        return predicted[-1]

    monkeypatch.setattr(one, "ranked", record)
    one.run()
    assert [len(batch) for batch in landscape.batches] == [6, 4] and len(predicted) == 3
    scores = [
        (landscape.energy(config) - mean) / deviation
        for batch, ranked in zip(landscape.batches, predicted[:2], strict=True)
        for config, mean, deviation in zip(batch, ranked.mean, ranked.deviation, strict=False)
    ]
    assert one.scores == pytest.approx(scores)


def test_large_spaces_are_sampled(
    host: Host, every: list[Configuration], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LARGEST_LISTED", len(every) - 1)
    monkeypatch.setattr(pool, "VISITED", 30)
    monkeypatch.setattr(pool, "CHILDREN", 20)
    monkeypatch.setattr(pool, "STEPS", 200)
    landscape = Landscape(host, 1)
    found = searched(landscape)
    assert found.screened is not None and len(found.ranking) / len(every) < found.screened < 1
    lowest = min(map(landscape.energy, every))
    assert landscape.energy(found.ranking[0][0]) == pytest.approx(lowest)
    monkeypatch.setattr(pool, "LARGEST_LISTED", len(every))
    assert searched(Landscape(host, 1)).screened == 1.0


def test_the_pool_forgets_what_is_removed(host: Host, every: list[Configuration]) -> None:
    space = Space(host, 4, rng=np.random.default_rng(1), seeds=[])
    some = pool.Pool(space)
    assert (some.rows == distinct_occupations(host, 4)).all()
    some.remove(every[3:5])
    assert list(map(tuple, some.rows.tolist())) == [
        config.occupation for config in every if config not in every[3:5]
    ]


def test_a_sampled_pool_needs_no_parents(
    host: Host, every: list[Configuration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts at random; what it proposes is distinct, and nothing of it was removed."""
    monkeypatch.setattr(pool, "LARGEST_LISTED", len(every) - 1)
    monkeypatch.setattr(pool, "VISITED", 30)
    monkeypatch.setattr(pool, "STEPS", 50)
    some = pool.Pool(Space(host, 4, rng=np.random.default_rng(1), seeds=[]))
    assert not some.complete and some.share == 0.0 and len(some.rows) == 0
    some.remove(every[::2])
    some.renew(fit_surrogate(Landscape(host, 1).observed(every[::40])), [])
    proposed = set(map(tuple, some.rows.tolist()))
    assert 30 < len(proposed) == len(some.rows)
    assert proposed < {config.occupation for config in every[1::2]}
    assert some.share > (len(every[::2]) + len(proposed)) / len(every) - 1e-9


@pytest.mark.parametrize("name", ["olivine", "spins"])
def test_spin_states_change_in_children_where_there_are_any(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other operators are drawn for every host."""
    cell: Host = request.getfixturevalue(name)
    drawn: set[str] = set()

    def recorded(operator: Operator) -> Operator:
        return replace(operator, make=lambda *_: drawn.add(operator.name))

    monkeypatch.setattr(pool, "OPERATORS", tuple(map(recorded, pool.OPERATORS)))
    space = Space(cell, 1, rng=np.random.default_rng(1), seeds=[])
    pool.Pool(space)._children(enumerate_distinct(cell, 1))
    usual = set(OperatorWeights.model_fields) - {"spin_change"}
    assert drawn == usual | ({"spin_change"} if name == "spins" else set())


def test_the_genetic_search_tells_the_share_that_it_evaluated(
    host: Host, every: list[Configuration]
) -> None:
    landscape = Landscape(host, 1)
    rng = np.random.default_rng(1)
    known = {every[0]: 0.0, every[7]: 0.0}
    space = Space(host, 4, rng=rng, seeds=seeds(host, 4, 12, rng), known=known)
    (found,) = GeneticPlugin().search([space], landscape.evaluate, GeneticSettings())
    assert found.screened == pytest.approx((len(found.ranking) + 2) / len(every))
    assert (found.gap, found.gap_deviation, found.p_missed) == (None, None, None)
