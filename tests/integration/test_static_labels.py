"""A campaign of static labels finds the hull that relaxing every configuration finds."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import Relax
from al_charge.loop.assess import assess
from al_charge.loop.campaign import Campaign, atoms_of, open_campaign
from al_charge.loop.committee import load_committee
from al_charge.loop.energies import assessed_hull, labelled_hull
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.loop.train import train_member
from al_charge.loop.verify import is_verification
from al_charge.store.documents import CampaignState
from al_charge.store.labels import ALL_FRAMES
from al_charge.store.mongo import Store
from al_charge.thermo.hull import Entry, Hull, build_hull

pytestmark = [pytest.mark.slow, pytest.mark.mongod, pytest.mark.timeout(1800)]
HOSTS = Path(__file__).parents[2] / "workflows" / "hosts"
SPEC = {
    "name": "static",
    "seed": 1,
    "host": {
        "structure": str(HOSTS / "NaFePO4.cif"),
        "empty_structure": str(HOSTS / "FePO4.cif"),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "relax": "none"},
    "potential": {
        "kind": "painn",
        "cutoff": "4 A",
        "channels": 16,
        "layers": 1,
        "pair_cutoff": "6 A",
    },
    "training": {"epochs": 12, "batch_size": 16},
    "committee": {"size": 2},
    "acquisition": {"first_round": 16, "labels_per_round": 16},
    "convergence": {
        "rounds": 1,
        "hull_tolerance": "5 meV",
        "max_labels": 70,
        "max_rounds": 12,
        "verify": True,
    },
}


@pytest.fixture(scope="module")
def campaign(
    mongodb_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campaign]:
    """The campaign after its end."""
    name = f"test_{uuid.uuid4().hex}"
    store = Store(mongodb_client[name])
    store.ensure_schema()
    submit(store, parse_spec(SPEC, source=HOSTS))
    campaign = open_campaign(store, "static")
    folder = tmp_path_factory.mktemp("runs")
    number = 0
    while play(campaign, number, folder / str(number)) is CampaignState.RUNNING:
        number += 1
    yield campaign
    mongodb_client.drop_database(name)


def play(campaign: Campaign, number: int, folder: Path) -> CampaignState:
    """Run every task of a round."""
    open_round(campaign, number)
    if not is_verification(campaign, number):
        for n_ions in campaign.host.ion_counts:
            propose(campaign, number, n_ions)
        select_candidates(campaign, number)
    for slot in range(label_slots(campaign, number)):
        label(campaign, number, slot, folder / f"label-{slot}", spool=folder / "spool")
    for member in range(campaign.spec.committee.size):
        train_member(campaign, number, member, folder / f"train-{member}", folder / "cache")
    return assess(campaign, number, folder / "metal")


@pytest.fixture(scope="module")
def exhaustive(campaign: Campaign, tmp_path_factory: pytest.TempPathFactory) -> Hull:
    """The hull of every configuration, relaxed by the labeler from where the campaign starts."""
    host, entries = campaign.host, []
    for n_ions in host.ion_counts:
        start = campaign.start_host(campaign.host, n_ions)
        for config in enumerate_distinct(host, n_ions):
            folder = tmp_path_factory.mktemp("relaxed")
            found = make_label(campaign.labeler, to_atoms(start, config), folder, relax=Relax.CELL)
            energy = found.reading.frames[-1].energy / host.formula_units
            key = canonical_hash(host, config)
            entries.append(Entry(key, key, host.composition(n_ions), energy))
    return build_hull(
        entries, framework=campaign.framework, working_ion="Na", metal_energy=campaign.metal_energy
    )


def test_it_ends_verified(campaign: Campaign) -> None:
    document = campaign.store.campaigns.get("static")
    assert document.state is CampaignState.CONVERGED
    assert "verified by relaxing" in document.reason
    verification = assessed_hull(campaign)[1].verification
    assert verification is not None and verification.verified


def test_static_labels_alone_find_the_vertices(campaign: Campaign, exhaustive: Hull) -> None:
    last = campaign.store.rounds.last("static")
    assert last is not None
    found = labelled_hull(campaign, up_to=last.number - 1)
    assert {one.relax for one in found.labels.values()} == {"none"}
    assert found.hull.compositions == exhaustive.compositions
    lowest = {entry.config_hash: entry.energy for entry in exhaustive.entries}
    for vertex, best in zip(found.hull.vertices, exhaustive.vertices, strict=True):
        assert lowest[vertex.config_hash] == pytest.approx(best.energy, abs=0.001)
        assert vertex.energy == pytest.approx(lowest[vertex.config_hash], abs=0.005)


def test_the_verified_hull_is_that_of_relaxing_everything(
    campaign: Campaign, exhaustive: Hull
) -> None:
    hull = labelled_hull(campaign).hull
    assert hull.compositions == exhaustive.compositions
    assert [v.energy for v in hull.vertices] == pytest.approx(
        [v.energy for v in exhaustive.vertices], abs=0.001
    )


def test_configurations_are_labelled_again_and_fall(campaign: Campaign) -> None:
    found = campaign.store.labels.read(ALL_FRAMES, campaign="static")
    labels = sorted(found, key=lambda one: one.created)
    by_hash: dict[str, list[float]] = {}
    for one in labels:
        if one.relax == "none":
            by_hash.setdefault(one.config_hash, []).append(one.energy)
    assert len(labels) <= 70 + 10
    again = [energies for energies in by_hash.values() if len(energies) > 1]
    assert len(again) >= 5
    fallen = [energies for energies in again if min(energies[1:]) < energies[0]]
    assert len(fallen) >= 0.8 * len(again)


def test_members_are_not_asked_of_labels_that_were_held_out_from_them(campaign: Campaign) -> None:
    asked = 0
    last = campaign.store.rounds.last("static")
    assert last is not None
    for number in range(1, last.number):
        models = campaign.store.models.all("static", number - 1)
        members = load_committee(campaign, number - 1).members
        for one in campaign.store.candidates.all("static", number):
            learnt = [one.config_hash not in model.held_out for model in models]
            if one.origin != "search" or all(learnt):
                continue
            atoms = [atoms_of(one.geometry)]
            energies = [member.predict(atoms)[0].energy for member in members]
            knowing = [energy for energy, known in zip(energies, learnt, strict=True) if known]
            assert len(knowing) == 1
            assert one.energy == pytest.approx(knowing[0], abs=1e-3)
            asked += abs(energies[0] - energies[1]) > 0.01
    assert asked >= 5


def test_windows_are_none_for_an_engine_without_moments(campaign: Campaign) -> None:
    labels = campaign.store.labels.read(ALL_FRAMES, campaign="static")
    assert all(one.windows == {} for one in labels)
