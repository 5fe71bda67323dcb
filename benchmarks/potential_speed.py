"""Time one evaluation and one training step of each potential, side by side.

Potentials take turns on the same structures, so that a busy machine slows all of them alike; times
are CPU time of one thread. The table gives milliseconds per structure and the ratio to the first
potential on the same cell.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import configuration, to_atoms
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.networks.architecture import evaluate
from al_charge.potentials.networks.graph import Graph, build_graph, collate
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.vocabulary import Vocabulary

OLIVINE = Path(__file__).parents[1] / "workflows" / "hosts" / "NaFePO4.cif"
SUPERCELLS = ((1, 1, 1), (1, 2, 1))
BATCH = 4

Settings = MaceSettings | PainnSettings
CASES: dict[str, Settings] = {
    "PaiNN": PainnSettings(),
    "MACE": MaceSettings(),
    "MACE 8x0e, l 1": MaceSettings(channels=8, max_l=0, max_ell=1),
    "MACE 8x0e+8x1o, l 1": MaceSettings(channels=8, max_ell=1),
    "MACE corr 3": MaceSettings(correlation=3),
}


def structure(supercell: tuple[int, int, int]) -> Atoms:
    """Return a filled olivine cell with atoms off their sites; 28 atoms per cell."""
    host = Host.from_spec(
        HostSpec(
            structure=OLIVINE,
            working_ion="Na",
            redox={"Fe": (2, 3)},
            fixed={"P": 5, "O": -2},
            supercell=supercell,
        )
    )
    ions, metals = len(host.ion_sites), len(host.redox_sites)
    atoms = to_atoms(host, configuration(host, [1] * ions + [2] * metals))
    atoms.rattle(0.05, seed=0)
    # Both charge states, so that the vocabulary is that of a campaign; the network ignores charge.
    species = atoms.arrays["species"]
    species[np.flatnonzero(species == "Fe2+")[::2]] = "Fe3+"
    return atoms


def training_step(module: torch.nn.Module, graph: Graph) -> None:
    """Do what one step of training costs: energies, forces, stress, and the gradient of a loss."""
    energies, forces, stress = evaluate(module, graph, training=True)
    loss = energies.pow(2).mean() + forces.pow(2).mean() + stress.pow(2).mean()
    module.zero_grad()
    loss.backward()


def interleaved(tasks: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median CPU seconds of every task, run in turns, after two runs to warm up."""
    times: list[list[float]] = [[] for _ in tasks]
    for turn in range(repeats + 2):
        for task, spent in zip(tasks, times, strict=True):
            start = time.process_time()
            task()
            if turn >= 2:
                spent.append(time.process_time() - start)
    return [float(np.median(spent)) for spent in times]


def measure(cases: dict[str, Settings], atoms: Atoms, repeats: int) -> list[dict[str, Any]]:
    """Return one record per potential, times in milliseconds per structure."""
    vocabulary = Vocabulary.of(atoms.arrays["species"], charge_aware=True)
    potentials = [_potential(settings, vocabulary, atoms) for settings in cases.values()]
    batches = [
        collate([build_graph(atoms, vocabulary, potential.cutoff)] * BATCH)
        for potential in potentials
    ]
    tasks: dict[str, tuple[int, list[Callable[[], object]]]] = {
        "evaluation": (1, [partial(p.predict, [atoms]) for p in potentials]),
        "batched_evaluation": (BATCH, [partial(p.predict, [atoms] * BATCH) for p in potentials]),
        "training": (
            BATCH,
            [
                partial(training_step, p.module, batch)
                for p, batch in zip(potentials, batches, strict=True)
            ],
        ),
    }
    times = {
        name: [1e3 * seconds / structures for seconds in interleaved(runs, repeats)]
        for name, (structures, runs) in tasks.items()
    }
    return [
        {
            "potential": name,
            "settings": cases[name].model_dump(mode="json"),
            "weights": sum(weight.numel() for weight in potential.module.parameters()),
            "atoms": len(atoms),
            "milliseconds": {task: values[row] for task, values in times.items()},
        }
        for row, (name, potential) in enumerate(zip(cases, potentials, strict=True))
    ]


def _potential(settings: Settings, vocabulary: Vocabulary, atoms: Atoms) -> Potential:
    pairs = len(find_neighbours(atoms, float(settings.cutoff)).centres)
    return Potential.fresh(settings, vocabulary, mean_neighbours=pairs / len(atoms), seed=0)


def table(records: list[dict[str, Any]]) -> Table:
    """Return the records as a table; ratios are to the first potential on the same cell."""
    result = Table(title=f"CPU time per structure, one thread, batches of {BATCH}")
    for heading in ("potential", "weights", "atoms", "evaluation", "in a batch", "training"):
        result.add_column(heading, justify="left" if heading == "potential" else "right")
    first: dict[int, dict[str, float]] = {}
    for record in records:
        times = record["milliseconds"]
        base = first.setdefault(record["atoms"], times)
        cells = [f"{value:.1f} ms ({value / base[key]:.1f}x)" for key, value in times.items()]
        result.add_row(record["potential"], str(record["weights"]), str(record["atoms"]), *cells)
    return result


def main() -> None:
    """Measure, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="timed runs of each task")
    parser.add_argument("--json", type=Path, default=Path("potential_speed.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    records = [
        record
        for supercell in SUPERCELLS
        for record in measure(CASES, structure(supercell), arguments.repeats)
    ]
    Console().print(table(records))
    arguments.json.write_text(json.dumps({"batch": BATCH, "records": records}, indent=1))


if __name__ == "__main__":
    main()
