"""CHGNet on the species vocabulary.

Deng et al., Nature Machine Intelligence 5, 1031 (2023). The network and its weights are the
library's own; `al_charge.potentials.chgnet.layers` evaluates it on edge vectors, so that one
derivative gives forces and stress as for every other network.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.chgnet.layers import forward
from al_charge.potentials.networks.architecture import Architecture, AtomOutput
from al_charge.potentials.networks.graph import Graph
from al_charge.potentials.vocabulary import Vocabulary

EMBEDDING = "network.atom_embedding.embedding.weight"
"""Name of the weights that have a row for every species."""


class Chgnet(Architecture):
    """CHGNet without its reference energies, which every potential has around its network.

    Parameters
    ----------
    network
        A ``chgnet.model.CHGNet`` without composition model, one embedding row per species.
    angle_cutoff
        Length in angstrom up to which bonds make angles.
    cutoff
        Cutoff radius of one layer in angstrom.
    """

    def __init__(self, network: nn.Module, angle_cutoff: float, cutoff: float) -> None:
        super().__init__()
        self.network = network
        self.cutoff = cutoff
        self.angle_cutoff = angle_cutoff

    @classmethod
    @override
    def build(
        cls, settings: ChgnetSettings, vocabulary: Vocabulary, mean_neighbours: float
    ) -> Self:
        from chgnet.model.model import CHGNet

        cutoff, angle_cutoff = float(settings.cutoff), float(settings.angle_cutoff)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a line
            network = CHGNet(
                atom_fea_dim=settings.channels,
                bond_fea_dim=settings.channels,
                angle_fea_dim=settings.channels,
                atom_conv_hidden_dim=settings.channels,
                bond_conv_hidden_dim=settings.channels,
                mlp_hidden_dims=(settings.channels,) * 3,
                composition_model=cast(Any, None),
                num_radial=settings.radial,
                num_angular=settings.angular,
                n_conv=settings.layers,
                atom_graph_cutoff=cutoff,
                bond_graph_cutoff=angle_cutoff,
            )
        rows = nn.Embedding(len(vocabulary), settings.channels)
        network.atom_embedding.embedding = rows
        return cls(network, angle_cutoff, cutoff)

    @override
    def forward(self, graph: Graph) -> AtomOutput:
        energies, moments, _ = self._pass(graph)
        return AtomOutput(energies=energies, moments=moments)

    @override
    def features(self, graph: Graph) -> list[Tensor]:
        return self._pass(graph)[2]

    def _pass(self, graph: Graph) -> tuple[Tensor, Tensor, list[Tensor]]:
        return forward(self.network, graph.within(self.cutoff), self.angle_cutoff)

    @torch.no_grad()
    @override
    def copy_rows(self, parent: Self, rows: Sequence[int | None]) -> None:
        weights = parent.state_dict()
        own = self.state_dict()[EMBEDDING].clone()
        for row, source in enumerate(rows):
            if source is not None:
                own[row] = weights[EMBEDDING][source]
        self.load_state_dict(weights | {EMBEDDING: own})
