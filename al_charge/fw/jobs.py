"""The jobs of a campaign: state, machine and time of each, and what their runs have left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fireworks import LaunchPad

from al_charge.errors import InputError
from al_charge.fw.status import failure_of
from al_charge.loop.campaign import Campaign
from al_charge.loop.packed_folder import read_packed
from al_charge.store.documents import AttemptDoc, EntryDoc
from al_charge.store.labels import WITHOUT_FRAMES

FAILED = "FIZZLED"
"""FireWorks' state of a task that failed."""
GIVEN_UP = "GIVEN UP"
"""State of a job whose label was given up; for FireWorks it has ended well."""
LOGS = ("gpaw.txt", "vasp.out", "std_err.txt", "relaxation.txt", "OSZICAR")
"""Files of an engine that tell how a run went."""
TAIL = 20
"""Lines of each of them that are shown."""
LONGEST_END = 2**16
"""Bytes in which these lines are looked for."""


@dataclass(frozen=True)
class Job:
    """A task of a round.

    Attributes
    ----------
    task
        Round and what it does, such as ``3/label 2``: what `find_job` takes.
    state
        As FireWorks calls it, or `GIVEN_UP`.
    label
        Key of the label that it makes; empty for other tasks, and before it has started.
    reason
        Why it failed; empty otherwise.
    runs
        What its runs have used, in order.
    attempts
        Starts of a labelling job, in order.
    """

    task: str
    fw_id: int
    round: int
    state: str
    label: str
    reason: str
    runs: tuple[EntryDoc, ...]
    attempts: tuple[AttemptDoc, ...]

    @property
    def failed(self) -> bool:
        """Whether it failed, or its label was given up."""
        return self.state in (FAILED, GIVEN_UP)

    @property
    def seconds(self) -> float | None:
        """What all its runs took so far, s; None if there was none."""
        if not self.runs:
            return None
        return sum((_end(run) - run.started).total_seconds() for run in self.runs)

    @property
    def host(self) -> str:
        """Machine of the last run; empty if there was none."""
        return self.runs[-1].host if self.runs else ""


def jobs_of(
    launchpad: LaunchPad, campaign: Campaign, *, failed: bool = False, number: int | None = None
) -> list[Job]:
    """Return the jobs of a campaign.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    failed
        Only those that failed, or whose label was given up.
    number
        Only those of this round; of all rounds when None.

    Returns
    -------
    list of Job
        In the order in which they were added.
    """
    store, failures = campaign.store, campaign.store.failures.all(campaign.name)
    given_up = {one.key: one.reason for one in failures}
    query: dict[str, Any] = {"spec.campaign": campaign.name}
    rounds = None if number is None else {number}
    if failed and rounds is None:
        fizzled = launchpad.fireworks.find(query | {"state": FAILED}, {"spec.round": 1})
        rounds = {int(one["spec"]["round"]) for one in fizzled} | {one.round for one in failures}
    if rounds is not None:
        query["fw_id"] = {"$in": sorted(_nodes(launchpad, campaign.name, rounds))}
    runs: dict[tuple[int | None, str], list[EntryDoc]] = defaultdict(list)
    for entry in store.ledger.all(campaign.name, rounds):
        runs[entry.round, entry.task].append(entry)
    attempts: dict[tuple[int, int], list[AttemptDoc]] = defaultdict(list)
    for attempt in store.attempts.all(campaign.name, rounds=rounds):
        attempts[attempt.round, attempt.slot].append(attempt)
    found = []
    fields = {"fw_id": 1, "name": 1, "state": 1, "launches": 1, "spec": 1}
    for firework in launchpad.fireworks.find(query, fields, sort=[("fw_id", 1)]):
        number, what = int(firework["spec"]["round"]), firework["name"].partition(" ")[2]
        slot = firework["spec"]["_tasks"][0].get("slot")
        some = attempts[number, slot] if what.startswith("label ") and slot is not None else []
        key, state, reason = (some[-1].key if some else ""), str(firework["state"]), ""
        if state == FAILED:
            reason = failure_of(launchpad, firework)
        elif state == "COMPLETED" and key in given_up:
            state, reason = GIVEN_UP, given_up[key]
        job = Job(
            task=f"{number}/{what}",
            fw_id=int(firework["fw_id"]),
            round=number,
            state=state,
            label=key,
            reason=reason,
            runs=tuple(runs[number, what]),
            attempts=tuple(some),
        )
        if job.failed or not failed:
            found.append(job)
    return found


def links_of(launchpad: LaunchPad, campaign: str, number: int) -> dict[int, tuple[int, ...]]:
    """Return which jobs of a round wait for which.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        Name of the campaign.
    number
        Number of the round.

    Returns
    -------
    dict
        By the ``fw_id`` of each job, those that come after it; empty without such a round.
    """
    found: dict[int, tuple[int, ...]] = {}
    query = {"metadata.campaign": campaign, "metadata.round": number}
    for workflow in launchpad.workflows.find(query, {"nodes": 1, "links": 1}):
        found |= {int(one): () for one in workflow["nodes"]}
        found |= {int(one): tuple(after) for one, after in workflow["links"].items()}
    return found


def _nodes(launchpad: LaunchPad, campaign: str, rounds: Collection[int]) -> set[int]:
    """Return the Fireworks of some rounds."""
    query = {"metadata.campaign": campaign, "metadata.round": {"$in": sorted(rounds)}}
    found = launchpad.workflows.find(query, {"nodes": 1})
    return {int(one) for workflow in found for one in workflow["nodes"]}


