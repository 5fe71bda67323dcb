"""Models: the same bytes back, or a refusal; and the metals' energies."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from bson.objectid import ObjectId

from al_charge.errors import AlChargeError, InputError
from al_charge.store.documents import (
    Assessment,
    CampaignDoc,
    LabelDoc,
    ModelDoc,
    ReferenceDoc,
    RoundDoc,
)
from al_charge.store.files import DamagedFile
from al_charge.store.mongo import Store

Maker = Callable[..., ModelDoc]


def test_weights_come_back_bit_for_bit(store: Store, make_model: Maker) -> None:
    weights = random.Random(1).randbytes(3_000_000)
    doc = make_model(history=[{"loss": 0.5}], held_out={"g": -0.01}, metrics={"rmse": 0.1})
    assert store.models.put(doc, weights, {"k": -130.5}) is True
    assert store.models.put(doc, b"other", {}) is False
    found = store.models.get("olivine", 0, 0)
    assert found is not None
    assert found[1] == weights
    files = {"weights_file": "", "sha256": "", "predictions_file": None}
    assert found[0].model_copy(update=files) == doc
    assert store.models.predictions(found[0]) == {"k": -130.5}
    assert store.database["weights.files"].count_documents({}) == 2


def test_models_are_listed_by_round_and_member(store: Store, make_model: Maker) -> None:
    for number, member in ((1, 0), (0, 1), (0, 0)):
        store.models.put(make_model(member, round=number), b"w", {})
    keys = [(doc.round, doc.member) for doc in store.models.all("olivine")]
    assert keys == [(0, 0), (0, 1), (1, 0)]
    assert len(store.models.all("olivine", 1)) == 1
    assert store.models.get("olivine", 2, 0) is None
    assert store.models.has("olivine", 1, 0) is True
    assert store.models.has("olivine", 1, 1) is False


def test_damaged_weights_are_refused(store: Store, make_model: Maker) -> None:
    store.models.put(make_model(), b"weights", {})
    store.database["weights.chunks"].update_one({}, {"$set": {"data": b"weightz"}})
    with pytest.raises(AlChargeError, match=r"model 'olivine/0/0'.*checksum"):
        store.models.get("olivine", 0, 0)


def test_a_model_of_an_earlier_version_said_nothing(store: Store, make_model: Maker) -> None:
    assert store.models.predictions(make_model()) == {}


def test_missing_predictions_are_told(store: Store, make_model: Maker) -> None:
    store.models.put(make_model(), b"weights", {"k": 1.0})
    (model,) = store.models.all("olivine")
    store.database["weights.files"].delete_one({"_id": ObjectId(model.predictions_file)})
    with pytest.raises(AlChargeError, match=r"model 'olivine/0/0': .* missing"):
        store.models.predictions(model)


def test_missing_weights_are_told(store: Store, make_model: Maker) -> None:
    store.models.put(make_model(), b"weights", {})
    store.database["weights.files"].delete_many({})
    with pytest.raises(AlChargeError, match="missing"):
        store.models.get("olivine", 0, 0)


def test_leftovers_are_told_and_nothing_else(
    store: Store, make_model: Maker, make_label: Callable[..., LabelDoc]
) -> None:
    store.models.put(make_model(), b"weights", {})
    store.labels.put(make_label("k", n_atoms=2000, n_frames=30))
    store.models.put(make_model(1), b"orphan", {})
    store.database["models"].delete_one({"member": 1})
    unused = store.files.unused()  # its weights and its predictions
    assert [file.bucket for file in unused] == ["weights", "weights"]


def test_unused_files_are_told_from_others(
    store: Store, make_model: Maker, make_label: Callable[..., LabelDoc]
) -> None:
    store.models.put(make_model(), b"weights", {"k": 1.0})
    store.labels.put(make_label("k", n_atoms=2000, n_frames=30))
    assert store.files.unused() == []
    store.database["labels"].delete_one({})
    (frames,) = store.files.unused()
    assert (frames.bucket, frames.size > 2_000_000) == ("frames", True)
    store.database["models"].delete_one({})
    assert [file.bucket for file in store.files.unused()] == ["frames", "weights", "weights"]


def test_damaged_files_are_told_by_what_names_them(
    store: Store,
    make_model: Maker,
    make_label: Callable[..., LabelDoc],
    make_assessment: Callable[..., Assessment],
) -> None:
    store.models.put(make_model(), b"weights", {"k": 1.0})
    store.labels.put(make_label("k", n_atoms=2000, n_frames=30))
    store.labels.put(make_label("small"))
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    store.rounds.add(RoundDoc(campaign="olivine", number=1))
    energies = np.array([[1.0], [2.0]])
    store.rounds.record_assessment("olivine", 0, make_assessment(labels=1), ["k"], energies)
    assert list(store.files.damaged()) == []
    store.database["frames.chunks"].delete_one({"n": 1})
    assert list(store.files.damaged()) == [DamagedFile("label", "k", "frames")]
    store.database["weights.files"].delete_many({})
    found = [
        DamagedFile("label", "k", "frames"),
        DamagedFile("model", "olivine/0/0", "weights"),
        DamagedFile("model", "olivine/0/0", "predictions"),
        DamagedFile("round", "olivine/0", "predictions"),
    ]
    assert list(store.files.damaged("olivine")) == found
    assert list(store.files.damaged("another")) == []


def test_predictions_are_kept_beside_an_assessment(
    store: Store, make_assessment: Callable[..., Assessment]
) -> None:
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    energies = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    first, second = make_assessment(labels=3), make_assessment(labels=1)
    kept = store.rounds.record_assessment("olivine", 0, first, ["a", "b", "c"], energies)
    again = store.rounds.record_assessment("olivine", 0, second, ["a"], energies[:, :1])
    assert again == kept
    record = store.rounds.get("olivine", 0)
    assert record is not None
    keys, found = store.rounds.predictions(record)
    assert keys == ["a", "b", "c"]
    np.testing.assert_array_equal(found, energies)
    (lost,) = store.files.unused()  # those of the second, which were not taken
    assert lost.bucket == "weights"


def test_a_metal_is_shared_by_settings(
    store: Store,
    make_campaign: Callable[..., CampaignDoc],
    make_reference: Callable[..., ReferenceDoc],
) -> None:
    for name, settings_hash in (("one", "born"), ("two", "born"), ("other", "gpaw")):
        store.campaigns.add(make_campaign(name, settings_hash=settings_hash))
    assert store.references.get("one", "born", "Na") is None
    doc = make_reference()
    assert store.references.put(doc) is True
    assert store.references.put(make_reference(-9.0)) is False
    assert (
        store.references.get("one", "born", "Na")
        == store.references.get("two", "born", "Na")
        == doc
    )
    assert store.references.get("one", "born", "Li") is None
    assert store.references.get("other", "gpaw", "Na") is None


def test_a_metal_under_other_settings_is_refused(
    store: Store,
    make_campaign: Callable[..., CampaignDoc],
    make_reference: Callable[..., ReferenceDoc],
) -> None:
    store.campaigns.add(make_campaign("one", settings_hash="born"))
    store.references.put(make_reference(settings_hash="gpaw"))
    with pytest.raises(InputError, match=r"campaign 'one'.*no longer those of its labels"):
        store.references.get("one", "gpaw", "Na")
    with pytest.raises(InputError, match="no such campaign"):
        store.references.get("nobody", "gpaw", "Na")


def test_settings_that_have_changed_are_named(
    store: Store,
    make_campaign: Callable[..., CampaignDoc],
    make_reference: Callable[..., ReferenceDoc],
) -> None:
    before = {"engine": "gpaw", "version": "26.7.0", "u": {"Fe": 5.3, "Mn": 3.9}, "k": [1, 1, 1]}
    after = {"engine": "gpaw", "version": "26.8.0", "u": {"Fe": 4.0, "Mn": 3.9}, "k": (1, 1, 1)}
    store.campaigns.add(make_campaign("one", settings_hash="old"))
    store.campaigns.check_settings("one", "old", after)
    with pytest.raises(InputError, match=r"its labels; go back"):
        store.campaigns.check_settings("one", "new", after)
    store.references.put(make_reference(settings_hash="old", settings=before))
    changed = r"its labels: u.Fe was 5.3, is 4.0; version was 26.7.0, is 26.8.0; go back"
    with pytest.raises(InputError, match=changed):
        store.campaigns.check_settings("one", "new", after)
