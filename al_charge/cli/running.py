"""Run a campaign on this machine, and watch it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from al_charge.cli.progress import on_terminal
from al_charge.cli.target import Target, runs_folder
from al_charge.errors import AlChargeError
from al_charge.logs import LogSettings, details

if TYPE_CHECKING:
    from rich.panel import Panel

    from al_charge.store.documents import CampaignDoc

Status = tuple[dict[str, Any], dict[int, dict[str, tuple[int, int]]]]
"""A campaign's status document, and its `count_tasks`."""

_COUNTED = {
    "propose": "proposals",
    "label": "label tasks",
    "explore": "runs in other spin states and magnetic orders",
    "train": "potentials",
}
"""Tasks that a round has several of, and what they make."""

_log = logging.getLogger("al_charge.cli.progress")


def run_here(target: Target, processes: int, runs: Path | None = None) -> None:
    """Run a campaign with worker processes of this machine and watch it until it ends.

    Parameters
    ----------
    target
        The campaign.
    processes
        Number of worker processes.
    runs
        Folder for the files of jobs; the default one if None.

    Raises
    ------
    AlChargeError
        If every worker ended while the campaign was still running, or a task failed for good.
    """
    from al_charge.fw.pool import WorkerPool
    from al_charge.fw.tasks import CATEGORIES

    with WorkerPool(
        target.database,
        target.name,
        runs or runs_folder(),
        processes=processes,
        categories=CATEGORIES,
        logs=_quieter_logs(),
    ) as pool:
        follow(target, 1.0, pool.tend, starting=processes)
    document = target.store().campaigns.get(target.name)
    refuse_failed(document)
    if document.state.value == "running":
        raise AlChargeError(
            "every worker ended before the campaign did",
            where=target.name,
            remedy=f"run 'al-charge campaign resume {target.name}'",
        )


def log_settings() -> LogSettings:
    """Return the log settings of the command that runs.

    Returns
    -------
    LogSettings
        Those of the options --log-level and --log-format.
    """
    settings: LogSettings = click.get_current_context().find_object(LogSettings) or LogSettings()
    return settings


def _quieter_logs() -> LogSettings:
    """Return the log settings of workers whose campaign is being watched.

    Unless --log-level is given they do not log the start and end of tasks, which the display shows.
    """
    root = click.get_current_context().find_root()
    settings = log_settings()
    asked = root.get_parameter_source("log_level") is not ParameterSource.DEFAULT
    return settings if asked else replace(settings, level="warning")


def refuse_failed(document: CampaignDoc) -> None:
    """Raise the error that stopped a campaign, if there is one.

    Parameters
    ----------
    document
        The campaign's document.

    Raises
    ------
    AlChargeError
        If its state is ``failed``.
    """
    if document.state.value == "failed":
        raise AlChargeError(
            document.reason,
            where=f"campaign '{document.name}'",
            remedy=f"remove the cause, then 'al-charge campaign resume {document.name}'; or submit "
            "a corrected file under another name",
        )


def follow(
    target: Target,
    interval: float,
    go_on: Callable[[], bool] = lambda: True,
    told: Callable[[dict[str, Any]], None] = lambda _: None,
    *,
    starting: int = 0,
) -> None:
    """Show the progress of a campaign on standard error until it ends or pauses.

    A terminal has a panel, a log one line for each event. An unreachable database is waited for.

    Parameters
    ----------
    target
        The campaign.
    interval
        Time between updates, s.
    go_on
        Called between updates; False ends it.
    told
        Called with the status at each update.
    starting
        Number of workers that this process starts.
    """
    from al_charge.fw.status import status_document
    from al_charge.fw.task_run import OUTAGE
    from al_charge.fw.worker import PATIENCE

    launchpad, campaign = target.launchpad(), target.campaign()
    with _panel(target, starting) if on_terminal() else _lines(target) as show:
        document = status_document(launchpad, campaign)
        show(document)
        told(document)
        answered = time.monotonic()
        while document["state"] == "running" and go_on():
            time.sleep(interval)
            try:
                document = status_document(launchpad, campaign)
                show(document)
                told(document)
            except OUTAGE:
                if time.monotonic() - answered > PATIENCE:
                    raise
                continue
            answered = time.monotonic()


