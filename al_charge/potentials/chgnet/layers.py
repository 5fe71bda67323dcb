"""CHGNet's forward pass with the library's weights, in fewer operations.

A message's first linear layer acts on the concatenated features of its atoms, bonds and angle. Here
it acts on each of them before they are gathered, on a few hundred atoms and bonds instead of
thousands of messages; the sum is the same. An edge and its opposite share their bond, and the two
orders of an angle their bonds' weights, so both are kept as pairs of rows. Bonds too long for
angles, and the last layer's angles, which nothing reads, are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from al_charge.potentials.networks.graph import Graph


@dataclass(frozen=True)
class BondGraph:
    """Bonds, which are edges without a direction, and angles between the short ones.

    Attributes
    ----------
    centres, neighbours
        Atoms of every bond in one direction and then in the other, shape (2 n_bonds,).
    lengths
        angstrom, shape (n_bonds,).
    short
        Bonds that make angles, shape (n_short,).
    edge_centres, edge_bonds
        Atom, and index in ``short``, of every short bond in each direction, shape (n_edges,).
    directions
        Unit vectors of the same, shape (n_edges, 3).
    left, right
        The two short edges of every angle, in one order and then in the other, shape (2 n_angles,).
    """

    centres: Tensor
    neighbours: Tensor
    lengths: Tensor
    short: Tensor
    edge_centres: Tensor
    edge_bonds: Tensor
    directions: Tensor
    left: Tensor
    right: Tensor


def find_bonds(graph: Graph, angle_cutoff: float) -> BondGraph:
    """Return the bonds of a graph, and the angles between short ones.

    Parameters
    ----------
    graph
        Structures.
    angle_cutoff
        Length in angstrom up to which bonds make angles.

    Returns
    -------
    BondGraph
        Of all structures.
    """
    edges = torch.arange(len(graph.centres), device=graph.centres.device)
    first = edges < graph.opposites
    bonds = torch.cumsum(first, 0) - 1
    bond_of = torch.where(first, bonds, bonds[graph.opposites])
    lengths = torch.linalg.vector_norm(graph.vectors, dim=1)
    near = lengths.detach() < angle_cutoff
    short = torch.nonzero(near[first]).squeeze(1)
    place = torch.zeros_like(bonds).index_copy(0, short, edges[: len(short)])
    left, right = _angles(graph.centres[near], graph.n_atoms)
    ends = graph.centres[first], graph.neighbours[first]
    return BondGraph(
        centres=torch.cat(ends),
        neighbours=torch.cat(ends[::-1]),
        lengths=lengths[first],
        short=short,
        edge_centres=graph.centres[near],
        edge_bonds=place[bond_of[near]],
        directions=graph.vectors[near] / lengths[near, None],
        left=torch.cat([left, right]),
        right=torch.cat([right, left]),
    )


def _angles(centres: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Return all pairs of different edges from one centre, the earlier first; centres ascend."""
    count = torch.bincount(centres, minlength=n_atoms)
    edges = torch.arange(len(centres), device=centres.device)
    later = torch.cumsum(count, 0)[centres] - edges - 1
    left = torch.repeat_interleave(edges, later)
    place = torch.arange(len(left), device=centres.device)
    begins = torch.cumsum(later, 0) - later
    return left, left + 1 + place - begins[left]


