"""Which candidates a round labels where a rule sees nothing worth a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from al_charge.acquisition.plugin import Candidate, Choice, Labelled
from al_charge.loop.select import TEST, _tested_in_vain, ground_state_to_test
from al_charge.store.label_documents import Refusal

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
    dear = [*some[:1], (QUARTER, 30.0, 5.0, 20.0), *some[2:]]  # it is one label, whatever it costs
    assert ground_state_to_test(choice(dear, labels))[0].key == "b"
    assert ground_state_to_test(choice(some, labels), {QUARTER})[0].key == "c"
    assert ground_state_to_test(choice(some, labels), {QUARTER, HALF}) == []
    # One without any label does.
    assert ground_state_to_test(choice(some, labels[2:]))[0].key == "b"


def test_a_composition_whose_test_brought_no_label_is_not_tested_again() -> None:
    """One that was tested in round 3 brought one; other rounds without a label tested nothing."""
    told = {
        1: ["takes 3 of 9 meV/f.u. off the hull's uncertainty"],
        2: [TEST + "1/2, 0 % chance below hull"],
        3: [TEST + "1/4, 0 % chance below hull"],
        4: [],
        5: None,
    }
    rounds = [
        SimpleNamespace(
            number=number,
            selected=None if reasons is None else [str(number) for _ in reasons],
            reasons=reasons or [],
        )
        for number, reasons in told.items()
    ]
    candidates = {str(number): SimpleNamespace(composition=f"{number}/8") for number in told}
    store = SimpleNamespace(
        rounds=SimpleNamespace(all=lambda name: rounds),
        candidates=SimpleNamespace(stream=lambda ids: [candidates[one] for one in ids]),
    )
    labels = [
        SimpleNamespace(used=3, refusal=None),
        SimpleNamespace(used=2, refusal=Refusal.AMBIGUOUS),
    ]
    campaign: Any = SimpleNamespace(name="c", store=store)
    assert _tested_in_vain(campaign, cast(Any, labels)) == {Fraction(2, 8)}
    assert _tested_in_vain(campaign, []) == {Fraction(2, 8), Fraction(3, 8)}


def test_there_is_no_test_without_need_or_budget() -> None:
    one = choice([(HALF, 20.0, 4.0, 1.0)], [(HALF, 20.0)])
    assert ground_state_to_test(one) == []
    open_ = choice([(HALF, 20.0, 4.0, 1.0)], [(QUARTER, 0.0)])
    assert [found.key for found in ground_state_to_test(open_)] == ["a"]
    assert ground_state_to_test(replace(open_, count=0)) == []
    empty = replace(open_, candidates=[], mean=np.empty(0), covariance=np.empty((0, 0)))
    assert ground_state_to_test(empty) == []
