"""Published rules pick what their papers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from al_charge.acquisition.plugin import AcquisitionPlugin, Candidate, Choice, Labelled, Selection
from al_charge.acquisition.published import (
    HullAreaPlugin,
    HullInformationPlugin,
    LargestSpreadPlugin,
    LcmdPlugin,
    LowestEnergyPlugin,
    RandomPlugin,
)
from al_charge.testing.acquisitions import AcquisitionContract

QUARTER, HALF = Fraction(1, 4), Fraction(1, 2)


class TestHullArea(AcquisitionContract):
    plugin = HullAreaPlugin()


class TestHullInformation(AcquisitionContract):
    plugin = HullInformationPlugin()


class TestLowestEnergy(AcquisitionContract):
    plugin = LowestEnergyPlugin()


class TestLargestSpread(AcquisitionContract):
    plugin = LargestSpreadPlugin()


class TestLcmd(AcquisitionContract):
    plugin = LcmdPlugin()


class TestRandom(AcquisitionContract):
    plugin = RandomPlugin()


def select(plugin: AcquisitionPlugin, choice: Choice, seed: int = 0) -> list[Selection]:
    return list(
        plugin.select(choice, plugin.settings(kind=plugin.kind), np.random.default_rng(seed))
    )


def keys(plugin: AcquisitionPlugin, choice: Choice, seed: int = 0) -> str:
    return "".join(one.key for one in select(plugin, choice, seed))


def test_area_is_half_of_the_expected_improvement(choose: Callable[..., Choice]) -> None:
    (picked,) = select(HullAreaPlugin(), choose([QUARTER], [3.0], [10.0]))
    improvement = 10.0 * (-0.3 * norm.cdf(-0.3) + norm.pdf(0.3))
    assert picked.score == pytest.approx(1e-3 * improvement / 2, rel=0.01)
    assert picked.reason.startswith(f"adds {improvement / 2:.2f} meV to the hull's area, 38 %")


def test_area_counts_what_is_picked_or_pending_already(choose: Callable[..., Choice]) -> None:
    choice = choose([HALF, HALF, QUARTER], [-20.0, -19.0, -1.0], [3.0, 3.0, 3.0])
    assert keys(HullAreaPlugin(), choice)[:2] == "ab"
    low = choose([HALF, HALF, QUARTER], [-20.0, -19.0, -14.0], [1.0, 1.0, 1.0])
    assert keys(HullAreaPlugin(), low)[:2] == "ac"
    assert keys(HullAreaPlugin(), replace(low, pending=frozenset("a")))[0] == "c"


def test_information_of_one_candidate(choose: Callable[..., Choice]) -> None:
    """All that there is to know: the hull is then known to within the tolerance."""
    (picked,) = select(HullInformationPlugin(), choose([HALF], [-100.0], [10.0]))
    assert picked.score == pytest.approx(0.5 * np.log(1 + 10.0**2), rel=0.02)


def test_information_counts_what_is_told_of_others(choose: Callable[..., Choice]) -> None:
    shared = np.array([[1.0, 0.99, 0.0], [0.99, 1.0, 0.0], [0.0, 0.0, 1.0]])
    x = [QUARTER, HALF, Fraction(3, 4)]
    choice = choose(x, [-60.0, -90.0, -60.0], [10.0] * 3, shared, cost=[1.0, 1.0, 1e-9])
    assert set(keys(HullInformationPlugin(), choice)[:2]) in ({"a", "c"}, {"b", "c"})
    assert keys(HullInformationPlugin(), choice)[0] != "c"


def test_order_by_energy_above_hull_and_by_spread(choose: Callable[..., Choice]) -> None:
    hull = [(Fraction(0), 0.0), (HALF, -0.05), (Fraction(1), 0.0)]
    choice = choose([HALF, QUARTER, HALF], [-40.0, -24.0, -55.0], [5.0, 3.0, 4.0], hull=hull)
    assert keys(LowestEnergyPlugin(), choice) == "cba"
    assert keys(LargestSpreadPlugin(), choice) == "acb"
    assert keys(LargestSpreadPlugin(), replace(choice, count=1)) == "a"


def test_random_picks_are_all_equally_likely(choose: Callable[..., Choice]) -> None:
    choice = choose([HALF] * 4, [-9.0, 0.0, 0.0, 9.0], [1.0, 2.0, 3.0, 4.0], count=1)
    counts = Counter(keys(RandomPlugin(), choice, seed) for seed in range(400))
    assert set(counts) == set("abcd")
    assert max(counts.values()) < 140


def test_lcmd_takes_the_farthest_of_the_largest_cluster(choose: Callable[..., Choice]) -> None:
    places = {"a": 0.9, "b": 1.1, "c": 1.0, "d": 11.5, "e": 10.1}
    choice = replace(
        choose([HALF] * 5, [0.0] * 5, [1.0] * 5),
        candidates=[Candidate(key, HALF, np.array([place])) for key, place in places.items()],
        labelled=[Labelled(str(x), HALF, 0.0, np.array([x])) for x in (0.0, 10.0)],
    )
    # Sums of squares: 3.02 about 0 and 2.26 about 10, though d is the farthest of all.
    assert keys(LcmdPlugin(), choice)[:3] == "bda"
    farther = [
        replace(one, features=one.features + 0.3 * (one.key == "d")) for one in choice.candidates
    ]
    # Now 3.02 and 3.25, where sums of distances are 3 and 1.9.
    assert keys(LcmdPlugin(), replace(choice, candidates=farther))[:2] == "db"
    assert keys(LcmdPlugin(), replace(choice, pending=frozenset("b")))[0] == "d"
    assert keys(LcmdPlugin(), replace(choice, labelled=[]))[:2] == "ad"
