"""Tasks that start again and again and get no further are told of."""

from __future__ import annotations

from typing import Any

import pytest

from al_charge.fw.doctor import look
from al_charge.fw.lost_runs import release
from al_charge.fw.restarts import RESTARTS, restarting
from al_charge.store.attempts import CONTINUED, METAL, RETRIED, UNFINISHED

pytestmark = pytest.mark.mongod


def found(patient: Any) -> list[tuple[int, str]]:
    some = restarting(patient.launchpad, patient.scene.store, patient.campaign.name)
    return [(one.restarts, one.reason) for one in some]


def only(patient: Any, **fields: Any) -> int:
    """Leave one task to workers; return its Firework."""
    first = {"spec._tasks.0.n_ions": 0}
    fw_id = int(patient.launchpad.fireworks.find_one(first)["fw_id"])
    others = {"fw_id": {"$ne": fw_id}}
    patient.launchpad.fireworks.update_many(others, {"$set": {"spec._category": "gpu"}})
    patient.firework(fw_id, **(fields or {"state": "READY"}))
    return fw_id


def hand_back(patient: Any, times: int) -> int:
    """Run a label some times; return its Firework."""
    fw_id = only(patient, name=f"{patient.campaign.name}/0 label 0", **{"spec._tasks.0.slot": 0})
    for _ in range(times):
        ran, launch = patient.run()
        assert ran == fw_id
        release(patient.launchpad, [launch], "its worker had to end")
    return fw_id


def attempt(patient: Any, outcome: str | None, reason: str = "", key: str = "k") -> None:
    journal = patient.scene.store.attempts
    one = journal.start(key, campaign=patient.campaign.name, round=0, slot=0)
    if outcome is not None:
        journal.finish(one, outcome, reason)


def test_a_label_that_gets_no_further_is_told_of(patient: Any) -> None:
    fw_id = hand_back(patient, RESTARTS - 1)
    for number in range(RESTARTS - 1):
        attempt(patient, UNFINISHED, f"the limit of 3 s, {number}")
    attempt(patient, UNFINISHED, "of another label", key=METAL + "Na")
    assert found(patient) == []
    hand_back(patient, 1)
    assert found(patient) == []
    attempt(patient, UNFINISHED, "the limit of 3 s")
    attempt(patient, None)
    assert found(patient) == [(RESTARTS, "the limit of 3 s")]
    (finding,) = [one for one in look(patient.scene) if one.kind == "restarting task"]
    assert finding.where == f"{patient.campaign.name}/0 label 0 ({fw_id})"
    assert "returned to the queue 3 times without progress: the limit of 3 s" in finding.what
    assert finding.fix is None
    assert not finding.note
    assert restarting(patient.launchpad, patient.scene.store, "another") == []


@pytest.mark.parametrize("outcome", [CONTINUED, RETRIED])
def test_a_label_that_gets_further_is_not(patient: Any, outcome: str) -> None:
    hand_back(patient, RESTARTS + 1)
    for one in (UNFINISHED, UNFINISHED, outcome, UNFINISHED, UNFINISHED):
        attempt(patient, one)
    assert found(patient) == []


def test_one_whose_workers_are_killed_is(patient: Any) -> None:
    """Their attempts stay open, the last one may be running."""
    hand_back(patient, RESTARTS)
    for _ in range(RESTARTS + 1):
        attempt(patient, None)
    assert found(patient) == [(RESTARTS, "its worker was killed")]


def test_of_other_tasks_every_start_counts(patient: Any) -> None:
    keep = only(patient)
    for times in range(RESTARTS):
        assert found(patient) == []
        ran, launch = patient.run()
        assert ran == keep
        release(patient.launchpad, [launch], f"killed {times}")
    assert found(patient) == [(RESTARTS, f"killed {RESTARTS - 1}")]
    patient.firework(keep, state="COMPLETED")
    assert found(patient) == []


def test_a_campaign_without_workers_is_found(patient: Any) -> None:
    patient.launchpad.db["workers"].delete_many({})
    (finding,) = look(patient.scene)
    assert (finding.kind, finding.where) == ("no worker", patient.campaign.name)
    assert finding.note
    patient.scene.store.campaigns.set_state(patient.campaign.name, "paused", "")
    assert look(patient.scene) == []
