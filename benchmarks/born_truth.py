"""Relax every distinct configuration of a supercell with the Born labeler, over several sessions.

The file that it writes is the truth that searches and campaigns are held against. It is written
every few minutes; started again with the same file, the run goes on. Configurations are in the
order of `enumerate_distinct`, which costs seconds, so that the file holds energies alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from exhaustive_hull import Job
from numpy.typing import NDArray
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host

DATA = Path(__file__).parent / "data"
SAVE_EVERY = 120.0
"""Seconds between two writes."""
CHUNK = 16


class Outcome(IntEnum):
    """What became of a configuration."""

    MISSING = 0
    RELAXED = 1
    MOVED = 2
    """It has an energy, but an ion has left its site."""
    FAILED = 3


@dataclass(frozen=True, eq=False)
class Truth:
    """Relaxed energies of all distinct configurations of a cell, by number of working ions.

    Attributes
    ----------
    supercell
        Repeats of the parent cell.
    energies
        eV per formula unit in the order of `enumerate_distinct`; not a number without a label.
    outcomes
        An `Outcome` for each.
    """

    supercell: tuple[int, ...]
    energies: dict[int, NDArray[np.float64]]
    outcomes: dict[int, NDArray[np.int8]]

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read what `save` has written."""
        with np.load(path, allow_pickle=False) as file:
            numbers = sorted(int(n) for n in json.loads(str(file["n_ions"])))
            return cls(
                tuple(file["supercell"].tolist()),
                {n: file[f"energies_{n}"] for n in numbers},
                {n: file[f"outcomes_{n}"] for n in numbers},
            )

    @classmethod
    def begin(cls, path: Path, supercell: tuple[int, ...], host: Host) -> Truth:
        """Return what a file holds; without a file, one without a label."""
        if path.is_file():
            return cls.read(path)
        configs = {n: enumerate_distinct(host, n) for n in host.ion_counts}
        path.parent.mkdir(exist_ok=True)
        return cls(
            supercell,
            {n: np.full(len(some), np.nan) for n, some in configs.items()},
            {n: np.zeros(len(some), dtype=np.int8) for n, some in configs.items()},
        )

    def save(self, path: Path) -> None:
        """Write a file, in one step."""
        arrays: dict[str, Any] = {
            "supercell": np.array(self.supercell),
            "n_ions": json.dumps(list(self.energies)),
        }
        for n, energies in self.energies.items():
            arrays |= {f"energies_{n}": energies, f"outcomes_{n}": self.outcomes[n]}
        partial = path.with_name(f".{path.name}")
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        partial.replace(path)

    def missing(self) -> list[tuple[int, int]]:
        """Return number of ions and place of all without an outcome, the small spaces first."""
        ordered = sorted(self.outcomes, key=lambda n: (len(self.outcomes[n]), -n))
        return [
            (n, int(i))
            for n in ordered
            for i in np.flatnonzero(self.outcomes[n] == Outcome.MISSING)
        ]

    def record(self, n_ions: int, place: int, label: dict[str, Any]) -> None:
        """Note the record of a label."""
        if "error" in label:
            self.outcomes[n_ions][place] = Outcome.FAILED
            return
        same = label["same_configuration"]
        self.outcomes[n_ions][place] = Outcome.RELAXED if same else Outcome.MOVED
        self.energies[n_ions][place] = label["energy_per_formula"]


def run(truth: Truth, job: Job, path: Path, processes: int) -> None:
    """Label what is missing, and write the file now and then."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    configs = {n: enumerate_distinct(job.host, n) for n in truth.energies}
    todo = truth.missing()
    written = time.monotonic()
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _begin, (job,)) as pool, Progress(*columns) as progress:
        labels: Iterator[dict[str, Any]] = pool.imap(
            _label, (configs[n][i] for n, i in todo), chunksize=CHUNK
        )
        tracked = progress.track(labels, total=len(todo), description="labels")
        for (n, i), label in zip(todo, tracked, strict=True):
            truth.record(n, i, label)
            if time.monotonic() - written > SAVE_EVERY:
                truth.save(path)
                written = time.monotonic()
    truth.save(path)


_jobs: list[Job] = []


def _begin(job: Job) -> None:
    """Keep what a worker process does: a host that is sent with every task is built anew."""
    logging.disable(logging.WARNING)  # of tries that fail
    _jobs.append(job)


def _label(config: Configuration) -> dict[str, Any]:
    return _jobs[0].label(config)


def main() -> None:
    """Begin or go on, and say what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supercell", type=int, nargs=3, default=(1, 3, 1))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--plain", action="store_true", help="every label by the labeler")
    arguments = parser.parse_args()
    supercell = tuple(arguments.supercell)
    path = DATA / f"nafepo4_born_{'x'.join(map(str, supercell))}.npz"
    job = Job.of(supercell)
    truth = Truth.begin(path, supercell, job.host)
    if truth.missing() and not arguments.plain:
        try:
            from born_newton import LEARN, NewtonJob
        except ModuleNotFoundError as missing:
            parser.error(f"quick relaxations need {missing.name}: install it, or add --plain")
        job = NewtonJob.learn(job, LEARN, arguments.processes)
    run(truth, job, path, arguments.processes)
    tell(truth, job.host)


def tell(truth: Truth, host: Host) -> None:
    """Say what is there."""
    for n, energies in truth.energies.items():
        outcomes = truth.outcomes[n]
        lowest = np.nanmin(energies) if np.isfinite(energies).any() else np.nan
        kinds = ", ".join(f"{(outcomes == kind).sum()} {kind.name.lower()}" for kind in Outcome)
        print(f"x = {host.composition(n)}: {kinds}; lowest {lowest:.6f} eV/f.u.")


if __name__ == "__main__":
    main()
