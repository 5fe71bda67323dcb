"""Workers of a database that is replaced by a backup while they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from al_charge.errors import InputError
from al_charge.fw import worker
from al_charge.store.campaigns import Campaigns
from al_charge.store.documents import CampaignState
from al_charge.store.migrations import RESTORED_ID
from al_charge.store.mongo import Store


@pytest.mark.mongod
def test_a_worker_ends_before_its_next_task(
    database: Database[dict[str, Any]],
    launchpad_on: Callable[[Database[dict[str, Any]]], LaunchPad],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Numbers of tasks that it remembers may mean others now."""
    Store(database).ensure_schema()
    schema = database["schema"]
    schema.insert_one({"_id": RESTORED_ID, "archive": "a", "at": 1})  # before the worker began
    taken: list[int] = []

    def launch(*_: object, **__: object) -> bool:
        taken.append(len(taken))
        if len(taken) == 2:
            schema.replace_one({"_id": RESTORED_ID}, {"archive": "a", "at": 2})
        return len(taken) < 9

    monkeypatch.setattr(worker, "open_campaign", lambda store, name: None)
    monkeypatch.setattr(Campaigns, "state", lambda self, name: CampaignState.RUNNING)
    monkeypatch.setattr(worker, "launch_rocket", launch)
    with pytest.raises(InputError, match="restored from a backup since this worker began; run"):
        worker._work(launchpad_on(database), "c", tmp_path, ["cpu"], until_idle=False, processes=1)
    assert taken == [0, 1]
