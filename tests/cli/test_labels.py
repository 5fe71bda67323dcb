"""`al-charge labels` and `campaign status` tell which labels are what was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from al_charge.loop.campaign import Campaign
from al_charge.store.documents import Assessment, RoundDoc

DIGITS = "123456789012345678901234"
Run = Callable[..., tuple[int, str, str]]


def test_labels_document(run: Run, labelled: Campaign) -> None:
    code, out, err = run("labels", "labelled", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    labels = {label["label"]: label for label in document["labels"]}
    assert [label["x"] for label in document["labels"]] == ["0", "1/2", "1/2", "1/2", "1/2", "1"]
    assert set(labels) == {DIGITS, "exact", "other", "blurred", "changed", "whole"}
    assert [key for key, label in labels.items() if label["as_requested"]] == [
        DIGITS, "changed", "exact", "whole",
    ]  # fmt: skip
    assert [key for key, label in labels.items() if label["ambiguous"]] == ["blurred"]
    assert [key for key, label in labels.items() if label["unusable"]] == ["changed"]
    assert labels["exact"]["moments"] == {"Fe2+": [3.4, 3.4], "Fe3+": [4.25, 4.25]}
    assert "Fe?" in labels["blurred"]["moments"]
    assert set(labels["exact"]["bader"]) == {"Fe2+", "Fe3+"}
    assert labels["whole"]["bader"] == {}
    assert labels["whole"]["bader_refused"].startswith("the grid is too coarse")
    assert labels["exact"]["refused"] == ""
    assert "ENCUT" in labels["changed"]["refused"]
    assert labels["exact"]["attempts"][1] == {"changed": "slower mixing", "outcome": "converged"}
    assert labels["exact"]["energy_per_formula"] == pytest.approx(-192.123456789012 / 4)
    assert document["quarantined"] == [
        {"label": "lost", "round": 0, "attempts": 3, "reason": "the SCF did not converge"}
    ]


def test_the_share_with_the_order_asked_for_is_told_by_composition(
    run: Run, labelled: Campaign
) -> None:
    document = json.loads(run("labels", "labelled", "--json")[1])
    ends = {"labels": 1, "as_requested": 1, "fraction": 1.0, "ambiguous": 0, "unusable": 0}
    ends["delocalised"] = 0
    half = {"labels": 4, "as_requested": 2, "fraction": 0.5, "ambiguous": 1, "unusable": 1}
    half["delocalised"] = 0
    assert document["compositions"] == [
        {"x": "0", **ends},
        {"x": "1/2", **half},
        {"x": "1", **ends},
    ]
    assert document["mixed"] == half


def test_labels_table(run: Run, labelled: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    code, out, err = run("labels", "labelled")
    assert (code, err) == (0, "")
    lines = {name: line for line in out.splitlines() for name in ("exact", "other") if name in line}
    assert "as requested" in lines["exact"]
    assert "Fe2+ 3.40" in lines["exact"]
    assert "Fe3+ 4.25" in out
    assert "another" in lines["other"]
    assert "cell" in next(line for line in out.splitlines() if DIGITS[:8] in line)
    assert "182 s" in lines["exact"]
    assert "fit no charge state" in out
    assert "custodian changed ENCUT" in out
    assert "gpaw 26.7.0" in out
    assert any("1/2" in line and "50 %" in line for line in out.splitlines())
    assert "given up lost: the SCF did not converge" in out
    assert "mixed: labels with more than one charge state of an element" in out


def test_a_campaign_without_labels_has_an_empty_list(run: Run, labelled: Campaign) -> None:
    labelled.store.database["label_uses"].delete_many({})
    document = json.loads(run("labels", "labelled", "--json")[1])
    assert document["labels"] == document["compositions"] == []
    assert document["mixed"]["fraction"] is None
    code, out, _ = run("labels", "labelled")
    assert code == 0 and "mixed" not in out


def test_the_status_tells_what_is_kept_from_the_hull(
    run: Run, labelled: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    code, out, err = run("campaign", "status", "labelled", "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["labels_used"] == 6
    (ambiguous,) = document["ambiguous"]
    assert (ambiguous["label"], ambiguous["x"]) == ("blurred", "1/2")
    assert "fit no charge state" in ambiguous["reason"]
    (unusable,) = document["unusable"]
    assert unusable["reason"] == "custodian changed ENCUT from 520 to 600"
    assert [failure["label"] for failure in document["failures"]] == ["lost"]
    panel = run("campaign", "status", "labelled")[1]
    for line in ("1 label ambiguous", "1 label unusable", "1 label given up"):
        assert line in panel
    assert panel.count("'al-charge labels labelled' lists them") == 3


def test_the_status_tells_whether_the_hull_is_verified(
    run: Run, labelled: Campaign, make_assessment: Callable[..., Assessment]
) -> None:
    met = [{"name": f"criterion {i}", "met": True, "value": "yes"} for i in range(4)]
    unmet = [criterion | {"met": False} for criterion in met]
    verification = {
        "relax": "ions",
        "relaxed": 3,
        "same_vertices": True,
        "lowered": 0.01,
        "failed": [],
        "verified": True,
    }
    common = {"vertices": [["0", "a"], ["1", "b"]], "labels": 6}
    for number, assessment in enumerate(
        (
            {"criteria": met, "verify_next": True, "verification": None},
            {"criteria": unmet, "verify_next": False, "verification": verification},
        )
    ):
        labelled.store.rounds.add(RoundDoc(campaign="labelled", number=number))
        found = make_assessment(**common, **assessment)
        labelled.store.rounds.record_assessment("labelled", number, found, ["k"], np.zeros((2, 1)))
        document = json.loads(run("campaign", "status", "labelled", "--json")[1])
        assert document["criteria"] == met
        assert document["rounds_held"] == 1
        assert (document["verification"] is None) is (number == 0)
    assert document["verification"] == verification | {
        "outcome": "verified by relaxing 3 configurations"
    }
    assert [row["verification"] for row in document["rounds"]] == [False, True]
    assert "hull: verified by relaxing 3 configurations" in run("campaign", "status", "labelled")[1]
