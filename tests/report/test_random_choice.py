"""What random choice would need: against every order of small cases, and against drawing."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import comb

import numpy as np
import pytest

from al_charge.report.campaign_report.random_choice import random_choice

HALF = Fraction(1, 2)
THIRD = Fraction(1, 3)


@pytest.mark.parametrize(
    ("counts", "vertices"),
    [
        ({0: 1, HALF: 5, 1: 1}, [0, HALF, 1]),
        ({0: 1, THIRD: 2, HALF: 4, 1: 1}, [0, THIRD, HALF, 1]),
        ({0: 2, HALF: 3, 1: 1}, [0, HALF, 1]),
        ({0: 2, HALF: 2, 1: 3}, [0, 1]),
    ],
)
def test_every_order_of_drawing_has_that_mean_and_those_shares(
    counts: dict[Fraction, int], vertices: list[Fraction]
) -> None:
    # One configuration of each vertex is wanted; ends with but one are labelled before.
    ends = {x for x in (0, 1) if counts[x] == 1}
    pool = [(x, n) for x, number in counts.items() if x not in ends for n in range(number)]
    wanted = {(x, 0) for x in vertices if x not in ends}
    last = [
        len(ends) + max(place + 1 for place, one in enumerate(order) if one in wanted)
        for order in permutations(pool)
    ]
    found = random_choice(counts, vertices)
    assert found is not None
    assert found.labels == pytest.approx(np.mean(last), abs=1e-12)
    for bound, share in ((found.low, 0.05), (found.high, 0.95)):
        assert np.mean([one <= bound for one in last]) >= share
        assert np.mean([one <= bound - 1 for one in last]) < share
    assert (found.given, found.vertices, found.configurations) == (
        len(ends), len(wanted), len(pool),
    )  # fmt: skip


def test_drawing_from_the_demos_host_agrees() -> None:
    """Olivine 1x2x1 with vertices at 0, 1/2, 3/4 and 1; seeded."""
    numbers = [1, 4, 64, 196, 344, 196, 64, 4, 1]
    counts = {Fraction(k, 8): number for k, number in enumerate(numbers)}
    found = random_choice(counts, [Fraction(0), HALF, Fraction(3, 4), Fraction(1)])
    assert found is not None
    rng = np.random.default_rng(1)
    drawn = 2 + np.array([rng.permutation(872)[:2].max() + 1 for _ in range(4000)])
    error = drawn.std() / np.sqrt(len(drawn))
    assert abs(drawn.mean() - found.labels) < 4 * error
    assert abs(np.mean(drawn <= found.high) - 0.95) < 0.02
    assert abs(np.mean(drawn <= found.low) - 0.05) < 0.02
    assert found.labels == pytest.approx(584)


def test_large_spaces_are_no_trouble() -> None:
    counts = {Fraction(0): 1, HALF: 10**12, Fraction(1): 1}
    found = random_choice(counts, [Fraction(0), HALF, Fraction(1)])
    assert found is not None
    assert found.labels == pytest.approx(5e11, rel=1e-6)
    assert found.high == pytest.approx(0.95e12, rel=1e-9)
    assert comb(10**12, 1) == 10**12


def test_nothing_is_estimated_where_nothing_is_to_be_drawn() -> None:
    assert (
        random_choice({Fraction(0): 1, HALF: 9, Fraction(1): 1}, [Fraction(0), Fraction(1)]) is None
    )
    assert random_choice({}, []) is None
