"""Runs that ended without saying so are found and handed back, once, by whoever notices."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fireworks import FWAction, FWorker, LaunchPad
from fireworks.fw_config import RUN_EXPIRATION_SECS

from al_charge.fw import workflow_states
from al_charge.fw.launchpad import store_of
from al_charge.fw.lost_runs import (
    MAX_CRASHES,
    gone_runs,
    release,
    release_runs_of,
    silent_runs,
)
from al_charge.fw.status import blocking_failure
from al_charge.fw.tasks import ensure_round, round_workflow
from al_charge.fw.worker_registry import server_time, worker_name
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit

pytestmark = pytest.mark.mongod
SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
HERE = worker_name().split("@")[1]
DEAD = f"{2**22}@{HERE}@1.00"
ELSEWHERE = "7@elsewhere@1.00"


@pytest.fixture
def campaign(launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A submitted campaign whose first round is on the LaunchPad."""
    monkeypatch.setattr(workflow_states, "LOCK_SECONDS", 0.05)
    store = store_of(launchpad)
    store.ensure_schema()
    spec = load_spec(SPEC)
    submit(store, spec)
    campaign = open_campaign(store, spec.name)
    ensure_round(launchpad, campaign, 0)
    return campaign


def run(launchpad: LaunchPad, worker: str) -> tuple[int, int]:
    """Let a worker take a Firework; return its id and the launch's."""
    firework, launch_id = launchpad.checkout_fw(FWorker(name=worker, category=["cpu"]), "/nowhere")
    return firework.fw_id, launch_id


def firework_of(launchpad: LaunchPad, fw_id: int) -> dict[str, Any]:
    return dict(launchpad.fireworks.find_one({"fw_id": fw_id}))


def stored_data(launchpad: LaunchPad, launch_id: int) -> dict[str, Any]:
    launch = launchpad.launches.find_one({"launch_id": launch_id})
    return dict(launch["action"]["stored_data"])


def silent_since(launchpad: LaunchPad, launch_id: int, seconds: float) -> None:
    last = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    launchpad.launches.update_one(
        {"launch_id": launch_id}, {"$set": {"state_history.0.updated_on": last}}
    )


def test_a_dead_child_s_firework_is_ready_again(launchpad: LaunchPad, campaign: Campaign) -> None:
    fw_id, launch_id = run(launchpad, DEAD)
    other, _ = run(launchpad, worker_name())
    # Of labels that are made, and that nobody wants to make again.
    locks = [{"_id": "label k", "owner": DEAD}, {"_id": "label l", "owner": worker_name()}]
    launchpad.db["claims"].insert_many(locks)
    assert gone_runs(launchpad) == gone_runs(launchpad, campaign.name) == {launch_id: DEAD}
    assert release_runs_of(launchpad, [DEAD], "told to stop", crashed=False) == 1
    firework = firework_of(launchpad, fw_id)
    assert (firework["state"], firework["launches"]) == ("READY", [])
    assert firework["archived_launches"] == [launch_id]
    assert stored_data(launchpad, launch_id)["_message"] == "told to stop"
    assert list(launchpad.db["claims"].find()) == locks[1:]
    assert firework_of(launchpad, other)["state"] == "RUNNING"
    workflow = launchpad.workflows.find_one()
    assert workflow["fw_states"][str(fw_id)] == "READY"
    assert "locked" not in workflow
    assert release_runs_of(launchpad, [DEAD], "told to stop", crashed=False) == 0


def test_several_who_notice_release_it_once(launchpad: LaunchPad, campaign: Campaign) -> None:
    fw_id, launch_id = run(launchpad, DEAD)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: release(launchpad, [launch_id], "gone"), range(4)))
    assert sum(done) == 1
    assert firework_of(launchpad, fw_id)["archived_launches"] == [launch_id]


def test_a_lock_that_died_with_its_holder_is_taken_off(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    run(launchpad, DEAD)
    run(launchpad, DEAD)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    assert release_runs_of(launchpad, [DEAD], "killed", crashed=True) == 2
    assert launchpad.workflows.count_documents({"locked": {"$exists": True}}) == 0


def test_a_run_that_had_completed_is_not_run_again(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    fw_id, launch_id = run(launchpad, DEAD)
    ended = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch_id}, {"$set": ended})
    assert release_runs_of(launchpad, [DEAD], "killed", crashed=True) == 0
    assert firework_of(launchpad, fw_id)["state"] == "COMPLETED"


