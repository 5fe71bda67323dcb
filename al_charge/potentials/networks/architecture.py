"""What every architecture must provide, and forces and stress, computed once for all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from al_charge.potentials.networks.graph import Graph
from al_charge.potentials.vocabulary import Vocabulary


@dataclass(frozen=True)
class AtomOutput:
    """Output of a network for every atom.

    Attributes
    ----------
    energies
        Of order one, shape (n_atoms,).
    moments
        Size of the site moment in Bohr magnetons, shape (n_atoms,); None where not predicted.
    charges
        Net charge in e, cations positive, shape (n_atoms,); None where not predicted.
    structures
        Of order one, shape (n_graphs,): energies of whole structures, to be added; None where
        the atoms' energies are everything.
    """

    energies: Tensor
    moments: Tensor | None = None
    charges: Tensor | None = None
    structures: Tensor | None = None


@dataclass(frozen=True)
class Evaluation:
    """Energies, forces and stress of structures in a network.

    Attributes
    ----------
    energies
        Shape (n_graphs,), of order one.
    forces
        Shape (n_atoms, 3), per angstrom.
    stress
        Shape (n_graphs, 3, 3), per angstrom^3, ASE's sign.
    moments, charges
        See `AtomOutput`.
    """

    energies: Tensor
    forces: Tensor
    stress: Tensor
    moments: Tensor | None
    charges: Tensor | None


class Architecture(nn.Module):
    """A network from graphs to the energies of atoms.

    Weights are a function of settings, vocabulary, mean neighbour count, torch's random state
    and training alone, so that ``build`` followed by ``load_state_dict`` restores a network.
    """

    @classmethod
    @abstractmethod
    def build(cls, settings: Any, vocabulary: Vocabulary, mean_neighbours: float) -> Self:
        """Return a network with fresh weights from torch's random state, in float32.

        Parameters
        ----------
        settings
            Of this architecture's kind.
        vocabulary
            One row per species.
        mean_neighbours
            Pairs per atom within the cutoff, to normalise sums over neighbours.

        Returns
        -------
        Architecture
            On the CPU.
        """

    @abstractmethod
    def forward(self, graph: Graph) -> AtomOutput:
        """Return the energy of every atom and whatever else the network predicts.

        Edges may be longer than the cutoff; they must not count, and the energy must approach that
        limit smoothly. Forces and stress come from the gradient with respect to ``graph.geometry``.

        Parameters
        ----------
        graph
            Structures.

        Returns
        -------
        AtomOutput
            Differentiable with respect to ``graph.geometry``.
        """

    @abstractmethod
    def features(self, graph: Graph) -> list[Tensor]:
        """Return the scalar features of atoms before the first layer and after each.

        Parameters
        ----------
        graph
            Structures.

        Returns
        -------
        list of Tensor
            One per layer and one before, each of shape (n_atoms, n_features). They do not change
            under rotation.
        """

    @abstractmethod
    def copy_rows(self, parent: Self, rows: Sequence[int | None]) -> None:
        """Take over a parent's weights, rows of species included.

        Energies of structures that consist of copied species are the parent's.

        Parameters
        ----------
        parent
            A network of the same settings with another vocabulary.
        rows
            For each of this network's species the parent's row to copy; None keeps the fresh one.
        """

    def start_heads(self, moments: Tensor, charges: Tensor) -> None:
        """Let output heads start from the mean of every species, before the first epoch.

        Parameters
        ----------
        moments
            Mean sizes, Bohr magnetons, shape (n_species,); zero where no label has any.
        charges
            Mean charges, e, shape (n_species,); zero where no label has any.
        """


def evaluate(module: nn.Module, graph: Graph, *, training: bool = False) -> Evaluation:
    """Return energies, forces and stress of a network, and what its output heads predict.

    All follow from the derivative of the energy with respect to edge vectors: a force is the sum
    over the edges that leave the atom minus the sum over those that end there; the stress is the
    sum of the outer products with the edge vectors, which equals the derivative with respect to
    strain, divided by the volume. Where a graph has positions and cells, the energy is
    differentiated by these as well.

    Parameters
    ----------
    module
        An architecture, or anything that is called like one.
    graph
        Structures.
    training
        Whether the results are to be differentiated again.

    Returns
    -------
    Evaluation
        Detached unless for training.
    """
    geometry = {name: v.detach().requires_grad_(True) for name, v in graph.geometry.items()}
    with torch.enable_grad():
        output: AtomOutput = module(graph.with_geometry(geometry))
        atomic = output.energies
        energies = atomic.new_zeros(graph.n_graphs).index_add(0, graph.batch, atomic)
        total = atomic.sum()
        if output.structures is not None:
            energies, total = energies + output.structures, total + output.structures.sum()
        # The other outputs are differentiated later, through the same graph.
        gradient, *others = torch.autograd.grad(
            total, list(geometry.values()), create_graph=training
        )
        forces = gradient.new_zeros(graph.n_atoms, 3)
        forces = forces.index_add(0, graph.centres, gradient)
        forces = forces.index_add(0, graph.neighbours, -gradient)
        outer = graph.vectors.unsqueeze(2) * gradient.unsqueeze(1)
        virial = outer.new_zeros(graph.n_graphs, 3, 3)
        virial = virial.index_add(0, graph.batch[graph.centres], outer)
        if graph.positions is not None and graph.cells is not None:
            of_positions, of_cells = others
            forces = forces - of_positions
            outer = graph.positions.unsqueeze(2) * of_positions.unsqueeze(1)
            virial = virial.index_add(0, graph.batch, outer)
            virial = virial + graph.cells.transpose(1, 2) @ of_cells
        stress = (virial + virial.transpose(1, 2)) / (2.0 * graph.volumes[:, None, None])
    if training:
        return Evaluation(energies, forces, stress, output.moments, output.charges)
    return Evaluation(
        energies.detach(),
        forces.detach(),
        stress.detach(),
        None if output.moments is None else output.moments.detach(),
        None if output.charges is None else output.charges.detach(),
    )
