"""Tasks wait for a model that was lost, and nobody has to say so."""

from __future__ import annotations

from typing import Any

import pytest

from al_charge.errors import UnfinishedError
from al_charge.fw import worker
from al_charge.fw.doctor import mend
from al_charge.fw.retraining import train_again, waiting
from al_charge.fw.status import blocking_failure
from al_charge.fw.tasks import ensure_round
from al_charge.loop.train import FRESH, start_of
from al_charge.store.documents import ModelDoc

pytestmark = pytest.mark.mongod


@pytest.fixture
def second(patient: Any) -> Any:
    """A campaign whose second round has begun, on the models of the first."""
    name, store = patient.campaign.name, patient.scene.store
    for member in range(patient.campaign.spec.committee.size):
        store.models.put(ModelDoc(campaign=name, round=0, member=member, config={}), b"w", {})
    states(patient, 0, "COMPLETED")
    ensure_round(patient.launchpad, patient.campaign, 1)
    return patient


def states(patient: Any, number: int, state: str, task: str = "") -> None:
    where = {"spec.round": number, "name": {"$regex": f"/{number} {task}"}}
    for one in list(patient.launchpad.fireworks.find(where, {"fw_id": 1})):
        patient.firework(one["fw_id"], state=state)
        told = {"$set": {f"fw_states.{one['fw_id']}": state}}
        patient.launchpad.workflows.update_one({"nodes": one["fw_id"]}, told)


def lose(patient: Any, member: int, number: int = 0) -> None:
    doc_id = ModelDoc.id_of(patient.campaign.name, number, member)
    patient.scene.store.database["models"].delete_one({"_id": doc_id})


def of(patient: Any, *names: str) -> set[int]:
    found = patient.launchpad.fireworks.find({"name": {"$regex": f"/1 ({'|'.join(names)})"}})
    return {one["fw_id"] for one in found}


def state_of(patient: Any, task: str) -> str:
    return str(patient.task(task)["state"])


def test_nothing_waits_while_every_model_is_there(second: Any) -> None:
    assert waiting(second.launchpad, second.campaign.name) == {}
    assert train_again(second.launchpad, second.campaign.name) == []
    assert state_of(second, "train 1") == "COMPLETED"


def test_what_needs_a_lost_model_waits_until_it_is_there_again(second: Any) -> None:
    launchpad, name = second.launchpad, second.campaign.name
    lose(second, 1)
    states(second, 1, "READY", "(label|train)")
    waits = of(second, "propose", "train")
    assert len(waits) > second.campaign.spec.committee.size
    for _ in range(2):  # the second time it is on its way
        assert set(train_again(launchpad, name)) == waits  # and labels go on
    assert state_of(second, "train 1") == "READY"
    assert state_of(second, "assess") == "WAITING"
    assert {state_of(second, f"train {i}") for i in (0, 2)} == {"COMPLETED"}
    assert blocking_failure(launchpad, name) is None
    model = ModelDoc(campaign=name, round=0, member=1, config={})
    second.scene.store.models.put(model, b"w", {})
    assert train_again(launchpad, name) == []


def test_an_assessment_waits_for_the_models_of_its_own_round(second: Any) -> None:
    name = second.campaign.name
    states(second, 1, "COMPLETED")
    states(second, 1, "READY", "assess")
    for member in range(second.campaign.spec.committee.size):
        model = ModelDoc(campaign=name, round=1, member=member, config={})
        second.scene.store.models.put(model, b"w", {})
    lose(second, 0)  # which is needed no longer
    assert train_again(second.launchpad, name) == []
    lose(second, 2, number=1)
    assert set(train_again(second.launchpad, name)) == of(second, "assess")


def test_a_training_that_fails_stops_the_campaign(second: Any) -> None:
    """What waits for it is ready, and would be for ever."""
    lose(second, 1)
    states(second, 0, "FIZZLED", "train 1")
    reason = blocking_failure(second.launchpad, second.campaign.name)
    assert reason is not None
    assert reason.startswith(f"{second.campaign.name}/0 train 1: ")


def test_a_worker_takes_nothing_that_waits(second: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(second, 0)
    seen: list[Any] = []

    def launch_rocket(_launchpad: Any, fworker: Any, **_: Any) -> bool:
        taken = second.launchpad.fireworks.find(fworker.query | {"state": "READY"})
        seen.append({one["name"].partition("/")[2] for one in taken})
        return False

    monkeypatch.setattr(worker, "launch_rocket", launch_rocket)
    name, runs = second.campaign.name, second.scene.runs
    worker._work(second.launchpad, name, runs, ["cpu", "gpu"], True, 1)
    assert seen == [{"0 train 0"}]


def test_the_doctor_and_the_workers_agree(second: Any) -> None:
    lose(second, 1)
    states(second, 1, "FIZZLED", "propose")  # it was taken just before
    mended, left = mend(second.scene)
    assert {"task without model", "failed task"} <= {one.kind for one in mended}
    assert not [one for one in left if not one.note]
    assert set(train_again(second.launchpad, second.campaign.name)) == of(second, "propose")


def test_a_task_that_was_taken_just_before_is_handed_back(second: Any) -> None:
    """By this error, which is no failure."""
    lose(second, 1)
    with pytest.raises(UnfinishedError, match="round 0 has no potential 1"):
        start_of(second.campaign, 1, 1)
    assert start_of(second.campaign, 0, 1) == (FRESH, None)
