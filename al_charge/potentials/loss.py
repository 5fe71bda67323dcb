"""Frames made ready for training, and the loss of a network on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from al_charge.potentials.architecture import evaluate
from al_charge.potentials.baseline import frame_weight
from al_charge.potentials.frames import TrainingFrame
from al_charge.potentials.graph import Graph, build_graph, collate, find_neighbours
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings


@dataclass(frozen=True)
class Batch:
    """One or several frames as tensors.

    Attributes
    ----------
    graph
        The structures.
    atoms
        Atoms of every structure, shape (n_graphs,).
    energies
        eV per cell, without the baseline, shape (n_graphs,).
    forces
        eV/angstrom, without the baseline, shape (n_atoms, 3).
    stress
        eV/angstrom^3, without the baseline, shape (n_graphs, 3, 3); zero where unknown.
    stress_known
        One where the stress is known and zero elsewhere, shape (n_graphs,).
    weights
        Of squared errors, shape (n_graphs,).
    """

    graph: Graph
    atoms: Tensor
    energies: Tensor
    forces: Tensor
    stress: Tensor
    stress_known: Tensor
    weights: Tensor


def prepare(potential: Potential, frames: Sequence[TrainingFrame]) -> list[Batch]:
    """Return every frame as a batch of its own, in the potential's precision."""
    return [_prepare(potential, frame) for frame in frames]


def _prepare(potential: Potential, frame: TrainingFrame) -> Batch:
    dtype = potential.dtype
    pairs = find_neighbours(frame.atoms, potential.reach)
    graph = build_graph(
        frame.atoms, potential.vocabulary, potential.cutoff, dtype=dtype, neighbours=pairs
    )
    base = potential.predict_baseline(frame.atoms, pairs)
    known = frame.stress is not None
    stress = frame.stress - base.stress if frame.stress is not None else np.zeros((3, 3))
    weight = frame_weight(frame.forces) ** 2
    return Batch(
        graph=graph,
        atoms=torch.tensor([len(frame.atoms)], dtype=dtype),
        energies=torch.tensor([frame.energy - base.energy], dtype=dtype),
        forces=torch.as_tensor(frame.forces - base.forces, dtype=dtype),
        stress=torch.as_tensor(stress, dtype=dtype)[None],
        stress_known=torch.tensor([float(known)], dtype=dtype),
        weights=torch.tensor([weight], dtype=dtype),
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        graph=collate([batch.graph for batch in batches]),
        atoms=torch.cat([batch.atoms for batch in batches]),
        energies=torch.cat([batch.energies for batch in batches]),
        forces=torch.cat([batch.forces for batch in batches]),
        stress=torch.cat([batch.stress for batch in batches]),
        stress_known=torch.cat([batch.stress_known for batch in batches]),
        weights=torch.cat([batch.weights for batch in batches]),
    )


def joined(batches: Sequence[Batch], size: int) -> list[Batch]:
    """Return batches joined, in order, to as many as ``size`` each."""
    cuts = [*range(0, len(batches), size), len(batches)]
    return [join(batches[a:b]) for a, b in pairwise(cuts)]


@dataclass(frozen=True)
class Errors:
    """Weighted mean squared errors: energy (eV/atom), forces (eV/A) and stress (eV/A^3)."""

    energy: Tensor
    force: Tensor
    stress: Tensor

    def loss(self, settings: TrainingSettings) -> Tensor:
        """Return the weighted sum."""
        return (
            settings.energy_weight * self.energy
            + settings.force_weight * self.force
            + settings.stress_weight * self.stress
        )


def errors(module: nn.Module, scale: float, batch: Batch, *, training: bool = False) -> Errors:
    """Return the mean squared errors of a network, whose output counts ``scale`` eV."""
    energies, forces, stress = evaluate(module, batch.graph, training=training)
    per_atom = (scale * energies - batch.energies) / batch.atoms
    per_force = (scale * forces - batch.forces).square().sum(dim=1)
    per_frame = torch.zeros_like(batch.atoms).index_add(0, batch.graph.batch, per_force)
    off = (scale * stress - batch.stress).square().mean(dim=(1, 2)) * batch.stress_known
    return Errors(
        energy=(batch.weights * per_atom.square()).mean(),
        force=(batch.weights * per_frame / (3.0 * batch.atoms)).mean(),
        stress=(batch.weights * off).mean(),
    )


def mean_errors(module: nn.Module, scale: float, batches: Sequence[Batch]) -> dict[str, float]:
    """Return root mean squared errors over all frames: ``energy``, ``force`` and ``stress``."""
    frames = sum(batch.graph.n_graphs for batch in batches)
    sums = np.zeros(3)
    for batch in batches:
        found = errors(module, scale, batch)
        weights = batch.graph.n_graphs / frames
        sums += weights * np.array([float(found.energy), float(found.force), float(found.stress)])
    return dict(zip(("energy", "force", "stress"), np.sqrt(sums).tolist(), strict=True))
