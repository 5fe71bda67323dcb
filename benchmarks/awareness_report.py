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
    "Kendall": ("", lambda r: float(np.mean(list(r["kendall"].values())))),
    "missed": ("ground states", lambda r: float(len(r["missed"]))),
    "hull": ("meV/f.u.", lambda r: 1e3 * r["hull_error"]),
    "voltage": ("mV", lambda r: 1e3 * r["voltage_error"]),
    "drifted": ("% of sites", lambda r: 100 * r["drifted"]),
    "by moment": ("% of sites", lambda r: _percent(r["moments_drifted"])),
}
"""Unit and value of every figure of a record; None where there is none."""


def _rmse(record: Record, name: str) -> float | None:
    found = record["errors"][name]
    return None if found is None else float(found["rmse"])


def _percent(part: float | None) -> float | None:
    return None if part is None else 100 * part


def write_report(data: str, folder: Path, pairs: str, console: Console) -> None:
    """Print the table of all records of a data set; write it as JSON, and both figures.

    Records whose pair terms do not reach as far as ``pairs`` have lines of their own.
    """
    records = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{data}-*-*-*-*.json"))]
    groups: dict[tuple[str, bool], list[Record]] = defaultdict(list)
    shorter: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record["pairs"] == pairs:
            groups[record["kind"], record["charge_aware"]].append(record)
        else:
            shorter[record["pairs"]].append(record)
    order = [(kind, aware) for kind in KINDS for aware in (False, True) if (kind, aware) in groups]
    rows = [row(groups[key]) for key in order] + [row(found) for found in shorter.values()]
    console.print(table(data, rows))
    for kind in KINDS:
        if (kind, True) in groups and (kind, False) in groups:
            blind, aware = (
                np.mean([record["hull_error"] for record in groups[kind, seen]])
                for seen in (False, True)
            )
            console.print(f"{KINDS[kind]}: hull error blind / aware {blind / aware:.1f}")
    (folder / f"{data}.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    draw_hulls(folder / f"{data}_hulls.png", groups)
    draw_sites(folder / f"{data}_sites.png", data, folder, groups)


def row(records: Sequence[Record]) -> dict[str, Any]:
    """Return mean and half the 95 % interval of the mean of every figure over seeds."""
    result: dict[str, Any] = {
        "kind": records[0]["kind"],
        "charge_aware": records[0]["charge_aware"],
        "pairs": records[0]["pairs"],
        "seeds": len(records),
        "weights": records[0]["weights"],
        "training_seconds": float(np.mean([r["training_seconds"] for r in records])),
    }
    for name, (_, value) in COLUMNS.items():
        found = [value(record) for record in records]
        values = np.array([v for v in found if v is not None])
        result[name] = interval(values) if len(values) else None
    compositions = sorted({x for r in records for x in r["kendall"]}, key=Fraction)
    result["kendall"] = {
        x: interval(np.array([record["kendall"][x] for record in records])) for x in compositions
    }
    return result


def interval(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Return the mean, and how far Student's 95 % interval of it reaches."""
    if len(values) < 2:
        return [float(values[0]), float("nan")]
    reach = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean()), float(reach)]


def table(data: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return one line for each potential."""
    result = Table(title=f"{data}: mean and 95 % interval over seeds")
    result.add_column("potential")
    for name, (unit, _) in COLUMNS.items():
        result.add_column(f"{name.strip()}\n{unit}", justify="right")
    for one in rows:
        sight = "aware" if one["charge_aware"] else "blind"
        cells = [_cell(one[name]) for name in COLUMNS]
        result.add_row(f"{KINDS[one['kind']]}, {sight}, {one['pairs']}", *cells)
    return result


def _cell(values: Sequence[float] | None) -> str:
    if values is None:
        return ""
    mean, reach = values
    digits = 0 if mean >= 100 else 1 if mean >= 10 else 2 if mean >= 1 else 3
    return f"{mean:.{digits}f} ± {reach:.{digits}f}"


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
    rows = record["relaxed"]
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
