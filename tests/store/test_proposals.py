"""Candidates: visible only when their proposal is complete."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pymongo.errors import BulkWriteError

from al_charge.store.documents import CandidateDoc, Statistics
from al_charge.store.mongo import Store

Maker = Callable[..., CandidateDoc]


def test_a_proposal_is_stored_once_in_its_order(store: Store, make_candidate: Maker) -> None:
    docs = [make_candidate(h, energy=-1.0, spread=0.1) for h in "cab"]
    assert store.proposals.has("olivine", 0, 1) is False
    assert store.proposals.put("olivine", 0, 1, docs, Statistics(evaluated=12)) is True
    assert store.proposals.has("olivine", 0, 1) is True
    assert store.proposals.put("olivine", 0, 1, [make_candidate("z")]) is False
    assert store.candidates.all("olivine", 0) == docs
    assert store.proposals.all("olivine", 0)[0].statistics == Statistics(evaluated=12)
    assert store.candidates.get("olivine/0/a") == docs[1]
    assert store.candidates.get("olivine/0/z") is None


def test_candidates_by_composition_and_by_id(store: Store, make_candidate: Maker) -> None:
    one, other = make_candidate("a"), make_candidate("b", n_ions=2, composition="1/2")
    for doc in (one, other):
        store.proposals.put("olivine", 0, doc.n_ions, [doc])
    assert store.candidates.all("olivine", 0) == [one, other]
    assert store.candidates.all("olivine", 0, "1/2") == [other]
    ids = [other.doc_id, "olivine/0/none", one.doc_id]
    assert sorted(found.config_hash for found in store.candidates.stream(ids)) == ["a", "b"]


def test_an_empty_proposal_is_complete(store: Store) -> None:
    assert store.proposals.put("olivine", 0, 1, []) is True
    assert store.proposals.has("olivine", 0, 1) is True
    assert store.candidates.all("olivine", 0) == []


def test_what_a_killed_task_left_is_hidden_then_removed(
    store: Store, make_candidate: Maker
) -> None:
    for config_hash in "ax":
        store.database["candidates"].insert_one(make_candidate(config_hash).to_mongo())
    assert store.candidates.all("olivine", 0) == []
    docs = [make_candidate(h) for h in "ab"]
    assert store.proposals.put("olivine", 0, 1, docs) is True
    assert store.candidates.all("olivine", 0) == docs
    assert store.database["candidates"].count_documents({}) == 2


def test_compositions_and_rounds_do_not_touch_each_other(
    store: Store, make_candidate: Maker
) -> None:
    one = make_candidate("a")
    two = make_candidate("b", n_ions=2, composition="1/2")
    later = make_candidate("a", round=1)
    store.proposals.put("olivine", 0, 2, [two])
    store.proposals.put("olivine", 0, 1, [one])
    store.proposals.put("olivine", 1, 1, [later])
    assert store.candidates.all("olivine", 0) == [one, two]
    assert store.candidates.all("olivine", 1) == [later]


def test_a_foreign_candidate_is_refused(store: Store, make_candidate: Maker) -> None:
    with pytest.raises(ValueError, match="another proposal"):
        store.proposals.put("olivine", 0, 2, [make_candidate("a")])
    assert store.database["candidates"].count_documents({}) == 0


def test_a_candidate_that_the_schema_refuses_is_no_proposal(
    store: Store, make_candidate: Maker
) -> None:
    broken = make_candidate("a").model_copy(update={"n_ions": -1})
    with pytest.raises(BulkWriteError, match="batch op errors"):
        store.proposals.put("olivine", 0, -1, [broken])
    assert store.proposals.has("olivine", 0, -1) is False
