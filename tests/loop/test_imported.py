"""A campaign goes on from imported labels: no label is made twice, and the hull is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase.io import read
from pymongo.database import Database

from al_charge.api.imports import import_into
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.loop.assess import assess, next_state
from al_charge.loop.campaign import Campaign, label_key, open_campaign
from al_charge.loop.energies import assessed_hull, labelled_hull
from al_charge.loop.label import label
from al_charge.loop.label_document import windows_for
from al_charge.loop.propose import propose
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.select import labels_left, select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.stored_spec import spec_of
from al_charge.loop.submit import submit
from al_charge.loop.train import train_member
from al_charge.loop.verify import verification_of
from al_charge.report.export import export
from al_charge.store.documents import Assessment, CampaignState
from al_charge.store.labels import ALL_FRAMES, SUMMARY
from al_charge.store.mongo import Store
from al_charge.thermo.voltage import voltage_profile

ROOT = Path(__file__).parents[2]
HOST = ROOT / "workflows" / "hosts" / "NaFePO4.cif"
GPAW_FILE = ROOT / "workflows" / "nafepo4_gpaw.yaml"
GPAW_LABELS = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
LIGHT = {
    "potential": {"kind": "painn", "channels": 4, "cutoff": "3 A", "pair_cutoff": "0 A"},
    "training": {"epochs": 1},
    "committee": {"size": 2},
    "relaxation": {"max_steps": 2},
    "search": {"evaluations": 4},
}
"""Potentials that are trained in no time; a label's key does not depend on them."""


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    """An empty database."""
    store = Store(database)
    store.ensure_schema()
    return store