def find_job(jobs: list[Job], which: str) -> Job:
    """Return the job that a user means.

    Parameters
    ----------
    jobs
        All jobs of a campaign.
    which
        Its task, such as ``3/label 2``, the number of its Firework, or the beginning of its label's
        id.

    Returns
    -------
    Job
        The job; the last that made the label, where several did.

    Raises
    ------
    InputError
        If there is none, or several.
    """
    wanted = " ".join(which.replace("/", " ").split())
    found = [job for job in jobs if wanted in (job.task.replace("/", " "), str(job.fw_id))]
    found = found or [job for job in jobs if which and job.label.startswith(which)]
    if not found or len({job.label or job.task for job in found}) > 1:
        raise InputError(
            f"{len(found) or 'no'} jobs are '{which}'",
            where="task",
            remedy="write it as 'al-charge campaign jobs' does, such as '3/label 2'",
        )
    return found[-1]


def job_of(launchpad: LaunchPad, campaign: Campaign, fw_id: int) -> Job:
    """Return one job of a campaign.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    fw_id
        Number of its Firework.

    Returns
    -------
    Job
        The job.

    Raises
    ------
    InputError
        If the campaign has none of this number.
    """
    query = {"fw_id": fw_id, "spec.campaign": campaign.name}
    found = launchpad.fireworks.find_one(query, {"spec.round": 1})
    jobs = jobs_of(launchpad, campaign, number=int(found["spec"]["round"])) if found else []
    for job in jobs:
        if job.fw_id == fw_id:
            return job
    raise InputError(f"there is no job {fw_id}", where=f"campaign '{campaign.name}'")


def jobs_document(campaign: Campaign, jobs: list[Job]) -> dict[str, Any]:
    """Return jobs as a JSON document.

    Parameters
    ----------
    campaign
        Their campaign.
    jobs
        The jobs.

    Returns
    -------
    dict
        What ``al-charge campaign jobs --json`` prints.
    """
    return {
        "campaign": campaign.name,
        "state": campaign.store.campaigns.state(campaign.name).value,
        "jobs": [_job(job) for job in jobs],
        "units": {"seconds": "s, of all runs"},
    }


def logs_document(
    launchpad: LaunchPad, campaign: Campaign, job: Job, *, within: Path | None = None
) -> dict[str, Any]:
    """Return what the runs of a job have left.

    Parameters
    ----------
    launchpad
        LaunchPad of the campaign's database.
    campaign
        The campaign.
    job
        The job.
    within
        Folder outside which no file is read, whatever the database says; None for any.

    Returns
    -------
    dict
        Each run with its end, each start of a labelling job with its outcome, the traceback of a
        failure, the folder of the engine's files, and the ends of its logs if the folder is on this
        machine.
    """
    made = next(campaign.store.labels.read(WITHOUT_FRAMES, keys=[job.label]), None)
    folder = made.directory if made is not None else ""
    found = _launch(launchpad, job)
    details = ((found.get("action") or {}).get("stored_data") or {}).get("_exception") or {}
    if not folder and found.get("launch_dir") and (name := _folder_of(job)):
        path = Path(found["launch_dir"]) / campaign.name / f"round-{job.round:03d}" / name
        folder = str(path)
    return {
        "campaign": campaign.name,
        **_job(job),
        "runs": [
            {
                "started": _time(run.started),
                "ended": _time(run.ended),
                "host": run.host,
                "job": run.job,
                "cores": run.cores,
                "outcome": run.outcome,
                "reason": run.reason,
            }
            for run in job.runs
        ],
        "attempts": [
            {
                "started": _time(one.started),
                "finished": _time(one.finished),
                "host": one.hostname,
                "outcome": one.outcome,
                "reason": one.reason,
            }
            for one in job.attempts
        ],
        "traceback": str(details.get("_stacktrace") or ""),
        "folder": folder,
        "logs": _ends(Path(folder)) if folder and _is_within(folder, within) else {},
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "task": job.task,
        "fw_id": job.fw_id,
        "round": job.round,
        "state": job.state,
        "label": job.label or None,
        "host": job.host or None,
        "started": _time(job.runs[0].started) if job.runs else None,
        "seconds": None if job.seconds is None else round(job.seconds, 3),
        "number_of_runs": len(job.runs),
        "reason": job.reason,
    }


def _launch(launchpad: LaunchPad, job: Job) -> dict[str, Any]:
    """Return the last launch of a job; empty if there was none."""
    found = launchpad.launches.find_one({"fw_id": job.fw_id}, sort=[("launch_id", -1)])
    return dict(found or {})


def _is_within(folder: str, outer: Path | None) -> bool:
    return outer is None or Path(folder).resolve().is_relative_to(outer.resolve())


def _folder_of(job: Job) -> str:
    """Return the name of the folder that an engine runs in for a job; empty without an engine."""
    kind, _, which = job.task.partition("/")[2].partition(" ")
    if which == "metal":
        return which
    return f"{kind}-{int(which):03d}" if kind in ("label", "explore") and which.isdigit() else ""


def _ends(folder: Path) -> dict[str, str]:
    """Return the last lines of an engine's logs in a folder, by their paths in it."""
    logs = {
        path.relative_to(folder): _end_of(path) for name in LOGS for path in folder.rglob(name)
    } or read_packed(folder, lambda path: path.name in LOGS, LONGEST_END)
    return {
        path.as_posix(): "\n".join(content.decode(errors="replace").splitlines()[-TAIL:])
        for path, content in sorted(logs.items())
    }


def _end_of(path: Path) -> bytes:
    """Return the last bytes of a log, which an engine may have filled the disk with."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_END))
        return file.read(LONGEST_END)


def _end(run: EntryDoc) -> datetime:
    return run.ended or run.seen


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat(timespec="seconds")
