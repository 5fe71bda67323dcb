"""A label whose sites share a charge: on the hull, marked, and not learnt from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from al_charge.api.training import read_data
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import labelled_hull
from al_charge.loop.label_query import parse_query, query_labels
from al_charge.loop.labelled_frames import label_atoms
from al_charge.loop.verify import candidate_of
from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.report.documents import hull_document
from al_charge.report.tables import hull_table
from al_charge.store.documents import LabelDoc, Refusal
from al_charge.store.labels import LAST_GEOMETRY, SUMMARY

Run = Callable[..., tuple[int, str, str]]

KEY = "shared"


@pytest.fixture
def campaign(labelled: Campaign) -> Campaign:
    """With one more label at x = 1/2, lower than all others, in which all iron is alike."""
    labelled.store.labels.put(shared(labelled))
    labelled.store.labels.link("labelled", 0, KEY)
    return labelled


def shared(campaign: Campaign, **changes: object) -> LabelDoc:
    label = campaign.store.labels.get("exact")
    assert label is not None and label.moments is not None
    iron = [i for i, token in enumerate(label.requested) if token.startswith("Fe")]
    moments = [3.825 if i in iron else 0.0 for i in range(len(label.requested))]
    sites = [None if i in iron else token for i, token in enumerate(label.requested)]
    known = {
        "key": KEY,
        "resolved": None,
        "delocalised": True,
        "sites": sites,
        "moments": moments,
        "bader": None,
        "bader_electrons": None,
        "energy": label.energy - 3.0,
        "audit": "moments of atoms 2, 3, 4, 5 lie between two charge states",
    }
    frames = [one.model_copy(update={"energy": label.energy - 3.0}) for one in label.frames]
    return label.model_copy(update={**known, "frames": frames, **changes})


def test_it_counts_on_the_hull_and_says_so(campaign: Campaign, run: Run) -> None:
    label = campaign.store.labels.get(KEY)
    assert label is not None
    assert (label.refusal, label.refused) == (None, "")
    hull = labelled_hull(campaign).hull
    (vertex,) = [one for one in hull.vertices if one.key == KEY]
    assert (str(vertex.x), vertex.remark) == ("1/2", "delocalised")
    assert [one.remark for one in hull.vertices].count("delocalised") == 1
    # The same label with a doubt is on no hull.
    doubt = shared(campaign, key="doubt", delocalised=False)
    assert doubt.refusal is Refusal.AMBIGUOUS
    assert doubt.refused == "moments of atoms 2, 3, 4, 5 lie between two charge states"
    code, out, _ = run("labels", "labelled")
    assert code == 0
    assert out.count("delocalised") == 1
    document = json.loads(run("labels", "labelled", "--json")[1])
    (row,) = [one for one in document["labels"] if one["label"] == KEY]
    assert (row["delocalised"], row["ambiguous"], row["refused"]) == (True, False, "")


def test_labels_that_were_stored_before_are_not(labelled: Campaign) -> None:
    labels = labelled.store.labels
    labelled.store.database["labels"].update_many(
        {}, {"$unset": {"delocalised": ""}}, bypass_document_validation=True
    )
    assert not any(one.delocalised for one in labels.read(SUMMARY))
    blurred = labels.get("blurred")
    assert blurred is not None and blurred.refusal is Refusal.AMBIGUOUS


def test_no_charge_order_is_learnt_from_it(campaign: Campaign, tmp_path: Path) -> None:
    query = parse_query("db:labelled")
    found = query_labels(campaign.store, query, tmp_path / "cache", spin=False)
    assert found.left_out == {"ambiguous": 1, "unusable": 1, "delocalised": 1}
    spin = query_labels(campaign.store, query, tmp_path / "spin", spin=True)
    assert spin.left_out == {"unusable": 1}
    assert len(spin.frames) == len(found.frames) + 2


def test_a_potential_without_charge_states_learns_from_it(
    campaign: Campaign, run: Run, tmp_path: Path
) -> None:
    """From the database and from a file alike; what is uncertain teaches neither."""
    found = read_data("db:labelled", need_states=False, cache=tmp_path / "cache")
    assert found.left_out == {"ambiguous": 1, "unusable": 1}
    file = tmp_path / "labels.extxyz"
    assert run("export", "labelled", str(file))[0] == 0
    assert read_dataset(file, Reading(flip_charges=True)).left_out["delocalised"] == 1
    blind = read_dataset(file, Reading(need_states=False, flip_charges=True))
    assert blind.left_out == {"ambiguous": 1, "unusable": 1}
    label = campaign.store.labels.get(KEY)
    assert label is not None
    for frames in (found.frames, blind.frames):
        energies = [frame.energy for frame in frames]
        assert energies.count(pytest.approx(label.energy)) == 1


def test_a_verification_starts_from_what_was_asked_for(campaign: Campaign) -> None:
    label = campaign.store.labels.get(KEY)
    assert label is not None
    candidate = candidate_of(campaign, 1, label)
    assert candidate.geometry.species == label.requested
    assert candidate.config_hash == label.config_hash
    (geometry,) = dict(campaign.store.labels.read(LAST_GEOMETRY, keys=[KEY])).values()
    assert geometry.species == label.requested
    atoms = label_atoms(label, label.frames[-1])
    assert sorted(atoms.arrays["species"].tolist()) == sorted(label.requested)


def test_exports_tell_it(campaign: Campaign, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.extxyz"
    assert run("export", "labelled", str(file))[0] == 0
    document = json.loads(file.with_suffix(".json").read_text())
    assert document["counts"]["delocalised"] == 1
    assert file.read_text().count("delocalised=T") == 1


def test_audit_shows_the_sites_that_share(campaign: Campaign, run: Run) -> None:
    code, out, _ = run("audit", KEY)
    assert code == 1
    assert "4 Fe ambiguous" in out


def test_tables_and_documents_of_the_hull_mark_it(campaign: Campaign) -> None:
    hull = labelled_hull(campaign).hull
    document = hull_document(hull, campaign="labelled", labeler="gpaw")
    marks = {one["label"]: one.get("remark") for one in document["entries"]}
    assert {key for key, mark in marks.items() if mark} == {KEY}
    console = Console(width=160, record=True, quiet=False)
    with console.capture() as capture:
        console.print(hull_table(document))
    assert capture.get().count("vertex, delocalised") == 1
