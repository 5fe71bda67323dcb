"""FireWorks' adapter for queues, which counts jobs by name and says why a job is refused."""

from __future__ import annotations

import getpass
import hashlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter
from fireworks.utilities.fw_utilities import explicit_serialize
from typing_extensions import override

from al_charge.errors import AlChargeError

QUEUE_TIMEOUT = 60.0
"""Seconds after which a queue that does not answer is unavailable."""
LONGEST_NAME = 15
"""Characters of a job's name that every queue shows in full."""


class QueueError(AlChargeError):
    """A queue does not take a job, or does not say what it holds; it may later."""


@dataclass(frozen=True)
class Jobs:
    """How many jobs of one name a queue holds.

    Attributes
    ----------
    waiting
        Jobs that have not started.
    running
        Jobs that have.
    """

    waiting: int
    running: int

    @property
    def total(self) -> int:
        """Number of jobs, waiting or running."""
        return self.waiting + self.running


def job_name(category: str, campaign: str) -> str:
    """Return the name of a campaign's jobs of one category, which no other jobs have.

    Parameters
    ----------
    category
        ``cpu``, ``dft`` or ``gpu``.
    campaign
        Name of the campaign.

    Returns
    -------
    str
        At most `LONGEST_NAME` characters.
    """
    name = f"{category}-{campaign}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(campaign.encode()).hexdigest()[:4]
    return f"{name[: LONGEST_NAME - 5]}-{digest}"


@explicit_serialize
class NamedJobsAdapter(CommonAdapter):  # type: ignore[misc]
    """An adapter that counts the jobs of one name, where FireWorks counts all jobs of a user."""

    @override
    def submit_to_queue(self, script_file: str) -> str:
        program = self.q_commands[self.q_type]["submit_cmd"]
        # LSF reads the directives of a script on its standard input only.
        by_input = self.q_type == "LoadSharingFacility"
        text = Path(script_file).read_text(encoding="utf-8") if by_input else None
        done = _run([program] if by_input else [program, script_file], text)
        if done.returncode != 0:
            raise QueueError(_last_line(done), where=program)
        job: str = self._parse_jobid(done.stdout)
        return job

    def count(self) -> Jobs:
        """Return how many of this user's jobs have this adapter's name.

        Returns
        -------
        Jobs
            Waiting and running ones.

        Raises
        ------
        QueueError
            If the queue does not answer.
        """
        return _COUNTS[self.q_type](getpass.getuser(), self["job_name"])

    @override
    def get_njobs_in_queue(self, username: str | None = None, shell: bool = False) -> int:
        return self.count().total


def _slurm(user: str, name: str) -> Jobs:
    states = _lines(["squeue", "-h", "-u", user, "-n", name, "-o", "%T"])
    return _split(states, waiting="PENDING")


def _lsf(user: str, name: str) -> Jobs:
    command = ["bjobs", "-u", user, "-J", name, "-noheader", "-o", "stat"]
    # It reports it as an error if there is no such job.
    return _split(_lines(command, nothing="not found|No unfinished job"), waiting="PEND")


def _pbs(user: str, name: str) -> Jobs:
    select = ["qselect", "-u", user, "-N", name]
    waiting = len(_lines([*select, "-s", "QHW"]))
    return Jobs(waiting, max(0, len(_lines(select)) - waiting))


def _sge(user: str, name: str) -> Jobs:
    """Count jobs: the list truncates names, what `-r` adds below each job does not."""
    states, state = [], ""
    for line in _lines(["qstat", "-u", user, "-r"]):
        words = line.split()
        if words[0].isdigit() and len(words) > 4:
            state = words[4]
        elif line.strip().startswith("Full jobname:") and words[-1] == name:
            states.append("waiting" if "w" in state else "running")
    return _split(states, waiting="waiting")


_COUNTS = {"SLURM": _slurm, "PBS": _pbs, "LoadSharingFacility": _lsf, "SGE": _sge}


def _split(states: Sequence[str], waiting: str) -> Jobs:
    held = sum(state.strip() == waiting for state in states)
    return Jobs(held, len(states) - held)


def _lines(command: list[str], nothing: str = "") -> list[str]:
    """Return the lines that a program prints; none if its error says that there is nothing."""
    done = _run(command)
    if done.returncode != 0:
        if nothing and re.search(nothing, done.stderr):
            return []
        raise QueueError(_last_line(done), where=command[0])
    return [line for line in done.stdout.splitlines() if line.strip()]


def _run(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=QUEUE_TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        remedy = "run this where jobs are submitted, such as on a login node"
        raise QueueError("there is no such program", where=command[0], remedy=remedy) from error
    except subprocess.TimeoutExpired as error:
        raise QueueError(f"no answer for {QUEUE_TIMEOUT:.0f} s", where=command[0]) from error


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a failed program printed."""
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return (
        said[-1][:300].removeprefix(f"{done.args[0]}: ")
        if said
        else f"it failed with exit code {done.returncode}"
    )
