"""Train round after round on labels that grow, warm from the round before or from scratch.

A campaign's training is replayed. A pool of configurations of the olivine is labelled by the
analytic Born model; a scenario says which labels each round has, and every strategy trains one
potential a round on them:

- ``warm``: from the potential of the round before, as a campaign does;
- ``fresh``: from fresh weights, as many epochs;
- ``fresh long``: from fresh weights, several times the epochs, where the budget allows.

Errors are those on configurations that no round has: of relaxed geometries in energy, and of all
geometries in forces. Costs are CPU seconds of one thread.

Scenarios:

- ``campaign``: labels of all compositions, 20 at first and some more in every round;
- ``jump``: 20 labels, then at once as many as the last round of ``campaign``;
- ``shift``: as ``campaign``, but the labels that have few ions come first;
- ``wrong scale``: energies and forces of the first two rounds are too large by a half;
- ``wrong charges``: in the first two rounds Fe2+ and Fe3+ are exchanged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from warm_scenarios import FIRST, MORE, Label, Round, pool, rounds_of

from al_charge.loop.spec import load_spec
from al_charge.potentials.baseline.fit import frame_weight
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.train import train

CAMPAIGN = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
HELD_OUT = 48
"""Labels that no training sees."""


@dataclass(frozen=True)
class Replay:
    """One scenario with one seed.

    Attributes
    ----------
    settings, training
        As in a campaign's file.
    held
        Labels to measure errors on.
    seed
        Of fresh weights and of the order of frames.
    """

    settings: PotentialSettings
    training: TrainingSettings
    held: list[Label]
    seed: int

    def run(self, rounds: list[Round], *, warm: bool, only_last: bool) -> Iterator[dict[str, Any]]:
        """Yield a record of every round that is trained."""
        parent: Potential | None = None
        for number, labels in enumerate(rounds):
            if only_last and number < len(rounds) - 1:
                continue
            frames = [frame for label in labels for frame in label]
            began = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                result = train(
                    self.settings,
                    self.training,
                    frames,
                    seed=self.seed,
                    fold=0,
                    n_folds=6,  # as a committee of three
                    checkpoint=Path(folder) / "checkpoint",
                    warm_start=parent if warm else None,
                )
            spent = time.process_time() - began
            parent = result.potential
            yield {
                "round": number,
                "labels": len(labels),
                "frames": len(frames),
                "epochs": len(result.history),
                "cpu_seconds": spent,
                "losses": [entry["loss"] for entry in result.history],
                "held_out_losses": [entry.get("held_out_loss") for entry in result.history],
            } | self.errors(parent)

    def errors(self, potential: Potential) -> dict[str, float]:
        """Return root mean squared errors on the held-out labels, meV/atom and meV/A.

        Forces count with the weights of training: what matters are geometries near the relaxed.
        """
        frames = [frame for label in self.held for frame in label]
        found = potential.predict([frame.atoms for frame in frames])
        last = {id(label[-1]) for label in self.held}
        energies = [
            (p.energy - f.energy) / len(f.atoms)
            for p, f in zip(found, frames, strict=True)
            if id(f) in last
        ]
        forces = [np.mean((p.forces - f.forces) ** 2) for p, f in zip(found, frames, strict=True)]
        weights = [frame_weight(frame.forces) ** 2 for frame in frames]
        return {
            "energy": 1e3 * float(np.sqrt(np.mean(np.square(energies)))),
            "force": 1e3 * float(np.sqrt(np.average(forces, weights=weights))),
        }


POTENTIALS: dict[str, PotentialSettings] = {
    "painn": PainnSettings(cutoff="4 A", channels=16),
    "cpainn": CpainnSettings(cutoff="4 A", channels=16),
    "mace": MaceSettings(cutoff="4 A", channels=8, max_ell=1),
}
"""Small ones; PaiNN as in the campaign of the documentation."""


def table(records: list[dict[str, Any]]) -> Table:
    """Return means over seeds of every round, side by side."""
    result = Table(title="Errors on labels never trained on, mean over seeds")
    for heading in ("scenario", "strategy", "round", "labels", "meV/atom", "meV/A", "CPU s"):
        result.add_column(
            heading, justify="left" if heading in ("scenario", "strategy") else "right"
        )
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        key = (record["scenario"], record["strategy"], record["round"])
        groups.setdefault(key, []).append(record)
    for (scenario, strategy, number), own in groups.items():
        means = [np.mean([r[name] for r in own]) for name in ("energy", "force", "cpu_seconds")]
        spreads = [np.std([r[name] for r in own]) for name in ("energy", "force")]
        result.add_row(
            scenario,
            strategy,
            str(number),
            str(own[0]["labels"]),
            f"{means[0]:.2f} +- {spreads[0]:.2f}",
            f"{means[1]:.1f} +- {spreads[1]:.1f}",
            f"{means[2]:.1f}",
        )
    return result


def main() -> None:
    """Replay, print the table and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("campaign", "jump", "shift", "wrong scale", "wrong charges")
    parser.add_argument("--scenario", nargs="+", choices=names, default=names)
    parser.add_argument("--potential", choices=POTENTIALS, default="painn")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5, help="of every round")
    parser.add_argument("--longer", type=int, default=6, help="times the epochs of 'fresh long'")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2, help="that label")
    parser.add_argument("--json", type=Path, default=Path("warm_start.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spec = load_spec(CAMPAIGN)
    needed = FIRST + MORE * (arguments.rounds - 1) + HELD_OUT
    console = Console()
    records: list[dict[str, Any]] = []
    short = TrainingSettings(epochs=arguments.epochs)
    long = TrainingSettings(epochs=arguments.epochs * arguments.longer)
    strategies = (("warm", short), ("fresh", short), ("fresh long", long))
    labelled = pool(spec, needed, arguments.processes)
    for seed in arguments.seeds:
        order = np.random.default_rng(seed).permutation(needed)
        labels = [labelled[k] for k in order]
        held, free = labels[:HELD_OUT], labels[HELD_OUT:]
        for scenario in arguments.scenario:
            rounds = rounds_of(scenario, free, arguments.rounds)
            for strategy, training in strategies:
                replay = Replay(POTENTIALS[arguments.potential], training, held, seed)
                warm = strategy == "warm"
                for record in replay.run(rounds, warm=warm, only_last="long" in strategy):
                    named = {"scenario": scenario, "strategy": strategy, "seed": seed}
                    records.append(named | record)
                    arguments.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
                    console.print(
                        scenario,
                        strategy,
                        seed,
                        record["round"],
                        record["labels"],
                        f"{record['energy']:.2f} meV/atom {record['force']:.1f} meV/A "
                        f"{record['cpu_seconds']:.1f} s",
                    )
    console.print(table(records))


if __name__ == "__main__":
    main()
