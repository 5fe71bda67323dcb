"""A LaunchPad of its own for each test."""

from __future__ import annotations

from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from al_charge.fw.launchpad import initialise


@pytest.fixture
def launchpad(database: Database[dict[str, Any]]) -> LaunchPad:
    """A LaunchPad on the test's database."""
    launchpad = LaunchPad(
        host="mongodb://localhost:1/",
        name=database.name,
        uri_mode=True,
        strm_lvl="CRITICAL",
        mongoclient_kwargs={"connect": False},
    )
    for collection in ("fireworks", "launches", "offline_runs", "fw_id_assigner", "workflows"):
        setattr(launchpad, collection, database[collection])
    launchpad.db = database
    initialise(launchpad)
    return launchpad
