"""The ledger sums what every run has used, and knows who has left an entry open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database
from pymongo.errors import WriteError

from al_charge.store.ledger import LOST, WORKERS
from al_charge.store.mongo import Store

pytestmark = pytest.mark.mongod
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    store = Store(database)
    store.ensure_schema()
    return store


def spent(store: Store, task: str, seconds: float, **fields: Any) -> None:
    """Enter a run that has ended."""
    worker = f"{seconds}@node7@1.00"
    known = {"round": 1, "worker": worker, "started": NOW} | fields
    store.ledger.open("c", task, **known)
    store.ledger.close(worker, "done", ended=NOW + timedelta(seconds=seconds))


def test_sums_are_by_round_and_kind(store: Store) -> None:
    spent(store, "label 0", 100.0, cores=4)
    spent(store, "label 1", 30.5, cores=2)
    spent(store, "train 0", 7.0)
    spent(store, "label 0", 1000.0, round=2)
    spent(store, "", 2000.0, round=None, cores=8)
    store.ledger.open("another", "label 0", round=1, worker="1@node@1.00", started=NOW)
    assert store.ledger.sums("c") == {
        None: {WORKERS: {"runs": 1, "seconds": 2000.0, "core_seconds": 16000.0}},
        1: {
            "label": {"runs": 2, "seconds": 130.5, "core_seconds": 461.0},
            "train": {"runs": 1, "seconds": 7.0, "core_seconds": 7.0},
        },
        2: {"label": {"runs": 1, "seconds": 1000.0, "core_seconds": 1000.0}},
    }


def test_an_open_entry_counts_until_its_last_sign_of_life(store: Store) -> None:
    ledger = store.ledger
    ledger.open("c", "label 0", round=0, worker="1@node7@1.00", job="slurm 11", nodes=2, cores=6)
    ledger.open("c", "label 1", round=0, worker="2@node8@1.00")
    seen = [one.seen for one in ledger.unclosed("c")]
    ledger.beat(["1@node7@1.00"])
    first, second = ledger.unclosed("c")
    assert first.seen > seen[0]
    assert second.seen == seen[1]
    used = ledger.sums("c")[0]["label"]["core_seconds"]
    assert used == pytest.approx(
        6 * (first.seen - first.started).total_seconds()
        + (second.seen - second.started).total_seconds()
    )
    assert (first.host, first.job, first.nodes, first.cores) == ("node7", "slurm 11", 2, 6)
    assert ledger.close("1@node7@1.00", LOST, "its worker is $gone") == 1
    (closed, _) = ledger.all("c")
    assert (closed.ended, closed.outcome) == (first.seen, LOST)
    assert closed.reason == "its worker is $gone"
    assert [one.task for one in ledger.unclosed("c")] == ["label 1"]


def test_what_is_closed_stays_as_it_is(store: Store) -> None:
    spent(store, "label 0", 5.0)
    before = store.ledger.all("c")
    assert store.ledger.close("5.0@node7@1.00", LOST) == 0
    store.ledger.beat(["5.0@node7@1.00"])
    assert store.ledger.all("c") == before


def test_entries_of_some_rounds(store: Store) -> None:
    for number in (0, 1, 2):
        store.ledger.open("c", "select", round=number, worker="1@node7@1.00", cores=1)
    found = sorted(one.round for one in store.ledger.all("c", {1, 2}))  # opened at the same time
    assert found == [1, 2]
    assert store.ledger.all("c", ()) == []


def test_nothing_ends_before_it_starts(store: Store) -> None:
    """As where a clock was set back."""
    spent(store, "label 0", -5.0)
    (entry,) = store.ledger.all("c")
    assert entry.ended == entry.started == NOW


def test_an_entry_without_cores_is_refused(store: Store) -> None:
    store.ledger.open("c", "label 0", round=0, worker="1@node7@1.00")
    with pytest.raises(WriteError):
        store.database["ledger"].update_one({}, {"$set": {"cores": 0}})
