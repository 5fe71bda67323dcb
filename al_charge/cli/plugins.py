"""`al-charge plugins`: engines, potentials, acquisition rules and search methods."""

from __future__ import annotations

from typing import Any

import click

from al_charge.cli.output import json_option, show


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """List labelers, potentials, acquisition rules and search methods, and what each lacks here.

    Your own packages can add to them by entry points (docs/extending.md).
    """
    document = plugins_document()
    show({"plugins": document}, as_json, lambda: _table(document))


def plugins_document() -> list[dict[str, Any]]:
    """Return every plug-in, those that do not load included.

    Returns
    -------
    list of dict
        ``sort``, ``kind``, ``title``, ``summary``, ``package``, ``gives``, ``install``, and
        ``unusable``, which is empty where it can be used.
    """
    from al_charge.acquisition.plugin import ACQUISITIONS
    from al_charge.labelers.plugin import LABELERS
    from al_charge.potentials.plugin import POTENTIALS
    from al_charge.search.plugin import SEARCHES

    groups: tuple[Any, ...] = (LABELERS, POTENTIALS, SEARCHES, ACQUISITIONS)
    return [
        {
            "sort": group.noun,
            "kind": kind,
            "title": one.plugin.title if one.plugin else "",
            "summary": one.plugin.summary if one.plugin else "",
            "package": one.source,
            "gives": sorted(one.plugin.gives) if one.plugin else [],
            "install": one.plugin.install if one.plugin else "",
            "unusable": one.plugin.missing() if one.plugin else f"does not load: {one.broken}",
        }
        for group in groups
        for kind, one in sorted(group.found.items())
    ]


def _table(document: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", "", box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in document:
        about = [row["summary"]] if row["summary"] else []
        if row["unusable"]:
            about.append(f"unusable here: {row['unusable']}")
            about += [f"install: {row['install']}"] if row["install"] else []
        style = "yellow" if row["unusable"] else ""
        cells = (f"{row['sort']} {row['kind']}", row["package"], "\n".join(about))
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table
