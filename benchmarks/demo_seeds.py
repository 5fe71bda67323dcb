"""Run the demo from several seeds, charge-aware and blind, and hold each against the exact answer.

The exact answer comes from ``exhaustive_hull.py --json``. Every demo has a home folder, and so a
database, of its own: no label of one helps another. Per demo are printed: vertices, the largest
error of a vertex's energy, labels, rounds, and how well candidates were predicted before any of
them was labelled: Kendall's rank correlation within a composition (mean over compositions) and the
root mean square error of the energy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau

Truth = dict[str, float]


def run_demo(home: Path, seed: int, *, blind: bool) -> dict[str, Any]:
    """Run one demo in a process of its own and return its document."""
    environment = os.environ | {"AL_CHARGE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "al_charge", "demo", "--seed", str(seed), "--json"]
    command += ["--output", str(home / "plots"), *(["--blind"] if blind else [])]
    try:
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        document: dict[str, Any] = json.loads(done.stdout)
        document["predicted"] = predictions(home, document["campaign"])
    finally:
        subprocess.run(
            [sys.executable, "-m", "al_charge", "db", "stop"], env=environment, check=False
        )
    return document


def predictions(home: Path, name: str) -> list[tuple[str, str, float]]:
    """Return composition, hash and predicted eV/f.u. of every candidate that was relaxed."""
    from al_charge.loop.campaign import open_campaign
    from al_charge.store.connection import connect
    from al_charge.store.mongo import Store

    os.environ["AL_CHARGE_HOME"] = str(home)
    store = Store(connect(None))
    campaign = open_campaign(store, name)
    last = max(record.number for record in store.rounds.all(name) if record.assessment)
    found = [
        (c.composition, c.config_hash, c.energy / campaign.host.formula_units)
        for number in range(1, last + 1)
        for c in store.candidates.all(name, number)
        if c.energy is not None
    ]
    store.close()
    return found


def judge(document: dict[str, Any], exact: dict[str, Any]) -> dict[str, Any]:
    """Compare a demo with the exhaustive hull."""
    truth = {c["hash"]: c["energy_per_formula"] for c in exact["configurations"]}
    lowest = {c["x"]: c["energy_per_formula"] for c in exact["compositions"]}
    energies = {v["x"]: v["energy_per_formula"] for v in document["vertices"]}
    best: dict[str, float] = {}
    for entry in document["entries"]:
        best[entry["x"]] = min(entry["energy_per_formula"], best.get(entry["x"], np.inf))
    groups: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for x, key, energy in document["predicted"]:
        groups[x].append((energy, truth[key]))
    pairs = [pair for group in groups.values() for pair in group]
    order = [
        kendalltau(*zip(*group, strict=True))[0] for group in groups.values() if len(group) > 2
    ]
    return {
        "campaign": document["campaign"],
        "state": document["state"],
        "vertices": list(energies),
        "vertices_right": list(energies) == exact["vertices"],
        "largest_vertex_error": max(best[x] - lowest[x] for x in exact["vertices"]),
        "ground_states_found": sum(best[x] - lowest[x] < 1e-3 for x in lowest),
        "labels": document["labels_used"],
        "rounds": document["rounds"],
        "minutes": document["wall_seconds"] / 60,
        "kendall": float(np.nanmean(order)) if order else None,
        "rmse": float(np.sqrt(np.mean([(a - b) ** 2 for a, b in pairs]))) if pairs else None,
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of all demos."""
    result = Table(title="Demos against the exhaustive hull, energies in meV per formula unit")
    for heading in (
        "demo", "state", "vertices at x", "right", "worst vertex", "ground states", "labels",
        "rounds", "min", "Kendall", "error",
    ):  # fmt: skip
        result.add_column(heading)
    for row in rows:
        result.add_row(
            row["campaign"],
            row["state"],
            " ".join(row["vertices"]),
            "yes" if row["vertices_right"] else "no",
            f"{1e3 * row['largest_vertex_error']:+.2f}",
            f"{row['ground_states_found']} of 9",
            str(row["labels"]),
            str(row["rounds"]),
            f"{row['minutes']:.1f}",
            "" if row["kendall"] is None else f"{row['kendall']:.2f}",
            "" if row["rmse"] is None else f"{1e3 * row['rmse']:.1f}",
        )
    return result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("exhaustive", type=Path, help="JSON file of exhaustive_hull.py")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    parser.add_argument("--blind-seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    exact = json.loads(arguments.exhaustive.read_text())
    jobs = [(seed, False) for seed in arguments.seeds]
    jobs += [(seed, True) for seed in arguments.blind_seeds]
    rows: list[dict[str, Any]] = []
    console = Console(width=150)
    for seed, blind in jobs:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(judge(run_demo(Path(folder), seed, blind=blind), exact))
        console.print(table(rows[-1:]))
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))
    console.print(table(rows))


if __name__ == "__main__":
    main()
