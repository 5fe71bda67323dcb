"""The doctor: find what crashes and outages have left behind, and mend it while workers run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain
from time import sleep

from al_charge.errors import AlChargeError
from al_charge.fw.doctor import files, integrity, labels, runs, workers, workflows
from al_charge.fw.doctor.finding import Finding, Scene
from al_charge.fw.task_run import OUTAGE

__all__ = ["CHECKS", "REPAIRS", "Check", "Finding", "Scene", "look", "mend"]

Check = Callable[[Scene], Iterable[Finding]]

REPAIRS: tuple[Check, ...] = (
    workers.silent_workers,
    workers.locks,
    workflows.locked,
    runs.lost_runs,
    runs.reservations,
    runs.ended_runs,
    workflows.orphans,
    workflows.incomplete,
    workflows.doubled,
    workflows.half_written,
    runs.failed_tasks,
    workflows.missing_rounds,
    workers.open_entries,
    labels.open_attempts,
)
"""What keeps a campaign from continuing; `al-charge campaign resume` mends these."""

CHECKS: tuple[Check, ...] = (
    workers.own_clock,
    workers.workers,
    integrity.missing_files,
    integrity.damaged,
    *REPAIRS,
    workflows.stopped_campaigns,
    runs.restarting_tasks,
    workers.unattended,
    workflows.foreign_tasks,
    runs.stray_launches,
    labels.waiting_labels,
    labels.dangling_uses,
    labels.without_labels,
    integrity.without_models,
    labels.given_up,
    labels.without_files,
    files.leftover_files,
)
"""Everything that the doctor looks for, in the order in which it is mended."""

MOST_LOOKS = 6
"""Times that `mend` looks again: a cure may bring to light what a finding had hidden."""

Waiting = Callable[[float], AbstractContextManager[object]]


def look(
    scene: Scene, checks: Sequence[Check] = CHECKS, waiting: Waiting = lambda _: nullcontext()
) -> list[Finding]:
    """Return what is found, without changing anything.

    What may be a worker between two writes is looked at twice.

    Parameters
    ----------
    scene
        Where to look.
    checks
        What to look for.
    waiting
        Called with the length of each pause, s; the context manager that it returns is entered for
        the pause.

    Returns
    -------
    list of Finding
        In the order of the checks.
    """
    schema = list(_findings(scene, workers.schema))
    if schema:
        return schema  # nothing else can be read
    found = {check: list(_findings(scene, check)) for check in checks}
    first = list(chain.from_iterable(found.values()))
    pauses = [finding.watch for finding in first if finding.watch is not None]
    if not pauses:
        return first
    with waiting(max(pauses)):
        sleep(max(pauses))
    before = {finding.identity for finding in first}
    for check in checks:
        if any(finding.watch is not None for finding in found[check]):
            again = _findings(scene, check)
            found[check] = [one for one in again if one.watch is None or one.identity in before]
    return list(chain.from_iterable(found.values()))


def _findings(scene: Scene, check: Check) -> Iterator[Finding]:
    """Yield what a check finds; damaged data that end it are a finding too."""
    try:
        yield from check(scene)
    except OUTAGE:
        raise
    except Exception as error:  # whatever the data may be, the other checks go on
        yield Finding(
            "check not finished",
            f"{check.__module__.rpartition('.')[2]}.{check.__name__}",
            _reason(error),
            "mend what is damaged, and look again; if nothing is, this is a fault of al-charge",
        )


def _reason(error: Exception) -> str:
    """Return an error in one line; FireWorks' have the reason in their last one."""
    lines = str(error).strip().splitlines()
    told = lines[-1] if lines else ""
    told_by_us = isinstance(error, AlChargeError | RuntimeError)
    return told if told_by_us else f"{type(error).__name__}: {told}"


def mend(
    scene: Scene, checks: Sequence[Check] = CHECKS, waiting: Waiting = lambda _: nullcontext()
) -> tuple[list[Finding], list[Finding]]:
    """Mend what can be mended.

    It is safe while workers run, and does nothing if it is repeated.

    Parameters
    ----------
    scene
        Where to look.
    checks
        What to look for.
    waiting
        As of `look`.

    Returns
    -------
    list of Finding
        What was mended.
    list of Finding
        What is left.
    """
    mended: dict[tuple[object, ...], Finding] = {}
    failed: dict[tuple[object, ...], str] = {}
    for _ in range(MOST_LOOKS):
        found = look(scene, checks, waiting)
        # What comes back in spite of its cure is left to a person.
        due = [one for one in found if one.fix is not None and one.identity not in mended]
        if not due:
            break
        for finding in due:
            assert finding.fix is not None
            mended[finding.identity] = finding
            try:
                finding.fix()
            except OUTAGE:
                raise
            except Exception as error:  # of damaged data; the other cures go on
                failed[finding.identity] = _reason(error)
    for finding in found:
        mended.pop(finding.identity, None)
    return list(mended.values()), [_with_failure(one, failed) for one in found]


def _with_failure(finding: Finding, failed: Mapping[tuple[object, ...], str]) -> Finding:
    """Return a finding that says why its cure failed, if it did."""
    if finding.identity not in failed:
        return finding
    return replace(finding, what=f"{finding.what}; the cure failed: {failed[finding.identity]}")
