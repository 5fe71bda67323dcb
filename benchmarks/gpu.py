"""What a GPU is worth: a training step of each potential, and committee relaxations in batches.

One script of at most ten minutes on a machine with a GPU; without one it runs on the CPU.

    python benchmarks/gpu.py --json gpu.json           # on a GPU
    python benchmarks/gpu.py --small                   # everything, in seconds, on any machine

Training: epochs of the trainer itself, with the way of the data to the device. Relaxation: 256
candidates of olivine in cells of 56 and of 168 sites, from ideal sites, ions and cell, with a
committee of cPaiNN that the script trains on Born labels, whose moments and charges are those that
belong to the states. ASE relaxes some of the same candidates with the same committee one by one:
L-BFGS, strain scaled by the cell's length, to the same forces and stress. A rate is compared with
the faster of ASE on the device and ASE on the CPU. Results are written after each case, and what
there is no time for is left out and named.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.optimize import LBFGS
from racing import labelled
from relaxation_speed import MAX_STEPS, olivine, with_ase
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.labelers.born.model import BornModel
from al_charge.labelers.born.relaxation import relax as relax_born
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.committee import Committee
from al_charge.potentials.data.frames import TrainingFrame, species_of
from al_charge.potentials.device import choose_device
from al_charge.potentials.drift import drifted_sites
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.plugin import POTENTIALS
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.batched import relax_batched
from al_charge.potentials.relaxation.one_by_one import Relaxed
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.loss import prepare
from al_charge.potentials.training.train import train
from al_charge.potentials.training.trainer import Trainer
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.search.random_occupation import random_occupation

POTENTIAL_CASES: dict[str, PotentialSettings] = {
    "mace": MaceSettings(),
    "mace, 128 channels": MaceSettings(channels=128, max_ell=3, correlation=3),
    "painn": PainnSettings(),
    "chgnet": ChgnetSettings(),
    "cpainn": CpainnSettings(),
}
"""Of default sizes, CHGNet as it is published; and MACE as large as a foundation model."""
MOMENTS = {"Fe2+": 3.7, "Fe3+": 4.3}
CHARGES = {"Fe2+": 1.5, "Fe3+": 1.8, "Na+": 0.9, "P5+": 3.5, "O2-": -1.4}
"""Bohr magnetons and e that stand for the states: Born has none."""
TIMES_ASE, PER_SECOND, AGREEMENT = 30.0, 100.0, 1e-3
"""Targets: rate over that of ASE, committee relaxations of 56 sites in a second, eV per formula
unit between the two results."""
SECONDS = 570.0
"""After which no further case begins."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes
    ----------
    cells
        Supercells of olivine, 28 sites each.
    candidates
        In a batch.
    by_ase, ase_seconds
        Candidates at most that ASE relaxes, and seconds after which it begins no other.
    members
        Of the committee.
    epochs
        That it is trained for.
    every
        It is trained on every so many geometries of a Born relaxation, and on the last.
    fmax, max_steps
        eV/angstrom, and evaluations, at which relaxations end.
    batch, steps
        Frames in a training step, and steps that are timed.
    potentials
        Which are trained.
    """

    cells: tuple[tuple[int, int, int], ...] = ((1, 2, 1), (1, 3, 2))
    candidates: int = 256
    by_ase: int = 16
    ase_seconds: float = 40.0
    members: int = 3
    epochs: int = 20
    every: int = 4
    fmax: float = 0.03
    max_steps: int = MAX_STEPS
    batch: int = 16
    steps: int = 20
    potentials: tuple[str, ...] = tuple(POTENTIAL_CASES)


SMALL = Scale(
    cells=((1, 1, 1),),
    candidates=2,
    by_ase=1,
    members=2,
    epochs=1,
    every=30,
    fmax=0.1,
    max_steps=200,
    batch=1,
    steps=1,
    potentials=("mace", "painn", "chgnet", "cpainn"),
)


@dataclass
class Use:
    """What a case took.

    Attributes
    ----------
    seconds
        Wall time, the device's work included.
    utilisation
        Of a GPU, the mean share of time in which it was busy, by ``nvidia-smi``; of a CPU,
        processor time over wall time. None where nothing tells.
    peak_mib
        Largest memory: of tensors on a GPU; without one, of the process since it began.
    """

    seconds: float = 0.0
    utilisation: float | None = None
    peak_mib: float = 0.0
    samples: list[float] = field(default_factory=list)


@contextmanager
def measured(device: torch.device) -> Iterator[Use]:
    """Fill in what is taken meanwhile."""
    use = Use()
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(device, use.samples, over), daemon=True)
    if gpu and shutil.which("nvidia-smi"):
        watcher.start()
    began, spent = time.perf_counter(), time.process_time()
    yield use
    if gpu:
        torch.cuda.synchronize(device)
    use.seconds = time.perf_counter() - began
    over.set()
    if gpu:
        if watcher.is_alive():
            watcher.join()
        use.utilisation = float(np.mean(use.samples)) if use.samples else None
        use.peak_mib = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        use.utilisation = (time.process_time() - spent) / use.seconds
        use.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def watch(device: torch.device, samples: list[float], over: threading.Event) -> None:
    """Note how busy a GPU is, five times a second."""
    # By its UUID: CUDA_VISIBLE_DEVICES numbers GPUs in another way than nvidia-smi.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i"]
    while not over.wait(0.2):
        found = subprocess.run([*command, uuid], capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip().isdigit():
            samples.append(float(found.stdout) / 100.0)


def device_line(device: torch.device) -> str:
    """Return what everything runs on."""
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"
    return f"CPU, {torch.get_num_threads()} thread, torch {torch.__version__}"


def fresh(settings: PotentialSettings, frames: Sequence[TrainingFrame]) -> Potential:
    """Return a potential as a training starts it, without a baseline."""
    plugin = POTENTIALS.of(settings)
    published = plugin.start(settings, species_of(frames))
    if published is not None:
        return published
    vocabulary = Vocabulary.of(species_of(frames), charge_aware=True)
    return Potential.fresh(settings, vocabulary, mean_neighbours=60.0, seed=0)


def training(name: str, scale: Scale, device: torch.device) -> dict[str, Any]:
    """Return what a step of training takes, the way of the data to the device included."""
    frames = labelled(scale.batch * scale.steps)
    frames = [replace(f, charges=sites(f.atoms, CHARGES)) for f in frames]
    potential = fresh(POTENTIAL_CASES[name], frames)
    potential.module.to(device)
    settings = TrainingSettings(batch_size=scale.batch)
    trainer = Trainer(potential, settings, prepare(potential, frames), [], seed=0)
    trainer.epoch()  # allocates, and chooses algorithms
    with measured(device) as use:
        trainer.epoch()
    atoms = sum(len(frame.atoms) for frame in frames)
    return {
        "potential": name,
        "weights": sum(w.numel() for w in potential.module.parameters()),
        "frames": scale.batch,
        "seconds_per_step": use.seconds / scale.steps,
        "us_per_atom": 1e6 * use.seconds / atoms,
        "utilisation": use.utilisation,
        "peak_mib": use.peak_mib,
    }


def sites(atoms: Atoms, values: dict[str, float]) -> np.ndarray:
    """Return a value for every atom by its species, zero where there is none."""
    return np.array([values.get(str(token), 0.0) for token in atoms.arrays["species"]])


def born_frames(scale: Scale) -> list[TrainingFrame]:
    """Return Born relaxations of the small cell, with moments and charges of the states."""
    host, frames = olivine((1, 1, 1)), []
    configs = [c for n in host.ion_counts for c in enumerate_distinct(host, n)]
    for number, config in enumerate(configs):
        atoms = to_atoms(host, config)
        model = BornModel([str(token) for token in atoms.arrays["species"]])
        points = relax_born(model, atoms.positions, atoms.cell.array, fmax=0.02)
        for point in [*points[: -1 : scale.every], points[-1]]:
            other = atoms.copy()
            other.set_cell(point.cell)
            other.positions = point.positions
            found = point.result
            label = (found.energy, found.forces, found.stress, str(number))
            moments, charges = sites(atoms, MOMENTS), sites(atoms, CHARGES)
            frames.append(TrainingFrame(other, *label, moments=moments, charges=charges))
    return frames


def trained_committee(scale: Scale, device: torch.device) -> Committee:
    """Return a committee of cPaiNN on Born labels."""
    frames = born_frames(scale)
    members = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(scale.members):
            found = train(
                CpainnSettings(channels=16),
                TrainingSettings(epochs=scale.epochs),
                frames,
                seed=seed,
                fold=0,
                n_folds=1,
                checkpoint=Path(folder) / f"{seed}",
                device=device,
            )
            members.append(found.potential)
    return Committee(members)


def candidates_of(cell: tuple[int, int, int], number: int) -> list[Atoms]:
    """Return random configurations of a supercell, a quarter to three quarters full."""
    host, rng = olivine(cell), np.random.default_rng(0)
    counts = [n for n in host.ion_counts if 4 * n in range(host.most_ions, 3 * host.most_ions + 1)]
    return [
        to_atoms(host, random_occupation(host, int(rng.choice(counts)), rng)) for _ in range(number)
    ]


def by_ase(committee: Committee, candidates: Sequence[Atoms], scale: Scale) -> list[Relaxed]:
    """Relax candidates one by one with L-BFGS until the time is over, one at least."""
    began, found = time.perf_counter(), []
    for atoms in candidates[: scale.by_ase]:
        found += with_ase(committee, LBFGS, scale.fmax, [atoms], scale.max_steps)
        if time.perf_counter() - began > scale.ase_seconds:
            break
    return found


def relaxed_record(
    case: str, results: Sequence[Relaxed], use: Use, committee: Committee
) -> dict[str, Any]:
    """Return what is written of some relaxations; their charge orders are checked here."""
    drifted = [
        drifted_sites(committee, map(str, one.atoms.arrays["species"]), one.moments, one.charges)
        for one in results
    ]
    work = sum(len(one.atoms) * one.steps for one in results)
    return {
        "case": case,
        "relaxations": len(results),
        "seconds": use.seconds,
        "per_second": len(results) / use.seconds,
        "us_per_atom_and_step": 1e6 * use.seconds / work,
        "evaluations": float(np.mean([one.steps for one in results])),
        "unconverged": sum(not one.converged for one in results),
        "charge_order_checked": sum(found is not None for found in drifted),
        "charge_order_drifted": sum(bool(found) for found in drifted),
        "utilisation": use.utilisation,
        "peak_mib": use.peak_mib,
    }


def relaxations(
    cell: tuple[int, int, int], scale: Scale, committee: Committee, device: torch.device
) -> dict[str, Any]:
    """Return the records of one cell, the batch first, and how it compares."""
    candidates = candidates_of(cell, scale.candidates)
    units = olivine(cell).formula_units
    options: dict[str, Any] = {"fmax": scale.fmax, "device": str(device)}
    relax_batched(committee, candidates[:1], **options, max_steps=2)  # starts the device
    with measured(device) as use:
        batch = relax_batched(committee, candidates, **options, max_steps=scale.max_steps)
    records = [relaxed_record(f"batch, {device.type}", batch, use, committee)]
    places = [device] if device.type == "cpu" else [device, torch.device("cpu")]
    differences: list[float] = []
    for place in places:
        there = Committee([member.to(device=place) for member in committee.members])
        with measured(place) as use:
            found = by_ase(there, candidates, scale)
        # with_ase reads no heads: those of the committee at the end are what is checked.
        ends = there.predict([one.atoms for one in found])
        found = [
            replace(one, moments=end.moments, charges=end.charges)
            for one, end in zip(found, ends, strict=True)
        ]
        records.append(relaxed_record(f"ASE L-BFGS, {place.type}", found, use, there))
        both = zip(batch, found, strict=False)
        differences += [
            abs(a.energy - b.energy) / units for a, b in both if a.converged and b.converged
        ]
    ratio = records[0]["per_second"] / max(record["per_second"] for record in records[1:])
    return {
        "cell": list(cell),
        "sites": 28 * int(np.prod(cell)),
        "candidates": scale.candidates,
        "records": records,
        "times_ase": ratio,
        "compared": len(differences),
        "largest_difference": max(differences, default=None),
    }


def targets_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the targets with the figures, and whether they were met: not if one is unknown."""
    rows: list[dict[str, Any]] = []

    def row(what: str, target: float, found: float | None, *, least: bool) -> None:
        met = found is not None and (found >= target if least else found <= target)
        rows.append({"what": what, "target": target, "found": found, "met": met})

    for one in document["relaxations"]:
        told, batch, off = f"{one['sites']} sites: ", one["records"][0], one["largest_difference"]
        share = batch["charge_order_checked"] / batch["relaxations"]
        row(f"{told}times serial ASE", TIMES_ASE, one["times_ase"], least=True)
        if one["sites"] == 56:
            rate = batch["per_second"]
            row(f"{told}committee relaxations a second", PER_SECOND, rate, least=True)
        row(f"{told}eV/f.u. from ASE, at most", AGREEMENT, off, least=False)
        row(f"{told}share with the charge order checked", 1.0, share, least=True)
    return rows