def follow_and_notify(target: Target, interval: float, kinds: Collection[str]) -> None:
    """Follow a campaign, and send a message when it ends, fails, or nothing goes on.

    Parameters
    ----------
    target
        The campaign.
    interval
        Time between updates, s.
    kinds
        Ways to send: ``mail``, ``webhook``.

    Raises
    ------
    InputError
        If a way has no settings.
    """
    from al_charge.fw.status import blocking_failure
    from al_charge.report.messengers import Outbox, senders
    from al_charge.report.notices import Observer, notice

    outbox, observer = Outbox(senders(kinds)), Observer(time.monotonic)
    launchpad = target.launchpad()

    def told(document: dict[str, Any]) -> None:
        stuck = blocking_failure(launchpad, target.name) if document["state"] == "running" else None
        outbox.add(list(observer.look(document, stuck)))

    try:
        follow(target, interval, told=told)
    except Exception as error:
        why = f"'al-charge campaign watch' has ended: {type(error).__name__}"
        outbox.add([notice("unwatched", target.name, "unknown", why)])
        outbox.close()
        raise
    outbox.close()


@contextmanager
def _panel(target: Target, starting: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Draw a panel; call what is yielded with a status document to update it."""
    from rich.console import Console
    from rich.live import Live

    from al_charge.fw.tasks import count_tasks
    from al_charge.report.progress import status_panel

    launchpad = target.launchpad()

    def drawn(document: dict[str, Any]) -> Panel:
        counts = count_tasks(launchpad, target.name).get(document["round"], {})
        return status_panel(document, counts, starting=starting)

    with Live(console=Console(stderr=True), refresh_per_second=2) as live:
        yield lambda document: live.update(drawn(document))


@contextmanager
def _lines(target: Target) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Log what has changed; call what is yielded with a status document."""
    from al_charge.fw.tasks import count_tasks

    launchpad = target.launchpad()
    before: Status | None = None

    def show(document: dict[str, Any]) -> None:
        nonlocal before
        now = document, count_tasks(launchpad, target.name)
        for line, fields in events(before, now):
            extra = details(event="progress", campaign=target.name, **fields)
            _log.info("%s", line, extra=extra)
        before = now

    yield show


def events(before: Status | None, now: Status) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find what has happened to a campaign between two updates.

    Parameters
    ----------
    before
        Status document and task counts of the previous update; None for the first one, which
        reports no earlier round.
    now
        The same of this update.

    Yields
    ------
    str, dict
        One line of text, and the fields of its JSON form.
    """
    document, counts = now
    old_document, old_counts = before or ({}, {})
    current = document["round"] if before is None else 0
    assessed = {row["round"] for row in (old_document or document)["rounds"] if _is_assessed(row)}
    rows = {row["round"]: row for row in document["rounds"]}
    for number in sorted(counts):
        for kind, (done, total) in counts[number].items():
            old = old_counts.get(number, {}).get(kind, (0, total))[0]
            if kind in _COUNTED and done > old and number >= (current or 0):
                fields = {"round": number, "what": kind, "done": done, "total": total}
                yield f"round {number}: {done} of {total} {_COUNTED[kind]}", fields
        row = rows.get(number)
        if row is not None and _is_assessed(row) and number not in assessed:
            fields = {"round": number, "what": "assess"}
            yield f"round {number} assessed: {_assessment(row, document)}", fields | row
    if document["state"] != old_document.get("state", "running"):
        reason = f": {document['reason']}" if document["reason"] else ""
        yield (
            f"campaign '{document['campaign']}' is {document['state']}{reason}",
            {
                "what": "state",
                "state": document["state"],
                "reason": document["reason"],
            },
        )


def _is_assessed(row: dict[str, Any]) -> bool:
    return row["labels"] is not None


def _assessment(row: dict[str, Any], document: dict[str, Any]) -> str:
    """Return what an assessment found, in a few words."""
    parts = [f"{row['labels']} labels"]
    if row["hull_shift"] is not None:
        parts.append(f"hull moved {1e3 * row['hull_shift']:.1f} meV/f.u.")
    if row["verification"]:
        parts.append(f"hull {document['verification']['outcome']}")
    else:
        parts.append(f"{row['criteria_met']} of {len(document['criteria'])} criteria hold")
    return ", ".join(parts)
