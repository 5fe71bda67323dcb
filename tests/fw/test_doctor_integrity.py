"""What the doctor says of damaged data, and how it goes on in spite of them."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bson.objectid import ObjectId
from pymongo.errors import AutoReconnect, OperationFailure

from al_charge.fw.doctor import Finding, look, mend
from al_charge.store.documents import CampaignState, LabelUseDoc, ModelDoc
from al_charge.store.embedded import EmbeddedServer

pytestmark = pytest.mark.mongod


def edit(patient: Any, collection: str, **fields: Any) -> None:
    changed = patient.scene.store.database[collection].update_one(
        {}, {"$set": fields}, bypass_document_validation=True
    )
    assert changed.modified_count == 1


def damages(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.kind, one.cure) for one in found if one.kind.startswith("damaged")]


MAKE = "set it aside and compute the label again, or restore the database from a backup"
TRAIN = "set it aside and train the model again, or restore the database from a backup"
RESTORE = "restore the database from a backup"


def trained(patient: Any) -> None:
    """Complete the training of a member whose model is there."""
    document = ModelDoc(campaign=patient.campaign.name, round=0, member=0, config={})
    patient.scene.store.models.put(document, b"weights", {"k": -1.0})


@pytest.mark.parametrize("deep", [True, False])
def test_a_damaged_label_is_made_again(deep: bool, patient: Any) -> None:
    key = patient.labelled()
    scene = replace(patient.scene, deep=deep)
    assert look(scene) == []
    edit(patient, "labels", energy=-2.0)
    (finding,) = look(scene)
    assert (finding.kind, finding.where, finding.cure) == ("damaged label", f"label {key}", MAKE)
    mended, left = mend(scene)
    assert left == []
    kinds = {one.kind for one in mended}
    assert kinds == {"damaged label", "use of a missing label", "files without label"}
    assert not scene.store.labels.has(key)
    assert patient.task("label 0")["state"] == "READY"
    assert scene.store.database["damaged"].count_documents({}) == 1
    assert mend(scene) == ([], [])


def test_damaged_weights_are_trained_again(patient: Any) -> None:
    patient.labelled()
    everything = {"spec._category": "cpu"}
    patient.launchpad.fireworks.update_many({}, {"$set": everything})
    trained(patient)
    task = patient.task("train 0")
    patient.firework(task["fw_id"], state="COMPLETED")
    store = patient.scene.store
    (model,) = store.models.all(patient.campaign.name)
    query = {"files_id": ObjectId(model.weights_file)}
    store.database["weights.chunks"].update_one(query, {"$set": {"data": b"Weights"}})
    found = [one for one in look(patient.scene) if one.kind == "damaged model"]
    assert [(one.what.partition(":")[0], one.cure) for one in found] == [("its weights", TRAIN)]
    found[0].fix()  # type: ignore[misc]
    (again,) = [one for one in look(patient.scene) if one.kind == "task without model"]
    again.fix()  # type: ignore[misc]
    assert patient.task("train 0")["state"] != "COMPLETED"


def test_an_imported_label_is_restored_from_a_backup(patient: Any) -> None:
    key = patient.labelled()
    edit(patient, "labels", energy=-2.0)
    assert damages(look(patient.scene)) == [("damaged label", MAKE)]
    use = LabelUseDoc(campaign="another", round=0, key=key, adopted=True)
    patient.scene.store.database["label_uses"].insert_one(use.to_mongo())
    assert damages(look(patient.scene)) == [("damaged label", RESTORE)]


def test_a_label_of_a_campaign_that_has_ended_is_restored(patient: Any) -> None:
    patient.labelled()
    patient.scene.store.campaigns.set_state(patient.campaign.name, CampaignState.CONVERGED)
    edit(patient, "labels", energy=-2.0)
    assert damages(look(patient.scene)) == [("damaged label", RESTORE)]


@pytest.mark.parametrize(
    ("collection", "change", "kind"),
    [
        ("labels", {"energy": math.nan}, "damaged label"),
        ("labels", {"frames": 3}, "damaged label"),
        ("rounds", {"selected": 3}, "damaged round"),
        ("rounds", {"number": "none"}, "damaged round"),
        ("campaigns", {"spec": {}}, "damaged campaign"),
        ("campaigns", {"state": "weary"}, "damaged campaign"),
        ("candidates", {"geometry": None}, "damaged candidate"),
        ("label_uses", {"round": "none"}, "damaged label use"),
        ("attempts", {"started": 0}, "damaged attempt"),
        ("models", {"weights_file": 7}, "damaged model"),
        ("weights.files", {"length": "long"}, "half-written model"),
        ("weights.files", {"chunkSize": 0}, "half-written model"),
        ("workflows", {"nodes": None}, None),
        ("launches", {"fworker": None}, None),
    ],
)
def test_no_damage_ends_the_doctor(
    collection: str, change: dict[str, Any], kind: str | None, patient: Any
) -> None:
    patient.labelled()
    trained(patient)
    patient.scene.store.attempts.start("k", campaign=patient.campaign.name, round=0, slot=0)
    edit(patient, collection, **change)
    found = look(patient.scene)
    assert kind is None or kind in {one.kind for one in found}
    _, left = mend(patient.scene)
    for one in [*found, *left]:
        assert "\n" not in one.what


def test_an_outage_ends_the_doctor(patient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Any:
        def check(_: Any) -> Any:
            raise error

        return check

    with pytest.raises(AutoReconnect):
        look(patient.scene, (fail(AutoReconnect("gone")),))
    (finding,) = look(patient.scene, (fail(OperationFailure("of damaged data\n\nno array")),))
    assert (finding.kind, finding.what) == ("check not finished", "OperationFailure: no array")


def test_a_cure_that_fails_on_damaged_data_is_told(patient: Any) -> None:
    def fail() -> None:
        raise KeyError("round")

    left = mend(patient.scene, (lambda _: [Finding("k", "w", "what", "cure", fail)],))[1]
    assert [one.what for one in left] == ["what; the cure failed: KeyError: 'round'"]


def test_a_worker_s_login_puts_nothing_aside(patient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    patient.labelled()
    edit(patient, "labels", energy=-2.0)

    def refused(*_: Any) -> None:
        raise OperationFailure("not authorized on al_charge to execute command", 13)

    monkeypatch.setattr(type(patient.scene.store.integrity), "put_aside", refused)
    (left,) = mend(patient.scene)[1]
    assert left.what.endswith("the cure failed: only an admin of the database may set it aside")


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_random_edits_are_found(
    patient: Any, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, which knows nothing of checksums, edits documents and chunks at random."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    integrity = importlib.import_module("integrity")
    patient.labelled()
    trained(patient)
    store = patient.scene.store
    store.attempts.start("k", campaign=patient.campaign.name, round=0, slot=0)
    for number in range(8):
        store.labels.put(patient.label(f"label {number}", energy=-1.0 - number))
        store.labels.link(patient.campaign.name, 0, f"label {number}")
    scene = replace(patient.scene, deep=True)
    names = integrity.names_of_findings(store)
    assert damages(look(scene)) == []
    uri = EmbeddedServer(private_home).start().uri("admin")
    edits = integrity.edited(store.database.name, uri, 24, seed=1)
    assert len(edits) == 24
    assert {one["edit"] for one in edits} == {"byte", "value"}
    assert len({one["collection"] for one in edits}) >= 9
    assert integrity.missed(edits, names, look(scene)) == []
