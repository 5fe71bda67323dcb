"""The doctor finds what each crash leaves, mends it, and finds nothing in what is healthy."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fireworks import Firework, FWAction, FWorker, LaunchPad, ScriptTask
from fireworks.fw_config import RESERVATION_EXPIRATION_SECS, RUN_EXPIRATION_SECS
from pymongo import MongoClient
from pymongo.database import Database

from al_charge.fw import doctor, locks
from al_charge.fw.doctor import Scene, look, mend
from al_charge.fw.launchpad import store_of
from al_charge.fw.processes import worker_name
from al_charge.fw.rounds import ensure_round, round_workflow
from al_charge.loop.campaign import Campaign, geometry_of, label_key, new_document, open_campaign
from al_charge.loop.spec import load_spec
from al_charge.store.documents import (
    CandidateDoc,
    FrameDoc,
    LabelDoc,
)
from al_charge.store.spool import Spool

pytestmark = pytest.mark.mongod
SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
HERE = worker_name().split("@")[1]
DEAD = f"{2**22}@{HERE}@1.00"
ELSEWHERE = "7@elsewhere@1.00"


@dataclass
class Patient:
    """A submitted campaign, and how to break it."""

    scene: Scene
    campaign: Campaign

    @property
    def launchpad(self) -> LaunchPad:
        return self.scene.launchpad

    def run(self, worker: str = DEAD, state: str = "RUNNING") -> tuple[int, int]:
        """Let a worker take a Firework; return its id and the launch's."""
        fworker = FWorker(name=worker, category=["cpu"])
        firework, launch = self.launchpad.checkout_fw(fworker, "/nowhere", state=state)
        return firework.fw_id, launch

    def firework(self, fw_id: int, **fields: Any) -> None:
        self.launchpad.fireworks.update_one({"fw_id": fw_id}, {"$set": fields})

    def launch(self, launch_id: int, **fields: Any) -> None:
        self.launchpad.launches.update_one({"launch_id": launch_id}, {"$set": fields})

    def silent(self, launch_id: int, seconds: float) -> None:
        last = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        self.launch(launch_id, **{"state_history.0.updated_on": last})

    def lock(self) -> None:
        self.launchpad.workflows.update_one({}, {"$set": {"locked": True}})

    def task(self, name: str) -> dict[str, Any]:
        """Return the Firework of a name, without the campaign's."""
        return dict(self.launchpad.fireworks.find_one({"name": f"{self.campaign.name}/0 {name}"}))

    def kinds(self) -> Counter[str]:
        return Counter(finding.kind for finding in look(self.scene))


@pytest.fixture(scope="module")
def healthy(
    mongodb_client: MongoClient[dict[str, Any]],
    launchpad_on: Callable[[Database[dict[str, Any]]], LaunchPad],
) -> Iterator[tuple[Scene, Campaign, dict[str, Any]]]:
    """A campaign at the start of its first round, and everything in its database."""
    database = mongodb_client[f"test_{uuid.uuid4().hex}"]
    launchpad = launchpad_on(database)
    store = store_of(launchpad)
    store.ensure_schema()
    spec = load_spec(SPEC)
    store.add_campaign(new_document(spec))
    campaign = open_campaign(store, spec.name)
    ensure_round(launchpad, campaign, 0)
    scene = Scene(launchpad, store, None)
    yield scene, campaign, dump(scene)
    mongodb_client.drop_database(database)