def show(document: dict[str, Any], console: Console) -> None:
    """Print the figures."""
    table = Table("training step", "weights", "frames", "ms", "us/atom", "busy", "peak MiB")
    for r in document["training"]:
        table.add_row(
            r["potential"],
            f"{r['weights']}",
            f"{r['frames']}",
            f"{1e3 * r['seconds_per_step']:.1f}",
            f"{r['us_per_atom']:.1f}",
            share_of(r["utilisation"]),
            f"{r['peak_mib']:.0f}",
        )
    console.print(table)
    columns = ("relaxation", "sites", "number", "per second", "us/atom/step", "evaluations")
    table = Table(*columns, "unconverged", "order drifted", "busy", "peak MiB")
    for one in document["relaxations"]:
        for r in one["records"]:
            table.add_row(
                r["case"],
                f"{one['sites']}",
                f"{r['relaxations']}",
                f"{r['per_second']:.3g}",
                f"{r['us_per_atom_and_step']:.2f}",
                f"{r['evaluations']:.0f}",
                f"{r['unconverged']}",
                f"{r['charge_order_drifted']} of {r['charge_order_checked']}",
                share_of(r["utilisation"]),
                f"{r['peak_mib']:.0f}",
            )
    console.print(table)
    table = Table("target", "wanted", "found", "met")
    for r in document["targets"]:
        found = "unknown" if r["found"] is None else f"{r['found']:.3g}"
        table.add_row(r["what"], f"{r['target']:g}", found, "yes" if r["met"] else "no")
    console.print(table)
    if document["left_out"]:
        console.print(f"left out for want of time: {', '.join(document['left_out'])}")


