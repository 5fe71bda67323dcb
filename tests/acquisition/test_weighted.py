"""Which candidates are picked, and that the picks find a hull sooner than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from al_charge.acquisition.diversity import Distances, Point, select_diverse
from al_charge.acquisition.plugin import Selection
from al_charge.acquisition.weighted import WeightedSettings, select

HALF = Fraction(1, 2)
HULL = [(Fraction(0), 0.0), (HALF, -0.1), (Fraction(1), 0.0)]


EXACT = {"tolerance": "0 eV", "smallest_spread": "1e-12 eV"}


def candidate(
    key: str,
    energy: float = 0.0,
    spread: float = 0.01,
    x: Fraction = HALF,
    features: Sequence[float] = (0.0,),
) -> Point:
    return Point(key, x, energy, spread, np.array(features, dtype=float))


def only(**weights: float) -> WeightedSettings:
    """Return settings in which all weights but the given ones are zero."""
    none = {"improvement": 0.0, "chance": 0.0, "spread": 0.0, "diversity": 0.0}
    return WeightedSettings.model_validate(none | weights | EXACT)


def keys(picked: list[Selection]) -> list[str]:
    return [selection.key for selection in picked]


def test_chance_is_that_of_the_normal_distribution() -> None:
    above = candidate("above", energy=-0.085, spread=0.01)
    (picked,) = select([above], HULL, only(chance=1.0), 1)
    assert picked.score == pytest.approx(0.5 * math.erfc(1.5 / math.sqrt(2)))
    assert picked.reason == "7 % chance below hull (+15 +- 10 meV/f.u.)"


def test_hull_is_straight_between_its_vertices() -> None:
    on_line = candidate("on", energy=-0.05, x=Fraction(1, 4))
    (picked,) = select([on_line], HULL, only(chance=1.0), 1)
    assert picked.score == pytest.approx(0.5)


def test_without_labels_the_hull_is_the_line_between_end_members() -> None:
    (picked,) = select([candidate("a", energy=0.0)], [], only(chance=1.0), 1)
    assert picked.score == pytest.approx(0.5)


def test_expected_improvement_by_quadrature() -> None:
    settings = only(improvement=1.0)
    first = candidate("first", energy=-0.09, spread=0.02)
    second = candidate("second", energy=-0.08, spread=0.01)
    scores = {s.key: s.score for s in select([first, second], HULL, settings, 2)}
    expected = {}
    for c in (first, second):
        grid = np.linspace(c.energy - 8 * c.spread, c.energy + 8 * c.spread, 20001)
        density = np.exp(-0.5 * ((grid - c.energy) / c.spread) ** 2)
        gain = np.maximum(-0.1 - grid, 0.0)
        expected[c.key] = float((gain * density).sum() / density.sum())
    assert scores["second"] / scores["first"] == pytest.approx(
        expected["second"] / expected["first"], rel=1e-4
    )
    assert scores["first"] == 1.0


def test_spread_decides_among_the_hopeless() -> None:
    hopeless = [candidate(f"c{i}", energy=1.0, spread=0.01 * (i + 1)) for i in range(4)]
    assert keys(select(hopeless, HULL, WeightedSettings(), 4)) == ["c3", "c2", "c1", "c0"]


def test_smallest_spread_is_a_floor() -> None:
    settings = WeightedSettings.model_validate(EXACT | {"smallest_spread": "5 meV"})
    sure = candidate("sure", energy=-0.095, spread=0.0)
    (picked,) = select([sure], HULL, settings, 1)
    assert "16 % chance" in picked.reason


def test_predicted_ground_states_come_first() -> None:
    ground = candidate("ground", energy=-0.095, x=HALF)
    other = candidate("other", energy=-0.12, spread=0.01, x=Fraction(1, 4))
    runner_up = candidate("runner up", energy=-0.119, spread=0.05, x=Fraction(1, 4))
    far = candidate("far", energy=-0.02, x=Fraction(3, 4))
    picked = select([runner_up, far, ground, other], HULL, WeightedSettings(), 2)
    assert keys(picked) == ["other", "ground"]
    assert picked[0].reason.startswith("predicted ground state at x = 1/4, 100 % chance")


def test_a_lower_label_answers_for_its_composition() -> None:
    labelled = [candidate("labelled", energy=-0.1, spread=0.0, features=[3.0])]
    above = candidate("above", energy=-0.095)
    picked = select([above], HULL, WeightedSettings(), 1, labelled)
    assert not picked[0].reason.startswith("predicted ground state")
    below = candidate("below", energy=-0.105)
    picked = select([below], HULL, WeightedSettings(), 1, labelled)
    assert picked[0].reason.startswith("predicted ground state")


def test_labelled_and_repeated_candidates_are_passed_over() -> None:
    labelled = [candidate("old", energy=-0.1, spread=0.0)]
    pool = [candidate("old"), candidate("new"), candidate("new"), candidate("newer")]
    picked = select(pool, HULL, WeightedSettings(), 10, labelled)
    assert sorted(keys(picked)) == ["new", "newer"]
    assert sorted(keys(select_diverse(pool, 10, labelled))) == ["new", "newer"]


def test_diversity_avoids_what_is_like_the_picked_and_the_labelled() -> None:
    labelled = [candidate("old", energy=0.5, spread=0.0, features=[0.0])]
    pool = [
        candidate("near", energy=1.0, features=[0.1]),
        candidate("twin", energy=1.0, features=[4.9]),
        candidate("far", energy=1.0, features=[5.0]),
        candidate("middle", energy=1.0, features=[2.0]),
    ]
    picked = select(pool, HULL, only(diversity=1.0), 4, labelled)
    assert keys(picked) == ["far", "middle", "near", "twin"]


def test_of_equally_far_candidates_the_first_is_picked() -> None:
    far = [candidate(key, features=[5.0 + i * 1e-12]) for i, key in enumerate("abc")]
    pool = [candidate("here"), candidate("near", features=[1.0]), *far]
    assert keys(select_diverse(pool, 2)) == ["here", "a"]
    near = [candidate(key, features=[where]) for key, where in (("b", 0.2), ("c", 0.4))]
    assert keys(select_diverse([candidate("here"), *near], 2)) == ["here", "c"]
    # However far a labelled composition is ahead, each pick there counts once.
    ahead = [candidate(f"third {i}", x=Fraction(1, 3), features=[9.0 + i]) for i in range(3)]
    pool = [*(candidate(str(i), features=[float(i)]) for i in range(1, 5)), *ahead]
    picked = select_diverse(pool, 5, [candidate("half")])
    counts = [sum(key.startswith("third") for key in keys(picked[:n])) for n in range(1, 6)]
    assert counts == [1, 2, 2, 3, 3]


def test_distances_are_relative_to_the_largest_before_anything_is_picked() -> None:
    pool = [candidate("a", features=[0.2]), candidate("b", features=[0.1])]
    near = Distances(pool, [candidate("old", features=[0.0])])
    assert near.relative() == pytest.approx([1.0, 0.5])
    near.pick(0)
    assert near.relative() == pytest.approx([0.0, 0.5])
    new = Distances([*pool, candidate("c", features=[0.4])], [])
    assert new.relative().tolist() == [1.0, 1.0, 1.0]
    new.pick(0)
    assert new.relative() == pytest.approx([0.0, 0.5, 1.0])


def test_the_lowest_of_several_labels_answers_for_its_composition() -> None:
    high, low = (candidate(key, energy=e, spread=0.0) for key, e in (("h", 0.2), ("l", -0.1)))
    found = candidate("found", energy=-0.095)
    for labelled in ([high, low], [low, high]):
        (picked,) = select([found], HULL, WeightedSettings(), 1, labelled)
        assert not picked.reason.startswith("predicted ground state")


def test_nothing_to_pick() -> None:
    assert select([], HULL, WeightedSettings(), 3) == []
    assert select([candidate("a")], HULL, WeightedSettings(), 0) == []
    assert select_diverse([], 3) == []


def test_first_round_covers_every_composition() -> None:
    rng = np.random.default_rng(0)
    pool = [
        candidate(f"{n}-{i}", x=Fraction(n, 4), features=rng.normal(size=3).tolist())
        for n in range(5)
        for i in range(1 if n in (0, 4) else 10)
    ]
    picked = select_diverse(pool, 5)
    assert sorted(keys(picked)) == ["0-0", "1-0", "2-0", "3-0", "4-0"]
    assert keys(picked)[:2] == ["0-0", "4-0"]
    assert keys(select_diverse(pool, 2)) == ["0-0", "4-0"]
    more = keys(select_diverse(pool, 11))
    assert [sum(key.startswith(f"{n}-") for key in more) for n in range(5)] == [1, 3, 3, 3, 1]


def test_first_round_prefers_what_is_unlike() -> None:
    pool = [
        candidate("first", features=[0.0]),
        candidate("near", features=[0.2]),
        candidate("far", features=[3.0]),
        candidate("end", x=Fraction(0), features=[9.0]),
        candidate("other end", x=Fraction(1), features=[9.0]),
    ]
    picked = select_diverse(pool, 4)
    assert keys(picked) == ["end", "other end", "first", "far"]
    reasons = ["end member", "end member", "first at x = 1/2", "unlike the others at x = 1/2"]
    assert [one.reason for one in picked] == reasons
    labelled = [candidate("there", x=Fraction(0)), candidate("too", features=[3.0])]
    assert keys(select_diverse(pool, 2, labelled)) == ["other end", "end"]


@given(
    energies=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    spread=st.floats(0, 1),
    n=st.integers(0, 15),
)
def test_picks_are_distinct_finite_and_as_many_as_there_can_be(
    energies: list[float], spread: float, n: int
) -> None:
    pool = [
        candidate(str(i), energy, spread, x=Fraction(i % 5, 4), features=[energy, i % 3])
        for i, energy in enumerate(energies)
    ]
    for settings in (
        WeightedSettings(),
        WeightedSettings.model_validate(EXACT),
    ):
        picked = select(pool, HULL, settings, n)
        assert len(picked) == len(set(keys(picked))) == min(n, len(pool))
        assert all(math.isfinite(selection.score) for selection in picked)


def test_settings_take_units_and_refuse_nonsense() -> None:
    settings = WeightedSettings.model_validate({"tolerance": "2 meV"})
    assert settings.tolerance == pytest.approx(0.002)
    with pytest.raises(ValidationError):
        WeightedSettings(chance=-1.0)
    with pytest.raises(ValidationError):
        WeightedSettings.model_validate({"chances": 1.0})
