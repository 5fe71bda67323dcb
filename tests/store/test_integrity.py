"""What is stored is what was written: every edit behind al-charge's back is found."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pytest
from bson.codec_options import CodecOptions
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument

from al_charge.errors import AlChargeError
from al_charge.store import labels
from al_charge.store.checksums import decoded, document_checksum, fault_of, with_checksum
from al_charge.store.documents import (
    DOCUMENTS,
    Assessment,
    CampaignState,
    FailureDoc,
    ModelDoc,
    RoundDoc,
)
from al_charge.store.integrity import ASIDE
from al_charge.store.mongo import Store

pytestmark = pytest.mark.mongod


@pytest.fixture
def full(store: Store, make_campaign: Any, make_candidate: Any, make_label: Any, make_model: Any,
         make_reference: Any, monkeypatch: pytest.MonkeyPatch) -> Store:  # fmt: skip
    """A store with a document of every kind, and a file of every kind."""
    monkeypatch.setattr(labels, "LARGEST_INLINE_FRAMES", 20_000)
    file = store.files.keep(b"a labeler's file")
    store.campaigns.add(make_campaign(spec={"seed": 1, "labeler_file": file}))
    store.campaigns.set_state("olivine", CampaignState.PAUSED, "for a test")
    store.campaigns.set_state("olivine", CampaignState.RUNNING)
    store.rounds.add(RoundDoc(campaign="olivine", number=0))
    store.proposals.put("olivine", 0, 1, [make_candidate("hash")])
    store.rounds.record_selection("olivine", 0, {"olivine/0/hash": "it is the first"})
    for key, size in (("small", 2), ("large", 40)):
        attempt = store.attempts.start(key, campaign="olivine", round=0, slot=0)
        store.labels.put(make_label(key, n_atoms=size, n_frames=8))
        store.labels.link("olivine", 0, key)
        store.attempts.finish(attempt, "made")
    store.failures.put(FailureDoc(key="f", campaign="olivine", round=0, reason="SCF", attempts=3))
    store.models.put(make_model(), bytes(300_000), {"small": -1.0})
    store.references.put(make_reference())
    store.ledger.open("olivine", worker="1@node@0.00")
    store.ledger.beat(["1@node@0.00"])
    assert store.ledger.close("1@node@0.00", "done") == 1
    assert store.ledger.close("1@node@0.00", "done") == 0
    store.rounds.set_progress("olivine", 0, "train 0", 3, 4)
    for _ in range(2):
        store.rounds.add_seconds("olivine", 0, "label", 2.5)
    found = Assessment(spread_scale=1.0, vertices=[], labels=1, criteria=[])
    store.rounds.record_assessment("olivine", 0, found, ["small"], np.ones((2, 1)))
    for document in DOCUMENTS:
        assert store.database[document.collection].count_documents({}) > 0
    return store


def found_in(store: Store, **options: Any) -> set[tuple[str, str, str]]:
    return {
        (one.kind, one.doc_id, one.content) for one in store.integrity.damaged("olivine", **options)
    }


def test_what_is_written_and_changed_by_al_charge_is_whole(full: Store) -> None:
    assert list(full.integrity.damaged()) == []
    assert list(full.integrity.damaged("olivine", sample=5)) == []
    record = full.rounds.get("olivine", 0)
    assert record is not None
    assert (record.stage_seconds, record.progress) == ({"label": 5.0}, {"train 0": [3, 4]})


EDITS: list[tuple[str, dict[str, Any], tuple[str, str]]] = [
    ("labels", {"energy": -11.000000000000002}, ("label", "small")),
    ("labels", {"energy": math.nan}, ("label", "small")),
    ("labels", {"composition": "1/2"}, ("label", "small")),
    ("labels", {"settings_hash": "other"}, ("label", "small")),
    ("labels", {"frames.1.positions.0.2": 0.0}, ("label", "small")),
    ("labels", {"frames.1.forces.0.2": -0.0}, ("label", "small")),
    ("labels", {"n_ions": 1.0}, ("label", "small")),
    ("rounds", {"selected": []}, ("round", "olivine/0")),
    ("rounds", {"assessment.labels": 2}, ("round", "olivine/0")),
    ("rounds", {"stage_seconds.label": 5.5}, ("round", "olivine/0")),
    ("campaigns", {"spec.seed": 2}, ("campaign", "olivine")),
    ("campaigns", {"state": "converged"}, ("campaign", "olivine")),
    ("candidates", {"geometry.species": []}, ("candidate", "olivine/0/hash")),
    ("proposals", {"candidates": []}, ("proposal", "olivine/0/1")),
    ("label_uses", {"round": 1}, ("label use", "olivine/small")),
    ("failures", {"reason": ""}, ("failure", "f")),
    ("models", {"held_out.x": 0.0}, ("model", "olivine/0/0")),
    ("references", {"energy": -1.4999999999999998}, ("reference", "born/Na")),
    ("labels", {"checksums.document": "0" * 64}, ("label", "small")),
    ("labels", {"checksums": {}}, ("label", "small")),
]


@pytest.mark.parametrize(("collection", "change", "where"), EDITS)
def test_an_edited_document_is_found(
    collection: str, change: dict[str, Any], where: tuple[str, str], full: Store
) -> None:
    query = {} if collection not in ("labels", "label_uses") else {"_id": {"$regex": "small"}}
    full.database[collection].update_one(query, {"$set": change}, bypass_document_validation=True)
    assert found_in(full) == {(*where, "")}
    assert found_in(full, sample=5) == {(*where, "")}


def flip(store: Store, bucket: str, file_id: str) -> None:
    chunks = store.database[f"{bucket}.chunks"]
    chunk = chunks.find_one({"files_id": ObjectId(file_id)}, sort=[("n", -1)])
    assert chunk is not None
    data = bytearray(chunk["data"])
    data[len(data) // 2] ^= 1
    chunks.update_one({"_id": chunk["_id"]}, {"$set": {"data": bytes(data)}})


@pytest.mark.parametrize(
    ("bucket", "collection", "field", "where"),
    [
        ("frames", "labels", "frames_file", ("label", "large", "frames")),
        ("weights", "models", "weights_file", ("model", "olivine/0/0", "weights")),
        ("weights", "models", "predictions_file", ("model", "olivine/0/0", "predictions")),
        ("weights", "rounds", "assessment.predictions_file", ("round", "olivine/0", "predictions")),
        ("weights", "campaigns", "spec.labeler_file", ("campaign", "olivine", "labeler")),
    ],
)
def test_a_bit_flip_in_a_file_is_found(
    bucket: str, collection: str, field: str, where: tuple[str, str, str], full: Store
) -> None:
    (file_id,) = full.database[collection].distinct(field, {field: {"$ne": None}})
    flip(full, bucket, file_id)
    assert found_in(full) == {where}
    files = full.database[f"{bucket}.files"]
    full.database[f"{bucket}.chunks"].update_many({"n": 0}, {"$set": {"n": 0.0}})
    assert where in found_in(full)
    files.update_one({"_id": ObjectId(file_id)}, {"$set": {"filename": "another"}})
    assert where in found_in(full)


def test_a_file_of_another_content_is_not_read_by_a_labeler(full: Store, tmp_path: Path) -> None:
    file_id = full.campaigns.get("olivine").spec["labeler_file"]
    full.files.copy_to(tmp_path / "good", file_id, "campaign 'olivine'")
    assert (tmp_path / "good").read_bytes() == b"a labeler's file"
    flip(full, "weights", file_id)
    with pytest.raises(AlChargeError, match="not the one that was kept"):
        full.files.copy_to(tmp_path / "bad", file_id, "campaign 'olivine'")
    assert not (tmp_path / "bad").exists()


def test_a_document_that_cannot_be_decoded_is_found(full: Store) -> None:
    collection = full.database["labels"]
    raw = bson.encode(collection.find_one({"_id": "small"}) or {})
    options = CodecOptions(RawBSONDocument, unicode_decode_error_handler="replace")
    broken = RawBSONDocument(raw.replace(b"born 1", b"born \xff"), options)
    collection.replace_one({"_id": "small"}, broken, bypass_document_validation=True)
    assert found_in(full) == {("label", "small", "")}


def test_what_was_changed_by_others_is_not_built_upon(full: Store) -> None:
    full.database["rounds"].update_one({}, {"$set": {"selected": ["x"]}})
    with pytest.raises(AlChargeError, match=r"round 'olivine/0': it was changed .*doctor --deep"):
        full.rounds.add_seconds("olivine", 0, "label", 1.0)
    assert found_in(full) == {("round", "olivine/0", "")}


def test_an_unreadable_document_is_told_in_one_line(full: Store) -> None:
    full.database["labels"].update_one(
        {"_id": "small"}, {"$set": {"energy": math.nan}}, bypass_document_validation=True
    )
    with pytest.raises(
        AlChargeError, match=r"label 'small': it is damaged .* its energy: "
    ) as told:
        full.labels.get("small")
    assert "\n" not in str(told.value)


def test_what_is_put_aside_is_kept_as_it_was(full: Store) -> None:
    full.database["models"].update_one({}, {"$set": {"config": {}}})
    stored = full.database["models"].find_one()
    (damage,) = full.integrity.damaged()
    full.integrity.put_aside(damage)
    assert full.models.all("olivine") == []
    (aside,) = full.database[ASIDE].find()
    assert (aside["collection"], decoded(aside["bson"])) == ("models", stored)


def test_another_campaign_s_damage_is_not_told(full: Store, make_campaign: Any) -> None:
    full.campaigns.add(make_campaign("other"))
    full.database["campaigns"].update_one({"_id": "other"}, {"$set": {"reason": "x"}})
    assert found_in(full) == set()
    assert len(list(full.integrity.damaged())) == 1


def test_two_writers_lose_nothing(full: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        add = partial(full.rounds.add_seconds, "olivine", 0, "label")
        list(pool.map(add, [1.0] * 8))
    record = full.rounds.get("olivine", 0)
    assert record is not None and record.stage_seconds == {"label": 13.0}


def test_a_checksum_is_of_all_fields_in_any_order_and_of_the_collection() -> None:
    first, second = {"_id": "a", "x": 1.0, "y": [1]}, {"y": [1], "_id": "a", "x": 1.0}
    seal = document_checksum("labels", first)
    assert document_checksum("labels", second) == seal
    assert document_checksum("labels", with_checksum("labels", first)) == document_checksum(
        "labels", first | {"checksums": {}}
    )
    others = [{"x": 1}, {"x": np.nextafter(1.0, 2.0).item()}, {"y": [1, 1]}, {"_id": "b"}, {"z": 0}]
    seals = {document_checksum("labels", first | other) for other in others}
    assert len(seals | {seal, document_checksum("models", first)}) == len(others) + 2


def test_every_flip_of_a_bit_is_a_fault(make_model: Callable[..., ModelDoc]) -> None:
    raw = bson.encode(make_model(history=[{"loss": 1.5}], metrics={"a": 1.0}).to_mongo())
    assert fault_of("models", raw) == ""
    assert decoded(raw)["member"] == 0
    for place in range(4, len(raw) - 1):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            assert fault_of("models", bytes(flipped)), (place, bit)
