"""What the parent of workers mends without anybody asking, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest
from fireworks import FWAction
from fireworks.fw_config import RUN_EXPIRATION_SECS

from al_charge.fw.watch import Watch
from al_charge.fw.worker_registry import host_of, worker_name
from al_charge.fw.workflow_states import inconsistent_workflows, refresh_states

pytestmark = pytest.mark.mongod
DEAD = f"{2**22}@{host_of(worker_name())}@1.00"
ELSEWHERE = "7@elsewhere@1.00"


def test_workers_themselves_mend_what_a_parent_and_its_child_left_together(patient: Any) -> None:
    reserved = patient.task("propose x=0")["fw_id"]
    patient.firework(reserved, state="RESERVED")
    ended, launch = patient.run(DEAD)
    patient.launch(launch, state="COMPLETED", action=FWAction().to_dict())
    back, launch = patient.run(DEAD)
    action = FWAction(stored_data={"_message": "told to stop", "handed_back": True}).to_dict()
    patient.launch(launch, state="FIZZLED", action=action)
    watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
    assert watch.look() == 1
    assert watch.look() == 1
    states = {one["fw_id"]: one["state"] for one in patient.launchpad.fireworks.find()}
    assert (states[reserved], states[ended], states[back]) == ("READY", "COMPLETED", "READY")
    assert patient.kinds() == {}


def test_a_run_that_has_ended_elsewhere_is_brought_in(patient: Any) -> None:
    """Its worker ended with its machine, before its Firework knew."""
    ended, launch = patient.run(ELSEWHERE)
    patient.launch(launch, state="COMPLETED", action=FWAction().to_dict())
    patient.silent(launch, RUN_EXPIRATION_SECS + 60.0)
    watch = Watch(patient.launchpad, patient.campaign.name, interval=0.0)
    watch.look()
    watch.look()
    assert patient.launchpad.fireworks.find_one({"fw_id": ended})["state"] == "COMPLETED"
    assert patient.kinds() == {}


def test_working_states_out_disturbs_nobody(patient: Any) -> None:
    """Such as a worker that has taken a Firework, and another that is handed back."""
    taken = patient.task("propose x=1/2")["fw_id"]
    patient.firework(taken, state="RESERVED")
    back, launch = patient.run(worker_name())
    action = FWAction(stored_data={"_message": "told to stop", "handed_back": True}).to_dict()
    patient.launch(launch, state="FIZZLED", action=action)
    odd = patient.task("propose x=0")["fw_id"]
    assert len({taken, back, odd}) == 3
    patient.firework(odd, state="WAITING")
    ((_, wrong),) = inconsistent_workflows(patient.launchpad, patient.campaign.name)
    refresh_states(patient.launchpad, wrong)
    states = {one["fw_id"]: one["state"] for one in patient.launchpad.fireworks.find()}
    assert (states[taken], states[back], states[odd]) == ("RESERVED", "RUNNING", "READY")
