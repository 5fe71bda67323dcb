"""A LaunchPad of its own for each test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fireworks import LaunchPad
from pymongo.database import Database

from al_charge.fw.launchpad import initialise


@pytest.fixture(scope="session")
def launchpad_on() -> Callable[[Database[dict[str, Any]]], LaunchPad]:
    """Make a LaunchPad on a database."""

    def make(database: Database[dict[str, Any]]) -> LaunchPad:
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

    return make


@pytest.fixture
def launchpad(
    database: Database[dict[str, Any]],
    launchpad_on: Callable[[Database[dict[str, Any]]], LaunchPad],
) -> LaunchPad:
    """A LaunchPad on the test's database."""
    return launchpad_on(database)
