"""What a backup holds: all that it names, whatever is written meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bson.objectid import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from al_charge.store.backup.contents import REFERRERS_FIRST, in_order
from al_charge.store.backup.make import make_backup
from al_charge.store.backup.restore import restore
from al_charge.store.documents import (
    DOCUMENTS,
    Assessment,
    CampaignDoc,
    FailureDoc,
    RoundDoc,
)
from al_charge.store.mongo import Store

Stored = dict[str, Any]
Contents = Callable[[Database[Stored]], dict[str, list[Stored]]]


def quiet(name: str, done: int, total: int) -> None:
    """Show no progress."""


def agree(programs: list[tuple[str, str]]) -> None:
    """Let campaigns start what they name."""


def test_every_collection_has_its_place() -> None:
    names = [document.collection for document in DOCUMENTS]
    assert set(names) <= set(REFERRERS_FIRST)
    order = in_order(["weights.chunks", "weights.files", "schema", "mine", *REFERRERS_FIRST])
    assert order == ["mine", "schema", *REFERRERS_FIRST, "weights.files", "weights.chunks"]


def test_what_is_under_way_is_left_out(
    full: Store,
    tmp_path: Path,
    database: Database[Stored],
    make_label: Callable[..., Any],
    make_candidate: Callable[..., Any],
    contents: Contents,
) -> None:
    """What no copied round has selected would change what the next selection chooses."""
    before = contents(full.database)
    source = full.database
    source["claims"].insert_one({"_id": "olivine", "owner": "somebody"})
    source["workers"].insert_one({"_id": "somebody"})
    mine = {"metadata": {"campaign": "olivine"}}
    source["workflows"].insert_one({"nodes": [2], "state": "RUNNING"} | mine)
    source["workflows"].insert_one({"nodes": [3], "state": "COMPLETED", "locked": True} | mine)
    for fw_id in (2, 3, 4):
        source["fireworks"].insert_one({"fw_id": fw_id})
        source["launches"].insert_one({"fw_id": fw_id, "launch_id": fw_id})
    full.labels.link("olivine", 1, "early")
    full.failures.put(FailureDoc(key="e", campaign="olivine", round=1, reason="", attempts=1))
    full.proposals.put("later", 0, 1, [make_candidate("b", campaign="later")])
    full.rounds.add(RoundDoc(campaign="later", number=0))
    foreign = source["workflows"].insert_one({"nodes": [9], "state": "RUNNING", "metadata": {}})
    source["fireworks"].insert_one({"fw_id": 9, "_id": 9})
    make_backup(source, tmp_path / "busy.zip", quiet)
    restore(database, tmp_path / "busy.zip", quiet, agree)
    found = contents(database)
    assert found["workflows"].pop()["_id"] == foreign.inserted_id
    assert found["fireworks"].pop(0)["_id"] == 9
    assert found == before


def test_a_copy_is_closed_whatever_is_written_meanwhile(
    store: Store,
    tmp_path: Path,
    mongodb_client: MongoClient[Stored],
    make_candidate: Callable[..., Any],
    make_label: Callable[..., Any],
    make_model: Callable[..., Any],
    make_assessment: Callable[..., Assessment],
) -> None:
    """Everything that is named in a backup is in it, with one that writes all the time."""
    begun, stop, problems = threading.Event(), threading.Event(), []

    def write() -> None:
        try:
            for number in range(10_000):
                if stop.is_set():
                    return
                write_round(number)
                if number == 2:  # of each campaign there is one
                    begun.set()
        except Exception as error:
            problems.append(error)
            begun.set()

    def write_round(number: int) -> None:
        campaign = f"c{number % 3}"
        place = number // 3
        if place == 0:
            store.campaigns.add(CampaignDoc(name=campaign, spec={}, **known))
        store.rounds.add(RoundDoc(campaign=campaign, number=place))
        candidate = make_candidate("a", campaign=campaign, round=place)
        store.proposals.put(campaign, place, 1, [candidate])
        store.rounds.record_selection(campaign, place, {candidate.doc_id: "diverse"})
        key = f"{campaign}-{place}"
        store.labels.put(make_label(key))
        store.labels.link(campaign, place, key)
        store.models.put(make_model(campaign=campaign, round=place), b"weights", {})
        found = make_assessment(labels=1)
        store.rounds.record_assessment(campaign, place, found, [key], np.zeros((2, 1)))
        fw_id = number + 1
        store.database["fireworks"].insert_one({"fw_id": fw_id, "campaign": key})
        workflow = {"nodes": [fw_id], "state": "COMPLETED", "metadata": {"campaign": campaign}}
        store.database["workflows"].insert_one(workflow)

    known = {"host_fingerprint": "host", "settings_hash": "born"}
    writer = threading.Thread(target=write)
    writer.start()
    rng, rounds = random.Random(1), []
    begun.wait()
    try:
        for number in range(4):
            path = tmp_path / f"{number}.zip"
            make_backup(store.database, path, lambda *_: time.sleep(rng.uniform(0, 0.01)))
            copy = mongodb_client[f"copy_{number}"]
            restore(copy, path, quiet, agree)
            rounds.append(check_closed(Store(copy)))
            mongodb_client.drop_database(copy.name)
    finally:
        stop.set()
        writer.join()
    assert problems == []
    assert rounds == sorted(set(rounds))


def check_closed(store: Store) -> int:
    """Check that everything that is named exists; return how many rounds there are."""
    database, count = store.database, 0
    for campaign in store.campaigns.all():
        rounds = store.rounds.all(campaign.name)
        # a round follows one that was assessed
        assert [record.number for record in rounds] == list(range(len(rounds)))
        assert all(record.assessment for record in rounds[:-1])
        for record in rounds:
            for key in record.selected or []:
                assert store.candidates.get(key) is not None
            if record.assessment is not None:
                assert store.models.get(campaign.name, record.number, 0) is not None
                for key in store.rounds.predictions(record)[0]:
                    assert store.labels.get(key) is not None
        selected = [record.number for record in rounds if record.selected is not None]
        for key, number in store.labels.uses(campaign.name).items():
            assert number in selected
            assert store.labels.get(key) is not None
        for model in database["models"].find({"campaign": campaign.name}):
            for name in ("weights_file", "predictions_file"):
                assert database["weights.files"].find_one(ObjectId(model[name])) is not None
        count += len(rounds)
    done = {
        f"{record['campaign']}-{record['number']}"
        for record in database["rounds"].find({"assessment": {"$ne": None}})
    }
    for workflow in database["workflows"].find():
        for node in workflow["nodes"]:
            assert (database["fireworks"].find_one({"fw_id": node}) or {})["campaign"] in done
    assert database["label_uses"].distinct("campaign") == database["campaigns"].distinct("_id")
    return count
