"""Convergence: each criterion decides alone, and only rounds in a row count."""

from __future__ import annotations

import pytest

from al_charge.loop.convergence import HullState, criteria, rounds_held
from al_charge.loop.spec import ConvergenceSettings
from al_charge.store.documents import Vertex

SETTINGS = ConvergenceSettings(hull_tolerance="1 meV")
VERTICES = (Vertex("0", "a"), Vertex("1/2", "b"), Vertex("1", "c"))
SETTLED = HullState(VERTICES, shift=0.0004, unlabelled_vertices=(), p_below_hull=0.01)


def met(now: HullState, before: HullState | None) -> list[bool]:
    return [criterion.met for criterion in criteria(now, before, SETTINGS)]


def test_all_criteria_hold_for_a_settled_hull() -> None:
    assert met(SETTLED, SETTLED) == [True] * 4


def test_nothing_holds_in_the_first_round() -> None:
    first = HullState(VERTICES, shift=None, unlabelled_vertices=None, p_below_hull=None)
    assert met(first, None) == [False] * 4


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        ({"vertices": VERTICES[::2]}, 0),
        ({"shift": 0.001}, 1),
        ({"unlabelled_vertices": ("1/2",)}, 2),
        ({"p_below_hull": 0.05}, 3),
    ],
)
def test_one_criterion_alone_prevents_convergence(change: dict[str, object], failing: int) -> None:
    now = HullState(**{**SETTLED.__dict__, **change})  # type: ignore[arg-type]
    assert met(now, SETTLED) == [i != failing for i in range(4)]


def test_a_twin_of_the_same_composition_is_the_same_vertex() -> None:
    twin = (VERTICES[0], Vertex("1/2", "twin"), VERTICES[2])
    assert met(HullState(twin, 0.0, (), 0.0), SETTLED)[0]


def test_a_round_without_a_usable_label_shows_nothing_of_the_hull() -> None:
    """Unless none was requested, since hardly anything can lie lower."""
    fields = SETTLED.__dict__
    failed = HullState(**(fields | {"gained": False}))
    assert met(failed, SETTLED) == [False, False, True, True]
    nothing_to_ask = HullState(**(fields | {"gained": False, "asked": False}))
    assert met(nothing_to_ask, SETTLED) == [True] * 4
    unsettled = HullState(**(fields | {"gained": False, "asked": False, "p_below_hull": 0.06}))
    assert met(unsettled, SETTLED) == [False, False, True, False]
    unknown = HullState(**(fields | {"gained": False, "asked": False, "p_below_hull": None}))
    assert met(unknown, SETTLED) == [False, False, True, False]
    assert "no new usable label" in criteria(failed, SETTLED, SETTINGS)[0].value


def test_only_rounds_in_a_row_count() -> None:
    good = criteria(SETTLED, SETTLED, SETTINGS)
    bad = criteria(SETTLED, None, SETTINGS)
    assert rounds_held([]) == 0
    assert rounds_held([good, bad, good, good]) == 2
    assert rounds_held([good, good, bad]) == 0