def share_of(utilisation: float | None) -> str:
    """Return a share as it is printed."""
    return "unknown" if utilisation is None else f"{100 * utilisation:.0f} %"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every case that there is time for, print tables and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="everything, in seconds")
    parser.add_argument("--device", help="as for al-charge train; a GPU if there is one")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    given = parser.parse_args(arguments)
    began = time.monotonic()
    torch.set_num_threads(1)
    device, scale = choose_device(given.device), SMALL if given.small else Scale()
    console = Console(width=140)
    console.print(f"device: {device_line(device)}")
    document: dict[str, Any] = {
        "device": device_line(device),
        "small": given.small,
        "training": [],
        "relaxations": [],
        "targets": [],
        "left_out": [],
    }
    committee: list[Committee] = []

    def go(name: str, case: Callable[[], dict[str, Any]], into: str) -> None:
        if time.monotonic() - began > SECONDS:
            document["left_out"].append(name)
            return
        console.print(f"{time.monotonic() - began:.0f} s: {name}")
        document[into].append(case())
        document["targets"] = targets_of(document)
        given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def relax_cell(cell: tuple[int, int, int]) -> dict[str, Any]:
        if not committee:
            committee.append(trained_committee(scale, device))
        return relaxations(cell, scale, committee[0], device)

    for name in scale.potentials:
        go(f"training of {name}", lambda name=name: training(name, scale, device), "training")
    for cell in scale.cells:
        told = f"relaxation of {'x'.join(map(str, cell))}"
        go(told, lambda cell=cell: relax_cell(cell), "relaxations")
    show(document, console)


if __name__ == "__main__":
    main()
