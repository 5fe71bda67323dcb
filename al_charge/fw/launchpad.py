"""The LaunchPad: FireWorks' own collections, in the database that the store uses."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fireworks import LaunchPad, Workflow
from fireworks.core.launchpad import WFLock
from fireworks.fw_config import PING_TIME_SECS
from pymongo.errors import PyMongoError

from al_charge.fw import worker_registry
from al_charge.fw.allowed_tasks import allow_only_our_tasks, refuse_other_commands
from al_charge.fw.task_run import OUTAGE, UNREACHABLE, stop_worker
from al_charge.store.addresses import SELECTION_TIMEOUT, limits
from al_charge.store.connection import launchpad_uri
from al_charge.store.schema import create_task_indexes
from al_charge.store.settings import DatabaseSettings

if TYPE_CHECKING:
    from al_charge.store.mongo import Store


class _LaunchPad(LaunchPad):  # type: ignore[misc]
    """A LaunchPad that hands out our tasks only, and with which no outage fails a task."""

    _next_beat = 0.0
    """When the worker is to be recorded again; FireWorks also pings when a task ends."""

    def get_fw_dict_by_id(self, fw_id: int) -> dict[str, Any]:
        """Return the document of a Firework; refuse one that is not ours."""
        document: dict[str, Any] = super().get_fw_dict_by_id(fw_id)
        refuse_other_commands(document["spec"])
        return document

    def ping_launch(
        self, launch_id: int, ptime: datetime | None = None, checkpoint: Any = None
    ) -> None:
        """Record that a launch, and with it its worker, still runs."""
        try:
            super().ping_launch(launch_id, ptime, checkpoint)
            if time.monotonic() > self._next_beat:
                worker_registry.seen(self)
                self._next_beat = time.monotonic() + PING_TIME_SECS / 2
        except PyMongoError:
            pass  # it would end the heartbeat thread; the next heartbeat may get through

    def complete_launch(
        self, launch_id: int, action: Any = None, state: str = "COMPLETED"
    ) -> dict[str, Any]:
        """Record the end of this process's run.

        If the database stops answering meanwhile, this process ends, and the run is handed back or
        its result passed on: FireWorks itself would record the task as failed.
        """
        try:
            ended: dict[str, Any] = super().complete_launch(launch_id, action, state)
        except OUTAGE:
            stop_worker(UNREACHABLE)
        return ended

    def add_wf(self, wf: Workflow, reassign_all: bool = True) -> dict[int, int]:
        """Add a workflow whose Fireworks can be taken only when all of it is there.

        FireWorks itself writes READY Fireworks first; a worker that takes one fails if the workflow
        never follows.
        """
        new_ids: dict[int, int] = self._upsert_fws(list(wf.id_fw.values()), reassign_all)
        wf._reassign_ids(new_ids)
        self.workflows.insert_one(wf.to_db_dict())
        for fw_id in wf.root_fw_ids:
            self._refresh_wf(fw_id)
        return new_ids

    def _refresh_wf(self, fw_id: int) -> None:
        """Recompute the states that follow from a Firework's.

        As in FireWorks, an error makes the Firework FIZZLED; unlike there, an outage of the
        database does not.
        """
        try:
            with WFLock(self, fw_id, kill=True):
                workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
                self._update_wf(workflow, workflow.refresh(fw_id))
        except OUTAGE:
            raise
        except Exception as error:
            failed = {"state": "FIZZLED", f"fw_states.{fw_id}": "FIZZLED"}
            self.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED"}})
            self.workflows.update_one({"nodes": fw_id}, {"$set": failed})
            raise RuntimeError(f"states that follow from Firework {fw_id}: {error}") from error


def connect_launchpad(
    settings: DatabaseSettings | None, patience: float = SELECTION_TIMEOUT
) -> LaunchPad:
    """Return the LaunchPad of a database, with its indexes; credentials stay in this process.

    What the LaunchPad reads from the database creates no objects but this package's Firetasks.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    patience
        How long an operation waits for a server before it fails, s.

    Returns
    -------
    LaunchPad
        Its connection is the caller's to close.
    """
    launchpad = open_launchpad(settings, patience)
    initialise(launchpad)
    return launchpad


def open_launchpad(
    settings: DatabaseSettings | None, patience: float = SELECTION_TIMEOUT
) -> LaunchPad:
    """Return the LaunchPad of a database as it is, without writing to it.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    patience
        How long an operation waits for a server before it fails, s.

    Returns
    -------
    LaunchPad
        As `connect_launchpad` returns it.
    """
    allow_only_our_tasks()
    uri, name = launchpad_uri(settings)
    return _LaunchPad(
        host=uri,
        name=name,
        uri_mode=True,
        strm_lvl="CRITICAL",
        mongoclient_kwargs={
            "serverSelectionTimeoutMS": round(1000 * patience),
            **limits(uri, patience),
        },
    )


def store_of(launchpad: LaunchPad) -> Store:
    """Return the store in a LaunchPad's database.

    Parameters
    ----------
    launchpad
        The LaunchPad.

    Returns
    -------
    Store
        It shares the LaunchPad's connection.
    """
    from al_charge.store.mongo import Store

    return Store(launchpad.db)


def initialise(launchpad: LaunchPad) -> None:
    """Create FireWorks' indexes and counters once; `LaunchPad.reset` would delete what exists.

    Nothing is written if that has been done, so that a user with the right to read gets a LaunchPad
    as well, and a worker needs no right to create indexes.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    """
    if launchpad.fw_id_assigner.find_one({"_id": -1}) is not None:
        return
    create_task_indexes(launchpad.db)
    # Last: it marks that all of this is there.
    launchpad.fw_id_assigner.update_one(
        {"_id": -1}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
    )
