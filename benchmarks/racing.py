"""What the races of `training_speed.py` share: structures, laps, and what is compared."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from potential_speed import structure

from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.potential import Potential
from al_charge.potentials.training.loss import Batch, errors, join, prepare
from al_charge.potentials.training.trainer import Trainer

TOKENS = {"Fe2+": 26, "Fe3+": 27, "Na+": 11, "O2-": 8, "P5+": 15}
"""Atomic number that stands for a species in the library's run."""
WARM_UP = 2
"""Epochs that are not counted."""


@dataclass
class Race:
    """Our trainer, which does an epoch after each of the library's.

    Attributes
    ----------
    structures
        Of one epoch.
    trainer
        Made when the library's network is there to copy.
    ours, theirs
        Seconds of each epoch: CPU time of this process, wall time.
    facts
        What was compared before the first epoch.
    """

    structures: int
    trainer: Trainer | None = None
    ours: list[tuple[float, float]] = field(default_factory=list)
    theirs: list[tuple[float, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def lap(self, theirs: Callable[[], Any]) -> Any:
        """Let the library do its epoch and then do ours; return what the library's gives."""
        assert self.trainer is not None
        result, spent = timed(theirs)
        self.theirs.append(spent)
        self.ours.append(timed(self.trainer.epoch)[1])
        return result

    def record(self, case: str) -> dict[str, Any]:
        """Return medians in milliseconds per structure and the ratio of CPU times."""
        ours, theirs = (1e3 * np.array(laps[WARM_UP:]) for laps in (self.ours, self.theirs))
        medians = {
            name: dict(zip(("cpu", "wall"), np.median(laps, axis=0) / self.structures, strict=True))
            for name, laps in (("ours", ours), ("library", theirs))
        }
        return {
            "case": case,
            "milliseconds": medians,
            "ratio": float(np.median(theirs[:, 0]) / np.median(ours[:, 0])),
            "ratios_of_laps": (theirs[:, 0] / ours[:, 0]).tolist(),
        } | self.facts


def timed(task: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Return a task's result, and its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = task()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


def labelled(count: int) -> list[TrainingFrame]:
    """Return olivine structures of 56 atoms, both charge states in them, with random labels."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(count):
        atoms: Atoms = structure((1, 2, 1))
        atoms.rattle(0.05, seed=number)
        stress = rng.normal(scale=0.01, size=(3, 3))
        frames.append(
            TrainingFrame(
                atoms=atoms,
                energy=float(rng.normal()),
                forces=rng.normal(scale=0.3, size=(len(atoms), 3)),
                stress=(stress + stress.T) / 2,
                group=str(number),
                moments=rng.uniform(0.0, 4.0, size=len(atoms)),
            )
        )
    return frames


def unweighted(potential: Potential, frames: list[TrainingFrame]) -> list[Batch]:
    """Return frames for our trainer that all count alike, as in the libraries."""
    return [replace(b, weights=torch.ones_like(b.weights)) for b in prepare(potential, frames)]


def loss_of(trainer: Trainer) -> float:
    """Return the loss on all structures at once."""
    batch = join(trainer.used)
    found = errors(trainer.module, trainer.potential.scale, batch, training=True)
    return float(found.loss(trainer.settings).detach())


def as_elements(frame: TrainingFrame) -> Atoms:
    """Return a frame's atoms with an element for every species."""
    atoms = frame.atoms.copy()
    atoms.numbers = [TOKENS[str(token)] for token in frame.atoms.arrays["species"]]
    return atoms


def counted(module: torch.nn.Module) -> int:
    """Return how many weights are trained."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def n_edges(trainer: Trainer) -> int:
    """Return the edges of all structures."""
    return sum(len(batch.graph.centres) for batch in trainer.used)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries say to themselves."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
    logging.disable(logging.NOTSET)
