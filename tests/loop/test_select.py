"""Which candidates a round labels where a rule sees nothing worth a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from al_charge.acquisition.plugin import Candidate, Choice, Labelled
from al_charge.loop.select import ground_state_to_test

QUARTER, HALF = Fraction(1, 4), Fraction(1, 2)
NOTHING = np.zeros(1)


def choice(
    candidates: Sequence[tuple[Fraction, float, float, float]],
    labels: Sequence[tuple[Fraction, float]],
) -> Choice:
    """Return what there is to choose from; energies and deviations in meV, with costs."""
    x, mean, deviation, cost = zip(*candidates, strict=True)
    return Choice(
        candidates=[Candidate("abcdef"[i], x[i], NOTHING, cost[i]) for i in range(len(x))],
        mean=1e-3 * np.array(mean),
        covariance=np.diag(np.square(1e-3 * np.array(deviation))),
        hull=[(Fraction(0), 0.0), (Fraction(1), 0.0)],
        labelled=[Labelled(f"label {i}", x, 1e-3 * e, NOTHING) for i, (x, e) in enumerate(labels)],
        pending=frozenset(),
        count=3,
        tolerance=1e-3,
    )


def test_the_least_certain_ground_state_without_a_label_is_tested() -> None:
    some = [
        (QUARTER, 33.0, 9.0, 1.0),  # not the lowest, however uncertain
        (QUARTER, 30.0, 5.0, 1.0),
        (HALF, 20.0, 4.0, 1.0),
        (HALF, 60.0, 30.0, 1.0),
    ]
    labels = [(QUARTER, 70.0), (QUARTER, 41.0), (HALF, 22.0)]
    (found,) = ground_state_to_test(choice(some, labels))
    assert (found.key, found.score) == ("b", pytest.approx(0.005))
    assert found.reason == (
        "tests the ground state predicted at x = 1/4, 0 % chance below hull (+30 +- 5 meV/f.u.)"
    )
    # A composition with a lower label, or one as low but for the tolerance, needs no test.
    for lower in (29.0, 30.9):
        (found,) = ground_state_to_test(choice(some, [*labels, (QUARTER, lower)]))
        assert found.key == "c"
    dear = [*some[:1], (QUARTER, 30.0, 5.0, 2.0), *some[2:]]
    assert ground_state_to_test(choice(dear, labels))[0].key == "c"
    # One without any label does.
    assert ground_state_to_test(choice(some, labels[2:]))[0].key == "b"


def test_there_is_no_test_without_need_or_budget() -> None:
    one = choice([(HALF, 20.0, 4.0, 1.0)], [(HALF, 20.0)])
    assert ground_state_to_test(one) == []
    open_ = choice([(HALF, 20.0, 4.0, 1.0)], [(QUARTER, 0.0)])
    assert [found.key for found in ground_state_to_test(open_)] == ["a"]
    assert ground_state_to_test(replace(open_, count=0)) == []
    empty = replace(open_, candidates=[], mean=np.empty(0), covariance=np.empty((0, 0)))
    assert ground_state_to_test(empty) == []
