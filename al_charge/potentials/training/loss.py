"""Frames prepared for training, and the loss of a network on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from al_charge.potentials.baseline.fit import frame_weight
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.data.spilled import Spilled
from al_charge.potentials.networks.architecture import evaluate
from al_charge.potentials.networks.graph import Graph, collate, sent
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.distributed import Ranks

Value = TypeVar("Value", Tensor, float)


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
    moments, charges
        Size of the site moments in Bohr magnetons and net charges in e, shape (n_atoms,); NaN
        where unknown.
    """

    graph: Graph
    atoms: Tensor
    energies: Tensor
    forces: Tensor
    stress: Tensor
    stress_known: Tensor
    weights: Tensor
    moments: Tensor
    charges: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device.

        Parameters
        ----------
        device
            Where it is needed.

        Returns
        -------
        Batch
            A copy where it is not there already.
        """
        graph = self.graph.to(self.weights.dtype, device)
        others = {
            f.name: sent(getattr(self, f.name), device) for f in fields(self) if f.name != "graph"
        }
        return Batch(graph=graph, **others)


def prepare(potential: Potential, frames: Sequence[TrainingFrame]) -> Sequence[Batch]:
    """Return every frame as a batch of its own, in the potential's precision.

    What exceeds a limit of memory is kept on disk.

    Parameters
    ----------
    potential
        Whose baseline is subtracted.
    frames
        Labelled geometries.

    Returns
    -------
    sequence of Batch
        One per frame, on the CPU.
    """
    return Spilled(_prepare(potential, frame) for frame in frames)


def _prepare(potential: Potential, frame: TrainingFrame) -> Batch:
    dtype = potential.dtype
    pairs = find_neighbours(frame.atoms, potential.neighbour_cutoff)
    graph = potential.graph(frame.atoms, pairs)
    unknown = np.full(len(frame.atoms), np.nan)
    moments = unknown if frame.moments is None else np.abs(frame.moments)
    charges = unknown if frame.charges is None else frame.charges
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
        moments=torch.as_tensor(moments, dtype=dtype),
        charges=torch.as_tensor(charges, dtype=dtype),
    )


def join(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one.

    Parameters
    ----------
    batches
        At least one.

    Returns
    -------
    Batch
        Its structures in their order.
    """
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
        moments=torch.cat([batch.moments for batch in batches]),
        charges=torch.cat([batch.charges for batch in batches]),
    )


def rebatched(batches: Sequence[Batch], size: int) -> Sequence[Batch]:
    """Return batches joined into larger ones.

    Parameters
    ----------
    batches
        Of one frame each.
    size
        Frames in a joined batch at most.

    Returns
    -------
    sequence of Batch
        In their order.
    """
    cuts = [*range(0, len(batches), size), len(batches)]
    return Spilled(join(batches[a:b]) for a, b in pairwise(cuts))


@dataclass(frozen=True)
class Errors(Generic[Value]):
    """Weighted mean squared errors.

    Attributes
    ----------
    energy, force, stress
        Of eV/atom, eV/A and eV/A^3.
    moment, charge
        Of Bohr magnetons and e; zero where the network does not predict it, or no label has any.
    """

    energy: Value
    force: Value
    stress: Value
    moment: Value
    charge: Value

    def loss(self, settings: TrainingSettings) -> Value:
        """Return the weighted sum of the errors.

        Parameters
        ----------
        settings
            Which have the weights.

        Returns
        -------
        Tensor or float
            Of the kind of the errors.
        """
        return (
            settings.energy_weight * self.energy
            + settings.force_weight * self.force
            + settings.stress_weight * self.stress
            + settings.moment_weight * self.moment
            + settings.charge_weight * self.charge
        )

    def times(self, frames: Value, moments: Value, charges: Value) -> Errors[Value]:
        """Return the errors multiplied by factors.

        Parameters
        ----------
        frames
            Factor of energy, force and stress.
        moments
            Factor of the moment.
        charges
            Factor of the charge.

        Returns
        -------
        Errors
            The products.
        """
        return Errors(
            energy=frames * self.energy,
            force=frames * self.force,
            stress=frames * self.stress,
            moment=moments * self.moment,
            charge=charges * self.charge,
        )


