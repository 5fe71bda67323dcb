"""Table and figures of `charge_awareness`, from the records of its cases."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from awareness_data import trial
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from al_charge.potentials.embedding import embed
from al_charge.potentials.model_file import read_members
from al_charge.report import style

Record = dict[str, Any]
KINDS = {"mace": "MACE", "painn": "PaiNN", "chgnet": "CHGNet", "cpainn": "cPaiNN"}
COLUMNS = {
    "energy": ("meV/atom", lambda r: _rmse(r, "energy_per_atom")),
    "energy ": ("meV/f.u.", lambda r: _rmse(r, "energy_per_formula")),
    "forces": ("meV/A", lambda r: _rmse(r, "forces")),
    "stress": ("meV/A^3", lambda r: _rmse(r, "stress")),
    "moments": ("muB", lambda r: _rmse(r, "moments_of_redox_sites")),
    "charges": ("e", lambda r: _rmse(r, "charges_of_redox_sites")),
    "order": ("Kendall", lambda r: _order(r["at_labels"])),
    "missed": ("ground states", lambda r: float(len(r["at_labels"]["missed"]))),
    "hull": ("meV/f.u.", lambda r: 1e3 * r["at_labels"]["hull_error"]),
    "voltage": ("mV", lambda r: 1e3 * r["at_labels"]["voltage_error"]),
}
"""Unit and value of the figures of a record at the labeler's geometries; None where it has none."""
RELAXED = {
    "converged": ("%", lambda r: 100 * r["relaxed"]["converged"]),
    "order": ("Kendall", lambda r: _order(r["relaxed"])),
    "missed": ("ground states", lambda r: float(len(r["relaxed"]["missed"]))),
    "hull": ("meV/f.u.", lambda r: 1e3 * r["relaxed"]["hull_error"]),
    "voltage": ("mV", lambda r: 1e3 * r["relaxed"]["voltage_error"]),
    "drifted": ("% of sites", lambda r: 100 * r["relaxed"]["drifted"]),
    "by moment": ("% of sites", lambda r: _percent(r["relaxed"]["moments_drifted"])),
}
"""The same after the potential's own relaxations from unrelaxed starts."""
TABLES = {"at the labeler's geometries": COLUMNS, "after its own relaxations": RELAXED}


def _order(judged: Record) -> float:
    return float(np.mean(list(judged["kendall"].values())))


def _rmse(record: Record, name: str) -> float | None:
    found = record["errors"][name]
    return None if found is None else float(found["rmse"])


def _percent(part: float | None) -> float | None:
    return None if part is None else 100 * part


def write_report(data: str, folder: Path, names: Sequence[str], pairs: str) -> None:
    """Print the tables of some cases; write them as JSON, and both figures.

    Parameters
    ----------
    data
        Data set.
    folder
        With the records.
    names
        Of the cases.
    pairs
        Reach of the pair terms in the figures.
    """
    records = [json.loads((folder / f"{name}.json").read_text()) for name in names]
    groups: dict[tuple[str, str, bool], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["pairs"], record["kind"], record["charge_aware"]].append(record)
    rows = [row(members) for members in groups.values()]
    console = Console()
    for title in TABLES:
        console.print(table(f"{data}, {title}: mean and 95 % interval over seeds", rows, title))
    for one in rows:
        blind = groups.get((one["pairs"], one["kind"], False))
        if one["charge_aware"] and blind:
            told = [
                f"{row(blind)[title]['hull'][0] / one[title]['hull'][0]:.1f} {title}"
                for title in TABLES
            ]
            console.print(f"{_name(one)}: hull error of blind / aware {', '.join(told)}")
    (folder / f"{data}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    (folder / f"{data}.md").write_text(
        "\n".join(markdown(rows, title) for title in TABLES), encoding="utf-8"
    )
    drawn = {key[1:]: members for key, members in groups.items() if key[0] == pairs}
    draw_hulls(folder / f"{data}_hulls.png", drawn)
    draw_sites(folder / f"{data}_sites.png", data, folder, drawn)


def row(records: Sequence[Record]) -> dict[str, Any]:
    """Return mean and half the 95 % interval of the mean of every figure over seeds."""
    first = records[0]
    result: dict[str, Any] = {
        name: first[name] for name in ("kind", "charge_aware", "pairs", "weights", "epochs")
    }
    result["seeds"] = len(records)
    result["training_seconds"] = float(np.mean([r["training_seconds"] for r in records]))
    for title, columns in TABLES.items():
        result[title] = {
            name: _interval([value(record) for record in records])
            for name, (_, value) in columns.items()
        }
    for name in ("at_labels", "pairs_alone", "relaxed"):
        result[f"{name}_kendall"] = {
            x: interval(np.array([record[name]["kendall"][x] for record in records]))
            for x in first[name]["kendall"]
        }
    result["pairs_alone_hull"] = _interval([1e3 * r["pairs_alone"]["hull_error"] for r in records])
    return result


def _interval(values: Sequence[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return interval(np.array(known)) if known else None


def interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Return the mean, and how far Student's 95 % interval of it reaches."""
    if len(values) < 2:
        return [float(values[0]), float("nan")]
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean()), float(reach)]


