"""The doctor finds what each crash leaves, mends it, and finds nothing in what is healthy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fireworks import Firework, FWAction, ScriptTask
from fireworks.fw_config import RESERVATION_EXPIRATION_SECS, RUN_EXPIRATION_SECS

from al_charge.fw.doctor import mend
from al_charge.fw.tasks import round_workflow
from al_charge.fw.watch import Watch
from al_charge.fw.worker_registry import host_of, worker_name
from al_charge.store.spool import Spool

pytestmark = pytest.mark.mongod
DEAD = f"{2**22}@{host_of(worker_name())}@1.00"
ELSEWHERE = "7@elsewhere@1.00"


def killed_while_running(patient: Any) -> None:
    patient.run()


def silent_elsewhere(patient: Any) -> None:
    _, launch = patient.run(ELSEWHERE)
    patient.silent(launch, RUN_EXPIRATION_SECS + 60.0)


def killed_while_reserving(patient: Any) -> None:
    fw_id = patient.task("propose x=0")["fw_id"]
    patient.firework(fw_id, state="RESERVED")


def killed_before_the_firework_knew_its_launch(patient: Any) -> None:
    fw_id, _ = patient.run()
    patient.firework(fw_id, state="RESERVED", launches=[])


def a_queue_job_that_never_began(patient: Any) -> None:
    _, launch = patient.run("cluster", state="RESERVED")
    patient.silent(launch, RESERVATION_EXPIRATION_SECS + 60.0)


def killed_with_the_lock(patient: Any) -> None:
    patient.run()
    patient.lock()


def silent_with_the_lock(patient: Any) -> None:
    silent_elsewhere(patient)
    patient.lock()


def killed_between_states_and_unlocking(patient: Any) -> None:
    patient.lock()


def killed_before_the_refresh(patient: Any) -> None:
    _, launch = patient.run()
    patient.launch(launch, state="COMPLETED", action=FWAction().to_dict())


def killed_while_handing_back(patient: Any) -> None:
    _, launch = patient.run()
    action = FWAction(stored_data={"_message": "told to stop", "handed_back": True}).to_dict()
    patient.launch(launch, state="FIZZLED", action=action)


def failed(patient: Any) -> None:
    _, launch = patient.run()
    stored = {"_exception": {"_stacktrace": "Traceback ...\nValueError: the SCF broke\n"}}
    patient.launchpad.complete_launch(launch, FWAction(stored_data=stored), "FIZZLED")


def taken_by_a_worker_that_could_not_import_it(patient: Any) -> None:
    fw_id = patient.task("propose x=0")["fw_id"]
    details = {"_stacktrace": "Traceback ...\nModuleNotFoundError: No module named 'al_charge'"}
    patient.firework(fw_id, state="FIZZLED", **{"spec._exception_details": details})
    states = {f"fw_states.{fw_id}": "FIZZLED"}
    patient.launchpad.workflows.update_one({}, {"$set": states})


def killed_while_adding_a_round(patient: Any) -> None:
    workflow = round_workflow(patient.campaign, 1)
    patient.launchpad._upsert_fws(workflow.fws, reassign_all=True)


def killed_between_additions_and_workflow(patient: Any) -> None:
    """New Fireworks are in, the workflow is locked and knows neither them nor the result."""
    fw_id, launch = patient.run()
    patient.launch(launch, state="COMPLETED", action=FWAction().to_dict())
    patient.firework(fw_id, state="COMPLETED")
    killed_while_adding_a_round(patient)
    patient.lock()


def killed_while_deleting(patient: Any) -> None:
    names = {"name": {"$regex": "label"}}
    patient.launchpad.fireworks.delete_many(names)


def killed_before_any_round(patient: Any) -> None:
    patient.launchpad.workflows.delete_many({})
    patient.launchpad.fireworks.delete_many({})


def two_added_the_same_round(patient: Any) -> None:
    patient.launchpad.add_wf(round_workflow(patient.campaign, 0))


def killed_between_fireworks_and_workflow(patient: Any) -> None:
    node = patient.task("select")["fw_id"]
    patient.launchpad.workflows.update_one({}, {"$set": {f"fw_states.{node}": "COMPLETED"}})


def killed_before_the_children_were_ready(patient: Any) -> None:
    node = patient.task("propose x=0")["fw_id"]
    states = {"state": "WAITING"}
    patient.firework(node, **states)
    patient.launchpad.workflows.update_one({}, {"$set": {f"fw_states.{node}": "WAITING"}})


def a_launch_that_nobody_knows(patient: Any) -> None:
    fw_id, _ = patient.run()
    patient.launchpad.rerun_fw(fw_id)
    patient.firework(fw_id, archived_launches=[])


def a_launch_without_a_firework(patient: Any) -> None:
    fw_id, launch = patient.run()
    patient.launchpad.rerun_fw(fw_id)
    patient.firework(fw_id, archived_launches=[])
    patient.launch(launch, fw_id=10**6)


def a_foreign_task_under_the_campaign_s_name(patient: Any) -> None:
    firework = Firework([ScriptTask(script="true")], spec={"campaign": patient.campaign.name})
    patient.launchpad._upsert_fws([firework], reassign_all=True)


def killed_with_the_lock_of_a_campaign(patient: Any) -> None:
    locks = patient.scene.store.database["claims"]
    locks.insert_one({"_id": patient.campaign.name, "owner": DEAD})


def killed_with_the_lock_of_a_label(patient: Any) -> None:
    patient.scene.store.database["claims"].insert_one({"_id": "label k", "owner": ELSEWHERE})


def killed_while_labelling(patient: Any) -> None:
    patient.scene.store.attempts.start(
        "k", campaign=patient.campaign.name, round=0, slot=0, pid=2**22
    )


def killed_while_labelling_elsewhere(patient: Any) -> None:
    patient.scene.store.attempts.start(
        "k", campaign=patient.campaign.name, round=0, slot=0, hostname="elsewhere", pid=7
    )


def cut_off_with_a_finished_label(patient: Any) -> None:
    spool = Spool(patient.scene.runs / patient.campaign.name / "spool")
    waiting = patient.label("waiting")
    spool._write(spool._folder / "waiting.json", waiting)


def a_label_lost_with_its_server(patient: Any) -> None:
    """Its task is done and its files are here, its use and itself are not."""
    key = patient.labelled()
    patient.scene.store.database["labels"].delete_one({"_id": key})
    patient.scene.store.database["label_uses"].delete_one({"key": key})


def a_label_lost_that_is_counted(patient: Any) -> None:
    key = patient.labelled()
    patient.scene.store.database["labels"].delete_one({"_id": key})


DAMAGES: list[tuple[Callable[[Any], None], dict[str, int]]] = [
    (killed_while_running, {"lost run": 1}),
    (silent_elsewhere, {"lost run": 1}),
    (killed_while_reserving, {"reserved task": 1}),
    (killed_before_the_firework_knew_its_launch, {"lost run": 1}),
    (a_queue_job_that_never_began, {"reserved task": 1}),
    (killed_with_the_lock, {"lost run": 1, "locked workflow": 1}),
    (silent_with_the_lock, {"lost run": 1}),
    (killed_between_states_and_unlocking, {"locked workflow": 1}),
    (killed_before_the_refresh, {"result not collected": 1}),
    (killed_while_handing_back, {"result not collected": 1}),
    (failed, {"failed task": 1}),
    (taken_by_a_worker_that_could_not_import_it, {"failed task": 1}),
    (killed_while_adding_a_round, {"orphaned tasks": 1}),
    (
        killed_between_additions_and_workflow,
        {"orphaned tasks": 1, "locked workflow": 1, "states that disagree": 1},
    ),
    (killed_while_deleting, {"half-written workflow": 1}),
    (killed_before_any_round, {"missing round": 1}),
    (two_added_the_same_round, {"round with two workflows": 1}),
    (killed_between_fireworks_and_workflow, {"states that disagree": 1}),
    (killed_before_the_children_were_ready, {"states that disagree": 1}),
    (a_launch_that_nobody_knows, {"stray run": 1}),
    (a_launch_without_a_firework, {"stray run": 1}),
    (a_foreign_task_under_the_campaign_s_name, {"foreign task": 1}),
    (killed_with_the_lock_of_a_campaign, {"stale lock": 1}),
    (killed_with_the_lock_of_a_label, {"stale lock": 1}),
    (killed_while_labelling, {"attempt left open": 1}),
    (killed_while_labelling_elsewhere, {"attempt left open": 1}),
    (cut_off_with_a_finished_label, {"label not delivered": 1}),
    (a_label_lost_with_its_server, {"files without label": 1}),
    (a_label_lost_that_is_counted, {"files without label": 1, "use of a missing label": 1}),
]


@pytest.mark.parametrize(("damage", "kinds"), DAMAGES, ids=lambda one: getattr(one, "__name__", ""))
def test_each_damage_is_found_and_mended(
    damage: Callable[[Any], None], kinds: dict[str, int], patient: Any
) -> None:
    products = ("labels", "models", "candidates", "references")
    damage(patient)
    before = patient.dump()
    assert patient.kinds() == kinds
    assert patient.dump() == before
    mended, left = mend(patient.scene)
    assert left == []
    assert Counter(finding.kind for finding in mended) >= Counter(kinds)
    after = patient.dump()
    for product in products:
        assert before[product] == [one for one in after[product] if one in before[product]]
    assert any(task["state"] == "READY" for task in after["fireworks"])
    for workflow in after["workflows"]:
        assert "locked" not in workflow
    assert mend(patient.scene) == ([], [])
    assert patient.dump() == after


@pytest.mark.parametrize(
    "damage", [killed_between_fireworks_and_workflow, killed_before_the_children_were_ready]
)
def test_half_written_states_are_worked_out_without_anybody_asking(
    damage: Callable[[Any], None], patient: Any
) -> None:
    damage(patient)
    watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
    watch.look()
    assert patient.kinds() == {"states that disagree": 1}
    watch.look()
    assert patient.kinds() == {}
