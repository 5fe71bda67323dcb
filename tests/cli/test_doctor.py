"""`al-charge doctor` prints one line for each finding, and its exit code says what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from al_charge.fw import doctor
from al_charge.loop.campaign import Campaign

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sleep", lambda _: None)


def dump(campaign: Campaign) -> dict[str, Any]:
    database = campaign.store.database
    return {
        name: list(database[name].find(sort=[("_id", 1)]))
        for name in sorted(database.list_collection_names())
    }


def test_it_tells_mends_and_then_finds_nothing(run: Run, labelled: Campaign) -> None:
    before = dump(labelled)
    code, out, _ = run("doctor")
    assert (code, "missing round: labelled: " in out) == (1, True)
    assert dump(labelled) == before
    assert run("campaign", "resume", "labelled")[0] == 0
    # Its labels' folders and its failure are worth a note.
    code, out, _ = run("doctor")
    assert code == 0
    assert "note: label given up: label lost of labelled/0: the SCF did not converge" in out
    assert "note: label without files: the database: the files of 6 labels" in out
    assert out.splitlines()[-1] == "nothing is wrong"

    database = labelled.store.database
    database["workflows"].delete_many({})
    database["fireworks"].delete_many({})
    before = dump(labelled)
    line = "missing round: labelled: it is running, but round 0 has no workflow; add it"
    for arguments in (("doctor",), ("doctor", "labelled"), ("doctor", "labelled", "--no-wait")):
        code, out, _ = run(*arguments)
        assert (code, line in out.splitlines()) == (1, True)
        assert out.splitlines()[-1] == "findings: 1; 'al-charge doctor --fix' repairs 1"
    code, out, _ = run("doctor", "labelled", "--json")
    wrong = [finding for finding in json.loads(out)["findings"] if not finding["note"]]
    assert [(one["kind"], one["curable"], one["mended"]) for one in wrong] == [
        ("missing round", True, False)
    ]
    assert code == 1
    assert dump(labelled) == before

    code, out, _ = run("doctor", "labelled", "--fix")
    assert (code, f"repaired: {line}" in out.splitlines()) == (0, True)
    assert out.splitlines()[-1] == "nothing else is wrong"
    assert database["workflows"].count_documents({"metadata.campaign": "labelled"}) == 1
    assert run("doctor", "labelled", "--fix")[1].splitlines()[-1] == "nothing is wrong"


def test_a_label_with_a_missing_file_is_made_again(run: Run, labelled: Campaign) -> None:
    run("campaign", "resume", "labelled")
    labels = labelled.store.database["labels"]
    labels.update_one({"_id": "exact"}, {"$set": {"frames_file": "gone", "frames": []}})
    line = "half-written label: label exact: its frames in GridFS are missing or incomplete"
    code, out, _ = run("doctor")
    assert (code, labels.count_documents({"_id": "exact"})) == (1, 1)
    assert line in out
    code, out, _ = run("doctor", "--fix")
    assert (code, labels.count_documents({"_id": "exact"})) == (0, 0)
    assert f"repaired: {line}" in out
    assert labelled.store.database["damaged"].count_documents({"collection": "labels"}) == 1


def test_a_campaign_that_is_not_there_is_refused(run: Run, labelled: Campaign) -> None:
    code, _, err = run("doctor", "labeled")
    assert (code, "labelled" in err) == (2, True)


def test_an_empty_database_is_healthy_and_stays_empty(
    run: Run, mongodb_client: Any, private_home: Any
) -> None:
    mongodb_client.drop_database("al_charge")
    code, out, _ = run("doctor")
    assert (code, out) == (0, "nothing is wrong\n")
    assert mongodb_client["al_charge"].list_collection_names() == []


def test_resume_says_what_it_mended(run: Run, labelled: Campaign) -> None:
    code, out, _ = run("campaign", "resume", "labelled", "--no-wait")
    assert code == 0
    assert "campaign 'labelled' is running; repaired: missing round (1)" in out
    assert "nothing to repair" in run("campaign", "resume", "labelled")[1]
