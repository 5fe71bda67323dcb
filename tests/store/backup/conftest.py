"""A store with something in every collection, and a backup of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from al_charge.store.backup.contents import LEFT_OUT
from al_charge.store.backup.make import make_backup
from al_charge.store.documents import (
    FailureDoc,
    RoundDoc,
)
from al_charge.store.migrations import RESTORED_ID
from al_charge.store.mongo import Store
from al_charge.store.schema import ASIDE, create_task_indexes

Stored = dict[str, Any]
FIREWORKS = ("workflows", "fireworks", "launches", "fw_id_assigner")


@pytest.fixture(scope="session")
def weights() -> bytes:
    """Weights that take three chunks of GridFS."""
    return os.urandom(600_000)


@pytest.fixture
def contents() -> Callable[[Database[Stored]], dict[str, list[Stored]]]:
    """Return a function that gives every document by collection, those without any left out."""

    def read(database: Database[Stored]) -> dict[str, list[Stored]]:
        names = sorted(database.list_collection_names())
        ours = {"_id": {"$ne": RESTORED_ID}}  # the note of a restore is the database's own
        found = {name: list(database[name].find(ours, sort=[("_id", 1)])) for name in names}
        return {name: documents for name, documents in found.items() if documents}

    return read


@pytest.fixture
def full(
    store: Store,
    make_campaign: Callable[..., Any],
    make_candidate: Callable[..., Any],
    make_label: Callable[..., Any],
    make_model: Callable[..., Any],
    make_reference: Callable[..., Any],
    weights: bytes,
) -> Iterator[Store]:
    """A store with something in every collection, FireWorks' own included."""
    store.campaigns.add(make_campaign())
    for number in (0, 1):
        store.rounds.add(RoundDoc(campaign="olivine", number=number))
    candidate = make_candidate("a")
    store.proposals.put("olivine", 0, 1, [candidate])
    store.rounds.record_selection("olivine", 0, {candidate.doc_id: "diverse"})
    attempt = store.attempts.start("k", campaign="olivine", round=0, slot=0)
    store.labels.put(make_label("k"))
    store.attempts.finish(attempt, "made")
    store.labels.link("olivine", 0, "k")
    store.failures.put(
        FailureDoc(key="f", campaign="olivine", round=0, reason="no SCF", attempts=2)
    )
    store.models.put(make_model(), weights, {"k": -1.0})
    store.references.put(make_reference())
    database = store.database
    database["workflows"].insert_one(
        {"nodes": [1], "state": "COMPLETED", "metadata": {"campaign": "olivine"}}
    )
    create_task_indexes(database)
    database["fireworks"].insert_one({"fw_id": 1, "state": "COMPLETED"})
    database["launches"].insert_one({"launch_id": 1, "fw_id": 1})
    database["fw_id_assigner"].insert_one({"_id": -1, "next_fw_id": 2})
    database[ASIDE].insert_one({"collection": "labels", "bson": b"damaged"})
    yield store
    for name in (*FIREWORKS, *LEFT_OUT, ASIDE):
        database.drop_collection(name)


@pytest.fixture
def backup(full: Store, tmp_path: Path) -> Path:
    """A backup of the full store."""
    path = tmp_path / "backup.zip"
    make_backup(full.database, path, lambda *_: None)
    return path
