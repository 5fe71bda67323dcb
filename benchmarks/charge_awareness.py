"""Compare four potentials, blind and charge-aware: the same data, the same budget, several seeds.

Each case trains one potential and tests it on labelled geometries that it has not seen. Order,
ground states, hull and voltage are compared with the labeler's twice: with energies at the
labeler's relaxed geometries, and with energies after the potential has relaxed unrelaxed starts
itself. Cases are kept one by one in a folder, so a run that was stopped goes on.

    python benchmarks/charge_awareness.py born FOLDER
    python benchmarks/charge_awareness.py gpaw FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from awareness_data import Target, Trial, trial
from awareness_report import write_report
from numpy.typing import NDArray
from pymatgen.core.composition import Composition
from rich.progress import track

from al_charge.potentials.accuracy import accuracy
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.committee import Committee
from al_charge.potentials.drift import drifted_sites
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.model_file import write_model
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.one_by_one import Relaxed, relax
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import voltage_profile

CUTOFF = "4 A"
Array = NDArray[np.float64]
PAIRS = {"born": "14 A", "gpaw": "8 A"}
"""Reach of the pair terms that every potential has. Born's charge orders differ by Coulomb energies
of far sites, which no shorter reach and no network of this cutoff sees."""
BARE, MIDDLE = "0 A", "8 A"
"""With one seed, on Born labels: bare networks, all of them; a reach between, aware PaiNN alone.
Born is a sum of pair terms, so that with pair terms there is little left to a network."""
ARCHITECTURES: dict[str, type[Any]] = {
    "mace": MaceSettings,
    "painn": PainnSettings,
    "chgnet": ChgnetSettings,
    "cpainn": CpainnSettings,
}
EPOCHS = {"born": 12, "gpaw": 60}
FMAX, MAX_STEPS = 0.03, 200
"""eV/angstrom, and steps, of relaxations."""
DEGENERATE = 1e-3
"""eV per formula unit above the lowest within which a configuration is a ground state."""
TIE = 1e-5
"""eV per formula unit between predictions that are the same to a potential. A blind one gives all
charge orders of one geometry the same energy; then the worst of them counts as its choice."""
GRID = np.linspace(0.0, 1.0, 401)
"""Compositions over which hulls and voltages are compared."""


@dataclass(frozen=True)
class Case:
    """One potential to train and test."""

    data: str
    kind: str
    charge_aware: bool
    seed: int
    pairs: str

    @property
    def name(self) -> str:
        """What its files are named after."""
        sight = "aware" if self.charge_aware else "blind"
        return f"{self.data}-{self.kind}-{sight}-{self.pairs.split()[0]}-{self.seed}"

    def document(self) -> dict[str, Any]:
        """Return all that the result depends on besides the labels."""
        settings = self.settings().model_dump(mode="json")
        return asdict(self) | {"settings": settings, "epochs": EPOCHS[self.data]}

    def settings(self) -> PotentialSettings:
        """Return the potential's settings: alike for all kinds where they have them in common."""
        common: dict[str, Any] = {"charge_aware": self.charge_aware, "pair_cutoff": self.pairs}
        if self.data == "gpaw":
            common |= {"pair_intervals": 8}
        if self.kind == "chgnet":
            if self.data == "gpaw":
                return ChgnetSettings(**common)
            sizes = {"channels": 32, "layers": 3, "radial": 12, "angular": 9, "pretrained": False}
            return ChgnetSettings(cutoff=CUTOFF, **sizes, **common)
        if self.data == "gpaw":
            common["prior"] = "chgnet"
        settings: PotentialSettings = ARCHITECTURES[self.kind](cutoff=CUTOFF, **common)
        return settings


def run_case(job: tuple[Case, Path]) -> None:
    """Train, test and relax one case, and write its record."""
    import torch

    torch.set_num_threads(1)
    case, folder = job
    own = trial(case.data, folder, case.seed)
    began = time.process_time()
    result = train(
        case.settings(),
        TrainingSettings(epochs=EPOCHS[case.data], patience=EPOCHS[case.data]),
        own.frames,
        seed=case.seed,
        fold=0,
        n_folds=10 if case.data == "born" else 1,  # too few labels to hold some out
        checkpoint=folder / f"{case.name}.checkpoint",
    )
    trained = time.process_time() - began
    write_model(folder / f"{case.name}.safetensors", [result.potential])
    record = case.document() | {
        "weights": sum(w.numel() for w in result.potential.module.parameters()),
        "frames": len(own.frames),
        "configurations": len({frame.group for frame in own.frames}),
        "training_seconds": trained,
        "errors": accuracy(result.potential, own.test)["all"],
        "at_labels": at_labels(result.potential, own),
        "pairs_alone": pairs_alone(result.potential, own),
        "relaxed": after_relaxation(result.potential, own),
    }
    part = folder / f"{case.name}.part"
    part.write_text(json.dumps(record, indent=1), encoding="utf-8")
    part.replace(folder / f"{case.name}.json")


