"""The LaunchPad: FireWorks' own collections, in the database that the store uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fireworks import LaunchPad

from al_charge.store.connection import launchpad_uri
from al_charge.store.settings import DatabaseSettings

if TYPE_CHECKING:
    from al_charge.store.mongo import Store


def connect_launchpad(settings: DatabaseSettings | None) -> LaunchPad:
    """Return the LaunchPad of a database; its credentials stay in this process.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    """
    uri, name = launchpad_uri(settings)
    launchpad = LaunchPad(host=uri, name=name, uri_mode=True, strm_lvl="CRITICAL")
    initialise(launchpad)
    return launchpad


def store_of(launchpad: LaunchPad) -> Store:
    """Return the store that lives in a LaunchPad's database."""
    from al_charge.store.mongo import Store

    return Store(launchpad.db)


def initialise(launchpad: LaunchPad) -> None:
    """Make FireWorks' indexes and counters once; `LaunchPad.reset` would delete what is there.

    Nothing is written where that has been done, so that a user who may only read gets a LaunchPad
    as well, and a worker needs no right to create indexes.
    """
    if launchpad.fw_id_assigner.find_one({"_id": -1}) is not None:
        return
    launchpad.fireworks.create_index("fw_id", unique=True)
    launchpad.fireworks.create_index([("spec.campaign", 1), ("state", 1)])
    launchpad.workflows.create_index("nodes")
    launchpad.launches.create_index("launch_id", unique=True)
    launchpad.launches.create_index("fw_id")
    # Last: it says that all of this is there.
    launchpad.fw_id_assigner.update_one(
        {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
    )
