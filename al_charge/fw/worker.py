"""One worker process, which runs Fireworks of one campaign."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from fireworks.fw_config import PING_TIME_SECS
from pymongo.errors import ConnectionFailure

from al_charge.errors import AlChargeError, InputError
from al_charge.fw import worker_registry
from al_charge.fw.allowed_tasks import ALLOWED_TASKS
from al_charge.fw.launchpad import connect_launchpad, store_of
from al_charge.fw.pulse import Pulse
from al_charge.fw.retraining import train_again
from al_charge.fw.status import blocking_failure
from al_charge.fw.task_run import stop_worker, transient_failure
from al_charge.fw.tasks import SPOOL
from al_charge.fw.worker_registry import worker_name
from al_charge.labelers.dft.guard import die_with_parent
from al_charge.logs import LogSettings, configure, details
from al_charge.loop.campaign import open_campaign
from al_charge.stopping import SIGNALS, TOLD_TO_END
from al_charge.store.credentials import forget_secrets
from al_charge.store.documents import SCHEMA_VERSION, CampaignState
from al_charge.store.migrations import restored_from, stored_version
from al_charge.store.settings import DatabaseSettings
from al_charge.store.spool import Spool

POLL_SECONDS = 0.3
"""Pause of a worker that found nothing to do, s."""

PATIENCE = 600.0
"""Default time to wait for a database that does not answer, s."""

_log = logging.getLogger("al_charge.fw")


def work(
    settings: DatabaseSettings | None,
    campaign: str,
    runs: Path,
    *,
    categories: Sequence[str],
    until_idle: bool,
    patience: float = PATIENCE,
    processes: int = 1,
) -> None:
    """Run a campaign's Fireworks in this process until the campaign ends or pauses.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    campaign
        Name of the campaign.
    runs
        Folder for the files of jobs.
    categories
        Which Fireworks to take: of ``cpu``, ``dft`` and ``gpu``.
    until_idle
        Whether to stop as soon as nothing is ready.
    patience
        How long to wait for a database that does not answer, s.
    processes
        How many share what the queue has given to the job.
    """
    runs.mkdir(parents=True, exist_ok=True)
    launchpad = connect_launchpad(settings, patience)
    forget_secrets(settings)
    with contextlib.chdir(runs), contextlib.closing(launchpad.connection):
        worker_registry.register(launchpad, campaign, categories)
        try:
            _work(launchpad, campaign, runs, categories, until_idle, processes)
        finally:
            with contextlib.suppress(ConnectionFailure):
                worker_registry.forget(launchpad, [worker_name()])


def _work(
    launchpad: LaunchPad,
    campaign: str,
    runs: Path,
    categories: Sequence[str],
    until_idle: bool,
    processes: int,
) -> None:
    store = store_of(launchpad)
    open_campaign(store, campaign)  # refuses a campaign whose plug-ins are not installed here
    query: dict[str, object] = {
        "spec.campaign": campaign,
        "spec._tasks": {"$not": {"$elemMatch": {"_fw_name": {"$nin": sorted(ALLOWED_TASKS)}}}},
    }
    fworker = FWorker(
        name=worker_name(),
        category=list(categories),
        query=query,
        env={"runs": str(runs), "processes": processes},
    )
    Spool(runs / campaign / SPOOL).deliver_all(store.labels)
    restored = restored_from(launchpad.db)
    next_beat = time.monotonic() + PING_TIME_SECS
    while store.campaigns.state(campaign) is CampaignState.RUNNING:
        if TOLD_TO_END.is_set():  # while a task ran, which has ended in time
            stop_worker("asked to stop", logging.INFO)
        if time.monotonic() > next_beat:
            worker_registry.seen(launchpad)
            next_beat = time.monotonic() + PING_TIME_SECS
        _check_schema(launchpad, restored)
        query["fw_id"] = {"$nin": train_again(launchpad, campaign)}
        # Tracebacks are in our log; FireWorks would print them once more.
        if launch_rocket(launchpad, fworker, strm_lvl="CRITICAL", err_file=io.StringIO()):
            continue
        if (reason := blocking_failure(launchpad, campaign)) is not None:
            store.campaigns.set_state(campaign, CampaignState.FAILED, reason)
        if until_idle:
            return
        time.sleep(POLL_SECONDS)


def _check_schema(launchpad: LaunchPad, restored: object) -> None:
    """Refuse to continue in a database that has been migrated, or replaced by a backup.

    Raises
    ------
    InputError
        If its schema version is not this program's, or another backup was restored since.
    """
    version = stored_version(launchpad.db)
    if version != SCHEMA_VERSION:
        raise InputError(
            f"the database now has schema version {version}, this worker knows {SCHEMA_VERSION}",
            where=f"database '{launchpad.db.name}'",
            remedy="start workers of the al-charge version that migrated it",
        )
    if restored_from(launchpad.db) != restored:
        # What this worker remembers, numbers of tasks above all, may mean something else now.
        raise InputError(
            "it was restored from a backup since this worker began",
            where=f"database '{launchpad.db.name}'",
            remedy="run 'al-charge campaign resume', and start workers again",
        )


def main(
    settings: DatabaseSettings | None,
    campaign: str,
    runs: Path,
    categories: tuple[str, ...],
    until_idle: bool,
    patience: float,
    processes: int,
    parent: int,
    logs: LogSettings,
    pulse: Pulse,
) -> None:
    """Run a worker process; errors end it with one line.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    campaign
        Name of the campaign.
    runs
        Folder for the files of jobs.
    categories
        Which Fireworks to take: of ``cpu``, ``dft`` and ``gpu``.
    until_idle
        Whether to stop as soon as nothing is ready.
    patience
        How long to wait for a database that does not answer, s.
    processes
        How many share what the queue has given to the job.
    parent
        Process id of the parent, with which this process ends.
    logs
        How to write the log.
    pulse
        Tells the parent that this process lives.
    """
    gc.set_threshold(50_000)  # imports make much and drop little
    configure(logs)
    pulse.beat()
    warnings.filterwarnings("ignore", "gcd is deprecated", FutureWarning)  # pymatgen's, not ours
    _die_with_parent(parent)
    for number in SIGNALS:
        signal.signal(number, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(
            settings,
            campaign,
            runs,
            categories=categories,
            until_idle=until_idle,
            patience=patience,
            processes=processes,
        )
    except Exception as error:
        if (trouble := transient_failure(error, runs)) is not None:
            stop_worker(trouble)
        if not isinstance(error, AlChargeError):
            raise
        _log.error("worker stopped: %s", error, extra=details(event="stop", reason=str(error)))
        # A heartbeat thread may still be waiting for the server.
        os._exit(error.exit_code)


def _die_with_parent(parent: int) -> None:
    """Make this process end with its parent, so that nothing is left behind."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def _stop(signum: int, _frame: FrameType | None) -> None:
    stop_worker(f"stopped by {signal.Signals(signum).name}", logging.INFO)
