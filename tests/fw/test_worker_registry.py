"""The registry of workers: whose clock is wrong by how much, and who lives."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from al_charge.fw import worker_registry
from al_charge.fw.worker_registry import worker_name

pytestmark = pytest.mark.mongod


@pytest.mark.parametrize("ahead", [-7200.0, 0.0, 7200.0])
def test_a_clock_that_is_ahead_has_a_positive_offset(
    database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=ahead)

    monkeypatch.setattr(worker_registry, "datetime", Wrong)
    assert worker_registry.clock_offset(database) == pytest.approx(ahead, abs=60.0)


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
def test_who_lives_elsewhere_is_judged_by_the_server_s_clock(
    launchpad: LaunchPad, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """This machine's own clock, wrong as it may be, does not make workers die or live."""
    now = datetime.datetime.now(datetime.UTC)
    elsewhere = {"alive@node@1.00": 0.0, "silent@node@1.00": 3600.0}
    for name, ago in elsewhere.items():
        seen = now - datetime.timedelta(seconds=ago)
        launchpad.db["workers"].insert_one({"_id": name, "seen": seen, "campaign": "c"})
    worker_registry.register(launchpad, "other", ["cpu"])

    class Wrong(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=ahead)

    monkeypatch.setattr(worker_registry, "datetime", Wrong)
    assert [worker["_id"] for worker in worker_registry.live_workers(launchpad.db, "c")] == [
        "alive@node@1.00"
    ]
    everywhere = {worker["_id"] for worker in worker_registry.live_workers(launchpad.db)}
    assert everywhere == {"alive@node@1.00", worker_name()}
