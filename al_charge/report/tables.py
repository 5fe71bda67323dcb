"""Tables for the terminal, drawn from the documents that ``--json`` prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rich.table import Table
from rich.text import Text

from al_charge.report.progress import core_unit


def hull_table(document: dict[str, Any], labelled: Mapping[str, int] | None = None) -> Table:
    """Return the table of a hull: the lowest label of each composition, vertices in bold.

    Parameters
    ----------
    document
        What `al_charge.report.documents.hull_document` returns.
    labelled
        Number of labelled configurations by composition; None if ``document`` lists all.

    Returns
    -------
    Table
        One row for each composition; energies in meV per formula unit.
    """
    labelled = labelled or Counter(entry["x"] for entry in document["entries"])
    lowest = {entry["x"]: entry for entry in reversed(document["entries"])}
    vertices = {entry["x"]: entry for entry in document["vertices"]}
    magnetic = any(one.get("magnetic_correction") is not None for one in document["vertices"])
    table = Table(
        title=_title(document, "hull"),
        caption=_remark(document)
        + _verdict(document)
        + "".join(f"{line} " for line in undecided_lines(document))
        + _below(document)
        + f"{sum(labelled.values())} labelled configurations; --json lists them all. Energies in "
        "meV per formula unit."
        + (
            " 'other order': by how much another magnetic order is lower; 'corrected': each in its "
            "lowest order."
            if magnetic
            else ""
        ),
    )
    table.add_column("x")
    table.add_column("formula")
    headings = ("other order", "corrected") if magnetic else ()
    for heading in ("formation energy", "above hull", *headings, "labelled"):
        table.add_column(heading, justify="right")
    forecasts = {one["x"]: one for one in document["compositions"] if document["band"]}
    if forecasts:
        table.add_column("lower state", justify="right")
    table.add_column("label")
    for x in sorted(labelled, key=Fraction):
        row = _hull_row(
            vertices.get(x, lowest[x]),
            labelled[x],
            forecasts.get(x),
            is_vertex=x in vertices,
            magnetic=magnetic,
        )
        table.add_row(*row)
    return table


def predicted_table(document: dict[str, Any]) -> Table:
    """Return the table of what is predicted: the lowest of each composition.

    Parameters
    ----------
    document
        What `al_charge.report.documents.hull_document` returns, with ``predicted``.

    Returns
    -------
    Table
        One row for each composition; energies in meV per formula unit.
    """
    by_x: dict[Fraction, list[dict[str, Any]]] = defaultdict(list)
    for entry in document["predicted"]:
        by_x[Fraction(entry["x"])].append(entry)
    table = Table(
        title=Text(f"predicted, not labelled: {len(document['predicted'])}"),
        caption="The lowest of each composition, meV per formula unit; --json and --csv list all.",
    )
    table.add_column("x")
    for heading in ("formation energy", "above hull", "predicted"):
        table.add_column(heading, justify="right")
    table.add_column("configuration")
    for x, entries in sorted(by_x.items()):
        lowest = entries[0]
        bar = lowest["error_bar"]
        numbers = (
            _with_bar(1e3 * lowest["formation_energy"], None if bar is None else 1e3 * bar, 1),
            f"{1e3 * lowest['distance_to_hull']:.1f}",
            str(len(entries)),
        )
        table.add_row(*(Text(text) for text in (str(x), *numbers, lowest["hash"][:8])))
    return table


def undecided_lines(document: dict[str, Any]) -> list[str]:
    """Return a sentence for each vertex whose depth is smaller than a change of magnetic order.

    Parameters
    ----------
    document
        What `al_charge.report.documents.hull_document` returns.

    Returns
    -------
    list of str
        Energies in meV per formula unit.
    """
    lines = []
    for one in document["undecided"]:
        depth = f"x = {one['x']} lies {1e3 * one['depth']:.1f} below its neighbours"
        if one["change"] is None:
            told = f"less than magnetic orders change ({1e3 * one['largest_difference']:.1f})"
            lines.append(f"Not decided: {depth}, {told}, and not all three were run in another.")
            continue
        change, corrected = 1e3 * one["change"], 1e3 * (one["depth"] - one["change"])
        told = f"and other magnetic orders change that by {abs(change):.1f}, to {corrected:.1f}"
        lines.append(f"Not decided by the labels: {depth}, {told}.")
    return lines


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
        caption=_remark(document)
        + ("Error bars: difference from sampled hulls." if document["band"] else ""),
        show_footer=True,
    )
    mean = _with_bar(document["mean_voltage"], document["mean_error_bar"], 3)
    table.add_column("from x", footer="mean")
    table.add_column("to x")
    table.add_column(f"V against {document['working_ion']} metal", justify="right", footer=mean)
    measured = document.get("experiment")
    if measured is not None:
        table.add_column("measured mean", justify="right", footer=_volts(measured["mean_voltage"]))
    for place, step in enumerate(document["steps"]):
        voltage = _with_bar(step["voltage"], step["error_bar"], 3)
        beside = [] if measured is None else [_volts(measured["steps"][place]["mean_voltage"])]
        table.add_row(step["x_from"], step["x_to"], voltage, *beside)
    return table


def _volts(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def summary_table(document: dict[str, Any]) -> Table:
    """Return the table of what an electrode stores.

    Parameters
    ----------
    document
        What `al_charge.report.documents.voltage_document` returns.

    Returns
    -------
    Table
        One row for each quantity, with its unit.
    """
    stored, steps = document["electrode"], document["steps"]
    bar = document["mean_error_bar"]
    table = Table(
        title=_title(document, "electrode"),
        caption=_remark(document) + "Per mass and volume of the discharged electrode.",
        show_header=False,
    )
    table.add_column("what")
    table.add_column("value", justify="right")
    for what, value in (
        ("from x", steps[0]["x_from"]),
        ("to x", steps[-1]["x_to"]),
        ("average voltage", f"{_with_bar(stored['average_voltage'], bar, 3)} V"),
        ("steps", str(len(steps))),
        ("capacity", f"{stored['capacity']:.1f} mAh/g"),
        ("specific energy", f"{stored['specific_energy']:.0f} Wh/kg"),
        ("volumetric capacity", f"{stored['volume_capacity']:.1f} mAh/cm3"),
        ("energy density", f"{stored['energy_density']:.0f} Wh/l"),
        ("volume change", f"{100 * stored['volume_change']:.2f} %"),
        *_measured_rows(document),
    ):
        table.add_row(what, value)
    return table


def _measured_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    found = document.get("experiment")
    if found is None:
        return []
    if found["mean_voltage"] is None:
        return [("measured mean", "not measured over the whole range")]
    return [
        ("measured mean", f"{found['mean_voltage']:.3f} V"),
        ("computed minus measured", f"{found['mean_difference']:+.3f} V"),
    ]


def _remark(document: dict[str, Any]) -> str:
    """Return what is told of the labeler, as a sentence; empty if nothing is."""
    remark: str = document.get("labeler_remark", "")
    return f"{remark[0].upper()}{remark[1:]}. " if remark else ""


def _verdict(document: dict[str, Any]) -> str:
    """Return the first sentence of the caption of a verified hull; empty for others."""
    if not document["verified"]:
        return ""
    return "Verified: the labeler relaxed the vertices and their competitors. "


def _title(document: dict[str, Any], what: str) -> Text:
    return Text(f"{document['formula']} {what}, labeler: {document['labeler']}")


def _below(document: dict[str, Any]) -> str:
    """Return what may lie below the hull, as sentences; empty where nothing was predicted."""
    if not document["band"]:
        return ""
    likely = document["p_below_hull"]
    told = f"Probability that an unlabelled configuration lies below the hull: {100 * likely:.1f} %"
    if not document["exhaustive"]:
        told += ", judging by a sample of the configurations"
    return (
        f"{told}. 'lower state': probability that one lies below the lowest label, and by how much "
        "at most (95 %). "
    )


def _hull_row(
    entry: dict[str, Any],
    labels: int,
    forecast: dict[str, Any] | None,
    *,
    is_vertex: bool,
    magnetic: bool,
) -> list[Text]:
    formation = f"{1e3 * entry['formation_energy']:.1f}"
    above = "vertex" if is_vertex else f"{1e3 * entry['distance_to_hull']:.1f}"
    above += f", {entry['remark']}" if "remark" in entry else ""
    style = "bold" if is_vertex else "dim"
    numbers = [formation, above]
    if magnetic:
        for name in ("magnetic_correction", "corrected_formation_energy"):
            value = entry.get(name)
            numbers.append("" if value is None else f"{1e3 * value:.1f}")
    numbers.append(str(labels))
    if forecast is not None:
        by = f", {1e3 * forecast['lower_by']:.1f}" if forecast["lower_by"] else ""
        numbers.append(f"{100 * forecast['p_lower']:.0f} %{by}")
    texts = (entry["x"], entry["formula"], *numbers, entry["label"][:8])
    return [Text(text, style=style) for text in texts]


def _with_bar(value: float, bar: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if bar is None else f"{value:.{digits}f} ± {bar:.{digits}f}"


def imported_table(document: dict[str, Any]) -> Table:
    """Return the table of an import of other programs' results.

    Parameters
    ----------
    document
        What `al-charge labels import --json` prints, with its ``runs``.

    Returns
    -------
    Table
        One row for each run; energies in eV per formula unit.
    """
    table = Table(title=f"runs of {document['file']} for campaign '{document['campaign']}'")
    table.add_column("run", overflow="fold")
    table.add_column("x")
    table.add_column("states")
    table.add_column("energy", justify="right")
    table.add_column("outcome")
    table.add_column("why", overflow="fold")
    for run in document["runs"]:
        states = " ".join(f"{number}x{token}" for token, number in run["species"].items())
        energy = run["energy_per_formula"]
        table.add_row(
            Text(_below_path(run["source"], document["file"])),
            run["x"] or "",
            states,
            "" if energy is None else f"{energy:.4f}",
            run["outcome"],
            Text(run["reason"]),
        )
    return table


def _below_path(source: str, path: str) -> str:
    """Return a source without the path that it lies in."""
    return source.removeprefix(path).lstrip("/, ") or source


def rows_table(document: dict[str, Any]) -> Table:
    """Return rows of numbers as a table.

    Parameters
    ----------
    document
        With ``title`` and ``rows``.

    Returns
    -------
    Table
        One line for each row.
    """
    rows = document["rows"]
    table = Table(title=Text(document["title"]), caption=Text(document["source"]))
    unit, factor = core_unit(max(row.get("core_hours", 0.0) for row in rows))
    for name, value in rows[0].items():
        heading = unit if name == "core_hours" else name
        table.add_column(heading, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        told = row | ({"core_hours": factor * row["core_hours"]} if "core_hours" in row else {})
        table.add_row(*(Text(_shown(name, value)) for name, value in told.items()))
    return table


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.5g}"
        rounded = round(value, 6) + 0.0  # no minus before a zero
        return f"{rounded:.6f}".rstrip("0").rstrip(".") if "e" in text else text
    return str(value)[:8] if name == "label" else str(value)
