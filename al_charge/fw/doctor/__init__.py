"""The doctor: find what crashes and outages have left behind, and mend it while workers run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import sleep

from al_charge.errors import AlChargeError
from al_charge.fw.doctor import files, labels, runs, workers, workflows
from al_charge.fw.doctor.finding import Finding, Scene

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
)
"""What keeps a campaign from continuing; `al-charge campaign resume` mends these."""

CHECKS: tuple[Check, ...] = (
    workers.own_clock,
    workers.workers,
    *REPAIRS,
    workflows.stopped_campaigns,
    runs.restarting_tasks,
    workers.unattended,
    workflows.foreign_tasks,
    runs.stray_launches,
    labels.waiting_labels,
    labels.dangling_uses,
    labels.without_labels,
    labels.open_attempts,
    labels.given_up,
    labels.without_files,
    files.missing_files,
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
    schema = list(workers.schema(scene))
    if schema:
        return schema  # nothing else can be read
    first = list(_findings(scene, checks))
    pauses = [finding.watch for finding in first if finding.watch is not None]
    if not pauses:
        return first
    with waiting(max(pauses)):
        sleep(max(pauses))
    before = {finding.identity for finding in first}
    return [
        finding
        for finding in _findings(scene, checks)
        if finding.watch is None or finding.identity in before
    ]


def _findings(scene: Scene, checks: Sequence[Check]) -> Iterator[Finding]:
    for check in checks:
        yield from check(scene)


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
            except (AlChargeError, RuntimeError, ValueError) as error:
                # FireWorks' errors about unreadable documents have the reason in their last line.
                failed[finding.identity] = str(error).strip().splitlines()[-1]
    for finding in found:
        mended.pop(finding.identity, None)
    return list(mended.values()), [_with_failure(one, failed) for one in found]


def _with_failure(finding: Finding, failed: Mapping[tuple[object, ...], str]) -> Finding:
    """Return a finding that says why its cure failed, if it did."""
    if finding.identity not in failed:
        return finding
    return replace(finding, what=f"{finding.what}; the cure failed: {failed[finding.identity]}")
