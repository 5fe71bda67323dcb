"""A campaign whose host has sites with roles of their own: one Na and one Fe2+ that stay."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms
from pymongo import MongoClient

from al_charge.crystal.shells import KIND
from al_charge.crystal.valence import Audit, Windows
from al_charge.labelers import make_labeler
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.protocol import Reading, Relax
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.energies import labelled_hull
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.reference import label_metal
from al_charge.loop.rounds import open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.store.mongo import Store

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
SPEC = {
    "name": "roles",
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
        "sites": {"0": 1, "4": 2},
        "formula": "NaFePO4",
    },
    "labeler": {"kind": "born", "relax": "none"},
    "potential": {"kind": "painn"},
    "search": {"seeds": 2},
    "acquisition": {"first_round": 4},
}


@pytest.fixture(scope="module")
def campaign(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[Campaign]:
    name = f"test_{uuid.uuid4().hex}"
    store = Store(mongodb_client[name])
    store.ensure_schema()
    submit(store, parse_spec(SPEC, source=HOST))
    campaign = open_campaign(store, "roles")
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    select_candidates(campaign, 0)
    yield campaign
    mongodb_client.drop_database(name)


def test_labels_are_made_and_hulls_built_as_of_any_host(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Atoms] = []
    prepare = BornLabeler.prepare

    def watched(self: BornLabeler, atoms: Atoms, *arguments: Any, **given: Any) -> None:
        seen.append(atoms)
        prepare(self, atoms, *arguments, **given)

    monkeypatch.setattr(BornLabeler, "prepare", watched)
    keys = [label(campaign, 0, slot, tmp_path / str(slot), spool=tmp_path) for slot in range(4)]
    label_metal(campaign, tmp_path / "metal")
    labels = [campaign.store.labels.get(key or "") for key in keys]
    assert {found.composition for found in labels if found} >= {"1/4", "1"}
    for found, atoms in zip(labels, seen, strict=False):
        assert found is not None and found.resolved is not None
        species = dict(zip(found.host_site, found.resolved, strict=True))
        assert (species[0], species[4]) == ("Na+", "Fe2+")
        assert found.n_ions == found.resolved.count("Na+")
        kinds = dict(zip(found.host_site, atoms.arrays[KIND].tolist(), strict=True))
        assert kinds[5] == kinds[6] == kinds[7] != kinds[4]
    hull = labelled_hull(campaign).hull
    assert [str(hull.entries[i].x) for i in (0, -1)] == ["1/4", "1"]
    assert (hull.framework, hull.working_ion) == ("FePO4", "Na")


def test_a_state_that_a_site_does_not_have_is_uncertain(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_high(_: Any, __: Reading, species: tuple[str, ...], ___: Windows | None) -> Audit:
        return Audit(tuple("Fe3+" if s.startswith("Fe") else s for s in species))

    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "other")
    engine = make_labeler(campaign.spec.labeler)
    assert engine.relax is Relax.NONE
    monkeypatch.setattr(type(engine), "audit", all_high)
    key = label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    found = campaign.store.labels.get(key or "")
    assert found is not None and found.resolved is None
    assert [found.host_site[i] for i, s in enumerate(found.sites or ()) if s is None] == [4]
