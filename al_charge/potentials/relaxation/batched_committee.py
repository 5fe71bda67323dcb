"""A committee on tensors: many structures at once, on any device.

The same numbers as ``Committee.predict`` to rounding. What does not change while structures are
relaxed (species, moments, weights) stays on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from torch import Tensor, nn

from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.committee import Committee
from al_charge.potentials.networks.architecture import evaluate
from al_charge.potentials.networks.graph import Graph
from al_charge.potentials.potential import Potential
from al_charge.potentials.relaxation.batched_neighbours import BatchedNeighbours
from al_charge.potentials.vocabulary import Vocabulary


@dataclass(frozen=True)
class BatchedPrediction:
    """Prediction of a committee for several structures.

    Attributes
    ----------
    energies
        Of every member, eV per cell, shape (n_members, n_structures).
    forces
        Mean, eV/angstrom, shape (n_atoms, 3).
    stress
        Mean, eV/angstrom^3, shape (n_structures, 3, 3).
    moments, charges
        Mean, shape (n_atoms,); None where a member does not predict them.
    shortest
        Shortest distance between two atoms, angstrom, shape (n_structures,).
    """

    energies: Tensor
    forces: Tensor
    stress: Tensor
    moments: Tensor | None
    charges: Tensor | None
    shortest: Tensor

    @property
    def energy(self) -> Tensor:
        """Mean, eV per cell, shape (n_structures,)."""
        return self.energies.mean(dim=0)


class _PairTerms:
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
        """Return energies (eV), forces (eV/A) and stresses (eV/A^3) of structures.

        Vectors of the graph beyond the cutoff do not count; ``lengths`` are theirs.
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


@dataclass(frozen=True)
class _Part:
    """A potential on the device, and its inputs for every atom."""

    potential: Potential
    module: nn.Module
    pairs: _PairTerms | None
    rows: Tensor
    references: Tensor
    moments: Tensor


