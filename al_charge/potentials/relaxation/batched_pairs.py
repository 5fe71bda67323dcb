"""Pair terms on tensors, of many structures at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.networks.graph import Graph


class BatchedPairs:
    """The pair terms of one potential on a device, in double precision.

    Parameters
    ----------
    terms
        Splines.
    device
        Where to compute.
    """

    def __init__(self, terms: PairTerms, device: torch.device) -> None:
        self.cutoff = terms.cutoff
        self.spacing = terms.spacing
        self.pieces = torch.as_tensor(np.array(terms.pieces), device=device)
        self.n_species, _, n_coefficients = terms.coefficients.shape
        self.n_intervals = n_coefficients - 3

    def evaluate(
        self, graph: Graph, lengths: Tensor, species: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return energies, forces and stresses of structures.

        Parameters
        ----------
        graph
            Its vectors may be longer than the cutoff; those do not count.
        lengths
            Of the vectors, angstrom, shape (n_edges,).
        species
            Rows of the potential's vocabulary, shape (n_atoms,).

        Returns
        -------
        energies : Tensor, shape (n_graphs,)
            eV per cell.
        forces : Tensor, shape (n_atoms, 3)
            eV/angstrom.
        stress : Tensor, shape (n_graphs, 3, 3)
            eV/angstrom^3, ASE's sign.
        """
        near = torch.nonzero(lengths < self.cutoff).squeeze(1)
        vectors, lengths, centres = graph.vectors[near], lengths[near], graph.centres[near]
        pair = species[centres] * self.n_species + species[graph.neighbours[near]]
        place = lengths / self.spacing
        interval = place.long()
        t = place - interval
        c = self.pieces[pair * self.n_intervals + interval].unbind(dim=1)
        energy = 0.5 * (((c[3] * t + c[2]) * t + c[1]) * t + c[0])
        slope = ((3.0 * c[3] * t + 2.0 * c[2]) * t + c[1]) / (self.spacing * lengths)
        pulls = vectors * slope[:, None]
        of = graph.batch[centres]
        outer = vectors[:, :, None] * pulls[:, None, :]
        stress = lengths.new_zeros(graph.n_graphs, 3, 3).index_add(0, of, outer)
        return (
            lengths.new_zeros(graph.n_graphs).index_add(0, of, energy),
            lengths.new_zeros(graph.n_atoms, 3).index_add(0, centres, pulls),
            stress / (2.0 * graph.volumes[:, None, None]),
        )
