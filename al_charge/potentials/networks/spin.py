"""Site moments as an input, continuous and unchanged when all spins are reversed.

Hu et al. showed that a potential with moments as an input learns from every DFT result, whichever
spin state it converged to. What enters here is the size of a site's own moment, and the products
of its moment with those around it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from al_charge.potentials.networks.graph import Graph

LARGEST = 6.0
"""Bohr magnetons; sizes of moments are resolved up to here."""
SIZES = 12
"""Number of Gaussians over the size of a moment."""
DISTANCES = 6
"""Number of cosines over the distance of two moments."""


class SpinInput(nn.Module):
    """Features of moments, added to the scalar features that atoms start with.

    A fresh one adds nothing, so a spin-aware child starts as its parent.

    Parameters
    ----------
    channels
        Scalar features of an atom.
    cutoff
        angstrom.
    """

    def __init__(self, channels: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(0.0, LARGEST, SIZES), persistent=False)
        self.linear = nn.Linear(SIZES + DISTANCES, channels, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, graph: Graph) -> Tensor:
        """Return what is added to the features of atoms.

        Parameters
        ----------
        graph
            Structures with moments.

        Returns
        -------
        Tensor, shape (n_atoms, channels)
            Even in the sign of all moments together.
        """
        width = LARGEST / (SIZES - 1)
        # The square keeps the size smooth where a moment changes its sign.
        sizes = torch.sqrt(graph.moments.square() + 1e-4)
        own = torch.exp(-(((sizes[:, None] - self.centres) / width) ** 2))
        lengths = torch.linalg.vector_norm(graph.vectors, dim=1, keepdim=True)
        inside = torch.clamp(lengths / self.cutoff, max=1.0)
        waves = torch.arange(DISTANCES, device=inside.device, dtype=inside.dtype)
        basis = torch.cos(math.pi * waves * inside) * 0.5 * (torch.cos(math.pi * inside) + 1.0)
        scaled = graph.moments / LARGEST
        products = scaled[graph.centres] * scaled[graph.neighbours]
        around = basis.new_zeros(graph.n_atoms, DISTANCES)
        around = around.index_add(0, graph.centres, basis * products[:, None])
        added: Tensor = self.linear(torch.cat([own, around], dim=1))
        return added