@pytest.fixture
def patient(
    healthy: tuple[Scene, Campaign, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Patient:
    """That campaign, unbroken; pauses take no time."""
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.01)
    monkeypatch.setattr(doctor, "sleep", lambda _: None)
    scene, campaign, contents = healthy
    for name in scene.store.database.list_collection_names():
        scene.store.database[name].delete_many({})
        if contents.get(name):
            scene.store.database[name].insert_many(contents[name])
    runs = tmp_path / "runs"
    runs.mkdir()
    return Patient(replace(scene, runs=runs), campaign)


def dump(scene: Scene) -> dict[str, Any]:
    """Return everything that the database holds."""
    database = scene.store.database
    return {
        name: list(database[name].find(sort=[("_id", 1)]))
        for name in sorted(database.list_collection_names())
    }


def killed_while_running(patient: Patient) -> None:
    patient.run()


def silent_elsewhere(patient: Patient) -> None:
    _, launch = patient.run(ELSEWHERE)
    patient.silent(launch, RUN_EXPIRATION_SECS + 60.0)


def killed_while_reserving(patient: Patient) -> None:
    fw_id = patient.task("propose x=0")["fw_id"]
    patient.firework(fw_id, state="RESERVED")


def killed_before_the_firework_knew_its_launch(patient: Patient) -> None:
    fw_id, _ = patient.run()
    patient.firework(fw_id, state="RESERVED", launches=[])


def a_queue_job_that_never_began(patient: Patient) -> None:
    _, launch = patient.run("cluster", state="RESERVED")
    patient.silent(launch, RESERVATION_EXPIRATION_SECS + 60.0)


def killed_with_the_lock(patient: Patient) -> None:
    patient.run()
    patient.lock()


def silent_with_the_lock(patient: Patient) -> None:
    silent_elsewhere(patient)
    patient.lock()


def killed_between_states_and_unlocking(patient: Patient) -> None:
    patient.lock()


def killed_before_the_refresh(patient: Patient) -> None:
    _, launch = patient.run()
    patient.launch(launch, state="COMPLETED", action=FWAction().to_dict())


def killed_while_handing_back(patient: Patient) -> None:
    _, launch = patient.run()
    action = FWAction(stored_data={"_message": "told to stop", "handed_back": True}).to_dict()
    patient.launch(launch, state="FIZZLED", action=action)


def failed(patient: Patient) -> None:
    _, launch = patient.run()
    stored = {"_exception": {"_stacktrace": "Traceback ...\nValueError: the SCF broke\n"}}
    patient.launchpad.complete_launch(launch, FWAction(stored_data=stored), "FIZZLED")


def killed_while_adding_a_round(patient: Patient) -> None:
    workflow = round_workflow(patient.campaign, 1)
    patient.launchpad._upsert_fws(workflow.fws, reassign_all=True)


def killed_between_additions_and_workflow(patient: Patient) -> None:
    """New Fireworks are in, the workflow is locked and knows neither them nor the result."""
    fw_id, launch = patient.run()
    patient.launch(launch, state="COMPLETED", action=FWAction().to_dict())
    patient.firework(fw_id, state="COMPLETED")
    killed_while_adding_a_round(patient)
    patient.lock()


def killed_while_deleting(patient: Patient) -> None:
    names = {"name": {"$regex": "label"}}
    patient.launchpad.fireworks.delete_many(names)


def killed_before_any_round(patient: Patient) -> None:
    patient.launchpad.workflows.delete_many({})
    patient.launchpad.fireworks.delete_many({})


def two_added_the_same_round(patient: Patient) -> None:
    patient.launchpad.add_wf(round_workflow(patient.campaign, 0))


def killed_between_fireworks_and_workflow(patient: Patient) -> None:
    node = patient.task("select")["fw_id"]
    patient.launchpad.workflows.update_one({}, {"$set": {f"fw_states.{node}": "COMPLETED"}})


def killed_before_the_children_were_ready(patient: Patient) -> None:
    node = patient.task("propose x=0")["fw_id"]
    states = {"state": "WAITING"}
    patient.firework(node, **states)
    patient.launchpad.workflows.update_one({}, {"$set": {f"fw_states.{node}": "WAITING"}})


def a_launch_that_nobody_knows(patient: Patient) -> None:
    fw_id, _ = patient.run()
    patient.launchpad.rerun_fw(fw_id)
    patient.firework(fw_id, archived_launches=[])


def a_launch_without_a_firework(patient: Patient) -> None:
    fw_id, launch = patient.run()
    patient.launchpad.rerun_fw(fw_id)
    patient.firework(fw_id, archived_launches=[])
    patient.launch(launch, fw_id=10**6)


def a_foreign_task_under_the_campaign_s_name(patient: Patient) -> None:
    firework = Firework([ScriptTask(script="true")], spec={"campaign": patient.campaign.name})
    patient.launchpad._upsert_fws([firework], reassign_all=True)


def killed_with_the_claim(patient: Patient) -> None:
    claims = patient.scene.store.database["claims"]
    claims.insert_one({"_id": patient.campaign.name, "owner": DEAD})


def killed_with_the_claim_to_a_label(patient: Patient) -> None:
    patient.scene.store.database["claims"].insert_one({"_id": "label k", "owner": ELSEWHERE})


def killed_while_labelling(patient: Patient) -> None:
    patient.scene.store.start_attempt(
        "k", campaign=patient.campaign.name, round=0, slot=0, pid=2**22
    )


def killed_while_labelling_elsewhere(patient: Patient) -> None:
    patient.scene.store.start_attempt(
        "k", campaign=patient.campaign.name, round=0, slot=0, hostname="elsewhere", pid=7
    )


def cut_off_with_a_finished_label(patient: Patient) -> None:
    spool = Spool(patient.scene.runs / patient.campaign.name / "spool")
    waiting = label_document(patient, "waiting")
    spool._write(spool._folder / "waiting.json", waiting)


def a_label_lost_with_its_server(patient: Patient) -> None:
    """Its task is done and its files are here, its use and itself are not."""
    key = labelled(patient)
    patient.scene.store.database["labels"].delete_one({"_id": key})
    patient.scene.store.database["label_uses"].delete_one({"key": key})


def a_label_lost_that_is_counted(patient: Patient) -> None:
    key = labelled(patient)
    patient.scene.store.database["labels"].delete_one({"_id": key})


def label_document(patient: Patient, key: str, **fields: Any) -> LabelDoc:
    frame = FrameDoc(positions=[[0.0] * 3], cell=[[1.0] * 3] * 3, energy=-1.0, forces=[[0.0] * 3])
    known: dict[str, Any] = {
        "key": key,
        "config_hash": "c",
        "requested_hash": "c",
        "colours": [0],
        "composition": "0",
        "n_ions": 0,
        "host_fingerprint": patient.campaign.host.fingerprint,
        "settings_hash": patient.campaign.settings_hash,
        "settings": {},
        "requested": ["Fe3+"],
        "resolved": ["Fe3+"],
        "windows": {},
        "relax": "cell",
        "numbers": [26],
        "host_site": [0],
        "frames": [frame],
        "energy": -1.0,
        "converged": True,
        "engine": "born",
        "datasets": {},
        "attempts": [],
        "wall_time": 1.0,
        "cores": 1,
        "directory": str(patient.scene.runs),
        "campaign": patient.campaign.name,
        "round": 0,
    }
    return LabelDoc(**(known | fields))


def labelled(patient: Patient) -> str:
    """Bring the first round to its first label; return the label's key."""
    from al_charge.crystal.configuration import to_atoms
    from al_charge.crystal.enumeration import enumerate_distinct
    from al_charge.crystal.symmetry import canonical_hash

    store, campaign = patient.scene.store, patient.campaign
    config = enumerate_distinct(campaign.host, 0)[0]
    candidate = CandidateDoc(
        campaign=campaign.name,
        round=0,
        n_ions=0,
        composition="0",
        config_hash=canonical_hash(campaign.host, config),
        colours=list(config.colours),
        geometry=geometry_of(to_atoms(campaign.host, config)),
        origin="enumerated",
    )
    store.put_proposal(campaign.name, 0, 0, [candidate], {})
    store.record_selection(campaign.name, 0, {candidate.doc_id: "end member"})
    key = label_key(campaign, candidate)
    folder = patient.scene.runs / campaign.name / "round-000" / "label-000"
    folder.mkdir(parents=True)
    store.put_label(label_document(patient, key, directory=str(folder)))
    store.link_label(campaign.name, 0, key)
    everything = {"_category": "cpu"}
    patient.launchpad.fireworks.update_many(
        {}, {"$set": {f"spec.{k}": v for k, v in everything.items()}}
    )
    while patient.task("label 0")["state"] != "COMPLETED":
        _, launch = patient.run(worker_name())
        patient.launchpad.complete_launch(launch, FWAction(), "COMPLETED")
    return key


DAMAGES: list[tuple[Callable[[Patient], None], dict[str, int]]] = [
    (killed_while_running, {"lost run": 1}),
    (silent_elsewhere, {"lost run": 1}),
    (killed_while_reserving, {"reserved task": 1}),
    (killed_before_the_firework_knew_its_launch, {"lost run": 1}),
    (a_queue_job_that_never_began, {"reserved task": 1}),
    (killed_with_the_lock, {"lost run": 1, "locked workflow": 1}),
    (silent_with_the_lock, {"lost run": 1}),
    (killed_between_states_and_unlocking, {"locked workflow": 1}),
    (killed_before_the_refresh, {"result not brought in": 1}),
    (killed_while_handing_back, {"result not brought in": 1}),
    (failed, {"failed task": 1}),
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
    (killed_with_the_claim, {"stale claim": 1}),
    (killed_with_the_claim_to_a_label, {"stale claim": 1}),
    (killed_while_labelling, {"attempt left open": 1}),
    (killed_while_labelling_elsewhere, {"attempt left open": 1}),
    (cut_off_with_a_finished_label, {"label not delivered": 1}),
    (a_label_lost_with_its_server, {"files without label": 1}),
    (a_label_lost_that_is_counted, {"files without label": 1, "use of no label": 1}),
]


@pytest.mark.parametrize(("damage", "kinds"), DAMAGES, ids=lambda one: getattr(one, "__name__", ""))
def test_each_damage_is_found_and_mended(
    damage: Callable[[Patient], None], kinds: dict[str, int], patient: Patient
) -> None:
    products = ("labels", "models", "candidates", "references")
    damage(patient)
    before = dump(patient.scene)
    assert patient.kinds() == kinds
    assert dump(patient.scene) == before
    mended, left = mend(patient.scene)
    assert left == []
    assert Counter(finding.kind for finding in mended) >= Counter(kinds)
    after = dump(patient.scene)
    for product in products:
        assert before[product] == [one for one in after[product] if one in before[product]]
    assert any(task["state"] == "READY" for task in after["fireworks"])
    for workflow in after["workflows"]:
        assert "locked" not in workflow
    assert mend(patient.scene) == ([], [])
    assert dump(patient.scene) == after