@pytest.fixture
def no_gpaw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every call of GPAW fail; its version and datasets are those of the labels."""
    where = "al_charge.labelers.gpaw.labeler"
    monkeypatch.setattr(f"{where}.gpaw_version", lambda: "26.7.0")
    monkeypatch.setattr(f"{where}.datasets_identity", lambda: "gpaw-data 1.2.1")

    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("the labeler was called")

    for name in ("prepare", "run", "read", "metal_energy"):
        monkeypatch.setattr(GpawLabeler, name, called)


def submitted(store: Store, file: dict[str, Any], source: Path, name: str) -> Campaign:
    submit(store, parse_spec(file | LIGHT | {"name": name}, source=source))
    return open_campaign(store, name)


def gpaw_campaign(store: Store) -> Campaign:
    """Return the shipped campaign, with lighter potentials."""
    file = yaml.safe_load(GPAW_FILE.read_text(encoding="utf-8"))
    return submitted(store, file, GPAW_FILE, "again")


def request(campaign: Campaign, number: int) -> list[str]:
    """Propose and select the labels of a round."""
    open_round(campaign, number)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, number, n_ions)
    return select_candidates(campaign, number)


def label_all(campaign: Campaign, number: int, folder: Path) -> None:
    for slot in range(label_slots(campaign, number)):
        label(campaign, number, slot, folder / f"{number}-{slot}", spool=folder / "spool")


def train_and_assess(campaign: Campaign, number: int, folder: Path) -> CampaignState:
    for member in range(campaign.spec.committee.size):
        train_member(campaign, number, member, folder / f"{number}-{member}", folder / "cache")
    return assess(campaign, number, folder / "metal")


def test_a_campaign_resumes_from_committed_labels(
    store: Store,
    no_gpaw: None,
    tmp_path: Path,
    make_assessment: Callable[..., Assessment],
) -> None:
    """The 50 labels of GPAW in the repository, in an empty database, and GPAW never runs."""
    found = import_into(store, GPAW_LABELS)
    assert (len(found.imported), found.known, found.left_out) == (50, (), {})
    campaign = gpaw_campaign(store)
    assert request(campaign, 0) == []
    assert store.labels.uses("again", adopted=True) == dict.fromkeys(found.imported, 0)
    label_all(campaign, 0, tmp_path)
    assert train_and_assess(campaign, 0, tmp_path) is CampaignState.RUNNING
    assert store.attempts.all("again") == []
    # The hull of docs/results.md: 13.5 meV/f.u. deep at x = 1/2, and 2.98 V against sodium.
    hull = assessed_hull(campaign)[0].hull
    assert [vertex.x for vertex in hull.vertices] == [0, Fraction(1, 2), 1]
    energies = [4 * vertex.energy for vertex in hull.vertices]
    assert energies == pytest.approx([-178.343, -186.990, -195.529], abs=5e-4)
    assert hull.formation_energy(hull.vertices[1]) == pytest.approx(-0.0135, abs=5e-5)
    voltage = (energies[0] - energies[2]) / 4 + campaign.metal_energy
    assert voltage == pytest.approx(2.98, abs=0.005)
    # The same from the file itself, without al-charge.
    images = read(GPAW_LABELS, index=":")
    assert isinstance(images, list)
    lowest: dict[float, float] = {}
    for atoms in images:
        if atoms.info["frame"] == atoms.info["frames"] - 1:
            x = float(atoms.info["x"])
            lowest[x] = min(atoms.get_potential_energy(), lowest.get(x, np.inf))
    assert energies == pytest.approx([lowest[0.0], lowest[0.5], lowest[1.0]], abs=1e-9)
    # 46 static labels count towards max_labels; the 4 of verifications come on top.
    assert labels_left(campaign) == campaign.spec.convergence.max_labels - 46
    again = {label_key(campaign, store.candidates.get(key)) for key in request(campaign, 1)}  # type: ignore[arg-type]
    assert len(again) <= campaign.spec.acquisition.labels_per_round
    assert not again & set(found.imported)


def test_a_verification_finds_its_relaxed_labels(
    store: Store, no_gpaw: None, tmp_path: Path, make_assessment: Callable[..., Assessment]
) -> None:
    import_into(store, GPAW_LABELS)
    campaign = gpaw_campaign(store)
    request(campaign, 0)
    due = make_assessment(verify_next=True)
    store.rounds.record_assessment("again", 0, due, [], np.zeros((2, 0)))
    open_round(campaign, 1)
    assert label_slots(campaign, 1) == 4
    label_all(campaign, 1, tmp_path)
    outcome = verification_of(campaign, 1, labelled_hull(campaign))
    assert (outcome.verified, outcome.relaxed, outcome.failed) == (True, 4, [])
    assert store.attempts.all("again") == []


def test_the_first_round_is_found_key_by_key(store: Store, no_gpaw: None, tmp_path: Path) -> None:
    """What the first round selected before the import is found, and nothing else is made."""
    campaign = gpaw_campaign(store)
    selected = request(campaign, 0)
    assert len(selected) == 10
    found = import_into(store, GPAW_LABELS)
    label_all(campaign, 0, tmp_path)
    assert len(store.labels.uses("again")) == 10
    assert store.labels.uses("again").keys() <= set(found.imported)
    assert store.attempts.all("again") == []
    assert labels_left(campaign) == 50
    train_and_assess(campaign, 0, tmp_path)
    request(campaign, 1)
    assert len(store.labels.uses("again", adopted=True)) == 40
    assert labels_left(campaign) <= 14


BORN: dict[str, Any] = {
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "fmax": "0.1 eV/A"},
    "acquisition": {"first_round": 5, "labels_per_round": 2},
    "convergence": {"rounds": 1, "max_labels": 12},
}


def test_a_campaign_takes_over_what_is_in_its_window(
    store: Store, no_gpaw: None, tmp_path: Path
) -> None:
    found = import_into(store, GPAW_LABELS)
    file = yaml.safe_load(GPAW_FILE.read_text(encoding="utf-8"))
    file["host"]["compositions"] = {"from": "1/2", "to": 1}
    part = submitted(store, file, GPAW_FILE, "part")
    whole = gpaw_campaign(store)
    assert part.host.fingerprint == whole.host.fingerprint
    request(part, 0)
    request(whole, 0)
    assert part.host.ion_counts == (2, 3, 4)
    x_of = {one.key: Fraction(one.composition) for one in store.labels.read(SUMMARY)}
    used = store.labels.uses("part", adopted=True).keys()
    assert used == {key for key in found.imported if x_of[key] >= Fraction(1, 2)}
    assert 0 < len(used) < 50
    hull, all_of_it = labelled_hull(part).hull, labelled_hull(whole).hull
    assert [vertex.key for vertex in hull.vertices] == [v.key for v in all_of_it.vertices[1:]]
    assert voltage_profile(hull).mean == voltage_profile(all_of_it).steps[-1].voltage
    assert hull.formation_energy(hull.vertices[0]) == 0.0
    # FePO4 alone shows what Fe3+ is like; the mixed cells of x = 1/2 do not.
    calibrated, both = windows_for(part, 1, "3/4"), windows_for(whole, 1, "3/4")
    assert calibrated is not None and both is not None
    assert (set(calibrated.ranges), set(both.ranges)) == ({"Fe2+"}, {"Fe2+", "Fe3+"})
    # Geometries still lie between the structures: FePO4, which it gives, is x = 0.
    assert part.start_host(part.host, 2).structure == whole.start_host(whole.host, 2).structure


def test_a_campaign_in_a_window_with_a_formula(store: Store, tmp_path: Path) -> None:
    """From the first labels to the assessment, between x = 1/2 and 3/2 per two iron."""
    window = {"formula": "Na2Fe2P2O8", "compositions": {"from": "1/2", "to": "3/2"}}
    file = BORN | {"host": BORN["host"] | window}
    campaign = submitted(store, file, HOST, "window")
    assert spec_of(store.campaigns.get("window")).host.compositions == {
        "from": Fraction(1, 2),
        "to": Fraction(3, 2),
    }
    selected = request(campaign, 0)
    candidates = [store.candidates.get(key) for key in selected]
    assert {one.composition for one in candidates if one} == {"1/2", "1", "3/2"}
    assert {one.n_ions for one in candidates if one} == {1, 2, 3}
    assert {one.composition for one in candidates[:2] if one} == {"1/2", "3/2"}
    label_all(campaign, 0, tmp_path)
    train_and_assess(campaign, 0, tmp_path)
    hull = assessed_hull(campaign)[0].hull
    assert (hull.compositions[0], hull.compositions[-1]) == (Fraction(1, 2), Fraction(3, 2))
    assert hull.framework == "(FePO4)2"
    labels = list(store.labels.read(SUMMARY))
    lowest = {n: min(one.energy for one in labels if one.n_ions == n) for n in (1, 2, 3)}
    middle = next(e for e in hull.entries if e.x == 1 and 2 * e.energy == lowest[2])
    # Two formula units in the cell.
    expected = (lowest[2] - (lowest[1] + lowest[3]) / 2) / 2
    assert hull.formation_energy(middle) == pytest.approx(expected, abs=1e-9)
    mean = campaign.metal_energy - (lowest[3] - lowest[1]) / 2
    assert voltage_profile(hull).mean == pytest.approx(mean, abs=1e-9)
    # Its export brings window and formula along.
    export(campaign, tmp_path / "window.extxyz", last=False, usable_only=False, force=False)
    told = json.loads((tmp_path / "window.json").read_text())
    assert (told["formula"], told["formula_units"]) == ("Nax(FePO4)2", 2)
    images = read(tmp_path / "window.extxyz", index=":")
    assert {float(atoms.info["x"]) for atoms in images} == {0.5, 1.0, 1.5}  # type: ignore[union-attr]
    store.database.client.drop_database(store.database.name)
    store.ensure_schema()
    found = import_into(store, tmp_path / "window.extxyz")
    assert (set(found.imported), found.left_out) == ({one.key for one in labels}, {})
    again = store.labels.read(SUMMARY)
    assert {one.host_fingerprint for one in again} == {campaign.host.fingerprint}


@pytest.fixture
def exported(store: Store, tmp_path: Path) -> Path:
    """The labels of the first round of a campaign by Born, whose database is empty again."""
    campaign = submitted(store, BORN, HOST, "first")
    request(campaign, 0)
    label_all(campaign, 0, tmp_path)
    train_and_assess(campaign, 0, tmp_path)
    export(campaign, tmp_path / "first.extxyz", last=False, usable_only=False, force=False)
    store.database.client.drop_database(store.database.name)
    store.ensure_schema()
    return tmp_path / "first.extxyz"


def test_what_is_missing_is_labelled(store: Store, exported: Path, tmp_path: Path) -> None:
    """Imported labels count among those of the first round; end members come in any case."""
    import_into(store, exported)
    missing = [one for one in store.labels.read(SUMMARY) if one.n_ions in (0, 2)]
    store.database["labels"].delete_many({"_id": {"$in": [one.key for one in missing]}})
    there = store.database["labels"].count_documents({})
    assert there == 5 - len(missing) == 3
    campaign = submitted(store, BORN, HOST, "second")
    selected = request(campaign, 0)
    assert len(selected) == 2
    compositions = [store.candidates.get(key).composition for key in selected]  # type: ignore[union-attr]
    assert compositions == ["0", "1/2"]
    # Run again after a kill, it changes nothing.
    assert select_candidates(campaign, 0) == selected
    assert labels_left(campaign) == 12 - there - 2
    label_all(campaign, 0, tmp_path)
    assert len(store.labels.uses("second")) == 5
    train_and_assess(campaign, 0, tmp_path)
    state, _ = next_state(campaign, 0)
    assert state is CampaignState.RUNNING


def test_end_members_are_labelled_even_if_enough_was_imported(store: Store, exported: Path) -> None:
    import_into(store, exported)
    store.database["labels"].delete_many({"n_ions": 4})
    few = BORN | {"acquisition": {"first_round": 2, "labels_per_round": 2}}
    (one,) = request(submitted(store, few, HOST, "second"), 0)
    found = store.candidates.get(one)
    assert found is not None
    assert found.composition == "1"


@pytest.mark.parametrize(
    ("changes", "adopted"),
    [
        ({}, 5),
        ({"host": BORN["host"] | {"supercell": [1, 1, 2]}}, 0),
        ({"labeler": {"kind": "gpaw"}}, 0),
    ],
    ids=["the same", "another host", "other settings"],
)
def test_only_labels_of_the_host_and_the_settings_are_taken_over(
    store: Store, exported: Path, no_gpaw: None, changes: dict[str, Any], adopted: int
) -> None:
    import_into(store, exported)
    campaign = submitted(store, BORN | changes, HOST, "second")
    request(campaign, 0)
    assert len(store.labels.uses("second")) == adopted


def test_labels_that_were_made_here_are_not_taken_over(store: Store, tmp_path: Path) -> None:
    """As ever: another campaign's labels are used where they are selected."""
    first = submitted(store, BORN, HOST, "first")
    request(first, 0)
    label_all(first, 0, tmp_path)
    second = submitted(store, BORN, HOST, "second")
    assert len(request(second, 0)) == 5
    assert store.labels.uses("second") == {}


def test_labels_that_come_later_join_the_next_round(
    store: Store, exported: Path, tmp_path: Path
) -> None:
    other = BORN | {"seed": 7}
    campaign = submitted(store, other, HOST, "second")
    request(campaign, 0)
    label_all(campaign, 0, tmp_path)
    train_and_assess(campaign, 0, tmp_path)
    own = set(store.labels.uses("second"))
    import_into(store, exported)
    new = {one.key for one in store.labels.read(ALL_FRAMES) if one.imported} - own
    request(campaign, 1)
    assert store.labels.uses("second", adopted=True) == dict.fromkeys(new, 1)
