"""Tables of jobs and of what their runs have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from al_charge.report.progress import duration

if TYPE_CHECKING:
    from rich.console import Group, RenderableType


def jobs_table(document: dict[str, Any]) -> RenderableType:
    """Return the table of jobs.

    Parameters
    ----------
    document
        What `al_charge.fw.jobs.jobs_document` returns.

    Returns
    -------
    rich renderable
        One row for each job; a line if there is none.
    """
    from rich.table import Table
    from rich.text import Text

    if not document["jobs"]:
        return Text("no jobs to list")
    table = Table("task", "state", "label", "host")
    for heading in ("time", "runs"):
        table.add_column(heading, justify="right")
    table.add_column("why it failed")
    # FireWorks numbers the tasks of a workflow from its end.
    for job in sorted(reversed(document["jobs"]), key=lambda one: int(one["round"])):
        cells = [
            job["task"],
            job["state"].lower(),
            (job["label"] or "")[:8],
            job["host"] or "",
            "" if job["seconds"] is None else duration(job["seconds"]),
            str(job["number_of_runs"] or ""),
            job["reason"],
        ]
        table.add_row(*(Text(cell, style="red" if job["reason"] else "") for cell in cells))
    return table


def logs_text(document: dict[str, Any]) -> Group:
    """Return what the runs of a job have left, to be read.

    Parameters
    ----------
    document
        What `al_charge.fw.jobs.logs_document` returns.

    Returns
    -------
    Group
        Runs, starts, the traceback of a failure, and the ends of the engine's logs.
    """
    from rich.console import Group
    from rich.text import Text

    lines = [Text(f"{document['task']}: {document['state'].lower()}", style="bold")]
    if document["reason"]:
        lines.append(Text(document["reason"], style="red"))
    for run in document["runs"]:
        job = f", {run['job']}" if run["job"] else ""
        cores = f"{run['cores']} core{'s' * (run['cores'] != 1)}"
        told = f"run on {run['host']}{job}, {cores}: {_span(run, 'ended')}"
        lines.append(Text(f"{told}{_outcome(run)}"))
    for one in document["attempts"]:
        told = f"start of the engine on {one['host']}: {_span(one, 'finished')}"
        lines.append(Text(f"{told}{_outcome(one)}"))
    if document["traceback"]:
        lines.append(Text(document["traceback"].rstrip()))
    if document["folder"]:
        lines.append(Text(f"files: {document['folder']}"))
    for name, end in document["logs"].items():
        lines += [Text(f"--- the end of {name}", style="bold"), Text(end)]
    return Group(*lines)


def _span(of: dict[str, Any], end: str) -> str:
    return f"{of['started']} to {of[end] or 'now'}"


def _outcome(of: dict[str, Any]) -> str:
    told = f", {of['outcome']}" if of["outcome"] else ""
    return f"{told}: {of['reason']}" if of["reason"] else told
