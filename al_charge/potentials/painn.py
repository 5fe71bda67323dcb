"""PaiNN: message passing with scalar and vector features on every atom.

The equations are those of Schuett, Unke and Gastegger, ICML 2021 (arXiv:2102.03150). Vector
features are only ever combined linearly without a bias, scaled by scalars, or turned into scalars
by inner products, so energies do not change under rotation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from al_charge.potentials.architecture import Architecture
from al_charge.potentials.graph import Graph
from al_charge.potentials.settings import PainnSettings
from al_charge.potentials.vocabulary import Vocabulary

NORM_SOFTENING = 1e-2
"""Added under the root of a vector feature's length: a length has no smooth derivative at zero,
where atoms on mirror planes and inversion centres sit."""


class Radial(nn.Module):
    """Sinc functions of the distance under a cosine cutoff, and the cutoff itself.

    Parameters
    ----------
    cutoff
        angstrom.
    size
        Number of sinc functions.
    """

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        frequencies = torch.arange(1, size + 1, dtype=torch.float64) * (math.pi / cutoff)
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies.float(), persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """Return shape (n_edges, size + 1) for distances in angstrom, shape (n_edges, 1)."""
        inside = torch.clamp(distances / self.cutoff, max=1.0)
        envelope = 0.5 * (torch.cos(math.pi * inside) + 1.0)
        waves = torch.sin(distances * self.frequencies) / distances
        return torch.cat([waves, torch.ones_like(distances)], dim=1) * envelope


class Message(nn.Module):
    """What neighbours tell an atom.

    Parameters
    ----------
    channels
        Features of one atom, of each kind.
    radial
        Columns of the radial basis.
    first
        Whether all vector features are still zero, so that neighbours have none to pass on.
    """

    def __init__(self, channels: int, radial: int, *, first: bool) -> None:
        super().__init__()
        self.parts = 2 if first else 3
        width = self.parts * channels
        self.context = nn.Sequential(
            nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, width)
        )
        self.filter = nn.Linear(radial, width, bias=False)

    def forward(
        self, scalars: Tensor, vectors: Tensor, basis: Tensor, directions: Tensor, graph: Graph
    ) -> tuple[Tensor, Tensor]:
        """Return the changes of scalars, (n_atoms, channels), and vectors, (n_atoms, 3, channels).

        Parameters
        ----------
        scalars, vectors
            Features of atoms, shapes (n_atoms, channels) and (n_atoms, 3, channels).
        basis
            Radial basis of the edges, shape (n_edges, radial).
        directions
            Unit vectors of the edges, shape (n_edges, 3, 1).
        graph
            Whose edges they are.
        """
        gates = self.context(scalars).index_select(0, graph.neighbours) * self.filter(basis)
        channels = scalars.shape[1]
        parts = gates.unsqueeze(1).split(channels, dim=2)
        arrows = directions * parts[1]
        if self.parts == 3:
            arrows = arrows + vectors.index_select(0, graph.neighbours) * parts[2]
        messages = torch.cat([parts[0], arrows], dim=1)
        sums = messages.new_zeros(graph.n_atoms, 4, channels)
        sums = sums.index_add(0, graph.centres, messages)
        return sums[:, 0], sums[:, 1:]


class Update(nn.Module):
    """What an atom makes of its own scalars and vectors.

    Parameters
    ----------
    channels
        Features of one atom, of each kind.
    last
        Whether nothing reads the vector features any more.
    """

    def __init__(self, channels: int, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.mix = nn.Linear(channels, 2 * channels, bias=False)
        self.gate = nn.Sequential(
            nn.Linear(2 * channels, channels),
            nn.SiLU(),
            nn.Linear(channels, (2 if last else 3) * channels),
        )

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changes of scalars and vectors, shapes as given."""
        channels = scalars.shape[1]
        left, right = self.mix(vectors).split(channels, dim=2)
        lengths = torch.sqrt((right * right).sum(dim=1) + NORM_SOFTENING)
        gates = self.gate(torch.cat([scalars, lengths], dim=1)).split(channels, dim=1)
        change = gates[0] + gates[1] * (left * right).sum(dim=1)
        if self.last:
            return change, torch.zeros_like(vectors)
        return change, gates[2].unsqueeze(1) * left


class Painn(Architecture):
    """PaiNN; one embedding row per species is all that depends on the vocabulary.

    Parameters
    ----------
    settings
        Cutoff, channels, layers and radial functions.
    n_species
        Rows of the vocabulary.
    mean_neighbours
        Pairs per atom; sums over neighbours are divided by its root.
    """

    def __init__(self, settings: PainnSettings, n_species: int, mean_neighbours: float) -> None:
        super().__init__()
        channels, layers = settings.channels, settings.layers
        self.normalisation = 1.0 / math.sqrt(max(mean_neighbours, 1.0))
        self.embedding = nn.Embedding(n_species, channels)
        self.radial = Radial(float(settings.cutoff), settings.radial)
        self.messages = nn.ModuleList(
            Message(channels, settings.radial + 1, first=layer == 0) for layer in range(layers)
        )
        self.updates = nn.ModuleList(
            Update(channels, last=layer == layers - 1) for layer in range(layers)
        )
        last = nn.Linear(channels, 1)
        # A fresh network adds nothing to the baseline.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.readout = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), last)

    @classmethod
    def build(cls, settings: PainnSettings, vocabulary: Vocabulary, mean_neighbours: float) -> Self:
        """Return a network with fresh weights; see the contract."""
        return cls(settings, len(vocabulary), mean_neighbours)

    def forward(self, graph: Graph) -> Tensor:
        """Return the energy of every atom, shape (n_atoms,)."""
        distances = torch.linalg.vector_norm(graph.vectors, dim=1, keepdim=True)
        basis = self.radial(distances) * self.normalisation
        directions = (graph.vectors / distances).unsqueeze(2)
        scalars = self.embedding(graph.species)
        vectors = scalars.new_zeros(graph.n_atoms, 3, scalars.shape[1])
        for message, update in zip(self.messages, self.updates, strict=True):
            more_scalars, more_vectors = message(scalars, vectors, basis, directions, graph)
            scalars, vectors = scalars + more_scalars, vectors + more_vectors
            more_scalars, more_vectors = update(scalars, vectors)
            scalars, vectors = scalars + more_scalars, vectors + more_vectors
        energies: Tensor = self.readout(scalars).squeeze(1)
        return energies

    @torch.no_grad()
    def copy_rows(self, parent: Self, rows: Sequence[int | None]) -> None:
        """Take over all weights of a parent and the embedding rows that are named."""
        weights = parent.state_dict()
        own = self.embedding.weight.clone()
        for row, source in enumerate(rows):
            if source is not None:
                own[row] = parent.embedding.weight[source]
        weights["embedding.weight"] = own
        self.load_state_dict(weights)