def forward(network: Any, graph: Graph, angle_cutoff: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return what CHGNet predicts for every atom.

    Parameters
    ----------
    network
        A ``chgnet.model.CHGNet`` of that library's default options except for its sizes.
    graph
        Structures; without edges beyond the network's cutoff.
    angle_cutoff
        Length in angstrom up to which bonds make angles.

    Returns
    -------
    energies : Tensor, shape (n_atoms,)
        eV.
    moments : Tensor, shape (n_atoms,)
        Sizes, Bohr magnetons.
    features : list of Tensor
        Of atoms before the first layer and after each, shape (n_atoms, n_features).
    """
    found = find_bonds(graph, angle_cutoff)
    bases = network.bond_basis_expansion
    basis = bases.rbf_expansion_ag(found.lengths)
    short_basis = bases.rbf_expansion_bg(found.lengths[found.short])
    half = len(found.left) // 2
    angle_basis = network.angle_basis_expansion(
        found.directions[found.left[:half]], found.directions[found.right[:half]]
    )
    atoms = network.atom_embedding(graph.species)
    bonds = network.bond_embedding(basis)
    angles = network.angle_embedding(angle_basis).expand(2, -1, -1)
    bond_weights = network.bond_weights_ag(basis)
    short_weights = network.bond_weights_bg(short_basis)[found.edge_bonds]
    angle_weights = short_weights[found.left[:half]] * short_weights[found.right[:half]]
    layers = [atoms]
    last = len(network.bond_conv_layers) - 1
    for number, bond_layer in enumerate(network.bond_conv_layers):
        atoms = _atom_layer(network.atom_conv_layers[number], found, atoms, bonds, bond_weights)
        layers.append(atoms)
        bonds = _bond_layer(bond_layer, found, atoms, bonds, angles, angle_weights)
        if number < last:
            update = network.angle_layers[number].twoBody_bond
            angles = angles + _gated(update, _of_angles(found, atoms, bonds, angles))
    moments = network.site_wise(atoms).abs().squeeze(1)
    atoms = _atom_layer(network.atom_conv_layers[-1], found, atoms, bonds, bond_weights)
    layers.append(atoms)
    energies = network.mlp(network.readout_norm(atoms)).squeeze(1)
    return energies, moments, layers


def _atom_layer(layer: Any, found: BondGraph, atoms: Tensor, bonds: Tensor, w: Tensor) -> Tensor:
    """Return the features of atoms after messages from their neighbours, weighted by bonds."""

    def first(linear: nn.Linear) -> Tensor:
        n_atom, n_bond = atoms.shape[1], bonds.shape[1]
        centre, bond, neighbour = linear.weight.split([n_atom, n_bond, n_atom], dim=1)
        ends = (atoms @ centre.T)[found.centres] + (atoms @ neighbour.T)[found.neighbours]
        pairs: Tensor = ends.unflatten(0, (2, -1))
        return pairs + nn.functional.linear(bonds, bond, linear.bias)

    messages = (_gated(layer.twoBody_atom, first) * w).flatten(0, 1)
    sums = torch.zeros_like(atoms).index_add(0, found.centres, messages)
    updated: Tensor = atoms + layer.mlp_out(sums)
    return updated


def _bond_layer(
    layer: Any, found: BondGraph, atoms: Tensor, bonds: Tensor, angles: Tensor, w: Tensor
) -> Tensor:
    """Return the features of bonds after messages through angles, weighted by both bonds."""
    messages = _gated(layer.twoBody_bond, _of_angles(found, atoms, bonds, angles)) * w
    own = found.edge_bonds[found.left]
    sums = bonds.new_zeros(len(found.short), bonds.shape[1])
    sums = sums.index_add(0, own, messages.flatten(0, 1))
    updates: Tensor = layer.mlp_out(sums)
    return bonds.index_add(0, found.short, updates)


def _of_angles(
    found: BondGraph, atoms: Tensor, bonds: Tensor, angles: Tensor
) -> Callable[[nn.Linear], Tensor]:
    """Return a function that applies a linear layer to every angle's bonds, features and atom."""
    short = bonds[found.short]

    def first(linear: nn.Linear) -> Tensor:
        sizes = [bonds.shape[1], bonds.shape[1], angles.shape[2], atoms.shape[1]]
        one, other, angle, centre = linear.weight.split(sizes, dim=1)
        at_centre = nn.functional.linear(atoms, centre, linear.bias)[found.edge_centres]
        ends = ((short @ one.T)[found.edge_bonds] + at_centre)[found.left]
        ends = ends + (short @ other.T)[found.edge_bonds][found.right]
        messages: Tensor = ends.unflatten(0, (2, -1)) + angles @ angle.T
        return messages

    return first


def _gated(block: Any, first: Callable[[nn.Linear], Tensor]) -> Tensor:
    """Return the product of a block's two branches, given the outputs of their first layers."""
    branches = []
    for branch, norm in ((block.mlp_core, block.bn1), (block.mlp_gate, block.bn2)):
        linear, *rest = (layer for layer in branch.layers if not isinstance(layer, nn.Dropout))
        values = first(linear)
        for layer in rest:
            values = layer(values)
        branches.append(norm(values))
    product: Tensor = block.activation(branches[0]) * block.sigmoid(branches[1])
    return product
