"""Print learning curves of CHGNet from its published weights and from fresh ones.

The labels are those of ``examples/data`` (GPAW). Half of the mixed configurations is held out,
others with each seed; of the rest, growing numbers of labels are trained on, the same for both, end
members always among them. Fresh weights have as many steps as published ones or four times as many,
whichever is better on what is held out. From the two curves follows how many more labels fresh
weights need for the error that published ones reach. Cases are kept one by one, so a run that was
stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from awareness_data import Trial, trial
from awareness_report import interval
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from al_charge.potentials.accuracy import accuracy
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.report import style

SIZES = (6, 12, 100)
"""Labels trained on; the last is all there are, some 25."""
STEPS, BATCH = {True: (200,), False: (200, 800)}, 4
"""Of trainings from published and from fresh weights, so that few labels are seen more often."""
FIGURES = {"energy_per_atom": "energy, meV/atom", "forces": "forces, meV/A"}


def used(own: Trial, size: int, seed: int) -> list[TrainingFrame]:
    """Return as many frames drawn by a seed, one of each end member first."""
    order = np.random.default_rng(seed).permutation(len(own.frames))
    frames = [own.frames[i] for i in order]
    states = [{"Fe2+", "Fe3+"} & set(frame.atoms.arrays["species"]) for frame in frames]
    first = [states.index({"Fe2+"}), states.index({"Fe3+"})]
    rest = [i for i in range(len(frames)) if i not in first]
    return [frames[i] for i in (first + rest)[:size]]


def run_case(job: tuple[bool, int, int, int, Path]) -> None:
    """Train one potential on so many labels and write its errors."""
    import torch

    torch.set_num_threads(1)
    pretrained, steps, size, seed, folder = job
    own = trial("gpaw", folder, seed)
    frames = used(own, size, seed)
    name = _name(pretrained, steps, size, seed)
    result = train(
        ChgnetSettings(pretrained=pretrained, pair_cutoff="8 A", pair_intervals=8),  # type: ignore[arg-type]
        TrainingSettings(epochs=round(steps / np.ceil(len(frames) / BATCH)), batch_size=BATCH),
        frames,
        seed=seed,
        fold=0,
        n_folds=1,
        checkpoint=folder / f"{name}.checkpoint",
    )
    record = {
        "pretrained": pretrained,
        "steps": steps,
        "labels": len(frames),
        "size": size,
        "seed": seed,
        "errors": accuracy(result.potential, own.test)["all"],
    }
    part = folder / f"{name}.part"
    part.write_text(json.dumps(record, indent=1), encoding="utf-8")
    part.replace(folder / f"{name}.json")


def _name(pretrained: bool, steps: int, size: int, seed: int) -> str:
    return f"tuning-{'published' if pretrained else 'fresh'}-{steps}-{size}-{seed}"


def best(records: Sequence[dict[str, Any]], pretrained: bool) -> list[dict[str, Any]]:
    """Return the record with the least error of forces for every number of labels and seed."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for record in sorted(records, key=lambda r: float(r["errors"]["forces"]["rmse"])):
        if record["pretrained"] is pretrained:
            found.setdefault((record["size"], record["seed"]), record)
    return list(found.values())


def curve(records: Sequence[dict[str, Any]], pretrained: bool, figure: str) -> list[list[float]]:
    """Return labels, mean error and half its 95 % interval at every size."""
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in best(records, pretrained):
        groups[record["size"]].append(record)
    return [
        [
            float(np.mean([record["labels"] for record in groups[size]])),
            *interval(np.array([record["errors"][figure]["rmse"] for record in groups[size]])),
        ]
        for size in sorted(groups)
    ]


def labels_for(error: float, points: Sequence[Sequence[float]]) -> float | None:
    """Return how many labels a curve needs for an error, on straight lines between logarithms.

    None if it does not reach it.
    """
    labels = np.log([point[0] for point in points])
    errors = np.minimum.accumulate(np.log([point[1] for point in points]))
    if np.log(error) < errors[-1]:
        return None
    return float(np.exp(np.interp(-np.log(error), -errors, labels)))


def draw(path: Path, curves: dict[str, dict[bool, list[list[float]]]]) -> None:
    """Draw both curves, one panel for each figure."""
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, both) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        for pretrained, colour in ((True, style.HULL), (False, style.PREDICTED)):
            labels, errors, reach = np.array(both[pretrained]).T
            told = "published weights" if pretrained else "fresh weights"
            axes.errorbar(labels, errors, reach, fmt="o-", color=colour, label=told, capsize=3)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("labels")
        axes.set_ylabel(f"error of {FIGURES[name]}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run the cases that are not there yet; write table, figure and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="for records")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = [
        (pretrained, steps, size, seed, options.folder)
        for seed in range(options.seeds)
        for size in SIZES
        for pretrained in (True, False)
        for steps in STEPS[pretrained]
    ]
    files = [options.folder / f"{_name(*job[:4])}.json" for job in jobs]
    left = [job for job, file in zip(jobs, files, strict=True) if not file.exists()]
    with get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        for _ in track(pool.imap_unordered(run_case, left), "trainings", len(left)):
            pass
    records = [json.loads(file.read_text()) for file in files]
    curves = {
        name: {pretrained: curve(records, pretrained, name) for pretrained in (True, False)}
        for name in FIGURES
    }
    (options.folder / "fine_tuning.json").write_text(json.dumps(curves, indent=1))
    draw(options.folder / "fine_tuning.png", curves)
    table = Table(
        "labels", *(f"{told}, {w}" for told in FIGURES.values() for w in ("published", "fresh"))
    )
    for place, (labels, _, _) in enumerate(curves["forces"][True]):
        cells = [curves[name][p][place] for name in FIGURES for p in (True, False)]
        table.add_row(f"{labels:.0f}", *(f"{mean:.1f} ± {reach:.1f}" for _, mean, reach in cells))
    console = Console()
    console.print(table)
    for name, both in curves.items():
        for labels, error, _ in both[True]:
            needed = labels_for(error, both[False])
            told = (
                "more than there are" if needed is None else f"{needed / labels:.1f} times as many"
            )
            console.print(f"{FIGURES[name]} of {labels:.0f} labels: fresh weights need {told}")


if __name__ == "__main__":
    main()
