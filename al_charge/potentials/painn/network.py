"""PaiNN: message passing with scalar and vector features on every atom.

The equations are those of Schuett, Unke and Gastegger, ICML 2021 (arXiv:2102.03150). Vector
features are only ever combined linearly without a bias, scaled by scalars, or turned into scalars
by inner products, so energies do not change under rotation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from al_charge.potentials.networks.architecture import Architecture, AtomOutput
from al_charge.potentials.networks.graph import Graph
from al_charge.potentials.networks.spin import SpinInput
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.vocabulary import Vocabulary

NORM_SOFTENING = 1e-2
"""Added under the root of a vector feature's length: a length has no smooth derivative at zero,
which it is for atoms on mirror planes and inversion centres."""


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
        """Return the basis at given distances.

        Parameters
        ----------
        distances
            angstrom, shape (n_edges, 1).

        Returns
        -------
        Tensor, shape (n_edges, size + 1)
            Smoothly zero at the cutoff.
        """
        inside = torch.clamp(distances / self.cutoff, max=1.0)
        envelope = 0.5 * (torch.cos(math.pi * inside) + 1.0)
        waves = torch.sin(distances * self.frequencies) / distances
        return torch.cat([waves, torch.ones_like(distances)], dim=1) * envelope


class Message(nn.Module):
    """Messages from neighbours.

    Parameters
    ----------
    channels
        Features of one atom, of each kind.
    radial
        Columns of the radial basis.
    first
        Whether all vector features are still zero, so that neighbours have none to send.
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
        """Return the changes of features that the neighbours of atoms cause.

        Parameters
        ----------
        scalars
            Scalar features of atoms, shape (n_atoms, channels).
        vectors
            Vector features of atoms, shape (n_atoms, 3, channels).
        basis
            Radial basis of the edges, shape (n_edges, radial).
        directions
            Unit vectors of the edges, shape (n_edges, 3, 1).
        graph
            Whose edges they are.

        Returns
        -------
        scalars : Tensor, shape (n_atoms, channels)
            To be added to the scalar features.
        vectors : Tensor, shape (n_atoms, 3, channels)
            To be added to the vector features.
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
    """Update of an atom's features from its own scalars and vectors.

    Parameters
    ----------
    channels
        Features of one atom, of each kind.
    last
        Whether nothing reads the vector features afterwards.
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
        """Return the changes of features that atoms cause by themselves.

        Parameters
        ----------
        scalars
            Scalar features of atoms, shape (n_atoms, channels).
        vectors
            Vector features of atoms, shape (n_atoms, 3, channels).

        Returns
        -------
        scalars : Tensor, shape (n_atoms, channels)
            To be added to the scalar features.
        vectors : Tensor, shape (n_atoms, 3, channels)
            To be added to the vector features; zeros in the last layer.
        """
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

    Attributes
    ----------
    by_species
        Names of the weights that have a row for every species.

    Parameters
    ----------
    settings
        Cutoff, channels, layers and radial functions.
    n_species
        Rows of the vocabulary.
    mean_neighbours
        Pairs per atom; sums over neighbours are divided by its root.
    """

    by_species: ClassVar[tuple[str, ...]] = ("embedding.weight",)

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
        self.spin = SpinInput(channels, float(settings.cutoff)) if settings.spin else None

    @classmethod
    @override
    def build(cls, settings: PainnSettings, vocabulary: Vocabulary, mean_neighbours: float) -> Self:
        return cls(settings, len(vocabulary), mean_neighbours)

    @override
    def forward(self, graph: Graph) -> AtomOutput:
        *_, scalars = self.features(graph)
        return AtomOutput(self._energies(scalars))

    def _energies(self, scalars: Tensor) -> Tensor:
        energies: Tensor = self.readout(scalars).squeeze(1)
        return energies

    @override
    def features(self, graph: Graph) -> list[Tensor]:
        distances = torch.linalg.vector_norm(graph.vectors, dim=1, keepdim=True)
        basis = self.radial(distances) * self.normalisation
        directions = (graph.vectors / distances).unsqueeze(2)
        scalars = self.embedding(graph.species)
        if self.spin is not None:
            scalars = scalars + self.spin(graph)
        layers = [scalars]
        vectors = scalars.new_zeros(graph.n_atoms, 3, scalars.shape[1])
        for message, update in zip(self.messages, self.updates, strict=True):
            more_scalars, more_vectors = message(scalars, vectors, basis, directions, graph)
            scalars, vectors = scalars + more_scalars, vectors + more_vectors
            more_scalars, more_vectors = update(scalars, vectors)
            scalars, vectors = scalars + more_scalars, vectors + more_vectors
            layers.append(scalars)
        return layers

    @torch.no_grad()
    @override
    def copy_rows(self, parent: Self, rows: Sequence[int | None]) -> None:
        weights = self.state_dict() | parent.state_dict()
        for name in self.by_species:
            own = self.state_dict()[name].clone()
            for row, source in enumerate(rows):
                if source is not None:
                    own[row] = parent.state_dict()[name][source]
            weights[name] = own
        self.load_state_dict(weights)


class Cpainn(Painn):
    """cPaiNN: PaiNN that also predicts moments and Bader charges, which the energy does not read.

    Petersen et al. (2026). Two linear heads on the scalar features before the last two layers, here
    with a mean for every species that they correct.

    Attributes
    ----------
    by_species
        Names of the weights that have a row for every species.

    Parameters
    ----------
    settings
        Cutoff, channels, layers and radial functions.
    n_species
        Rows of the vocabulary.
    mean_neighbours
        Pairs per atom; sums over neighbours are divided by its root.
    """

    by_species: ClassVar[tuple[str, ...]] = ("embedding.weight", "site_means")

    def __init__(self, settings: CpainnSettings, n_species: int, mean_neighbours: float) -> None:
        super().__init__(settings, n_species, mean_neighbours)
        self.site_means: Tensor
        self.register_buffer("site_means", torch.zeros(n_species, 2))
        self.site_heads = nn.Linear(settings.channels, 2)
        nn.init.zeros_(self.site_heads.weight)
        nn.init.zeros_(self.site_heads.bias)

    @override
    def forward(self, graph: Graph) -> AtomOutput:
        layers = self.features(graph)
        before = max(1, len(layers) - 3)  # the second to last layer, but after the first
        sites = self.site_means[graph.species] + self.site_heads(layers[before])
        return AtomOutput(self._energies(layers[-1]), moments=sites[:, 0], charges=sites[:, 1])

    @torch.no_grad()
    @override
    def start_heads(self, moments: Tensor, charges: Tensor) -> None:
        self.site_means.copy_(torch.stack([moments, charges], dim=1))
