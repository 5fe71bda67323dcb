"""Findings about labels: without files, not in the database, given up, attempts left open."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from al_charge.fw.doctor.finding import (
    GLANCE,
    RESUMABLE,
    Finding,
    Scene,
    firework_line,
)
from al_charge.fw.retraining import rerun
from al_charge.fw.tasks import SPOOL
from al_charge.fw.worker_registry import host_of, worker_name
from al_charge.fw.workflow_states import BUSY
from al_charge.loop.campaign import Campaign, label_key, open_campaign
from al_charge.loop.explore import explored_keys
from al_charge.loop.packed_folder import archive_of, packed
from al_charge.loop.verify import relax_in
from al_charge.store.attempts import METAL
from al_charge.store.documents import AttemptDoc
from al_charge.store.spool import Spool

INTERRUPTED = "interrupted"
"""Outcome of an attempt whose process has ended."""
LABEL_TASK = "{{al_charge.fw.tasks.LabelTask}}"
"""The Firetask that makes a label, by the name that FireWorks gives it."""
EXPLORE_TASK = "{{al_charge.fw.tasks.ExploreTask}}"
"""The one that makes a label in another electronic state."""


def without_files(scene: Scene) -> Iterator[Finding]:
    """Find labels whose files are not where they were made; the labels are complete without them.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    elsewhere = 0
    for key, path in scene.store.labels.folders(scene.campaign).items():
        folder = Path(path)
        if folder.is_dir() or packed(folder) is not None:
            continue
        if scene.runs.is_dir() and scene.runs in folder.parents:
            yield Finding(
                "label without files",
                f"label {key}",
                f"there is no {folder}",
                "nothing to do, unless you want to restore the engine's files from a backup",
                note=True,
            )
        else:
            elsewhere += 1
    if elsewhere:
        of = "one label" if elsewhere == 1 else f"{elsewhere} labels"
        what = f"the files of {of} are not on this machine"
        cure = "if you need them, look on the machines that computed them"
        yield Finding(
            "label without files", scene.campaign or "the database", what, cure, note=True
        )


def without_labels(scene: Scene) -> Iterator[Finding]:
    """Find completed label tasks that have neither a label nor a failure.

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
        kinds = {"$in": [LABEL_TASK, EXPLORE_TASK]}
        done = {"spec.campaign": name, "state": "COMPLETED", "spec._tasks._fw_name": kinds}
        fields = {"name": 1, "fw_id": 1, "spec.round": 1, "spec._tasks": 1}
        by_round: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
        for task in scene.launchpad.fireworks.find(done, fields):
            by_round[task["spec"]["round"]][task["spec"]["_tasks"][0]["slot"]] = task
        campaign = open_campaign(scene.store, name)
        there = _products(scene, campaign)
        for record in scene.store.rounds.all(name):
            tasks = by_round[record.number]
            selected = dict(enumerate(record.selected or []))
            wanted = {slot: selected[slot] for slot in tasks.keys() & selected.keys()}
            # Labels that an earlier round uses as well are not in this count; they are looked up.
            if len(wanted) > there[record.number]:
                for slot, doc_id in wanted.items():
                    candidate = scene.store.candidates.get(doc_id)
                    if candidate is not None:
                        key = label_key(campaign, candidate, relax_in(campaign, record.number))
                        yield from _missing_label(scene, campaign, tasks[slot], key)
        for key, (number, slot) in explored_keys(campaign).items():
            if slot in by_round[number]:
                yield from _missing_label(scene, campaign, by_round[number][slot], key)


def _products(scene: Scene, campaign: Campaign) -> Counter[int]:
    """Count the labels and failures of a campaign by the round that has selected them."""
    uses = scene.store.labels.uses(campaign.name, adopted=False)
    count = Counter(uses[key] for key in scene.store.labels.among(uses))
    failures = scene.store.failures.all(campaign.name)
    others = explored_keys(campaign) if failures else {}
    return count + Counter(one.round for one in failures if one.key not in others)


def _missing_label(
    scene: Scene, campaign: Campaign, firework: dict[str, Any], key: str
) -> Iterator[Finding]:
    number, (task, *_) = firework["spec"]["round"], firework["spec"]["_tasks"]
    workable = scene.store.campaigns.get(campaign.name).state in RESUMABLE
    if scene.store.labels.has(key) or scene.store.failures.get(key) is not None:
        return
    name = "label" if task["_fw_name"] == LABEL_TASK else "explore"
    folder = scene.runs / campaign.name / f"round-{number:03d}" / f"{name}-{task['slot']:03d}"
    here = folder.is_dir() or archive_of(folder).is_file()
    files = "its files are here" if here else "its files are not on this machine"
    yield Finding(
        "files without label" if here else "task without label",
        firework_line(firework),
        f"the task is done, but label {key} is not in the database; {files}",
        "return the task to the queue: it reads the files that are there and computes the rest"
        if workable
        else "restore the database from a backup: the campaign has ended",
        partial(rerun, scene.launchpad, firework["fw_id"], campaign.name, "COMPLETED")
        if workable
        else None,
    )


def waiting_labels(scene: Scene) -> Iterator[Finding]:
    """Find finished labels that wait on this machine's disk for the database.

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
        folder = scene.runs / name / SPOOL
        for path in sorted(folder.glob("*.json")):
            yield Finding(
                "label not delivered",
                f"label {path.stem}",
                f"it is waiting in {path}",
                "deliver it",
                partial(Spool(folder).deliver_all, scene.store.labels),
                watch=GLANCE,
            )
        for path in sorted(folder.glob("*.unreadable")):
            yield Finding(
                "label not delivered",
                f"label {path.stem}",
                f"{path} cannot be read",
                "delete the file once its task is done: the task computes the label again",
                note=True,
            )


