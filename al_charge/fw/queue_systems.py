"""Kinds of sites: what a job asks for, in the terms of each queue."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from al_charge.errors import InputError
from al_charge.loop.resources import JobResources

SAVE_SECONDS = 180
"""Time that a job has to save its work when it is told to end, s, as in `job.sh`."""

Settings = Mapping[str, Any]
"""Settings of an adapter, as its file holds them."""


@dataclass(frozen=True)
class QueueSystem:
    """A kind of site with a queue.

    Attributes
    ----------
    name
        Name of the kind, and of its folder among the launchers.
    q_type
        What FireWorks calls its queue.
    programs
        The program that submits jobs, and the one that lists them.
    numbers
        Settings of an adapter that are required, as whole numbers.
    translate
        Turns what a job asks for into settings of an adapter, given the present ones.
    """

    name: str
    q_type: str
    programs: tuple[str, str]
    numbers: tuple[str, ...]
    translate: Callable[[JobResources, Settings], dict[str, Any]]


def settings_for(system: QueueSystem, asked: JobResources, settings: Settings) -> dict[str, Any]:
    """Return the settings of an adapter that change for a job to get what it asks for.

    Parameters
    ----------
    system
        The queue.
    asked
        What the job asks for.
    settings
        The adapter's present settings.

    Returns
    -------
    dict
        New values by name.

    Raises
    ------
    InputError
        If the queue cannot express it.
    """
    new = system.translate(asked, settings)
    new |= _given(queue=asked.queue, account=asked.account, _jobs=asked.jobs)
    if asked.processes is not None:
        command = str(settings["rocket_launch"])
        new["rocket_launch"] = re.sub(r"--processes \d+", f"--processes {asked.processes}", command)
    return new


def clock(seconds: float) -> str:
    """Return a time as hours:minutes:seconds.

    Parameters
    ----------
    seconds
        The time, s.

    Returns
    -------
    str
        Such as ``24:00:00``.
    """
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def seconds_of(walltime: str) -> int:
    """Return the seconds of a walltime as adapters write it: h:m, h:m:s or days-h:m:s.

    Parameters
    ----------
    walltime
        Such as ``24:00:00``.

    Returns
    -------
    int
        s.

    Raises
    ------
    ValueError
        If it is written in another way.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::(\d\d))?", walltime)
    if match is None:
        raise ValueError(f"'{walltime}' is not a time such as '24:00:00'")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds


def _given(**settings: Any) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if value is not None}


def _slurm(asked: JobResources, settings: Settings) -> dict[str, Any]:
    new = _given(nodes=asked.nodes, ntasks_per_node=asked.cores)
    if asked.memory is not None:
        new["mem"] = f"{_megabytes(asked.memory)}M"
    if asked.gpus is not None:
        new["gres"] = f"gpu:{asked.gpus}" if asked.gpus else None
    return new | _walltime(asked)


def _pbs(asked: JobResources, settings: Settings) -> dict[str, Any]:
    new = _given(nodes=asked.nodes, cores=asked.cores)
    if asked.memory is not None:
        new["memory"] = f":mem={_megabytes(asked.memory)}mb"
    if asked.gpus is not None:
        new["gpus"] = f":ngpus={asked.gpus}" if asked.gpus else ""
    return new | _walltime(asked)


def _lsf(asked: JobResources, settings: Settings) -> dict[str, Any]:
    ptile = asked.cores or settings["ptile"]
    nodes = asked.nodes or max(1, settings["ntasks"] // settings["ptile"])
    new: dict[str, Any] = {"ptile": ptile, "ntasks": nodes * ptile}
    if asked.memory is not None:
        new["memory"] = f"{_megabytes(asked.memory)}MB"
    if asked.gpus is not None:
        new["gpus"] = f"num={asked.gpus}" if asked.gpus else None
    if asked.walltime is not None:
        new["walltime"] = clock(asked.walltime).rpartition(":")[0]
    return new


def _sge(asked: JobResources, settings: Settings) -> dict[str, Any]:
    if (asked.nodes or 1) > 1:
        raise InputError(
            "here a parallel environment spreads the slots of a job over nodes",
            where="resources: nodes",
            remedy="leave it out and give all cores of the job as 'cores'",
        )
    new = _given(slots=asked.cores)
    if asked.memory is not None:
        slots = asked.cores or settings["slots"]
        new["memory"] = f"mem_free={_megabytes(asked.memory / slots)}M"
    if asked.gpus is not None:
        new["gpus"] = f"gpu={asked.gpus}" if asked.gpus else None
    return new | _walltime(asked)


def _walltime(asked: JobResources) -> dict[str, Any]:
    return {} if asked.walltime is None else {"walltime": clock(asked.walltime)}


def _megabytes(memory: float) -> int:
    """Return a memory in GB as a whole number of MB."""
    return max(1, round(1000 * memory))


QUEUE_SYSTEMS = {
    system.name: system
    for system in (
        QueueSystem("slurm", "SLURM", ("sbatch", "squeue"), (), _slurm),
        QueueSystem("pbs", "PBS", ("qsub", "qselect"), ("nodes", "cores"), _pbs),
        QueueSystem(
            "lsf", "LoadSharingFacility", ("bsub", "bjobs"), ("ntasks", "ptile", "warning"), _lsf
        ),
        QueueSystem("sge", "SGE", ("qsub", "qstat"), ("slots",), _sge),
    )
}
"""Sites with a queue, by name."""

WORKSTATION = "workstation"
"""The kind of site without a queue."""
