"""Findings about machines and versions: clocks, code, the database's schema, locks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import metadata

from al_charge.fw.database_locks import COLLECTION, HOLDER_TIMEOUT
from al_charge.fw.doctor.finding import HEARTBEAT_WATCH, Finding, Scene
from al_charge.fw.vitals import end_worker, vitals
from al_charge.fw.worker_registry import clock_offset, is_alive, live_workers
from al_charge.store.documents import SCHEMA_VERSION, CampaignState
from al_charge.store.ledger import LOST
from al_charge.store.migrations import stored_version

CLOCK_TOLERANCE = 10.0
"""Seconds that a clock may differ from the server's."""


def schema(scene: Scene) -> Iterator[Finding]:
    """Find a database of another schema than this program's.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    version = stored_version(scene.store.database)
    if version not in (0, SCHEMA_VERSION):
        older = version < SCHEMA_VERSION
        yield Finding(
            "other schema",
            f"database '{scene.store.database.name}'",
            f"its schema is version {version}, this al-charge knows {SCHEMA_VERSION}",
            "run 'al-charge db migrate'" if older else "update al-charge here",
        )


def own_clock(scene: Scene) -> Iterator[Finding]:
    """Find a difference between the clocks of this machine and of the server.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    yield from _clock("this machine", clock_offset(scene.launchpad.db))


def workers(scene: Scene) -> Iterator[Finding]:
    """Find workers whose clock is off, or that run another version than this program.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for worker in live_workers(scene.launchpad.db, scene.campaign):
        where = f"worker {worker['_id']}"
        yield from _clock(where, float(worker.get("clock_offset") or 0.0))
        theirs = (worker.get("version"), worker.get("schema"))
        ours = (metadata.version("al-charge"), SCHEMA_VERSION)
        if theirs != ours:
            yield Finding(
                "other version",
                where,
                f"it runs al-charge {theirs[0]} with schema {theirs[1]}, "
                f"here it is {ours[0]} with {ours[1]}",
                "install one version everywhere, and start the worker again",
            )


def _clock(where: str, offset: float) -> Iterator[Finding]:
    if abs(offset) > CLOCK_TOLERANCE:
        way = "ahead of" if offset > 0 else "behind"
        what = f"its clock is {abs(offset):.0f} s {way} the database server's"
        yield Finding("clock skew", where, what, "synchronise it, for instance with NTP")


def silent_workers(scene: Scene) -> Iterator[Finding]:
    """Find processes of this machine that exist and have shown no sign of life for long.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for one in vitals(scene.launchpad.db, scene.campaign):
        # Those on other machines are lost as soon as they are silent.
        if not one.is_silent or not one.state:
            continue
        stopped = one.state.startswith("T")
        if stopped or scene.wait:
            yield Finding(
                "silent worker",
                f"worker {one.worker}",
                str(one),
                "end its process; its task is made ready again",
                partial(end_worker, one.worker),
                # After an outage of the database all have been silent.
                watch=None if stopped else HEARTBEAT_WATCH,
                seen=one.seen,
            )


def unattended(scene: Scene) -> Iterator[Finding]:
    """Find campaigns that are to go on, and that no worker works on.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for name in scene.campaigns:
        if scene.store.campaigns.state(name) is not CampaignState.RUNNING:
            continue
        if not live_workers(scene.launchpad.db, name):
            yield Finding(
                "no worker",
                name,
                "it is running, but there is no worker",
                f"start one with 'al-charge worker {name}', unless a queue will",
                note=True,
            )


def open_entries(scene: Scene) -> Iterator[Finding]:
    """Find entries of the ledger that the dead have left open.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    ledger = scene.store.ledger
    for name in scene.campaigns:
        for entry in ledger.unclosed(name):
            alive = is_alive(entry.worker)
            if alive or (alive is None and not scene.wait):
                continue
            what = f"its worker is gone, last seen {entry.seen:%Y-%m-%d %H:%M:%S}"
            yield Finding(
                "open entry",
                f"ledger of {name}: {entry.task or 'worker'} of {entry.worker}",
                what,
                "close it with that time",
                partial(ledger.close, entry.worker, LOST, "its worker is gone"),
                note=True,
                watch=None if alive is False else HEARTBEAT_WATCH,
                seen=entry.seen,
            )


def locks(scene: Scene) -> Iterator[Finding]:
    """Find locks of a campaign or a label, which campaigns share, whose holder is gone.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    alive_names = {worker["_id"] for worker in live_workers(scene.launchpad.db)}
    others = sorted(set(scene.store.campaigns.names()) - set(scene.campaigns))
    for lock in scene.launchpad.db[COLLECTION].find({"_id": {"$nin": others}}):
        owner = lock["owner"]
        alive = is_alive(owner)
        if alive is True or owner in alive_names or (alive is None and not scene.wait):
            continue
        yield Finding(
            "stale lock",
            lock["_id"],
            f"its holder {owner} is gone" if alive is False else f"{owner} still holds it",
            "release it",
            partial(scene.launchpad.db[COLLECTION].delete_one, lock),
            # A holder that is not a worker holds a lock for moments only.
            watch=None if alive is False else HOLDER_TIMEOUT,
            seen=owner,
        )
