"""Tables for the terminal, drawn from the documents that ``--json`` prints."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import Any

from rich.table import Table
from rich.text import Text


def hull_table(document: dict[str, Any]) -> Table:
    """Return the table of a hull: the lowest label of each composition, vertices in bold.

    Parameters
    ----------
    document
        What `al_charge.report.documents.hull_document` returns.

    Returns
    -------
    Table
        One row for each composition; energies in meV per formula unit.
    """
    by_x: dict[Fraction, list[dict[str, Any]]] = defaultdict(list)
    for entry in document["entries"]:
        by_x[Fraction(entry["x"])].append(entry)
    vertices = {entry["x"]: entry for entry in document["vertices"]}
    table = Table(
        title=_title(document, "hull"),
        caption=_verdict(document)
        + f"{len(document['entries'])} labelled configurations; --json lists them all. Energies in "
        "meV per formula unit, error bars one standard deviation of the committee.",
    )
    table.add_column("x")
    table.add_column("formula")
    for heading in ("formation energy", "above hull", "labelled"):
        table.add_column(heading, justify="right")
    table.add_column("configuration")
    for x in sorted(by_x):
        lowest = vertices.get(str(x), by_x[x][0])
        table.add_row(*_hull_row(lowest, len(by_x[x]), is_vertex=str(x) in vertices))
    return table


def voltage_table(document: dict[str, Any]) -> Table:
    """Return the table of a voltage profile.

    Parameters
    ----------
    document
        What `al_charge.report.documents.voltage_document` returns.

    Returns
    -------
    Table
        One row for each plateau, in V; the mean below.
    """
    table = Table(
        title=_title(document, "voltage"),
        caption="Error bars: one standard deviation of the committee.",
        show_footer=True,
    )
    mean = _with_bar(document["mean_voltage"], document["mean_error_bar"], 3)
    table.add_column("from x", footer="mean")
    table.add_column("to x")
    table.add_column(f"V against {document['working_ion']} metal", justify="right", footer=mean)
    for step in document["steps"]:
        voltage = _with_bar(step["voltage"], step["error_bar"], 3)
        table.add_row(step["x_from"], step["x_to"], voltage)
    return table


def _verdict(document: dict[str, Any]) -> str:
    """Return the first sentence of the caption of a verified hull; empty for others."""
    if not document["verified"]:
        return ""
    return "Verified: the labeler relaxed the vertices and their competitors. "


def _title(document: dict[str, Any], what: str) -> Text:
    return Text(f"{document['formula']} {what}, labeler: {document['labeler']}")


def _hull_row(entry: dict[str, Any], labels: int, *, is_vertex: bool) -> list[Text]:
    bar = entry["error_bar"]
    formation = _with_bar(
        1e3 * entry["formation_energy"], 1e3 * bar if bar is not None else None, 1
    )
    above = "vertex" if is_vertex else f"{1e3 * entry['distance_to_hull']:.1f}"
    style = "bold" if is_vertex else "dim"
    texts = (entry["x"], entry["formula"], formation, above, str(labels), entry["hash"][:12])
    return [Text(text, style=style) for text in texts]


def _with_bar(value: float, bar: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if bar is None else f"{value:.{digits}f} ± {bar:.{digits}f}"
