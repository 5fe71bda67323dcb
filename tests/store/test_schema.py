"""The database itself refuses bad documents, and newer databases are refused by us."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import WriteError

from al_charge.errors import InputError
from al_charge.store.documents import DOCUMENTS, SCHEMA_VERSION, CandidateDoc, RoundDoc
from al_charge.store.migrations import MIGRATIONS, Migration, migrate, prepare, stored_version
from al_charge.store.mongo import Store


def test_every_collection_has_a_validator(store: Store) -> None:
    options = {c["name"]: c["options"] for c in store.database.list_collections()}
    for document in DOCUMENTS:
        assert "$jsonSchema" in options[document.collection]["validator"]


def test_unique_indexes_are_there(store: Store) -> None:
    indexes = store.database["label_uses"].index_information()
    assert indexes["campaign_1_key_1"]["unique"] is True


def test_questions_of_the_page_use_indexes(store: Store) -> None:
    questions: list[tuple[str, dict[str, Any], str]] = [
        ("attempts", {"campaign": "a", "round": {"$in": [3]}}, "campaign_1_round_1"),
        ("label_uses", {"campaign": "a", "key": {"$in": ["b"]}}, "campaign_1_key_1"),
        ("labels", {"delocalised": True}, "delocalised_1"),
        ("labels", {"refusal": {"$ne": None}}, "refusal_1"),
        ("labels", {"composition": {"$in": ["1/2"]}}, "composition_1"),
        ("rounds", {"campaign": "a", "assessment": {"$ne": None}}, "campaign_1_number_1"),
    ]
    for collection, question, index in questions:
        found = store.database[collection].find(question).explain()["queryPlanner"]
        assert f"'indexName': '{index}'" in str(found["winningPlan"]), (collection, question)


@pytest.mark.parametrize(
    "change",
    [
        {"number": "one"},
        {"number": -1},
        {"selected": [1]},
        {"closed": "today"},
        {"surprise": 1},
        {"schema_version": None},
    ],
)
def test_the_server_refuses_a_bad_document(store: Store, change: dict[str, Any]) -> None:
    good = RoundDoc(campaign="olivine", number=1).to_mongo()
    with pytest.raises(WriteError, match="failed validation"):
        store.database["rounds"].insert_one(good | change)
    store.database["rounds"].insert_one(good)


def test_the_server_refuses_a_bad_part(
    store: Store, make_candidate: Callable[..., CandidateDoc]
) -> None:
    stored = make_candidate("a").to_mongo()
    stored["geometry"]["positions"] = [["x", 0.0, 0.0]]
    with pytest.raises(WriteError, match="failed validation"):
        store.database["candidates"].insert_one(stored)


def test_the_server_refuses_a_bad_edit(store: Store) -> None:
    store.rounds.add(RoundDoc(campaign="olivine", number=1))
    with pytest.raises(WriteError, match="failed validation"):
        store.database["rounds"].update_one({}, {"$unset": {"campaign": 1}})


def test_the_schema_can_be_made_by_several_at_once(database: Database[dict[str, Any]]) -> None:
    problems: list[Exception] = []

    def ensure() -> None:
        try:
            Store(database).ensure_schema()
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert stored_version(database) == SCHEMA_VERSION


def test_a_half_made_schema_is_completed(database: Database[dict[str, Any]]) -> None:
    database.create_collection("labels")
    Store(database).ensure_schema()
    options = {c["name"]: c["options"] for c in database.list_collections()}
    assert "validator" in options["labels"]


def test_a_newer_database_is_refused(database: Database[dict[str, Any]]) -> None:
    store = Store(database)
    store.ensure_schema()
    store.database["schema"].update_one({}, {"$set": {"version": SCHEMA_VERSION + 1}})
    with pytest.raises(InputError, match=rf"version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION};"):
        store.ensure_schema()


def test_an_older_database_is_migrated_step_by_step(database: Database[dict[str, Any]]) -> None:
    applied: list[int] = []

    def step(version: int) -> Migration:
        return Migration(version, lambda _: applied.append(version))

    later = [step(SCHEMA_VERSION + 1), step(SCHEMA_VERSION + 2)]
    prepare(database)
    needs = f"version {SCHEMA_VERSION}, this al-charge needs {SCHEMA_VERSION + 2}; run"
    with pytest.raises(InputError, match=needs):
        prepare(database, (*MIGRATIONS, *later))
    assert migrate(database, (*MIGRATIONS, *later)) == SCHEMA_VERSION
    assert migrate(database, (*MIGRATIONS, *later)) == SCHEMA_VERSION + 2
    assert applied == [SCHEMA_VERSION + 1, SCHEMA_VERSION + 2]
    assert stored_version(database) == SCHEMA_VERSION + 2


def test_a_new_database_starts_at_the_newest_schema(database: Database[dict[str, Any]]) -> None:
    applied: list[int] = []
    first = Migration(1, lambda _: applied.append(1))
    prepare(database, (first, Migration(2, lambda _: applied.append(2))))
    assert applied == [1]
    assert stored_version(database) == 2


def test_migrations_lead_to_the_present_version_in_order() -> None:
    assert [m.version for m in MIGRATIONS] == list(range(1, SCHEMA_VERSION + 1))