def test_a_launch_that_its_firework_does_not_know_yet_is_handed_back(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    fw_id, launch_id = run(launchpad, DEAD)
    launchpad.fireworks.update_one(
        {"fw_id": fw_id}, {"$set": {"state": "RESERVED", "launches": []}}
    )
    assert release_runs_of(launchpad, [DEAD], "killed", crashed=True) == 1
    firework = firework_of(launchpad, fw_id)
    assert (firework["state"], firework["archived_launches"]) == ("READY", [launch_id])


def test_a_firework_that_kills_its_worker_is_given_up_in_the_end(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    launchpad.fireworks.update_many({}, {"$set": {"spec._category": "dft"}})
    one = min(f["fw_id"] for f in launchpad.fireworks.find({"state": "READY"}))
    launchpad.fireworks.update_one({"fw_id": one}, {"$set": {"spec._category": "cpu"}})
    run(launchpad, DEAD)
    release_runs_of(launchpad, [DEAD], "told to stop", crashed=False)
    for _ in range(MAX_CRASHES - 1):
        assert run(launchpad, DEAD)[0] == one
        assert release_runs_of(launchpad, [DEAD], "killed by signal 11", crashed=True) == 1
    run(launchpad, DEAD)
    assert release_runs_of(launchpad, [DEAD], "killed by signal 11", crashed=True) == 0
    assert firework_of(launchpad, one)["state"] == "FIZZLED"
    launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "COMPLETED"}})
    reason = blocking_failure(launchpad, campaign.name)
    assert reason is not None
    assert reason.endswith(f"killed by signal 11; its process has now ended {MAX_CRASHES} times")
    # Whoever makes it ready again has mended the cause, and it is counted anew.
    launchpad.rerun_fw(one)
    assert run(launchpad, DEAD)[0] == one
    assert release_runs_of(launchpad, [DEAD], "killed by signal 11", crashed=True) == 1


def test_a_run_that_was_handed_back_and_ends_later_changes_nothing(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    """As one whose machine was suspended: somebody else runs its Firework by then."""
    fw_id, launch_id = run(launchpad, ELSEWHERE)
    assert release(launchpad, [launch_id], "fell silent") == 1
    again, second = run(launchpad, DEAD)
    assert again == fw_id
    before = list(launchpad.fireworks.find()), list(launchpad.workflows.find())
    addition = round_workflow(campaign, 1)
    launchpad.ping_launch(launch_id)
    launchpad.complete_launch(launch_id, FWAction(additions=[addition]), "COMPLETED")
    assert (list(launchpad.fireworks.find()), list(launchpad.workflows.find())) == before
    assert firework_of(launchpad, fw_id)["launches"] == [second]


def test_silence_is_judged_by_the_worker_s_own_clock(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    _, launch_id = run(launchpad, ELSEWHERE)
    assert silent_runs(launchpad, campaign.name) == {}
    silent_since(launchpad, launch_id, RUN_EXPIRATION_SECS + 60)
    assert list(silent_runs(launchpad)) == [launch_id]
    assert silent_runs(launchpad, "another") == {}
    registered = launchpad.db["workers"]
    registered.insert_one({"_id": ELSEWHERE, "clock_offset": -120.0})
    assert silent_runs(launchpad) == {}
    silent_since(launchpad, launch_id, -3600.0)
    registered.update_one({}, {"$set": {"clock_offset": RUN_EXPIRATION_SECS + 3660.0}})
    assert list(silent_runs(launchpad)) == [launch_id]
    assert gone_runs(launchpad) == {}


def test_a_heartbeat_changes_what_the_second_look_sees(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    _, launch_id = run(launchpad, ELSEWHERE)
    silent_since(launchpad, launch_id, RUN_EXPIRATION_SECS + 60)
    first = silent_runs(launchpad)
    assert silent_runs(launchpad) == first
    launchpad.ping_launch(launch_id)
    assert silent_runs(launchpad) != first


def test_the_server_tells_its_time(launchpad: LaunchPad) -> None:
    assert abs(server_time(launchpad) - datetime.now(UTC)) < timedelta(minutes=1)