class BatchedCommittee:
    """A committee for a set of structures, of which any may be evaluated in any geometry.

    Parameters
    ----------
    committee
        Priors are evaluated beside its members.
    structures
        With ``species`` arrays.
    device
        Where to compute.
    """

    def __init__(
        self, committee: Committee, structures: Sequence[Atoms], device: torch.device
    ) -> None:
        self.device = device
        self.sizes = [len(atoms) for atoms in structures]
        self._starts = np.cumsum([0, *self.sizes])
        self._of_atom = torch.repeat_interleave(
            torch.arange(len(structures)), torch.tensor(self.sizes)
        ).to(device)
        self._numbers = self._table([atoms.numbers for atoms in structures])
        self._members = [self._part(member, structures) for member in committee.members]
        names = {member.settings.prior for member in committee.members} - {"none"}
        self._priors = {name: self._part(_prior(structures), structures) for name in sorted(names)}
        parts = [*self._members, *self._priors.values()]
        cutoff = max(part.potential.neighbour_cutoff for part in parts)
        self._neighbours = BatchedNeighbours(structures, cutoff, device)

    def places(self, structure: int) -> slice:
        """Return the indices of a structure's atoms among those of all structures.

        Parameters
        ----------
        structure
            Its index.

        Returns
        -------
        slice
            They are consecutive.
        """
        return slice(int(self._starts[structure]), int(self._starts[structure + 1]))

    def structures_of(self, places: Tensor, batch: Tensor) -> list[int]:
        """Return which structures a batch holds.

        Parameters
        ----------
        places
            Indices of its atoms among those of all structures, shape (n_atoms,).
        batch
            Position in the batch of every atom's structure, ascending, shape (n_atoms,).

        Returns
        -------
        list of int
            Indices of structures, in the order of the batch.
        """
        firsts = torch.searchsorted(batch, torch.arange(int(batch[-1]) + 1, device=batch.device))
        found: list[int] = self._of_atom[places[firsts]].tolist()
        return found

    def evaluate(
        self, places: Tensor, positions: Tensor, cells: Tensor, batch: Tensor
    ) -> BatchedPrediction:
        """Return the committee's predictions for a batch.

        Parameters
        ----------
        places
            Indices of the atoms, in ranges as of ``places``, shape (n_atoms,).
        positions
            angstrom, float64, shape (n_atoms, 3).
        cells
            Rows are cell vectors, angstrom, float64, shape (n_structures, 3, 3).
        batch
            Position in the batch of every atom's structure, ascending, shape (n_atoms,).

        Returns
        -------
        BatchedPrediction
            On the device.
        """
        places = places.long()
        present = self.structures_of(places, batch)
        pairs = self._neighbours.find(present, places, positions, cells, batch)
        shifts = torch.einsum("ei,eij->ej", pairs.shifts, cells[batch[pairs.centres]])
        vectors = positions[pairs.neighbours] - positions[pairs.centres] + shifts
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        joint = Graph(
            vectors=vectors,
            centres=pairs.centres,
            neighbours=pairs.neighbours,
            opposites=pairs.opposites,
            species=places,
            moments=positions.new_zeros(len(places)),
            numbers=self._numbers[places],
            batch=batch,
            volumes=torch.linalg.det(cells).abs(),
            positions=positions,
            cells=cells,
        )
        graphs: dict[float, Graph] = {}
        priors = {
            name: self._evaluate(part, joint, lengths, graphs)
            for name, part in self._priors.items()
        }
        members = []
        for part in self._members:
            found = self._evaluate(part, joint, lengths, graphs)
            prior = priors.get(part.potential.settings.prior)
            members.append(found if prior is None else found.plus(prior))
        return BatchedPrediction(
            energies=torch.stack([found.energies for found in members]),
            forces=torch.stack([found.forces for found in members]).mean(dim=0),
            stress=torch.stack([found.stress for found in members]).mean(dim=0),
            moments=_mean([found.moments for found in members]),
            charges=_mean([found.charges for found in members]),
            shortest=lengths.new_full((joint.n_graphs,), torch.inf).scatter_reduce(
                0, batch[pairs.centres], lengths.detach(), "amin"
            ),
        )

    def _evaluate(
        self, part: _Part, joint: Graph, lengths: Tensor, graphs: dict[float, Graph]
    ) -> _Found:
        """Return the prediction of one potential; graphs are made once for each cutoff."""
        potential, places = part.potential, joint.species
        if potential.cutoff not in graphs:
            graphs[potential.cutoff] = joint.with_edges(lengths < potential.cutoff)
        dtype = potential.dtype
        graph = replace(
            graphs[potential.cutoff], species=part.rows[places], moments=part.moments[places]
        )
        if not potential.long_range:
            graph = replace(graph, positions=None, cells=None)
        graph = graph.to(dtype)
        output = evaluate(part.module, graph)
        energies = potential.scale * output.energies.double()
        energies = energies.index_add(0, joint.batch, part.references[places])
        found = _Found(
            energies=energies,
            forces=potential.scale * output.forces.double(),
            stress=potential.scale * output.stress.double(),
            moments=None if output.moments is None else output.moments.double(),
            charges=None if output.charges is None else output.charges.double(),
        )
        if part.pairs is None:
            return found
        return found.plus(_Found(*part.pairs.evaluate(joint, lengths, part.rows[places])))

    def _part(self, potential: Potential, structures: Sequence[Atoms]) -> _Part:
        """Return a potential as a copy on the device."""
        own = Potential.from_state(*potential.state())
        rows = [own.vocabulary.index(a.arrays["species"]) for a in structures]
        moments = [
            a.arrays.get("moments", own.typical_moments[r])
            for a, r in zip(structures, rows, strict=True)
        ]
        terms = own.baseline.pairs
        return _Part(
            potential=own,
            module=own.module.to(self.device).requires_grad_(False).eval(),
            pairs=None if terms is None else _PairTerms(terms, self.device),
            rows=self._table(rows),
            references=self._table([own.baseline.references[r] for r in rows]),
            moments=self._table([np.asarray(m, dtype=np.float64) for m in moments]),
        )

    def _table(self, values: Sequence[np.ndarray]) -> Tensor:
        """Return values of all atoms of all structures as one tensor."""
        return torch.as_tensor(np.concatenate(values), device=self.device)


@dataclass(frozen=True)
class _Found:
    energies: Tensor
    forces: Tensor
    stress: Tensor
    moments: Tensor | None = None
    charges: Tensor | None = None

    def plus(self, other: _Found) -> _Found:
        """Return the sum of energies and their derivatives; moments and charges are kept."""
        return replace(
            self,
            energies=self.energies + other.energies,
            forces=self.forces + other.forces,
            stress=self.stress + other.stress,
        )


def _prior(structures: Sequence[Atoms]) -> Potential:
    """Return CHGNet as it is published, as a blind potential."""
    from al_charge.potentials.chgnet.pretrained import pretrained

    species = {str(token) for atoms in structures for token in atoms.arrays["species"]}
    vocabulary = Vocabulary.of(species, charge_aware=False)
    return pretrained(ChgnetSettings(charge_aware=False), vocabulary)


def _mean(values: Sequence[Tensor | None]) -> Tensor | None:
    known = [value for value in values if value is not None]
    return torch.stack(known).mean(dim=0) if len(known) == len(values) else None
