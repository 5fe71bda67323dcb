"""The panel of a campaign under way shows what a user wants to know."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from al_charge.report.progress import core_time, status_panel

STATUS: dict[str, Any] = {
    "campaign": "olivine",
    "state": "running",
    "reason": "",
    "tasks": {"COMPLETED": 12, "RUNNING": 2},
    "workers": [
        {"worker": "1@a@1", "host": "a", "seconds_silent": 20.0, "silent": False, "state": ""},
        {
            "worker": "2@a@1",
            "host": "a",
            "seconds_silent": 420.0,
            "silent": True,
            "state": "T (stopped)",
        },
        {"worker": "3@b@1", "host": "b", "seconds_silent": 3.0, "silent": False, "state": ""},
    ],
    "restarting": [
        {"task": "olivine/1 label 2", "restarts": 11, "reason": "the time limit of 3 s is over"}
    ],
    "labels_used": 20,
    "max_labels": 100,
    "ambiguous": [
        {"label": "fedcba4321", "x": "3/4", "reason": "moments of atoms 5 fit no charge state"},
        {"label": "0123456789", "x": "1/2", "reason": "moments of atoms 4 fit no charge state"},
    ],
    "delocalised": 0,
    "unusable": [],
    "charge_orders": {"round": 1, "compared": 40, "flagged": 3},
    "failures": [{"label": "abcdef1234", "round": 1, "reason": "the SCF did not converge"}],
    "criteria": [
        {
            "name": "the hull moved by less than its tolerance",
            "met": False,
            "value": "3.10 meV/f.u.",
        }
    ],
    "electrons": [
        {"x": "1", "outcome": "Co3+ low is the lowest of 6 runs in other states", "left_out": ["a"]}
    ],
    "verification": None,
    "rounds_held": 0,
    "rounds_needed": 2,
    "seconds_left": 400.0,
    "progress": {"train 0": [3, 5], "train 1": [5, 5]},
    "used": {
        "label": {"runs": 14, "seconds": 1190.0, "core_seconds": 4760.0},
        "workers": {"runs": 2, "seconds": 1800.0, "core_seconds": 7200.0},
    },
    "rounds": [
        {
            "round": 1,
            "selected": 16,
            "labels": 36,
            "hull_shift": 0.0031,
            "p_below_hull": 0.034,
            "compositions": [{"x": "1/4", "p_lower": 0.31}, {"x": "1/2", "p_lower": 0.049}],
            "coverage": {"labels": 16, "within_68": 0.6875, "within_95": 1.0},
            "vertices": ["0", "1/2", "1"],
            "criteria_met": 1,
            "verification": False,
            "stage_seconds": {"train": 75.0},
        }
    ],
}


def rendered(status: dict[str, Any], width: int = 140, **more: Any) -> str:
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(status_panel(status, **more))
    return capture.get()


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ((0.0,), "0 core seconds"),
        ((3.22e-8,), "0 core seconds"),
        ((3.22e-5,), "0.116 core seconds"),
        ((0.0504,), "3.02 core minutes"),
        ((0.99,), "59.4 core minutes"),
        ((1.0,), "1 core hour"),
        ((12345.6,), "12346 core hours"),
        ((0.001, 2.0), "0.001 to 2 core hours"),
        ((0.02, 0.02), "1.2 core minutes"),
    ],
)
def test_times_of_cores_need_no_exponent(hours: tuple[float, ...], told: str) -> None:
    assert core_time(*hours) == told


def test_panel_shows_tasks_labels_hull_and_time_left() -> None:
    text = rendered(STATUS)
    for words in (
        "campaign olivine: running",
        "labels 20 of at most 100",
        "12 completed, 2 running",
        "about 7 min left if every criterion keeps holding",
        "time used: label 20 min (14 runs); workers 30 min, 2 core hours",
        "workers: 2 on a, seen 20 s ago, 1 on b, seen 3 s ago",
        "2@a@1: alive, silent for 7 min, state T (stopped)",
        "olivine/1 label 2: returned to the queue 11 times without progress: the time limit of 3 s "
        "is over",
        "3.10 meV/f.u.",
        "0 1/2 1",
        "held for 0 of 2 rounds",
        "3.4 %",
        "states below the lowest label may exist at x = 1/4 (31 %)",
        "error bars held in round 1: 69 % of 16 within 68 %, 100 % of 16 within 95 %",
        "3 of 40 candidates of round 1: the committee disagrees with their charge order",
        "x = 1: Co3+ low is the lowest of 6 runs in other states; 1 other state is not run",
        "2 labels ambiguous, the last 01234567 at x = 1/2: moments of atoms 4 fit no charge state",
        "1 label given up, the last abcdef12: the SCF did not converge",
        "'al-charge labels olivine' lists them",
    ):
        assert words in " ".join(text.replace("│", " ").split())
    assert "unusable" not in text
    assert "delocalised" not in text
    one, two = (rendered(STATUS | {"delocalised": number}) for number in (1, 2))
    assert "1 label is delocalised: on the hull, and teaches no charge order" in one
    assert "2 labels are delocalised: on the hull, and teach no charge order" in two


def test_a_campaign_without_workers_says_so() -> None:
    nobody = {"workers": []}
    left = "no worker is left; start one with 'al-charge worker olivine'"
    assert left in rendered(STATUS | nobody)
    new = rendered(STATUS | nobody | {"tasks": {"READY": 2}})
    assert "there is no worker yet; start one with 'al-charge worker olivine'" in new
    assert "start one with" not in rendered(STATUS | nobody | {"state": "converged"})
    mine = rendered(STATUS | nobody | {"tasks": {"READY": 2}}, starting=2)
    assert "starting 2 workers" in mine and "start one with" not in mine
    assert left in rendered(STATUS | nobody, starting=2)


def test_workers_that_have_run_no_task_yet_used_something_all_the_same() -> None:
    assert "│ workers 30 min, 2 core hours" in rendered(
        STATUS | {"used": {"workers": STATUS["used"]["workers"]}}
    )


def test_a_round_without_predictions_says_nothing_of_what_lies_below() -> None:
    line = STATUS["rounds"][0] | {"p_below_hull": None, "compositions": [], "coverage": None}
    text = rendered(STATUS | {"rounds": [line]})
    assert "lower states" not in text and "error bars" not in text
    text = rendered(STATUS | {"rounds": [STATUS["rounds"][0], line]})
    assert "error bars held in round 1" in text


def test_only_tasks_under_way_have_a_bar() -> None:
    text = rendered(STATUS)
    assert "3 of 5" in text
    assert "train 1" not in text


def test_the_first_kind_of_task_with_some_left_has_a_bar() -> None:
    counts = {"train": (0, 3), "label": (1, 7), "propose": (9, 9), "assess": (0, 1)}
    assert ["1 of 7" in (text := rendered(STATUS, counts=counts)), "of 9" in text] == [True, False]
    text = rendered(STATUS, counts=counts | {"propose": (2, 9)})
    assert ["2 of 9" in text, "1 of 7" in text] == [True, False]


@pytest.mark.parametrize("width", range(40, 140, 4))
def test_no_quantity_is_broken_and_no_reason_is_cut(width: int) -> None:
    reason = "4 rounds; the hull moved [too much] (430.52 meV/f.u., limit 1); " + "word " * 40
    kinds = {"label": (69, 53.0), "propose": (20, 74.0), "select": (4, 3.0), "train": (4, 120.0)}
    used = {
        kind: {"runs": runs, "seconds": seconds, "core_seconds": seconds}
        for kind, (runs, seconds) in kinds.items()
    }
    status = STATUS | {
        "state": "exhausted",
        "reason": reason + "end",
        "tasks": {"COMPLETED": 13, "READY": 16, "RUNNING": 2, "WAITING": 4},
        "used": used | {"workers": {"runs": 2, "seconds": 12.0, "core_seconds": 24.6}},
    }
    lines = [line.strip("│ ") for line in rendered(status, width).splitlines()]
    for whole in (
        "13 completed", "16 ready", "2 running", "4 waiting", "430.52 meV/f.u.", "[too", "end",
        "53 s (69 runs)", "74 s (20 runs)", "3 s (4 runs)", "2 min (4 runs)", "12 s", "24.6 core",
        "x = 1/4 (31 %)", "100 % of", "95 %",
    ):  # fmt: skip
        assert any(whole in line for line in lines), whole


def test_only_vertices_wrap_at_80_columns() -> None:
    vertices = ["0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1"]
    line = STATUS["rounds"][0] | {"hull_shift": 0.99625, "vertices": vertices}
    text = rendered(STATUS | {"rounds": [line]}, 80)
    assert "996.25 meV/f.u." in text and "1 of 4    75 s" in text
    assert all(vertex in text for vertex in vertices)


def test_ended_campaign_says_why_and_promises_no_time() -> None:
    text = rendered(STATUS | {"state": "converged", "reason": "every criterion held"})
    assert "every criterion held" in text
    assert "left" not in text


def test_verified_hull_is_called_that() -> None:
    line = STATUS["rounds"][0] | {"round": 2, "verification": True}
    verification = {"verified": True, "outcome": "verified by relaxing 5 configurations"}
    text = rendered(STATUS | {"rounds": [*STATUS["rounds"], line], "verification": verification})
    assert "hull: verified by relaxing 5 configurations" in text
    rows = [row.split() for row in text.splitlines() if "0 1/2 1" in row]
    assert ["1" in rows[0], "verification" in rows[0]] == [True, False]
    assert ["2" in rows[1], "verification" in rows[1]] == [True, True]
