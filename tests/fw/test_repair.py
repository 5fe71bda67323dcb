"""Every crash window that is known of FireWorks is mended by `repair`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fireworks import FWAction, FWorker, LaunchPad

from al_charge.fw import doctor
from al_charge.fw.launchpad import store_of
from al_charge.fw.repair import repair
from al_charge.fw.status import blocking_failure
from al_charge.fw.tasks import ensure_round, round_workflow
from al_charge.fw.worker_registry import is_alive, worker_name
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit
from al_charge.store.documents import CampaignState

pytestmark = pytest.mark.mongod
SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
DEAD = FWorker(name=f"{2**22}@{worker_name().split('@')[1]}@1.00", category=["cpu"])


@pytest.fixture
def campaign(launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """A submitted campaign whose first round is on the LaunchPad; pauses take no time."""
    monkeypatch.setattr(doctor, "sleep", lambda _: None)
    store = store_of(launchpad)
    store.ensure_schema()
    spec = load_spec(SPEC)
    submit(store, spec)
    campaign = open_campaign(store, spec.name)
    ensure_round(launchpad, campaign, 0)
    return campaign


def states(launchpad: LaunchPad) -> dict[int, str]:
    return {f["fw_id"]: f["state"] for f in launchpad.fireworks.find()}


def consistent(launchpad: LaunchPad) -> bool:
    """Return whether workflows are unlocked and agree with their Fireworks about states."""
    found = states(launchpad)
    return all(
        "locked" not in workflow
        and {int(k): v for k, v in workflow["fw_states"].items()}
        == {node: found[node] for node in workflow["nodes"]}
        for workflow in launchpad.workflows.find()
    )


def killed_while_running(launchpad: LaunchPad) -> None:
    launchpad.checkout_fw(DEAD, "/nowhere")


def killed_while_reserving(launchpad: LaunchPad) -> None:
    first = min(states(launchpad))
    launchpad.fireworks.update_one({"fw_id": first}, {"$set": {"state": "RESERVED"}})


def killed_with_the_lock(launchpad: LaunchPad) -> None:
    killed_while_running(launchpad)
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})


def killed_before_the_refresh(launchpad: LaunchPad) -> None:
    _, launch = launchpad.checkout_fw(DEAD, "/nowhere")
    ended = {"state": "COMPLETED", "action": FWAction().to_dict()}
    launchpad.launches.update_one({"launch_id": launch}, {"$set": ended})


def killed_between_fireworks_and_workflow(launchpad: LaunchPad) -> None:
    killed_while_running(launchpad)
    launchpad.workflows.update_one({}, {"$set": {"fw_states.1": "COMPLETED"}})


def failed(launchpad: LaunchPad) -> None:
    _, launch = launchpad.checkout_fw(DEAD, "/nowhere")
    launchpad.complete_launch(launch, state="FIZZLED")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (killed_while_running, {"lost run": 1}),
        (killed_while_reserving, {"reserved task": 1}),
        (killed_with_the_lock, {"lost run": 1, "locked workflow": 1}),
        (killed_before_the_refresh, {"result not collected": 1}),
        (killed_between_fireworks_and_workflow, {"lost run": 1, "states that disagree": 1}),
        (failed, {"failed task": 1}),
    ],
)
def test_each_crash_window_is_mended(
    damage: Callable[[LaunchPad], None],
    found: dict[str, int],
    launchpad: LaunchPad,
    campaign: Campaign,
) -> None:
    before = states(launchpad)
    damage(launchpad)
    done = repair(launchpad, campaign)
    assert done == found
    assert consistent(launchpad)
    finished = damage is killed_before_the_refresh
    after = states(launchpad)
    assert set(after) == set(before)
    assert list(after.values()).count("COMPLETED") == finished
    ready = list(before.values()).count("READY")
    assert list(after.values()).count("READY") == ready - finished


def test_orphans_of_a_killed_submit_are_deleted(launchpad: LaunchPad, campaign: Campaign) -> None:
    before = states(launchpad)
    launchpad._upsert_fws(round_workflow(campaign, 1).fws, reassign_all=True)
    assert len(states(launchpad)) > len(before)
    done = repair(launchpad, campaign)
    assert done == {"orphaned tasks": 1}
    assert states(launchpad) == before


def test_missing_round_is_added_once(launchpad: LaunchPad, campaign: Campaign) -> None:
    launchpad.workflows.delete_many({})
    launchpad.fireworks.delete_many({})
    assert repair(launchpad, campaign) == {"missing round": 1}
    assert repair(launchpad, campaign) == {}
    assert launchpad.workflows.count_documents({}) == 1


def test_attempts_of_processes_that_are_gone_are_closed(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    attempts = campaign.store.attempts
    attempts.start("k", campaign=campaign.name, round=0, slot=0, pid=2**22)
    attempts.start("l", campaign=campaign.name, round=0, slot=1, pid=psutil.Process().pid)
    assert repair(launchpad, campaign) == {"attempt left open": 1}
    assert [one.key for one in attempts.open(campaign.name)] == ["l"]


def test_a_run_that_is_alive_is_left_alone(launchpad: LaunchPad, campaign: Campaign) -> None:
    alive = FWorker(name=worker_name(), category=["cpu"])
    firework, _ = launchpad.checkout_fw(alive, "/nowhere")
    launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    assert repair(launchpad, campaign) == {}
    assert launchpad.workflows.count_documents({"locked": True}) == 1
    assert states(launchpad)[firework.fw_id] == "RUNNING"


def test_processes_that_add_a_round_at_once_add_one(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda _: ensure_round(launchpad, campaign, 1), range(4)))
    assert sorted(added) == [False, False, False, True]
    assert launchpad.workflows.count_documents({}) == 2
    assert launchpad.db["claims"].count_documents({}) == 0


def test_a_lock_whose_holder_was_killed_is_taken_over(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    launchpad.db["claims"].insert_one({"_id": campaign.name, "owner": DEAD.name})
    assert ensure_round(launchpad, campaign, 1)
    assert launchpad.db["claims"].count_documents({}) == 0


def test_a_campaign_is_stuck_when_nothing_but_a_failure_is_left(
    launchpad: LaunchPad, campaign: Campaign
) -> None:
    assert blocking_failure(launchpad, campaign.name) is None
    failed(launchpad)
    assert blocking_failure(launchpad, campaign.name) is None
    launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "COMPLETED"}})
    reason = blocking_failure(launchpad, campaign.name)
    assert reason is not None
    assert reason.startswith(f"{campaign.name}/0 propose x=")


def test_pause_and_resume(launchpad: LaunchPad, campaign: Campaign) -> None:
    campaign.store.campaigns.set_state(campaign.name, CampaignState.PAUSED)
    repair(launchpad, campaign)
    assert campaign.store.campaigns.get(campaign.name).state is CampaignState.RUNNING


def test_liveness_of_a_worker() -> None:
    assert is_alive(worker_name()) is True
    assert is_alive(DEAD.name) is False
    assert is_alive(f"{psutil.Process().pid}@elsewhere@1.00") is None
    other = worker_name().split("@")
    assert is_alive(f"{other[0]}@{other[1]}@1.00") is False


def test_fireworks_hold_ids_only(launchpad: LaunchPad, campaign: Campaign) -> None:
    for firework in launchpad.fireworks.find():
        task = firework["spec"].pop("_tasks")[0]
        task.pop("_fw_name")
        allowed = {"campaign", "round", "cell", "n_ions", "slot", "member"}
        assert set(task) <= allowed
        assert set(firework["spec"]) == {
            "campaign", "round", "_category", "_add_launchpad_and_fw_id"
        }  # fmt: skip
        assert set(map(type, task.values())) <= {str, int}


def test_a_killed_process_that_nobody_has_waited_for_is_dead() -> None:
    """In a container whose first process reaps late, a killed worker lingers as a zombie."""
    with psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = f"{child.pid}@{worker_name().split('@')[1]}@{child.create_time():.2f}"
        assert is_alive(name) is True
        child.kill()
        deadline = time.monotonic() + 30.0
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert is_alive(name) is False
