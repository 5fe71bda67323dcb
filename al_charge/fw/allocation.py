"""What a queue has given to the job that this process runs in, by the job's environment."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_COUNTED = ("RUNNING", "RESIZING", "SIGNALING", "STOPPED", "SUSPENDED")
"""States of jobs whose time Slurm counts."""
_ASKED = 5.0
"""s that Slurm has for an answer."""


@dataclass(frozen=True)
class Allocation:
    """A job and its share of a machine.

    Attributes
    ----------
    job
        Name of the queue and id of the job, such as ``slurm 4711``; empty without a queue.
    nodes
        Number of nodes.
    cores
        Number of cores, on all nodes.
    """

    job: str
    nodes: int
    cores: int


def allocation(processes: int, environment: Mapping[str, str] = os.environ) -> Allocation:
    """Return what the queue counts for this process; without a queue, the cores it computes on.

    Parameters
    ----------
    processes
        Number of worker processes.
    environment
        Variables of the environment.

    Returns
    -------
    Allocation
        At least one node and one core.
    """
    get = environment.get
    if job := get("SLURM_JOB_ID"):
        return _of("slurm", job, _number(get("SLURM_JOB_NUM_NODES")), _slurm_cores(environment))
    if job := get("PBS_JOBID"):
        hosts = _lines(get("PBS_NODEFILE", ""))
        nodes = len(set(hosts))
        return _of("pbs", job, nodes, max(len(hosts), nodes * _number(get("NCPUS"))))
    if job := get("LSB_JOBID"):
        hosts = get("LSB_HOSTS", "").split()
        return _of("lsf", job, len(set(hosts)), _number(get("LSB_DJOB_NUMPROC")) or len(hosts))
    if (job := get("JOB_ID")) and "SGE_ROOT" in environment:
        return _of("sge", job, _number(get("NHOSTS")), _number(get("NSLOTS")))
    return Allocation("", 1, processes * max(1, _number(get("OMP_NUM_THREADS"))))


def job_started(environment: Mapping[str, str] = os.environ) -> datetime | None:
    """Return from when the queue counts; Slurm is asked where it does not tell its jobs.

    Parameters
    ----------
    environment
        Variables of the environment.

    Returns
    -------
    datetime or None
        None where the queue does not say, or there is none.
    """
    if seconds := _number(environment.get("SLURM_JOB_START_TIME")):
        return datetime.fromtimestamp(seconds, UTC)
    if not (job := environment.get("SLURM_JOB_ID")):
        return None
    return _time(_answer("squeue", "-h", "-j", job, "-o", "%S"))


def job_end(signalled: datetime, environment: Mapping[str, str] = os.environ) -> datetime | None:
    """Return when the queue has stopped to count, though its job's processes are still there.

    Slurm's clock stops when it begins to end a job, those of other queues when the job has ended.

    Parameters
    ----------
    signalled
        When this process was asked to stop, which is then if Slurm has put the job back already.
    environment
        Variables of the environment.

    Returns
    -------
    datetime or None
        None while the queue counts, or where it does not say, or there is none.
    """
    if not (job := environment.get("SLURM_JOB_ID")):
        return None
    state, _, time = _answer("squeue", "-h", "-j", job, "-o", "%T %e").partition(" ")
    if not state or state in _COUNTED:
        return None
    end = _time(time)
    # That of a job that was put back is when its next run has to end.
    return end if end is not None and end <= datetime.now(UTC) else signalled


def job_times(job: str) -> tuple[datetime, datetime] | None:
    """Return from when to when the queue has counted a job that has ended.

    Slurm knows it for some minutes after the end (``MinJobAge``), with or without a database for
    its accounting. Of a job that was put back it knows the last run.

    Parameters
    ----------
    job
        Name of the queue and id of the job, as in `Allocation`.

    Returns
    -------
    tuple of datetime, or None
        Start and end; None while the queue counts, or where it does not say.
    """
    queue, _, number = job.partition(" ")
    if queue != "slurm":
        return None
    told = dict(re.findall(r"(\w+)=(\S*)", _answer("scontrol", "show", "job", "-o", number)))
    if told.get("JobState", _COUNTED[0]) in _COUNTED:
        return None
    start, end = (_time(told.get(name, "")) for name in ("StartTime", "EndTime"))
    # One that waits to run again has times that are to come.
    if start is None or end is None or end > datetime.now(UTC):
        return None
    return start, end


def _time(told: str) -> datetime | None:
    """Return a time that Slurm tells in that of this machine; None where it has none."""
    try:
        return datetime.fromisoformat(told).astimezone(UTC)
    except ValueError:
        return None


def _answer(*command: str) -> str:
    """Return what a program of the queue says; empty if it is not here or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASKED, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _of(queue: str, job: str, nodes: int, cores: int) -> Allocation:
    return Allocation(f"{queue} {job}", max(1, nodes), max(1, cores))


def _slurm_cores(environment: Mapping[str, str]) -> int:
    """Return the cores of all nodes: ``4(x2),2`` are ten."""
    text = environment.get("SLURM_JOB_CPUS_PER_NODE", "")
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return sum(int(cores) * int(times or 1) for cores, times in found)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").split() if path else []
    except OSError:
        return []
