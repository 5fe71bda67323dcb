"""A LaunchPad of its own for each test, and a campaign that can be broken."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fireworks import FWAction, FWorker, LaunchPad
from pymongo import MongoClient
from pymongo.database import Database

from al_charge.fw import doctor, workflow_states
from al_charge.fw.doctor import Scene, look
from al_charge.fw.launchpad import store_of
from al_charge.fw.tasks import ensure_round
from al_charge.fw.worker_registry import host_of, register, worker_name
from al_charge.loop.campaign import Campaign, geometry_of, label_key, open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import new_document
from al_charge.store.documents import CandidateDoc, FrameDoc, LabelDoc

SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
DEAD = f"{2**22}@{host_of(worker_name())}@1.00"


@pytest.fixture
def launchpad(
    database: Database[dict[str, Any]],
    launchpad_on: Callable[[Database[dict[str, Any]]], LaunchPad],
) -> LaunchPad:
    """A LaunchPad on the test's database."""
    return launchpad_on(database)


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

    def dump(self) -> dict[str, Any]:
        """Return everything that the database holds."""
        return dump(self.scene)

    def kinds(self) -> Counter[str]:
        return Counter(finding.kind for finding in look(self.scene))

    def label(self, key: str, **fields: Any) -> LabelDoc:
        frame = FrameDoc(
            positions=[[0.0] * 3], cell=[[1.0] * 3] * 3, energy=-1.0, forces=[[0.0] * 3]
        )
        known: dict[str, Any] = {
            "key": key,
            "config_hash": "c",
            "requested_hash": "c",
            "colours": [0],
            "composition": "0",
            "n_ions": 0,
            "host_fingerprint": self.campaign.host.fingerprint,
            "settings_hash": self.campaign.settings_hash,
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
            "directory": str(self.scene.runs),
            "campaign": self.campaign.name,
            "round": 0,
        }
        return LabelDoc(**(known | fields))

    def labelled(self) -> str:
        """Bring the first round to its first label; return the label's key."""
        from al_charge.crystal.configuration import to_atoms
        from al_charge.crystal.enumeration import enumerate_distinct
        from al_charge.crystal.symmetry import canonical_hash

        store, campaign = self.scene.store, self.campaign
        config = enumerate_distinct(campaign.host, 0)[0]
        candidate = CandidateDoc(
            campaign=campaign.name,
            round=0,
            n_ions=0,
            composition="0",
            config_hash=canonical_hash(campaign.host, config),
            colours=list(config.occupation),
            geometry=geometry_of(to_atoms(campaign.host, config)),
            origin="enumerated",
        )
        store.proposals.put(campaign.name, 0, 0, [candidate])
        store.rounds.record_selection(campaign.name, 0, {candidate.doc_id: "end member"})
        key = label_key(campaign, candidate)
        folder = self.scene.runs / campaign.name / "round-000" / "label-000"
        folder.mkdir(parents=True)
        store.labels.put(self.label(key, directory=str(folder)))
        store.labels.link(campaign.name, 0, key)
        everything = {"_category": "cpu"}
        self.launchpad.fireworks.update_many(
            {}, {"$set": {f"spec.{k}": v for k, v in everything.items()}}
        )
        while self.task("label 0")["state"] != "COMPLETED":
            _, launch = self.run(worker_name())
            self.launchpad.complete_launch(launch, FWAction(), "COMPLETED")
        return key


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
    store.campaigns.add(new_document(spec))
    campaign = open_campaign(store, spec.name)
    ensure_round(launchpad, campaign, 0)
    register(launchpad, spec.name, ["cpu"])
    scene = Scene(launchpad, store, None)
    yield scene, campaign, dump(scene)
    mongodb_client.drop_database(database)


@pytest.fixture
def patient(
    healthy: tuple[Scene, Campaign, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Patient:
    """That campaign, unbroken; pauses take no time."""
    monkeypatch.setattr(workflow_states, "LOCK_SECONDS", 0.01)
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