def at_labels(potential: Potential, own: Trial) -> dict[str, Any]:
    """Return what the potential makes of the targets at the labeler's geometries."""
    found = potential.predict([target.relaxed for target in own.targets])
    return judged(own, [prediction.energy / own.formula_units for prediction in found])


def pairs_alone(potential: Potential, own: Trial) -> dict[str, Any]:
    """Return the same of pair terms and prior, without the network."""
    energies = []
    for target in own.targets:
        pairs = find_neighbours(target.relaxed, potential.neighbour_cutoff)
        energies.append(potential.predict_baseline(target.relaxed, pairs).energy)
    return judged(own, [energy / own.formula_units for energy in energies])


def after_relaxation(potential: Potential, own: Trial) -> dict[str, Any]:
    """Return what the potential makes of the targets when it relaxes them itself."""
    began = time.process_time()
    starts = [target.start for target in own.targets]
    found = relax(Committee([potential]), starts, fmax=FMAX, max_steps=MAX_STEPS)
    energies = [one.energy / own.formula_units for one in found]
    return judged(own, energies) | {
        "converged": sum(one.converged for one in found) / len(found),
        "drifted": drifted(own.targets, [one.atoms for one in found]),
        "drifted_in_labels": drifted(own.targets, [target.relaxed for target in own.targets]),
        "moments_drifted": moments_drifted(potential, own.targets, found),
        "seconds": time.process_time() - began,
        "targets": [
            {
                "name": target.name,
                "x": str(target.x),
                "held_out": target.held_out,
                "true": target.energy,
                "predicted": energy,
                "converged": one.converged,
                "steps": one.steps,
            }
            for target, energy, one in zip(own.targets, energies, found, strict=True)
        ],
    }


def judged(own: Trial, energies: Sequence[float]) -> dict[str, Any]:
    """Return how predicted energies of the targets (eV per formula unit) order them.

    Order and missed ground states are those of compositions with three held-out targets at least.
    """
    orders, missed = {}, []
    for x in sorted({target.x for target in own.targets}):
        rows = [i for i, target in enumerate(own.targets) if target.x == x]
        tested = [i for i in rows if own.targets[i].held_out]
        if len(tested) < 3:
            continue
        true = np.array([own.targets[i].energy for i in tested])
        orders[str(x)] = order(true, np.array([energies[i] for i in tested]))
        lowest = min(energies[i] for i in rows)
        chosen = max(own.targets[i].energy for i in rows if energies[i] < lowest + TIE)
        if chosen > min(own.targets[i].energy for i in rows) + DEGENERATE:
            missed.append(str(x))
    true_hull = hull_of(own, [target.energy for target in own.targets])
    own_hull = hull_of(own, energies)
    return {
        "kendall": orders,
        "missed": missed,
        "hull_error": hull_error(true_hull, own_hull),
        "voltage_error": voltage_error(true_hull, own_hull),
        "vertices": [str(x) for x in own_hull.compositions],
    }


def order(true: Array, predicted: Array) -> float:
    """Return Kendall's tau a: pairs in the right order less those in the wrong one, of all pairs.

    A predicted tie is neither.
    """
    first, second = np.triu_indices(len(true), 1)
    steps = predicted[first] - predicted[second]
    steps[np.abs(steps) < TIE] = 0.0
    return float(np.mean(np.sign(steps) * np.sign(true[first] - true[second])))


def hull_of(own: Trial, energies: Sequence[float]) -> Hull:
    """Return the hull of all targets with the given energies, eV per formula unit."""
    first = min(own.targets, key=lambda target: target.x).start
    units = Composition(first.get_chemical_formula()) / own.formula_units
    return build_hull(
        [
            Entry(target.name, target.name, target.x, energy)
            for target, energy in zip(own.targets, energies, strict=True)
        ],
        framework=units.formula.replace(" ", ""),
        working_ion="Na",
        metal_energy=own.metal_energy,
    )