def open_attempts(scene: Scene) -> Iterator[Finding]:
    """Find attempts at labels whose process ended without recording how.

    Parameters
    ----------
    scene
        Where to look.

    Yields
    ------
    Finding
        One for each.
    """
    for attempt in scene.store.attempts.open(scene.campaign):
        if not _is_running(scene, attempt):
            what = "metal" if attempt.key.startswith(METAL) else attempt.slot
            task = f"{attempt.campaign}/{attempt.round} label {what}"
            yield Finding(
                "attempt left open",
                f"{task}, attempt {attempt.attempt[:8]}",
                f"process {attempt.pid} on {attempt.hostname} is gone",
                f"close it as '{INTERRUPTED}'",
                partial(
                    scene.store.attempts.finish,
                    attempt.attempt,
                    INTERRUPTED,
                    "its process was gone",
                ),
                watch=GLANCE,
            )


def _is_running(scene: Scene, attempt: AttemptDoc) -> bool:
    """Return whether the process of an attempt may still be running."""
    here = host_of(worker_name())
    if attempt.hostname == here:
        try:
            began = psutil.Process(attempt.pid).create_time()
        except psutil.Error:
            return False
        return bool(began <= attempt.started.timestamp() + 1.0)
    task = {"_fw_name": {"$in": [LABEL_TASK, EXPLORE_TASK]}, "slot": attempt.slot}
    query = {
        "spec.campaign": attempt.campaign,
        "spec.round": attempt.round,
        "state": {"$in": BUSY},
        "spec._tasks": {"$elemMatch": task},
    }
    firework = scene.launchpad.fireworks.find_one(query, {"launches": 1})
    launches = {"launch_id": {"$in": (firework or {}).get("launches", [])}}
    workers = scene.launchpad.launches.distinct("fworker.name", launches)
    return any(name.startswith(f"{attempt.pid}@{attempt.hostname}@") for name in workers)


def given_up(scene: Scene) -> Iterator[Finding]:
    """Find labels that were given up, and why; the rounds continue without them.

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
        for failure in scene.store.failures.all(name):
            yield Finding(
                "label given up",
                f"label {failure.key} of {name}/{failure.round}",
                failure.reason,
                "nothing to do: its campaign continues without it, "
                f"or tries it again with 'al-charge campaign resume {name} --retry'",
                note=True,
            )


def dangling_uses(scene: Scene) -> Iterator[Finding]:
    """Find campaigns that count a label which does not exist.

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
        uses = scene.store.labels.uses(name)
        for key in sorted(uses.keys() - scene.store.labels.among(uses)):
            yield Finding(
                "use of a missing label",
                f"{name}/{uses[key]}",
                f"it uses label {key}, which is not in the database",
                "drop it until the label is computed again",
                partial(scene.store.labels.unlink, name, key),
            )
