"""Campaigns with labels and jobs, and the page that shows them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fireworks import LaunchPad
from flask.testing import FlaskClient
from pymongo import MongoClient
from pymongo.database import Database
from werkzeug.test import TestResponse

from al_charge.crystal.configuration import composition, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash
from al_charge.fw.launchpad import store_of
from al_charge.fw.tasks import ensure_round
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import new_document
from al_charge.serve import source as module
from al_charge.serve.access import LOOPBACK
from al_charge.serve.app import create_app
from al_charge.serve.source import Source
from al_charge.store.documents import FrameDoc, LabelDoc, ReferenceDoc

SPEC = Path(__file__).parents[2] / "workflows" / "nafepo4_born_small.yaml"
TOKEN = "a-token-that-nobody-knows"


@dataclass
class Scene:
    """A database with the campaign, and what reads it."""

    launchpad: LaunchPad
    runs: Path
    name: str
    energies: dict[str, float] = field(default_factory=dict)
    """Energies of labels, eV per formula unit, by key."""

    def submit(self) -> Campaign:
        document = new_document(load_spec(SPEC).model_copy(update={"name": self.name}))
        self.store.campaigns.add(document)
        campaign = open_campaign(self.store, self.name)
        ensure_round(self.launchpad, campaign, 0)
        return campaign

    @property
    def store(self) -> Any:
        return store_of(self.launchpad)

    @property
    def campaign(self) -> Campaign:
        return open_campaign(self.store, self.name)

    def label(self, key: str, n_ions: int, energy: float, round: int = 0, **fields: Any) -> None:
        """Store a label of so many ions in the cell of four formula units, and use it."""
        campaign = self.campaign
        config = enumerate_distinct(campaign.host, n_ions)[
            len(self.energies) % 2 if n_ions == 2 else 0
        ]
        atoms = to_atoms(campaign.host, config)
        species = [str(token) for token in atoms.arrays["species"]]
        frame = FrameDoc(
            positions=atoms.positions,
            cell=atoms.cell.array,
            energy=4 * energy,
            forces=[[0.0] * 3] * len(atoms),
        )
        known: dict[str, Any] = {
            "key": key,
            "config_hash": canonical_hash(campaign.host, config),
            "requested_hash": canonical_hash(campaign.host, config),
            "colours": config.as_array(),
            "composition": composition(campaign.host, config),
            "n_ions": n_ions,
            "host_fingerprint": campaign.host.fingerprint,
            "settings_hash": campaign.settings_hash,
            "settings": {},
            "requested": species,
            "resolved": species,
            "sites": species,
            "windows": {},
            "relax": "cell",
            "numbers": atoms.numbers,
            "host_site": atoms.arrays["host_site"],
            "frames": [frame],
            "energy": 4 * energy,
            "converged": True,
            "engine": "born",
            "datasets": {},
            "attempts": [],
            "wall_time": 1.0,
            "cores": 1,
            "directory": "/nowhere",
            "campaign": self.name,
            "round": round,
        }
        self.store.labels.put(LabelDoc(**(known | fields)))
        self.store.labels.link(self.name, round, key)
        self.energies[key] = energy

    def metal(self) -> None:
        """Store the energy of sodium metal."""
        reference = ReferenceDoc(
            settings_hash=self.campaign.settings_hash,
            ion="Na",
            energy=-1.3,
            settings={},
            engine="born",
            wall_time=1.0,
            directory="/nowhere",
        )
        self.store.references.put(reference)

    def three_labels(self) -> None:
        """Both ends, and one label 80 meV per formula unit below the line between them."""
        self.metal()
        self.label("aaaa0000empty", 0, -20.0)
        self.label("bbbb0000full", 4, -24.0)
        self.label("cccc0000half", 2, -22.08)


@pytest.fixture(scope="module")
def launchpad(
    mongodb_client: MongoClient[dict[str, Any]],
    launchpad_on: Callable[[Database[dict[str, Any]]], LaunchPad],
) -> Iterator[LaunchPad]:
    """A database for all tests of a file; each has a campaign of its own."""
    name = f"test_{uuid.uuid4().hex}"
    made = launchpad_on(mongodb_client[name])
    store_of(made).ensure_schema()
    yield made
    mongodb_client.drop_database(name)


@pytest.fixture
def scene(launchpad: LaunchPad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A campaign, submitted; what is read of it is read anew each time."""
    monkeypatch.setattr(module, "FRESH", 0.0)
    made = Scene(launchpad, tmp_path / "runs", f"page-{uuid.uuid4().hex[:8]}")
    made.submit()
    return made


@dataclass
class Visitor:
    """Somebody with a browser who has opened the page."""

    client: FlaskClient

    def get(self, path: str, **arguments: Any) -> TestResponse:
        return self.client.get(path, query_string=arguments)

    def text(self, path: str, **arguments: Any) -> str:
        answer = self.get(path, **arguments)
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def visitor(scene: Scene) -> Visitor:
    """A browser that knows the token."""
    source = Source(None, scene.runs, lambda *_: scene.launchpad)
    client = create_app(source, TOKEN, LOOPBACK).test_client()
    assert client.get("/", query_string={"token": TOKEN}).status_code == 200
    return Visitor(client)
