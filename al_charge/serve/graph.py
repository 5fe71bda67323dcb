"""The workflow of a round as a graph: jobs that wait for the same jobs are drawn together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from al_charge.fw.jobs import Job

ROWS = 12
"""Jobs of a group above each other."""
NAMED = 12
"""With more jobs, a group has no room for their names."""
CELL = 16.0
WIDTH = 104.0
GAP = 6.0
HEADING = 20.0
BETWEEN = 64.0
"""Sizes in pixels: a job without its name, one with it, around them, a heading, between groups."""


@dataclass(frozen=True)
class Node:
    """A job, drawn: upper left corner, width, and its name where there is room."""

    job: Job
    x: float
    y: float
    width: float
    name: str


@dataclass(frozen=True)
class Group:
    """Jobs of one kind that wait for the same jobs.

    Attributes
    ----------
    heading
        What they do, and how many of them have done it.
    x, y, width, height
        Its frame.
    nodes
        The jobs.
    """

    heading: str
    x: float
    y: float
    width: float
    height: float
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Graph:
    """A drawn workflow.

    Attributes
    ----------
    width, height
        Of the whole picture.
    groups
        From left to right.
    arrows
        SVG paths from groups to those that wait for them.
    text
        The same in words.
    """

    width: float
    height: float
    groups: tuple[Group, ...]
    arrows: tuple[str, ...]
    text: str


def draw(jobs: Sequence[Job], links: Mapping[int, tuple[int, ...]]) -> Graph:
    """Draw the jobs of a round from left to right.

    Parameters
    ----------
    jobs
        The jobs.
    links
        By the ``fw_id`` of each job, those that wait for it.

    Returns
    -------
    Graph
        Empty without jobs.
    """
    known = {job.fw_id: job for job in jobs}
    before: dict[int, set[int]] = {fw_id: set() for fw_id in known}
    for parent, children in links.items():
        for child in children:
            if parent in known and child in known:
                before[child].add(parent)
    members: dict[tuple[str, frozenset[int]], list[Job]] = {}
    for job in jobs:
        members.setdefault((_kind(job), frozenset(before[job.fw_id])), []).append(job)
    home = {job.fw_id: key for key, some in members.items() for job in some}
    parents = {key: {home[one] for one in key[1]} for key in members}
    columns = _columns(parents)
    groups: dict[tuple[str, frozenset[int]], Group] = {}
    x = GAP
    for _, keys in groupby(sorted(members, key=columns.__getitem__), key=columns.__getitem__):
        y = GAP
        placed = []
        for key in keys:
            groups[key] = _group(key[0], members[key], x, y)
            placed.append(groups[key])
            y += groups[key].height + 2 * GAP
        x += max(one.width for one in placed) + BETWEEN
    arrows = [
        _arrow(groups[parent], groups[key])
        for key in groups
        for parent in sorted(parents[key], key=columns.__getitem__)
    ]
    return Graph(
        width=max((one.x + one.width for one in groups.values()), default=0.0) + GAP,
        height=max((one.y + one.height for one in groups.values()), default=0.0) + GAP,
        groups=tuple(groups.values()),
        arrows=tuple(arrows),
        text="; then ".join(one.heading for one in groups.values()),
    )


def _kind(job: Job) -> str:
    return job.task.partition("/")[2].partition(" ")[0]


def _columns(
    parents: Mapping[tuple[str, frozenset[int]], set[tuple[str, frozenset[int]]]],
) -> dict[tuple[str, frozenset[int]], int]:
    """Return the column of each group: one more than the last of those that it waits for."""
    columns: dict[tuple[str, frozenset[int]], int] = {}
    while len(columns) < len(parents):
        before = len(columns)
        for key, some in parents.items():
            if key not in columns and some <= columns.keys():
                columns[key] = 1 + max((columns[one] for one in some), default=-1)
        if len(columns) == before:  # a circle, which FireWorks would never run
            columns |= {key: before for key in parents.keys() - columns.keys()}
    return columns


def _group(kind: str, jobs: Sequence[Job], x: float, y: float) -> Group:
    named = len(jobs) <= NAMED
    step = WIDTH if named else CELL
    rows = min(len(jobs), ROWS)
    many = -(-len(jobs) // ROWS)
    heading = f"{kind}: {_states(jobs)}"
    nodes = tuple(
        Node(
            job,
            x=x + GAP + (i // ROWS) * (step + GAP / 2),
            y=y + HEADING + GAP + (i % ROWS) * (CELL + GAP / 2),
            width=step,
            name=job.task.partition("/")[2] if named else "",
        )
        for i, job in enumerate(jobs)
    )
    return Group(
        heading=heading,
        x=x,
        y=y,
        width=max(2 * GAP + many * (step + GAP / 2) - GAP / 2, 7.4 * len(heading) + 2 * GAP),
        height=HEADING + 2 * GAP + rows * (CELL + GAP / 2) - GAP / 2,
        nodes=nodes,
    )


def _states(jobs: Sequence[Job]) -> str:
    counted = Counter(job.state.lower() for job in jobs)
    return ", ".join(f"{number} {state}" for state, number in sorted(counted.items()))


def _arrow(start: Group, end: Group) -> str:
    x0, y0 = start.x + start.width, start.y + start.height / 2
    x1, y1 = end.x, end.y + end.height / 2
    bend = max(BETWEEN / 2, (x1 - x0) / 2)
    return f"M{x0:.1f} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
