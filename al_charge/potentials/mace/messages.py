"""MACE's messages with the library's weights, summed over neighbours as they are made.

The library makes a message for every edge and every coupling of angular momenta, and then sums
them. Here the edges of every atom are a row of their own, padded to the longest, so that coupling
and sum are one batched product of matrices. What depends on distance alone is computed once for an
edge and its opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from al_charge.potentials.networks.graph import Graph


@dataclass(frozen=True)
class PaddedEdges:
    """Edges padded to one row per atom, and bonds: edges without a direction.

    Attributes
    ----------
    edges
        Edge at every place of a row, shape (n_atoms, longest); any edge at empty places.
    mask
        One at places of edges and zero elsewhere, shape (n_atoms, longest, 1).
    first
        Edges that stand for their bond, shape (n_edges,), boolean.
    bonds
        Bond of every edge, shape (n_edges,).
    """

    edges: Tensor
    mask: Tensor
    first: Tensor
    bonds: Tensor


def pad_edges(graph: Graph) -> PaddedEdges:
    """Return the edges of a graph in rows of equal length.

    Parameters
    ----------
    graph
        Structures; their centres ascend.

    Returns
    -------
    PaddedEdges
        One row per atom.
    """
    count = torch.bincount(graph.centres, minlength=graph.n_atoms)
    place = torch.arange(int(count.max()), device=count.device)
    mask = place < count[:, None]
    edges = torch.where(mask, (torch.cumsum(count, 0) - count)[:, None] + place, 0)
    first = torch.arange(len(graph.centres), device=count.device) < graph.opposites
    numbers = torch.cumsum(first, 0) - 1
    return PaddedEdges(
        edges=edges,
        mask=mask[:, :, None].to(graph.vectors.dtype),
        first=first,
        bonds=torch.where(first, numbers, numbers[graph.opposites]),
    )


class Convolution:
    """The tensor product of an interaction block, with the sum over neighbours included.

    Parameters
    ----------
    product
        The block's ``conv_tp``: an ``e3nn.o3.TensorProduct`` of features, all of as many channels,
        with spherical harmonics, every path with a weight for each channel.
    """

    def __init__(self, product: Any) -> None:
        from e3nn import o3

        self.degrees = [irrep.l for _, irrep in product.irreps_in1]
        self.channels = product.irreps_in1[0].mul
        slices = product.irreps_in2.slices()
        # By the features that they start from: numbers of paths, and sizes of what they end in.
        self.paths: list[list[int]] = [[] for _ in self.degrees]
        self.widths: list[list[int]] = [[] for _ in self.degrees]
        self.outputs: list[int] = []
        couplings: list[list[Tensor]] = [[] for _ in self.degrees]
        for number, path in enumerate(product.instructions):
            degrees = (
                product.irreps_in1[path.i_in1].ir.l,
                product.irreps_in2[path.i_in2].ir.l,
                product.irreps_out[path.i_out].ir.l,
            )
            wigner = o3.wigner_3j(*degrees, dtype=torch.float64) * path.path_weight
            coupling = wigner.new_zeros(product.irreps_in2.dim, *wigner[:, 0].shape)
            coupling[slices[path.i_in2]] = wigner.transpose(0, 1)
            couplings[path.i_in1].append(coupling)
            self.paths[path.i_in1].append(number)
            self.widths[path.i_in1].append(2 * degrees[2] + 1)
            self.outputs.append(path.i_out)
        # In double precision, whatever the network's.
        self.couplings = [torch.cat(own, 2) for own in couplings]
        self._cast = self.couplings

    def __call__(
        self, features: Tensor, senders: Tensor, angular: Tensor, weights: Tensor
    ) -> Tensor:
        """Return the sum of every atom's messages.

        Parameters
        ----------
        features
            Of atoms, as e3nn lays them out, shape (n_atoms, n_features).
        senders
            Atom at every place of a row, shape (n_atoms, longest).
        angular
            Spherical harmonics, zero at empty places, shape (n_atoms, longest, n_harmonics).
        weights
            Of every path and channel, shape (n_atoms, longest, n_paths * channels).

        Returns
        -------
        Tensor, shape (n_atoms, n_messages)
            As e3nn lays them out.
        """
        if self._cast[0].dtype != angular.dtype or self._cast[0].device != angular.device:
            self._cast = [coupling.to(angular) for coupling in self.couplings]
        by_path = weights.unflatten(2, (-1, self.channels))
        parts = features.split([self.channels * (2 * d + 1) for d in self.degrees], dim=1)
        found: dict[int, Tensor] = {}
        for k, (degree, part) in enumerate(zip(self.degrees, parts, strict=True)):
            own = part.unflatten(1, (self.channels, 2 * degree + 1)).transpose(1, 2).contiguous()
            chosen = by_path[:, :, self.paths[k]]
            messages = own[senders][:, :, :, None] * chosen[:, :, None]
            geometry = torch.einsum("nky,yab->nkab", angular, self._cast[k])
            sums = messages.flatten(3).flatten(1, 2).transpose(1, 2) @ geometry.flatten(1, 2)
            blocks = sums.unflatten(1, (-1, self.channels)).split(self.widths[k], dim=3)
            for row, (path, block) in enumerate(zip(self.paths[k], blocks, strict=True)):
                found[self.outputs[path]] = block[:, row].flatten(1)
        return torch.cat([found[out] for out in sorted(found)], dim=1)


def interact(
    block: Any,
    convolution: Convolution,
    species: Tensor,
    features: Tensor,
    graph: Graph,
    padded: PaddedEdges,
    angular: Tensor,
    radial: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """Return the result of an interaction block of MACE.

    Parameters
    ----------
    block
        One of the interaction blocks that settings offer.
    convolution
        Of the block's tensor product.
    species
        One-hot rows of atoms, shape (n_atoms, n_species).
    features
        Of atoms, shape (n_atoms, n_features).
    graph
        Structures.
    padded
        Their edges in rows of equal length.
    angular
        Spherical harmonics in rows, shape (n_atoms, longest, n_harmonics).
    radial
        Radial functions of bonds, shape (n_bonds, n_radial).

    Returns
    -------
    messages : Tensor
        Shape (n_atoms, channels, n_components).
    skipped : Tensor or None
        What is added after the product (the residual connection); None in blocks without one.
    """
    kind = type(block).__name__
    skipped = None if kind == _DENSITY else block.skip_tp(features, species)
    weights = block.conv_tp_weights(radial)[padded.bonds[padded.edges]]
    senders = graph.neighbours[padded.edges]
    sums = convolution(block.linear_up(features), senders, angular, weights)
    if hasattr(block, "density_fn"):
        densities = torch.tanh(block.density_fn(radial) ** 2)[padded.bonds[padded.edges]]
        messages = block.linear(sums) / ((densities * padded.mask).sum(1) + 1)
    else:
        messages = block.linear(sums) / block.avg_num_neighbors
    if kind == _DENSITY:
        messages = block.skip_tp(messages, species)
    return block.reshape(messages), skipped


_DENSITY = "RealAgnosticDensityInteractionBlock"
"""The one block that acts on species after the sum, and has no residual connection."""
