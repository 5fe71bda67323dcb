"""Many at once on one database: every label is made once, every Firework runs once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fireworks import LaunchPad
from pymongo import MongoClient
from pymongo.database import Database

from al_charge.fw.launchpad import store_of
from al_charge.fw.tasks import AssessTask, ensure_round
from al_charge.fw.worker import _work
from al_charge.loop import assess
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.reference import label_metal
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import submit
from al_charge.store.documents import Assessment
from al_charge.store.settings import DEFAULT_NAME

pytestmark = pytest.mark.mongod
SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
LABELLING = ("cpu", "dft")
MakeLaunchPad = Callable[[Database[dict[str, Any]]], LaunchPad]


def submitted(launchpad: LaunchPad, name: str) -> Campaign:
    """Return a campaign with its first round."""
    store = store_of(launchpad)
    store.ensure_schema()
    spec = load_spec(SPEC).model_copy(update={"name": name})
    submit(store, spec)
    campaign = open_campaign(store, name)
    ensure_round(launchpad, campaign, 0)
    return campaign


def race(names: Sequence[str], make: Callable[[], LaunchPad], runs: Path) -> None:
    """Let one worker for each name run its campaign's first round, up to the training."""
    start = threading.Barrier(len(names))

    def labelling(launchpad: LaunchPad, name: str) -> bool:
        waiting = {"spec.campaign": name, "spec._category": {"$in": LABELLING}}
        names = {"$not": {"$regex": "assess"}}
        left = waiting | {"name": names, "state": {"$ne": "COMPLETED"}}
        return bool(launchpad.fireworks.count_documents(left))

    def worker(name: str) -> None:
        launchpad = make()
        start.wait()
        while labelling(launchpad, name):
            _work(launchpad, name, runs, LABELLING, until_idle=True, processes=1)

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(worker, names))


def check_labels(launchpad: LaunchPad, campaign: Campaign) -> None:
    """Check that every label that was selected is there and used, and made once, as the metal."""
    record = campaign.store.rounds.get(campaign.name, 0)
    assert record is not None and record.selected
    assert len(campaign.store.labels.uses(campaign.name)) == len(record.selected)
    tries = Counter(one["key"] for one in campaign.store.database["attempts"].find())
    assert set(tries.values()) == {1}
    metals = {key for key in tries if key.startswith("metal ")}
    assert len(metals) == 1
    assert set(tries) - metals == set(campaign.store.labels.uses(campaign.name))
    ran = {"spec.campaign": campaign.name, "state": "COMPLETED"}
    fireworks = list(launchpad.fireworks.find(ran))
    assert fireworks
    for firework in fireworks:
        assert len(firework["launches"]) == 1 and not firework.get("archived_launches")
        assert launchpad.launches.count_documents({"fw_id": firework["fw_id"]}) == 1


@pytest.mark.slow
def test_eight_workers_race_for_one_round(
    database: Database[dict[str, Any]], launchpad_on: MakeLaunchPad, tmp_path: Path
) -> None:
    launchpad = launchpad_on(database)
    campaign = submitted(launchpad, "race")
    race(["race"] * 8, lambda: launchpad_on(database), tmp_path)
    check_labels(launchpad, campaign)


@pytest.mark.slow
def test_two_campaigns_that_want_the_same_labels_make_each_once(
    database: Database[dict[str, Any]], launchpad_on: MakeLaunchPad, tmp_path: Path
) -> None:
    launchpad = launchpad_on(database)
    both = [submitted(launchpad, name) for name in ("one", "other")]
    race(["one", "other"] * 2, lambda: launchpad_on(database), tmp_path)
    for campaign in both:
        check_labels(launchpad, campaign)
        assert campaign.store.attempts.made_twice(campaign.name) == []
    assert both[0].store.database["references"].count_documents({}) == 1


def test_two_assessments_at_once_add_one_round(
    database: Database[dict[str, Any]],
    launchpad_on: MakeLaunchPad,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_assessment: Callable[..., Assessment],
) -> None:
    launchpad = launchpad_on(database)
    campaign = submitted(launchpad, "twice")
    label_metal(campaign, tmp_path)
    both = threading.Barrier(2)

    def assessment(*_: Any) -> tuple[Assessment, list[str], Any]:
        both.wait()
        return make_assessment(), ["a"], np.zeros((2, 1))

    monkeypatch.setattr(assess, "_assessment", assessment)

    def step(_: int) -> str:
        task = AssessTask(campaign="twice", round=0)
        task.launchpad = launchpad_on(database)
        return str(task.step(task.campaign(), tmp_path))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(step, range(2))) == ["twice/0"] * 2
    assert campaign.store.campaigns.state("twice") == "running"
    rounds = launchpad.workflows.count_documents({"metadata.campaign": "twice"})
    assert (rounds, len(campaign.store.rounds.all("twice"))) == (2, 2)
    # Workers may only add files: that of the slower one is left, and told by the doctor.
    assert list(campaign.store.files.damaged()) == []
    assert database["weights.files"].count_documents({}) == 1 + len(campaign.store.files.unused())


@pytest.mark.slow
def test_two_operators_submit_a_campaign_at_the_same_moment(
    mongodb_client: MongoClient[dict[str, Any]], tmp_path: Path
) -> None:
    text = SPEC.read_text(encoding="utf-8")
    text = text.replace("structure: ", f"structure: {SPEC.parent}/")
    file = tmp_path / "operators.yaml"
    file.write_text(text.replace("name: ", "name: operators-", 1), encoding="utf-8")
    name = load_spec(file).name
    command = [sys.executable, "-m", "al_charge", "campaign", "submit", str(file)]
    operators = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [operator.communicate(timeout=300) for operator in operators]
    assert [operator.returncode for operator in operators] == [0, 0], said
    first = [output.splitlines()[0].removeprefix(f"campaign '{name}' ") for output, _ in said]
    assert sorted(first) == ["is already there", "submitted"]
    database = mongodb_client[DEFAULT_NAME]
    assert database["workflows"].count_documents({"metadata.campaign": name}) == 1
    assert database["rounds"].count_documents({"campaign": name}) == 1