def table(title: str, rows: Sequence[dict[str, Any]], part: str) -> Table:
    """Return one line for each potential."""
    columns = TABLES[part]
    result = Table("potential", title=title)
    for name, (unit, _) in columns.items():
        result.add_column(f"{name.strip()}\n{unit}", justify="right")
    for one in rows:
        result.add_row(_name(one), *(cell(one[part][name]) for name in columns))
    return result


def markdown(rows: Sequence[dict[str, Any]], part: str) -> str:
    """Return a table for the documentation; columns of which nothing is known are left out."""
    known = [name for name in TABLES[part] if any(one[part][name] for one in rows)]
    heads = [f"{name.strip()}, {TABLES[part][name][0]}" for name in known]
    lines = [["potential", "seeds", *heads], ["---"] * (len(heads) + 2)]
    for one in rows:
        lines.append([_name(one), str(one["seeds"]), *(cell(one[part][name]) for name in known)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _name(one: dict[str, Any]) -> str:
    sight = "aware" if one["charge_aware"] else "blind"
    return f"{KINDS[one['kind']]}, {sight}, pairs {one['pairs']}"


def cell(values: Sequence[float] | None) -> str:
    """Return a mean and its interval as text."""
    if values is None:
        return ""
    mean, reach = values
    size = abs(mean)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    told = f"{mean:.{digits}f}"
    return told if np.isnan(reach) else f"{told} ± {reach:.{digits}f}"


def draw_hulls(path: Path, groups: dict[tuple[str, bool], list[Record]]) -> None:
    """Draw what each potential predicts after its own relaxation, against the labeler's hull."""
    kinds = [kind for kind in KINDS if (kind, True) in groups]
    figure = Figure(figsize=(3.2 * len(kinds), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(kinds), sharex=True, sharey="row", squeeze=False)
    for column, kind in enumerate(kinds):
        for line, aware in enumerate((False, True)):
            axes = panels[line][column]
            records = groups.get((kind, aware), [])
            for record in records:
                x, predicted = _formation(record, "predicted")
                axes.plot(x, predicted, ".", color=style.PREDICTED, alpha=0.25, markersize=4)
            if records:
                x, true = _formation(records[0], "true")
                axes.plot(x, true, "_", color=style.FAINT, markersize=7)
                lowest = {place: min(true[x == place]) for place in sorted(set(x))}
                axes.plot(list(lowest), list(lowest.values()), "o-", color=style.HULL, ms=4)
            axes.set_title(f"{KINDS[kind]}, {'charge-aware' if aware else 'blind'}", fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        panels[1][column].set_xlabel("x in NaxFePO4")
    for line in panels:
        line[0].set_ylabel("formation energy, meV/f.u.")
    handles = [
        panels[0][0].plot([], [], "o-", color=style.HULL, ms=4)[0],
        panels[0][0].plot([], [], "_", color=style.FAINT)[0],
        panels[0][0].plot([], [], ".", color=style.PREDICTED)[0],
    ]
    names = ["labeler, lowest", "labeler, all", "potential after its own relaxation, all seeds"]
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)


def _formation(record: Record, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return compositions and formation energies (meV/f.u.) against a record's own end members."""
    rows = record["relaxed"]["targets"]
    x = np.array([float(Fraction(one["x"])) for one in rows])
    energies = np.array([one[name] for one in rows])
    first, last = energies[x == 0.0].min(), energies[x == 1.0].min()
    return x, 1e3 * (energies - (1 - x) * first - x * last)


def draw_sites(
    path: Path, data: str, folder: Path, groups: dict[tuple[str, bool], list[Record]]
) -> None:
    """Draw the features of Fe sites after the last layer, first seed, in the labeler's geometry."""
    kinds = [kind for kind in KINDS if (kind, True) in groups]
    structures = [target.relaxed for target in trial(data, folder, 0).targets]
    figure = Figure(figsize=(3.2 * len(kinds), 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(kinds), squeeze=False)
    for column, kind in enumerate(kinds):
        for line, aware in enumerate((False, True)):
            axes = panels[line][column]
            sight = "aware" if aware else "blind"
            reach = groups[kind, aware][0]["pairs"].split()[0]
            (potential,), _ = read_members(folder / f"{data}-{kind}-{sight}-{reach}-0.safetensors")
            picture = embed(potential, structures)
            last = picture.layers[-1]
            states = np.asarray(picture.states)
            for state, colour in (("Fe2+", style.HULL), ("Fe3+", style.PREDICTED)):
                points = last.points[states == state]
                axes.plot(*points.T, ".", color=colour, alpha=0.5, markersize=5, label=state)
            told = "" if last.separation is None else f"\n{100 * last.separation:.0f} % between"
            axes.set_title(f"{KINDS[kind]}, {'charge-aware' if aware else 'blind'}{told}")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xticks([])
            axes.set_yticks([])
    panels[0][0].legend(frameon=False)
    figure.supxlabel("first principal axis")
    figure.supylabel("second principal axis")
    figure.savefig(path, dpi=150)
