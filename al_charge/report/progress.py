"""The live view of a running campaign, drawn from its status document."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from al_charge.report.terminal import Unbroken

LIKELY = 0.05
"""Probability from which a lower state is told of."""
Counts = Mapping[str, tuple[int, int]]
"""By kind of task, how many are done, and how many there are."""
_COUNTED = ("propose", "label", "explore")
"""Tasks that a round has several of, in their order; trainings have bars of their own."""
_COLOURS = {"converged": "green", "running": "cyan", "paused": "yellow", "sampled": "yellow"}


def status_panel(
    status: dict[str, Any], counts: Counts | None = None, *, starting: int = 0
) -> Panel:
    """Return the panel of a campaign: tasks, rounds, criteria and the time left.

    Parameters
    ----------
    status
        What ``al-charge campaign status --json`` prints.
    counts
        Tasks of the round under way, for bars.
    starting
        Number of workers that this process starts, and that may not have written yet.

    Returns
    -------
    Panel
        To print with a `rich.console.Console`.
    """
    colour = _COLOURS.get(status["state"], "red")
    return Panel(
        Group(
            Unbroken(_summary(status, starting)),
            _progress_bars(_under_way(counts or {}) | status["progress"]),
            _rounds_table(status["rounds"]),
            _criteria_table(status),
            *map(Unbroken, _knowledge(status["rounds"])),
        ),
        title=f"campaign {status['campaign']}: [{colour}]{status['state']}[/]",
    )


def _under_way(counts: Counts) -> dict[str, list[int]]:
    """Return the first kind of task of which some are left to do."""
    left = (kind for kind in _COUNTED if kind in counts and counts[kind][0] < counts[kind][1])
    return {kind: [*counts[kind]] for kind in islice(left, 1)}


def _summary(status: dict[str, Any], starting: int) -> Text:
    tasks = ", ".join(f"{n} {state.lower()}" for state, n in status["tasks"].items())
    text = Text(f"labels {status['labels_used']} of at most {status['max_labels']}")
    text.append(f"   tasks: {tasks or 'none'}")
    if status["reason"]:
        text.append(f"\n{status['reason']}", style=_COLOURS.get(status["state"], "red"))
    if status["state"] == "running" and status["seconds_left"] is not None:
        text.append(
            f"   about {duration(status['seconds_left'])} left if every criterion keeps holding"
        )
    if status["state"] == "running":
        text.append_text(_workers(status, starting))
    if used := status["used"]:
        text.append(f"\n{_used(used)}")
    if files := status.get("files"):
        text.append(f"\n{_files(files)}", style="dim")
    for one in status["restarting"]:
        often = f"{one['task']}: returned to the queue {one['restarts']} times without progress"
        text.append(f"\n{often}: {one['reason']}", style="yellow")
    if remark := status.get("labeler_remark"):
        text.append(f"\n{remark}", style="magenta")
    if (verification := status["verification"]) is not None:
        style = "green" if verification["verified"] else "yellow"
        text.append(f"\nhull: {verification['outcome']}", style=style)
    for one in status["electrons"]:
        count = len(one["left_out"])
        are = "state is" if count == 1 else "states are"
        left = f"; {count} other {are} not run" if count else ""
        text.append(f"\nx = {one['x']}: {one['outcome']}{left}")
    if (orders := status["charge_orders"]) is not None and orders["flagged"]:
        line = (
            f"{orders['flagged']} of {orders['compared']} candidates of round {orders['round']}: "
            "the committee disagrees with their charge order"
        )
        text.append(f"\n{line}", style="yellow")
    if number := status["delocalised"]:
        what, teach = ("label is", "teaches") if number == 1 else ("labels are", "teach")
        text.append(f"\n{number} {what} delocalised: on the hull, and {teach} no charge order")
    for kind, style in (("ambiguous", "yellow"), ("unusable", "yellow"), ("failures", "red")):
        if status[kind]:
            text.append(f"\n{_troubled(kind, status)}", style=style)
    return text


def _used(used: dict[str, dict[str, float]]) -> str:
    """Return what was used, in one line."""
    workers = used.get("workers")
    kinds = ", ".join(
        f"{kind} {duration(of['seconds'])} ({counted(of['runs'], 'run')})"
        for kind, of in used.items()
        if kind != "workers"
    )
    parts = [f"time used: {kinds}"] if kinds else []
    if workers is not None:
        cores = core_time(workers["core_seconds"] / 3600)
        parts.append(f"workers {duration(workers['seconds'])}, {cores}")
    return "; ".join(parts)


def _files(files: dict[str, Any]) -> str:
    """Return what lies on this machine, in one line."""
    size = (
        f"{files['bytes'] / 1e9:.1f} GB"
        if files["bytes"] >= 1e9
        else f"{files['bytes'] / 1e6:.1f} MB"
    )
    more = "" if files["complete"] else "more than "
    packed = f", {files['labels_packed']} labels packed" if files["labels_packed"] else ""
    return f"on this machine {more}{files['files']} files, {size}{packed}: {files['folder']}"


def _workers(status: dict[str, Any], starting: int) -> Text:
    """Return where workers live, when they were seen last, and which of them are frozen."""
    workers = status["workers"]
    if not workers:
        begun = any(status["tasks"].get(state) for state in ("COMPLETED", "RUNNING"))
        if starting and not begun:
            return Text(f"\nstarting {starting} {'worker' if starting == 1 else 'workers'}")
        what = "no worker is left" if begun else "there is no worker yet"
        line = f"{what}; start one with 'al-charge worker {status['campaign']}'"
        return Text(f"\n{line}", style="red" if begun else "yellow")
    text = Text("\nworkers: ")
    hosts = sorted({one["host"] for one in workers})
    for number, host in enumerate(hosts):
        here = [one for one in workers if one["host"] == host]
        last = min(one["seconds_silent"] for one in here)
        text.append(", " if number else "")
        text.append(f"{len(here)} on {host}, seen {duration(last)} ago")
    for one in workers:
        if one["silent"]:
            state = f", state {one['state']}" if one["state"] else ""
            line = f"{one['worker']}: alive, silent for {duration(one['seconds_silent'])}{state}"
            text.append(f"\n{line}", style="red")
    return text


def _troubled(kind: str, status: dict[str, Any]) -> str:
    """Return one line about the labels that were given up, or are on no hull."""
    labels = status[kind]
    what = "given up" if kind == "failures" else kind
    line = f"{len(labels)} {'label' if len(labels) == 1 else 'labels'} {what}"
    last = labels[-1]
    where = f" at x = {last['x']}" if "x" in last else ""
    see = f"'al-charge labels {status['campaign']}' lists them"
    return f"{line}, the last {last['label'][:8]}{where}: {last['reason']}; {see}"


def _progress_bars(progress: dict[str, list[int]]) -> Table:
    bars = Table.grid(padding=(0, 1))
    for task, (done, total) in sorted(progress.items()):
        if done < total:
            bars.add_row(task, ProgressBar(total, done, width=30), f"{done} of {total}")
    return bars


def _rounds_table(rounds: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for heading in ("round", "labels", "hull moved", "below hull"):
        table.add_column(heading, no_wrap=True)
    table.add_column("vertices at x")
    for heading in ("criteria", "time"):
        table.add_column(heading, no_wrap=True)
    for row in rounds:
        shift = row["hull_shift"]
        table.add_row(
            str(row["round"]),
            _labels_of(row),
            f"{1000 * shift:.2f} meV/f.u." if shift is not None else "",
            _percent(row["p_below_hull"]) if row["p_below_hull"] is not None else "",
            " ".join(row["vertices"]),
            _criteria_met(row),
            duration(sum(row["stage_seconds"].values())),
        )
    return table


def _labels_of(row: dict[str, Any]) -> str:
    """Return the labels after a round; of one that is not assessed, those that it adds."""
    if row["labels"] is not None:
        return str(row["labels"])
    return f"+{row['selected']}" if row["selected"] else ""


def _knowledge(rounds: list[dict[str, Any]]) -> list[Text]:
    """Return what the last round with predictions says of lower states and of its error bars."""
    known = [row for row in rounds if row["compositions"]]
    if not known:
        return []
    last, told = known[-1], []
    lower = [
        f"{one['x']} ({_percent(one['p_lower'])})"
        for one in last["compositions"]
        if one["p_lower"] >= LIKELY
    ]
    if lower:
        told.append(Text(f"states below the lowest label may exist at x = {', '.join(lower)}"))
    coverage = last["coverage"]
    if coverage is not None and coverage["labels"]:
        within = ", ".join(
            f"{_percent(coverage[f'within_{share}'])} of {coverage['labels']} within {share} %"
            for share in (68, 95)
        )
        told.append(Text(f"error bars held in round {last['round']}: {within}", style="dim"))
    return told


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def _criteria_met(row: dict[str, Any]) -> str:
    if row["verification"]:
        return "verification"
    return f"{row['criteria_met']} of 4" if row["vertices"] else ""


def _criteria_table(status: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 1))
    for criterion in status["criteria"]:
        mark = Text("yes", style="green") if criterion["met"] else Text("no", style="yellow")
        table.add_row(mark, criterion["name"], Unbroken(Text(criterion["value"], style="dim")))
    if status["criteria"]:
        needed = status["rounds_needed"]
        rounds = f"round{'s' * (needed != 1)}"
        table.add_row("", f"held for {status['rounds_held']} of {needed} {rounds}")
    return table


def core_unit(hours: float) -> tuple[str, float]:
    """Return the unit in which people read a core time.

    Parameters
    ----------
    hours
        Core hours, the most that is told in this unit.

    Returns
    -------
    tuple
        Name of the unit, and how many of it are a core hour.
    """
    units = (("core hours", 1.0), ("core minutes", 60.0))
    return next((one for one in units if hours * one[1] >= 1), ("core seconds", 3600.0))


def counted(number: float, what: str) -> str:
    """Return a number of things in words.

    Parameters
    ----------
    number
        How many.
    what
        Such as ``run``.

    Returns
    -------
    str
        Such as ``1 run`` or ``2 runs``.
    """
    return f"{number:.0f} {what}{'s' * (number != 1)}"


def core_time(hours: float, most: float | None = None) -> str:
    """Return a core time, or a range of it, as people read it.

    Parameters
    ----------
    hours
        Core hours.
    most
        Core hours at the other end of the range; None for no range.

    Returns
    -------
    str
        Such as ``2.5 core minutes`` or ``3 to 11 core hours``.
    """
    unit, factor = core_unit(hours if most is None else most)
    told = dict.fromkeys(amount(factor * one) for one in (hours, most) if one is not None)
    return f"{' to '.join(told)} {unit.removesuffix('s') if [*told] == ['1'] else unit}"


def amount(value: float) -> str:
    """Return a quantity to three digits, without an exponent.

    Parameters
    ----------
    value
        At least 0.

    Returns
    -------
    str
        ``0`` for less than 0.0005.
    """
    if value < 0.0005:
        return "0"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a time as people read it.

    Parameters
    ----------
    seconds
        s.

    Returns
    -------
    str
        Such as ``12 min``.
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