def counts(batch: Batch) -> Tensor:
    """Return over how many frames and sites the errors of a batch are means.

    Parameters
    ----------
    batch
        One or several frames.

    Returns
    -------
    Tensor, shape (3,)
        Frames, sites with a known moment, and sites with a known charge; integers.
    """
    known = [(~torch.isnan(values)).sum() for values in (batch.moments, batch.charges)]
    return torch.stack([torch.full_like(known[0], batch.graph.n_graphs), *known])


def errors(
    module: nn.Module,
    scale: float,
    batch: Batch,
    *,
    training: bool = False,
    huber: float = math.inf,
) -> Errors[Tensor]:
    """Return the mean squared errors of a network.

    Parameters
    ----------
    module
        The network.
    scale
        eV per unit of its output.
    batch
        Frames to compare with.
    training
        Whether they are to be differentiated by the weights.
    huber
        Error of an energy per atom (eV) and of a component of a force (eV/angstrom) beyond which
        it counts linearly; Huber, Ann. Math. Statist. 35, 73 (1964).

    Returns
    -------
    Errors
        Scalars, weighted by frame.
    """
    found = evaluate(module, batch.graph, training=training)
    per_atom = _huber((scale * found.energies - batch.energies) / batch.atoms, huber)
    per_force = _huber(scale * found.forces - batch.forces, huber).sum(dim=1)
    per_frame = torch.zeros_like(batch.atoms).index_add(0, batch.graph.batch, per_force)
    off = (scale * found.stress - batch.stress).square().mean(dim=(1, 2)) * batch.stress_known
    return Errors(
        energy=(batch.weights * per_atom).mean(),
        force=(batch.weights * per_frame / (3.0 * batch.atoms)).mean(),
        stress=(batch.weights * off).mean(),
        moment=_of_atoms(found.moments, batch.moments, batch),
        charge=_of_atoms(found.charges, batch.charges, batch),
    )


def _huber(errors: Tensor, delta: float) -> Tensor:
    """Return squared errors, continued linearly beyond ``delta``."""
    if math.isinf(delta):
        return errors.square()
    sizes = errors.abs()
    return torch.where(sizes <= delta, errors.square(), delta * (2.0 * sizes - delta))


def _of_atoms(found: Tensor | None, true: Tensor, batch: Batch) -> Tensor:
    """Return the mean squared error over atoms with a known value, weighted by frame."""
    if found is None:
        return batch.weights.new_zeros(())
    # Without a selection, for whose size a GPU would have to be waited for.
    known = ~torch.isnan(true)
    off = torch.where(known, found - torch.where(known, true, 0.0), 0.0)
    return (batch.weights[batch.graph.batch] * off.square()).sum() / known.sum().clamp(min=1)


def mean_errors(
    module: nn.Module,
    scale: float,
    batches: Sequence[Batch],
    *,
    device: torch.device,
    ranks: Ranks,
) -> dict[str, float]:
    """Return root mean squared errors over all frames.

    Those of moments and charges are over the sites that have one.

    Parameters
    ----------
    module
        The network.
    scale
        eV per unit of its output.
    batches
        All frames to compare with.
    device
        Where the network is.
    ranks
        Processes that each take a part of the batches.

    Returns
    -------
    dict of float
        By the names of `Errors`, in their units.
    """
    names = [field.name for field in fields(Errors)]
    sums, numbers = np.zeros(len(names)), np.zeros(3)
    for batch in ranks.part(batches):
        own = counts(batch)
        found = errors(module, scale, batch.to(device)).times(*own.to(device))
        # One transfer from the device, not five.
        sums += torch.stack([getattr(found, name) for name in names]).double().cpu().numpy()
        numbers += own.numpy()
    both = torch.as_tensor(np.concatenate([sums, numbers]), device=device)
    total = ranks.total(both).cpu().numpy()
    frames, moments, charges = np.maximum(total[len(names) :], 1.0)
    means = total[: len(names)] / [frames, frames, frames, moments, charges]
    return dict(zip(names, np.sqrt(means).tolist(), strict=True))
