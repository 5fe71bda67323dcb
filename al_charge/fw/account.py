"""What workers enter in the ledger: parents of themselves, their processes of each run.

What a queue charges besides, whoever keeps the jobs there enters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psutil
from pymongo.errors import PyMongoError

from al_charge.fw.allocation import allocation, job_started, job_times
from al_charge.fw.worker_registry import worker_name
from al_charge.loop.campaign import Campaign
from al_charge.store.fields import now
from al_charge.store.ledger import LOST, Ledger

FIRST = timedelta(minutes=1)
"""After the start of a job, in which a worker is what it was started for, or before its end."""
PRECISION = timedelta(seconds=2)
"""Of a process's start by the kernel and a job's by its queue."""
SETTLED_WITHIN = timedelta(minutes=15)
"""After its end, in which a queue may say how long a job was."""
BEAT = 10.0
"""Seconds between two signs of life: what the end of a lost entry may be wrong by."""


class Account:
    """Entries of a parent and its worker processes.

    Parameters
    ----------
    ledger
        The ledger.
    campaign
        Name of the campaign.
    processes
        Number of worker processes.
    """

    def __init__(self, ledger: Ledger, campaign: str, processes: int) -> None:
        self._ledger = ledger
        self._campaign = campaign
        self._processes = processes
        self._name = worker_name()
        self._open = False
        self._next = 0.0

    def beat(self, workers: Collection[str]) -> None:
        """Open the entry of this process, or say that it and its workers live.

        Parameters
        ----------
        workers
            Names of those that run.
        """
        if not self._open:
            given = allocation(self._processes)
            # The queue counts from the start of the job, not from when this program was read.
            started = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
            begun = job_started()
            if begun is not None and -PRECISION < started - begun < FIRST:
                started = begun
            self._ledger.open(
                self._campaign,
                worker=self._name,
                job=given.job,
                nodes=given.nodes,
                cores=given.cores,
                started=started,
            )
            self._open = True
        elif time.monotonic() > self._next:
            self._ledger.beat([self._name, *workers])
            self._next = time.monotonic() + BEAT

    def close(self, worker: str, crashed: bool, reason: str, ended: datetime) -> None:
        """Close the entry of what a process ran when it ended.

        Parameters
        ----------
        worker
            Its name.
        crashed
            Whether it ended by itself or was killed, rather than told to stop.
        reason
            How it ended.
        ended
            When.
        """
        self._ledger.close(worker, "crashed" if crashed else "interrupted", reason, ended=ended)

    def end(self, ended: datetime | None = None) -> None:
        """Close the entry of this process, unless that is done.

        Parameters
        ----------
        ended
            When the queue has stopped to count; now when None.
        """
        self._ledger.close(self._name, "done", ended=ended or now())


class Settlement:
    """Ends of jobs by their queue, which outlive their workers by some seconds.

    Parameters
    ----------
    ledger
        The ledger.
    campaign
        Name of the campaign.
    """

    def __init__(self, ledger: Ledger, campaign: str) -> None:
        self._ledger = ledger
        self._campaign = campaign
        self._settled: set[str] = set()

    def look(self) -> None:
        """Enter what the queue says of jobs that have ended, once for each worker."""
        entries = self._ledger.jobs_since(self._campaign, now() - SETTLED_WITHIN)
        for job in {one.job for one in entries if one.entry not in self._settled}:
            if (times := job_times(job)) is None:
                continue
            start, end = times[0] - PRECISION, times[1]
            # Those of before belong to other runs of the job.
            run = [one for one in entries if one.job == job and start < one.started <= end]
            for last in sorted(run, key=lambda one: one.ended or end)[-1:]:
                # Something else may have used the job after a worker that was done.
                if last.outcome == LOST or end - (last.ended or end) < FIRST:
                    self._ledger.settle(last, end)
            self._settled |= {one.entry for one in entries if one.job == job}


def enter(
    campaign: Campaign, number: int, task: str, category: str, processes: int
) -> Callable[[str, str], None]:
    """Enter a run of a task of this process in the ledger.

    Parameters
    ----------
    campaign
        Whose task it is.
    number
        Its round.
    task
        What it is, such as ``label 3``.
    category
        ``cpu``, ``dft`` or ``gpu``.
    processes
        How many share what the queue has given to the job.

    Returns
    -------
    Callable
        To be called with how the run has ended and why; where the database fails, that is left to
        the parent.
    """
    ledger, name, given = campaign.store.ledger, worker_name(), allocation(1)
    asked = getattr(campaign.spec.resources, category)
    # Without a queue the campaign file may say what an engine runs on.
    cores = given.cores // processes if given.job else asked.cores or given.cores
    ledger.close(name, LOST)  # what an outage has left open
    ledger.open(
        campaign.name,
        task,
        round=number,
        worker=name,
        job=given.job,
        nodes=given.nodes,
        cores=max(1, cores),
    )

    def close(outcome: str, reason: str) -> None:
        with suppress(PyMongoError):
            ledger.close(name, outcome, reason, ended=now())

    return close
