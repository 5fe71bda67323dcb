"""Print what ambiguous labels are worth to a potential that is told the moments.

On a file of `spin_labels`: trained on certain labels or on all, without and with moments as an
input, with equal numbers of steps; tested on certain and on ambiguous labels that were held out,
whole configurations at a time. Uncertain sites have charge states that leave the cell neutral. A
prediction is told either the label's own moments or, as for a structure that nobody has computed
yet, those that are typical of its charge states.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from awareness_report import interval
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.report import style

LABELS = Path(__file__).parents[1] / "examples" / "data" / "nafepo4_gpaw_spin.extxyz"
HELD_OUT = 1 / 3
"""Part of the configurations that is held out, others with each seed."""
KINDS: dict[str, type[PainnSettings] | type[MaceSettings]] = {
    "painn": PainnSettings,
    "mace": MaceSettings,
}
CASES = (
    ("certain labels, no moments", False, False),
    ("all labels, no moments", False, True),
    ("certain labels, moments", True, False),
    ("all labels, moments", True, True),
)
BATCH = 4


def read(path: Path) -> tuple[list[TrainingFrame], list[bool]]:
    """Return all frames with their moments, and whether the label of each is ambiguous."""
    data = read_dataset(path, Reading(share_moments=True))
    ambiguous = [bool(atoms.info["ambiguous"]) for atoms in ase.io.iread(path)]
    assert len(ambiguous) == len(data.frames), "a frame was left out"
    return data.frames, ambiguous


def without_moments(frame: TrainingFrame) -> TrainingFrame:
    """Return a frame whose structure does not tell moments."""
    atoms = frame.atoms.copy()
    del atoms.arrays["moments"]
    return replace(frame, atoms=atoms)


def settings_of(kind: str, spin: bool) -> PotentialSettings:
    """Return the potential of a case: as small data bears, on top of pretrained CHGNet."""
    return KINDS[kind](
        cutoff="4 A",  # type: ignore[arg-type]
        channels=16,
        pair_cutoff="6 A",  # type: ignore[arg-type]
        pair_intervals=8,
        prior="chgnet",
        spin=spin,
    )


def errors(potential: Potential, frames: Sequence[TrainingFrame]) -> tuple[float, float]:
    """Return root mean square errors of energies (meV/atom) and forces (meV/angstrom)."""
    found = potential.predict([frame.atoms for frame in frames])
    energies = [(p.energy - f.energy) / len(f.atoms) for p, f in zip(found, frames, strict=True)]
    forces = [np.ravel(p.forces - f.forces) for p, f in zip(found, frames, strict=True)]
    return (
        1e3 * float(np.sqrt(np.mean(np.square(energies)))),
        1e3 * float(np.sqrt(np.mean(np.concatenate(forces) ** 2))),
    )


def run(kind: str, seed: int, path: Path, steps: int, folder: Path) -> list[dict[str, Any]]:
    """Return one record for each case of a seed."""
    frames, ambiguous = read(path)
    groups = sorted({frame.group for frame in frames})
    order = np.random.default_rng(seed).permutation(len(groups))
    held = {groups[i] for i in order[: round(HELD_OUT * len(groups))]}
    records = []
    for name, spin, all_labels in CASES:
        seen = frames if spin else [without_moments(frame) for frame in frames]
        pairs = list(zip(seen, ambiguous, strict=True))
        used = [f for f, unsure in pairs if f.group not in held and (all_labels or not unsure)]
        epochs = round(steps / np.ceil(len(used) / BATCH))
        result = train(
            settings_of(kind, spin),
            TrainingSettings(epochs=epochs, batch_size=BATCH),
            used,
            seed=seed,
            fold=0,
            n_folds=1,
            checkpoint=folder / f"spin-{kind}-{seed}-{spin}-{all_labels}",
        )
        record: dict[str, Any] = {"kind": kind, "case": name, "seed": seed, "labels": len(used)}
        for what, unsure in (("certain", False), ("ambiguous", True)):
            test = [f for f, is_unsure in pairs if f.group in held and is_unsure is unsure]
            told = {"": test} | ({" typical": [without_moments(f) for f in test]} if spin else {})
            for how, labels in told.items():
                if labels:
                    energy, forces = errors(result.potential, labels)
                    record |= {f"{what}_energy{how}": energy, f"{what}_forces{how}": forces}
        records.append(record)
    return records


def table(records: Sequence[dict[str, Any]]) -> Table:
    """Return mean and 95 % interval over seeds, one line for each case."""
    names = {
        "labels": "labels",
        "certain_energy": "certain\nmeV/atom",
        "certain_forces": "certain\nmeV/A",
        "ambiguous_energy": "ambiguous\nmeV/atom",
        "ambiguous_forces": "ambiguous\nmeV/A",
        "certain_energy typical": "certain, typical\nmoments, meV/atom",
        "certain_forces typical": "certain, typical\nmoments, meV/A",
        "ambiguous_energy typical": "ambiguous, typical\nmoments, meV/atom",
    }
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["kind"], record["case"]].append(record)
    result = Table("potential", "trained on", *names.values(), title="errors on held-out labels")
    for (kind, case), members in groups.items():
        cells = []
        for name in names:
            values = np.array([m[name] for m in members if name in m], dtype=float)
            cells.append("{:.1f} ± {:.1f}".format(*interval(values)) if len(values) else "")
        result.add_row(kind, case, *cells)
    return result


def draw(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Draw the errors of energies in every case, a line for each seed, a column for each kind."""
    kinds = sorted({record["kind"] for record in records}, reverse=True)
    figure = Figure(figsize=(4.0 * len(kinds), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    names = [name for name, _, _ in CASES]
    for axes, kind in zip(
        figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True
    ):
        for what, colour in (("certain", style.HULL), ("ambiguous", style.PREDICTED)):
            found = {
                (r["case"], r["seed"]): r.get(f"{what}_energy", np.nan)
                for r in records
                if r["kind"] == kind
            }
            seeds = sorted({seed for _, seed in found})
            lines = np.array([[found[name, seed] for name in names] for seed in seeds])
            axes.plot(lines.T, "-", color=colour, alpha=0.3)
            axes.plot(np.nanmean(lines, axis=0), "o", color=colour, label=f"{what} labels")
        axes.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], fontsize=7)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_minor_formatter("{x:.0f}")
        axes.set_title(kind)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, title="error on held-out")
    figure.axes[0].set_ylabel("error of energy, meV/atom")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run all seeds, print the table, write JSON and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="for checkpoints")
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--json", type=Path, default=Path("spin_awareness.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    jobs = [(kind, seed) for kind in options.kinds for seed in range(options.seeds)]
    records = []
    for kind, seed in track(jobs, "trainings"):
        records += run(kind, seed, options.labels, options.steps, options.folder)
    options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
    draw(options.json.with_suffix(".png"), records)
    Console().print(table(records))


if __name__ == "__main__":
    main()