def hull_error(true: Hull, found: Hull) -> float:
    """Return the mean distance of two hulls of formation energies, eV per formula unit."""
    return float(np.mean([abs(found.lower(x) - true.lower(x)) for x in GRID]))


def voltage_error(true: Hull, found: Hull) -> float:
    """Return the mean distance of two voltage profiles over x, V."""
    middles = (GRID[1:] + GRID[:-1]) / 2
    profiles = []
    for hull in (true, found):
        steps = voltage_profile(hull).steps
        ends = np.array([float(step.x_to) for step in steps])
        voltages = np.array([step.voltage for step in steps])
        profiles.append(voltages[np.searchsorted(ends, middles)])
    return float(np.mean(np.abs(profiles[0] - profiles[1])))


def drifted(targets: Sequence[Target], structures: Sequence[Atoms]) -> float:
    """Return the fraction of Fe sites whose shell belongs to the other charge state.

    A shell is the six oxygen ions nearest to the site; it belongs to the charge state to whose mean
    bond length, over the labeler's relaxed geometries, its own is nearer.
    """
    middle = middle_length([target.relaxed for target in targets])
    states = np.concatenate([iron_states(target.start) for target in targets])
    found = np.concatenate([shell_lengths(atoms) for atoms in structures])
    return float(np.mean((found > middle) != (states == "Fe2+")))


def middle_length(structures: Sequence[Atoms]) -> float:
    """Return the Fe-O length between the means of both charge states in labels, angstrom."""
    lengths = np.concatenate([shell_lengths(atoms) for atoms in structures])
    states = np.concatenate([iron_states(atoms) for atoms in structures])
    return float(lengths[states == "Fe2+"].mean() + lengths[states == "Fe3+"].mean()) / 2


def shell_lengths(atoms: Atoms) -> Array:
    """Return the mean distance of every Fe to its six nearest O, angstrom."""
    centre, other, distance = neighbor_list("ijd", atoms, 4.0)
    oxygen = atoms.numbers[other] == 8
    return np.array(
        [
            np.sort(distance[oxygen & (centre == i)])[:6].mean()
            for i in np.flatnonzero(atoms.numbers == 26)
        ]
    )


def iron_states(atoms: Atoms) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Return the charge state of every Fe."""
    return np.asarray(atoms.arrays["species"])[atoms.numbers == 26]


def moments_drifted(
    potential: Potential, targets: Sequence[Target], found: Sequence[Relaxed]
) -> float | None:
    """Return the fraction of Fe sites whose predicted moment is nearer to the other state's.

    None for a potential that predicts none, or learned of none.
    """
    sites, wrong = 0, 0
    for target, one in zip(targets, found, strict=True):
        species = target.start.arrays["species"]
        other = drifted_sites(potential, species, one.moments, None)
        if other is None:
            return None
        sites, wrong = sites + int(np.sum(target.start.numbers == 26)), wrong + len(other)
    return wrong / sites


def is_done(case: Case, folder: Path) -> bool:
    """Return whether a case has a record, made with the same settings."""
    file = folder / f"{case.name}.json"
    if not file.exists():
        return False
    record = json.loads(file.read_text(encoding="utf-8"))
    return all(record.get(name) == value for name, value in case.document().items())


def main() -> None:
    """Run the cases that are not there yet; write the table, figures and JSON of all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", choices=("born", "gpaw"))
    parser.add_argument("folder", type=Path, help="for labels, models and records")
    parser.add_argument("--kinds", nargs="+", choices=ARCHITECTURES, default=list(ARCHITECTURES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = [
        Case(options.data, kind, aware, seed, PAIRS[options.data])
        for seed in range(options.seeds)
        for kind in options.kinds
        for aware in (True, False)
    ]
    if options.data == "born":
        cases += [
            Case("born", kind, aware, 0, BARE) for kind in options.kinds for aware in (True, False)
        ]
        cases.append(Case("born", "painn", True, 0, MIDDLE))
    left = [case for case in cases if not is_done(case, options.folder)]
    trial(options.data, options.folder, 0)  # labels, once
    with get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
        done = pool.imap_unordered(run_case, [(case, options.folder) for case in left])
        for _ in track(done, "cases", len(left)):
            pass
    names = [case.name for case in cases]
    write_report(options.data, options.folder, names, PAIRS[options.data])


if __name__ == "__main__":
    main()
