"""Labels: written once, shared, with every attempt counted."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from al_charge.errors import AlChargeError, InputError
from al_charge.store.attempts import RETRIED
from al_charge.store.documents import CampaignDoc, FailureDoc, LabelDoc
from al_charge.store.labels import ALL_FRAMES, SUMMARY
from al_charge.store.mongo import Store
from al_charge.store.spool import Spool

Maker = Callable[..., LabelDoc]


def test_a_label_is_written_once(store: Store, make_label: Maker) -> None:
    doc = make_label("k", details={"steps": 3})
    assert store.labels.put(doc) is True
    assert store.labels.put(make_label("k", energy=-99.0)) is False
    assert store.labels.get("k") == doc
    assert store.labels.get("other") is None
    assert store.labels.has("k") is True
    assert store.labels.has("other") is False


def test_large_frames_go_to_gridfs_unseen(store: Store, make_label: Maker) -> None:
    doc = make_label("k", n_atoms=2000, n_frames=30)
    assert store.labels.put(doc) is True
    stored = store.database["labels"].find_one({"_id": "k"})
    assert stored is not None
    assert stored["frames"] == []
    found = store.labels.get("k")
    assert found is not None
    assert found.frames == doc.frames
    assert store.labels.put(make_label("k", n_atoms=2000, n_frames=30)) is False
    assert store.database["frames.files"].count_documents({}) == 1
    store.database["frames.chunks"].delete_many({"n": 0})
    with pytest.raises(AlChargeError, match=r"label 'k'.*incomplete"):
        store.labels.get("k")


def test_a_campaign_has_the_labels_that_it_uses(
    store: Store, make_label: Maker, make_campaign: Callable[..., CampaignDoc]
) -> None:
    for name in ("one", "two"):
        store.campaigns.add(make_campaign(name))
    for key in "abc":
        store.labels.put(make_label(key))
    assert store.labels.link("one", 0, "a") is True
    assert store.labels.link("one", 1, "a") is False
    assert store.labels.link("one", 1, "c") is True
    assert store.labels.link("two", 0, "a") is True
    assert {doc.key for doc in store.labels.read(ALL_FRAMES, campaign="one")} == {"a", "c"}
    assert [doc.key for doc in store.labels.read(ALL_FRAMES, campaign="two")] == ["a"]
    assert store.labels.uses("one") == {"a": 0, "c": 1}
    store.labels.unlink("one", "a")
    assert (store.labels.uses("one"), store.labels.uses("two")) == ({"c": 1}, {"a": 0})


def test_labels_of_other_settings_never_join_a_campaign(
    store: Store, make_label: Maker, make_campaign: Callable[..., CampaignDoc]
) -> None:
    store.campaigns.add(make_campaign("one", settings_hash="born"))
    store.labels.put(make_label("a", settings_hash="gpaw"))
    with pytest.raises(InputError, match=r"campaign 'one'.*settings"):
        store.labels.link("one", 0, "a")
    assert store.labels.uses("one") == {}


def test_whether_a_host_has_labels_with_some_settings(store: Store, make_label: Maker) -> None:
    store.labels.put(make_label("a", host_fingerprint="host", settings_hash="gpaw"))
    assert store.labels.has_any("host", "gpaw")
    assert not store.labels.has_any("host", "born")
    assert not store.labels.has_any("other", "gpaw")


def test_a_label_tells_how_it_was_made(store: Store, make_label: Maker) -> None:
    doc = make_label(
        "k",
        resolved=None,
        sites=["Na+", None],
        audit="moments of atoms 1 fit no charge state",
        relax="ions",
        bader=np.array([0.86, 1.5]),
        bader_electrons=np.array([7, 14]),
        unusable="ENCUT was changed",
        attempts=[
            {"changed": "moments", "outcome": "SCF did not converge"},
            {"changed": "slower mixing", "outcome": "converged"},
        ],
        cores=4,
    )
    store.labels.put(doc)
    found = store.labels.get("k")
    assert found == doc
    assert [start.outcome for start in found.attempts] == ["SCF did not converge", "converged"]
    assert found.windows == {"Fe2+": [3.5, 3.8]}
    assert (found.sites, found.bader_electrons) == (["Na+", None], [7.0, 14.0])


@pytest.mark.parametrize(
    ("fields", "refusal", "why"),
    [
        ({}, None, ""),
        ({"resolved": ["Na+", "Fe3+"]}, None, ""),
        ({"resolved": None}, "ambiguous", "its charge states are uncertain"),
        (
            {"resolved": None, "audit": "the charges sum to +1 e"},
            "ambiguous",
            "the charges sum to +1 e",
        ),
        ({"converged": False}, "not converged", "the engine did not converge"),
        ({"converged": False, "resolved": None}, "not converged", "the engine did not converge"),
        ({"unusable": "ENCUT was changed", "resolved": None}, "unusable", "ENCUT was changed"),
        ({"unusable": "ENCUT was changed", "converged": False}, "unusable", "ENCUT was changed"),
    ],
)
def test_a_label_says_why_it_is_on_no_hull(
    store: Store, make_label: Maker, fields: dict[str, Any], refusal: str | None, why: str
) -> None:
    label = make_label("k", **fields)
    assert (label.refusal, label.refused) == (refusal, why)
    store.labels.put(label)
    (stored,) = store.database["labels"].find()
    assert stored["refusal"] == refusal
    (summary,) = store.labels.read(SUMMARY)
    assert summary.refusal is label.refusal
    assert label.as_requested is ("resolved" not in fields)


def test_a_label_relaxes_nothing_unknown(make_label: Maker) -> None:
    with pytest.raises(ValidationError, match="'none', 'ions' or 'cell'"):
        make_label("k", relax="everything")


def test_labels_made_twice_are_found(store: Store) -> None:
    def attempt(key: str, outcome: str, campaign: str = "one") -> None:
        started = store.attempts.start(key, campaign=campaign, round=0, slot=1)
        store.attempts.finish(started, outcome)

    attempt("once", "failed")
    attempt("once", "made")
    attempt("twice", "made")
    attempt("elsewhere", "made", campaign="two")
    store.attempts.start("once", campaign="one", round=0, slot=1)
    assert store.attempts.made_twice("one") == []
    attempt("twice", "made", campaign="two")
    assert store.attempts.made_twice("one") == ["twice"]
    assert len(store.attempts.all("one")) == 4
    assert len(store.attempts.all("one", rounds={0})) == 4
    assert store.attempts.all("one", rounds={1}) == []
    assert [a.outcome for a in store.attempts.all("one", "once")] == ["failed", "made", None]


def test_attempts_are_open_until_their_end_is_recorded(store: Store) -> None:
    first = store.attempts.start("k", campaign="one", round=0, slot=1)
    time.sleep(0.002)  # times are kept in milliseconds
    second = store.attempts.start("k", campaign="two", round=0, slot=1)
    assert [attempt.attempt for attempt in store.attempts.open()] == [first, second]
    assert [attempt.attempt for attempt in store.attempts.open("two")] == [second]
    store.attempts.finish(first, "made")
    assert [attempt.attempt for attempt in store.attempts.open()] == [second]
    assert store.attempts.open("one") == []


def test_folders_are_those_of_the_labels_that_a_campaign_made(
    store: Store, make_label: Maker
) -> None:
    store.labels.put(make_label("k"))
    store.labels.put(make_label("other", campaign="maricite", directory="runs/other"))
    assert store.labels.folders() == {"k": "runs/k", "other": "runs/other"}
    assert store.labels.folders("maricite") == {"other": "runs/other"}


def test_an_attempt_ends_once(store: Store) -> None:
    attempt = store.attempts.start("k", campaign="one", round=2, slot=3, hostname="h", pid=7)
    store.attempts.finish(attempt, "failed", "no convergence")
    store.attempts.finish(attempt, "made")
    (found,) = store.attempts.all("one")
    assert (found.hostname, found.pid, found.slot, found.round) == ("h", 7, 3, 2)
    assert (found.outcome, found.reason) == ("failed", "no convergence")
    assert found.finished is not None
    assert found.finished >= found.started


def test_a_failure_is_kept_with_its_reason(store: Store) -> None:
    doc = FailureDoc(key="k", campaign="one", round=0, reason="SCF", attempts=3)
    assert store.failures.put(doc) is True
    assert store.failures.put(doc.model_copy(update={"reason": "other"})) is False
    assert store.failures.get("k") == doc
    assert store.failures.get("other") is None
    assert store.failures.all("one") == [doc]
    assert store.failures.all("two") == []


def test_a_failure_that_is_retried_stays_among_the_attempts(store: Store) -> None:
    assert store.failures.retry("k", campaign="one", round=0, slot=2) is False
    store.failures.put(FailureDoc(key="k", campaign="one", round=0, reason="SCF", attempts=3))
    assert store.failures.retries("k") == 0
    assert store.failures.retry("k", campaign="two", round=1, slot=2) is True
    assert store.failures.get("k") is None
    assert store.failures.retries("k") == 1
    (record,) = store.attempts.all("two", "k")
    assert (record.round, record.slot, record.outcome, record.reason) == (1, 2, RETRIED, "SCF")
    again = FailureDoc(key="k", campaign="one", round=0, reason="SCF again", attempts=1)
    assert store.failures.put(again) is True


def test_failures_of_any_campaign_are_found_oldest_first(store: Store) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    for key, campaign, hour in (("a", "one", 2), ("c", "one", 2), ("b", "one", 1), ("d", "two", 0)):
        store.failures.put(
            FailureDoc(
                key=key,
                campaign=campaign,
                round=0,
                reason="SCF",
                attempts=3,
                created=at + timedelta(hours=hour),
            )
        )
    assert store.failures.among(["a", "d", "other"]) == {"a", "d"}
    assert store.failures.among([]) == set()
    assert [doc.key for doc in store.failures.all("one")] == ["b", "a", "c"]


def test_a_spooled_label_reaches_the_database_and_leaves_the_disk(
    store: Store, make_label: Maker, tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "campaigns" / "one")
    assert spool.deliver_all(store.labels) == 0
    label = make_label("k")
    assert spool.deliver(store.labels, label) is True
    assert store.labels.get("k") == label
    assert spool.deliver(store.labels, label) is False
    assert list((tmp_path / "campaigns" / "one").iterdir()) == []


def test_a_label_waits_on_disk_while_the_database_is_away(
    store: Store, make_label: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, labels = Spool(tmp_path), [make_label("k"), make_label("l")]

    def away(label: LabelDoc) -> bool:
        raise ConnectionError(label.key)

    with monkeypatch.context() as patch:
        patch.setattr(store.labels, "put", away)
        for label in labels:
            with pytest.raises(ConnectionError):
                spool.deliver(store.labels, label)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.json", "l.json"]
    (tmp_path / "m.json").write_text("{}")
    assert Spool(tmp_path).deliver_all(store.labels) == 3
    assert [store.labels.get(label.key) for label in labels] == labels
    assert [path.name for path in tmp_path.iterdir()] == ["m.unreadable"]


def test_a_full_disk_keeps_no_label_from_the_database(
    store: Store, make_label: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert Spool(tmp_path).deliver(store.labels, make_label("k")) is True
    assert store.labels.has("k")
    assert list(tmp_path.iterdir()) == []
