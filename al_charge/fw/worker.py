"""Workers: processes that take Fireworks of one campaign until it ends."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket
from pymongo.errors import PyMongoError

from al_charge.fw.launchpad import connect_launchpad, store_of
from al_charge.fw.processes import worker_name
from al_charge.fw.status import stuck
from al_charge.store.settings import DatabaseSettings
from al_charge.store.documents import CampaignState

POLL_SECONDS = 0.3
"""Pause of a worker that found nothing to do."""
_PR_SET_PDEATHSIG = 1


def work(
    settings: DatabaseSettings | None,
    campaign: str,
    runs: Path,
    *,
    categories: Sequence[str],
    until_idle: bool,
) -> None:
    """Run a campaign's Fireworks in this process until it ends, pauses or the worker is told to.

    Parameters
    ----------
    settings
        The database; None for the embedded server.
    runs
        Folder for the files of jobs.
    categories
        Which Fireworks to take: of ``cpu``, ``dft`` and ``gpu``.
    until_idle
        Also stop as soon as nothing is ready.
    """
    runs.mkdir(parents=True, exist_ok=True)
    launchpad = connect_launchpad(settings)
    with contextlib.chdir(runs), contextlib.closing(launchpad.connection):
        _work(launchpad, campaign, runs, categories, until_idle)


def _work(
    launchpad: LaunchPad, campaign: str, runs: Path, categories: Sequence[str], until_idle: bool
) -> None:
    store = store_of(launchpad)
    fworker = FWorker(
        name=worker_name(),
        category=list(categories),
        query={"spec.campaign": campaign},
        env={"runs": str(runs)},
    )
    while store.campaign(campaign).state is CampaignState.RUNNING:
        if not launch_rocket(launchpad, fworker, strm_lvl="CRITICAL"):
            if (reason := stuck(launchpad, campaign)) is not None:
                store.set_campaign_state(campaign, CampaignState.FAILED, reason)
            if until_idle:
                return
            time.sleep(POLL_SECONDS)


class WorkerPool:
    """Worker processes that end with the process that started them."""

    def __init__(
        self,
        settings: DatabaseSettings | None,
        campaign: str,
        runs: Path,
        *,
        processes: int,
        categories: Sequence[str],
        until_idle: bool = False,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._processes = [
            context.Process(
                target=_main,
                args=(settings, campaign, runs, tuple(categories), until_idle, os.getpid()),
                name=f"worker-{number}",
            )
            for number in range(processes)
        ]

    def start(self) -> None:
        """Start every process."""
        # Each worker computes on one thread: on a busy machine more are slower.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for process in self._processes:
            process.start()

    @property
    def alive(self) -> int:
        """Number of processes that still run."""
        return sum(process.is_alive() for process in self._processes)

    @property
    def failed(self) -> bool:
        """Whether a process ended with an error."""
        return any(process.exitcode not in (None, 0) for process in self._processes)

    def wait(self) -> None:
        """Wait until every process has ended."""
        for process in self._processes:
            process.join()

    def stop(self) -> None:
        """End every process; what they were doing is found and redone by resume."""
        for process in self._processes:
            if process.is_alive():
                process.terminate()
        for process in self._processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()


def _main(
    settings: DatabaseSettings | None,
    campaign: str,
    runs: Path,
    categories: tuple[str, ...],
    until_idle: bool,
    parent: int,
) -> None:
    """Run one worker process; errors end it with one line."""
    warnings.filterwarnings("ignore", "gcd is deprecated", FutureWarning)  # pymatgen's, not ours
    _die_with_parent(parent)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(settings, campaign, runs, categories=categories, until_idle=until_idle)
    except PyMongoError as error:
        message = " ".join(str(error).split())[:120]
        print(
            f"worker: lost the database ({message}); run 'al-charge campaign resume {campaign}'",
            file=sys.stderr,
        )
        # A heartbeat thread may still be waiting for the server.
        os._exit(1)


def _die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent is gone, so that nothing is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _leave(signum: int, frame: FrameType | None) -> None:
    os._exit(128 + signum)
