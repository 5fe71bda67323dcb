"""Relaxations per second: by processes, one by one, batched, and with ASE, side by side.

A PaiNN is trained on Born labels of olivine, then candidates of the doubled cell (56 atoms) are
relaxed from their ideal sites, ions and cell, until the same criterion holds: forces, and the
stress times the volume to the two thirds. ASE relaxes with ``FrechetCellFilter`` and the fastest of
its usual optimisers, which is found on the first candidates; its calculator is our potential. What
runs one by one does half of the candidates before and half after all others, so that a busy
machine slows all alike. Times are wall times, starting processes included.

    OMP_NUM_THREADS=1 python benchmarks/relaxation_speed.py -o relaxation_speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE, LBFGS
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.labelers.born.model import BornModel
from al_charge.labelers.born.relaxation import relax as relax_born
from al_charge.loop.spec import load_spec
from al_charge.potentials.committee import Committee
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.batched import relax_batched
from al_charge.potentials.relaxation.one_by_one import Relaxed, relax
from al_charge.potentials.relaxation.processes import relax_in_processes
from al_charge.potentials.relaxation.stiffness import voigt
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.search.seeds import seeds

CAMPAIGN = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
OPTIMISERS = {"FIRE": FIRE, "BFGS": BFGS, "LBFGS": LBFGS}
TRIED = 2
"""Candidates that every optimiser of ASE is tried on."""
ONE_BY_ONE = 64
"""Candidates at most that are relaxed one by one; rates are compared."""
MAX_STEPS = 1500
EPOCHS = 12


@dataclass
class Case:
    """One way to relax, and what came of it.

    Attributes
    ----------
    run
        Relaxes some structures.
    whole
        Whether it gets all candidates at once.
    """

    name: str
    run: Callable[[Sequence[Atoms]], list[Relaxed]]
    whole: bool = False
    seconds: float = 0.0
    results: dict[int, Relaxed] = field(default_factory=dict)

    def go(self, candidates: Sequence[Atoms], numbers: Sequence[int]) -> None:
        """Relax some of the candidates and keep what is found."""
        start = time.monotonic()
        found = self.run([candidates[number] for number in numbers])
        self.seconds += time.monotonic() - start
        self.results.update(zip(numbers, found, strict=True))

    @property
    def rate(self) -> float:
        """Relaxations per second."""
        return len(self.results) / self.seconds


def olivine(supercell: tuple[int, int, int]) -> Host:
    """Return the host of the demo in a supercell."""
    spec = load_spec(CAMPAIGN).host
    return Host.from_spec(spec.model_copy(update={"supercell": supercell}))


def trained(seed: int) -> Potential:
    """Return a PaiNN trained on all of the small cell and some of the doubled one: a minute."""
    host, frames = olivine((1, 1, 1)), []
    small = [to_atoms(host, c) for n in host.ion_counts for c in enumerate_distinct(host, n)]
    for k, atoms in enumerate([*small, *candidates_of(10, seed + 1)]):
        model = BornModel([str(token) for token in atoms.arrays["species"]])
        points = relax_born(model, atoms.positions, atoms.cell.array, fmax=0.02)
        for point in [*points[:-1:4], points[-1]]:
            other = atoms.copy()
            other.set_cell(point.cell)
            other.positions = point.positions
            found = point.result
            label = (found.energy, found.forces, found.stress)
            frames.append(TrainingFrame(other, *label, group=str(k)))
    with tempfile.TemporaryDirectory() as folder:
        return train(
            PainnSettings(channels=16),
            TrainingSettings(epochs=EPOCHS),
            frames,
            seed=seed,
            fold=0,
            n_folds=1,
            checkpoint=Path(folder) / "checkpoint",
        ).potential


def candidates_of(number: int, seed: int) -> list[Atoms]:
    """Return configurations of the doubled cell with two to six Na, on ideal sites."""
    host, rng = olivine((1, 2, 1)), np.random.default_rng(seed)
    each = -(-number // 5)
    found = [to_atoms(host, c) for n in range(2, 7) for c in seeds(host, n, each, rng)]
    order = rng.permutation(len(found))
    return [found[i] for i in order[:number]]


def with_ase(
    potential: Potential | Committee,
    optimiser: Any,
    fmax: float,
    structures: Sequence[Atoms],
    max_steps: int = MAX_STEPS,
) -> list[Relaxed]:
    """Relax structures one by one with ASE until our criterion holds."""
    results = []
    for start in structures:
        atoms = start.copy()
        atoms.calc = potential.calculator()
        # Scaled by the cell's length strain is as stiff as displacements, which saves ASE steps.
        moving = FrechetCellFilter(atoms, exp_cell_factor=atoms.get_volume() ** (1 / 3))
        steps = optimiser(moving, logfile=None).irun(fmax=0.0, steps=max_steps)
        count, converged = 0, False
        for _ in steps:
            count, converged = count + 1, largest(atoms) <= fmax
            if converged:
                break
        energy = atoms.get_potential_energy()
        results.append(Relaxed(atoms, energy, 0.0, converged, count))
    return results


def largest(atoms: Atoms) -> float:
    """Return the largest force, the stress as the force on the strain; nothing is evaluated."""
    stress = atoms.get_stress(voigt=False)
    force = np.linalg.norm(atoms.get_forces(), axis=1).max()
    return max(float(force), float(np.abs(voigt(stress)).max() * atoms.get_volume() ** (2 / 3)))


def cases_of(potential: Potential, fmax: float, processes: int, ase: str) -> list[Case]:
    """Return every way that this machine has; the first is what others are compared with."""
    committee = Committee([potential])
    options: dict[str, Any] = {"fmax": fmax, "max_steps": MAX_STEPS}
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    cases = []
    for device in devices:
        there = potential.to(device=torch.device(device))
        cases.append(
            Case(
                f"ASE, {ase}, one by one, {device}",
                lambda s, there=there: with_ase(there, OPTIMISERS[ase], fmax, s),
            )
        )
    cases += [
        Case("ours, one by one, cpu", lambda s: relax(committee, s, **options)),
        Case(
            f"ours, {processes} processes, cpu",
            lambda s: relax_in_processes(committee, s, **options, processes=processes),
            whole=True,
        ),
    ]
    for device in devices if find_spec("torch_sim") is not None else []:
        cases.append(
            Case(
                f"torch-sim, batched, {device}",
                lambda s, device=device: relax_batched(committee, s, **options, device=device),
                whole=True,
            )
        )
    return cases


def fastest(potential: Potential, fmax: float, candidates: Sequence[Atoms]) -> dict[str, float]:
    """Return the seconds for one relaxation of each optimiser of ASE, the shortest first."""
    times = {}
    for name, optimiser in OPTIMISERS.items():
        start = time.monotonic()
        with_ase(potential, optimiser, fmax, candidates)
        times[name] = (time.monotonic() - start) / len(candidates)
    return dict(sorted(times.items(), key=lambda item: item[1]))


def record_of(case: Case, first: Case) -> dict[str, Any]:
    """Return what is written of one case."""
    same = sorted(case.results.keys() & first.results.keys())
    off = [case.results[k].energy - first.results[k].energy for k in same]
    found = list(case.results.values())
    return {
        "case": case.name,
        "relaxations": len(found),
        "seconds": case.seconds,
        "per_second": case.rate,
        "ratio": case.rate / first.rate,
        "evaluations": float(np.mean([one.steps for one in found])),
        "unconverged": sum(not one.converged for one in found),
        "median_energy_difference": float(np.median(np.abs(off))),
        "largest_energy_difference": float(np.abs(off).max()),
    }


def table(records: Sequence[dict[str, Any]]) -> Table:
    """Return the records as a table."""
    result = Table(
        "", "per second", "ratio", "evaluations", "ms each", "unconverged", "differs (meV)"
    )
    for record in records:
        result.add_row(
            record["case"],
            f"{record['per_second']:.3f}",
            f"{record['ratio']:.2f}",
            f"{record['evaluations']:.0f}",
            f"{1e3 / record['per_second'] / record['evaluations']:.0f}",
            f"{record['unconverged']} of {record['relaxations']}",
            f"{1e3 * record['median_energy_difference']:.2f}, at most "
            f"{1e3 * record['largest_energy_difference']:.1f}",
        )
    return result


def main() -> None:
    """Train, relax in every way, and print what each takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--fmax", type=float, default=0.03, help="eV/angstrom")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="write JSON here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load = [os.getloadavg()[0]]
    potential = trained(arguments.seed)
    candidates = candidates_of(arguments.candidates, arguments.seed)
    times = fastest(potential, arguments.fmax, candidates[:TRIED])
    cases = cases_of(potential, arguments.fmax, arguments.processes, next(iter(times)))
    few = range(min(len(candidates), ONE_BY_ONE))
    halves = few[: len(few) // 2], few[len(few) // 2 :]
    singly = [case for case in cases if not case.whole]
    for case in singly:
        case.go(candidates, halves[0])
    for case in cases:
        if case.whole:
            case.go(candidates, range(len(candidates)))
    for case in reversed(singly):
        case.go(candidates, halves[1])
    load.append(os.getloadavg()[0])
    records = [record_of(case, cases[0]) for case in cases]
    Console(width=110).print(table(records))
    print("seconds for one relaxation by ASE:", ", ".join(f"{n} {t:.2f}" for n, t in times.items()))
    print(f"load of the machine (1 minute) before and after: {load[0]:.1f}, {load[1]:.1f}")
    if arguments.output is not None:
        document = {
            "candidates": len(candidates),
            "atoms": len(candidates[0]),
            "fmax": arguments.fmax,
            "processes": arguments.processes,
            "seconds_by_ase_optimiser": times,
            "load": load,
            "cores": os.cpu_count(),
            "cases": records,
        }
        arguments.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
