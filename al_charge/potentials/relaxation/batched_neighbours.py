"""Neighbours of many structures while they are relaxed, on any device.

Lists are found on the CPU, as for single structures. They extend a little beyond the cutoff
and are found again only for those structures whose atoms have moved by that much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from al_charge.potentials.networks.graph import find_neighbours

SKIN = 0.6
"""Distance in angstrom by which lists extend beyond the cutoff of the potentials."""


@dataclass(frozen=True)
class NeighbourTensors:
    """Pairs of atoms, numbered from the first atom of the first structure of a batch.

    Attributes
    ----------
    centres, neighbours, shifts, opposites
        As of `al_charge.potentials.networks.graph.Neighbours`, on the device.
    """

    centres: Tensor
    neighbours: Tensor
    shifts: Tensor
    opposites: Tensor


class BatchedNeighbours:
    """Neighbour lists for a set of structures, of which any may be in any geometry.

    Parameters
    ----------
    structures
        Where they start.
    cutoff
        Distance in angstrom up to which all pairs are needed.
    device
        Where lists are kept.
    """

    def __init__(self, structures: Sequence[Atoms], cutoff: float, device: torch.device) -> None:
        self._structures = [
            Atoms(a.numbers, a.positions, cell=a.cell, pbc=True) for a in structures
        ]
        self._cutoff = cutoff
        self._device = device
        self._lists: dict[int, NeighbourTensors] = {}
        self._starts = np.cumsum([0, *map(len, structures)]).tolist()
        # The geometries that lists were found at.
        cells = np.array([atoms.cell.array for atoms in structures])
        positions = np.concatenate([atoms.positions for atoms in structures])
        self._cells = torch.as_tensor(cells, device=device)
        self._positions = torch.as_tensor(positions, device=device)
        self._joined: tuple[list[int], NeighbourTensors] | None = None

    def find(
        self,
        structures: list[int],
        places: Tensor,
        positions: Tensor,
        cells: Tensor,
        batch: Tensor,
    ) -> NeighbourTensors:
        """Return pairs that include all those within the cutoff.

        Parameters
        ----------
        structures
            Which of them the batch holds, in order.
        places
            Indices of their atoms among those of all structures, shape (n_atoms,).
        positions
            angstrom, shape (n_atoms, 3).
        cells
            Rows are cell vectors, angstrom, shape (n_structures, 3, 3).
        batch
            Position in the batch of every atom's structure, ascending, shape (n_atoms,).

        Returns
        -------
        NeighbourTensors
            Of all structures of the batch.
        """
        stretch = torch.linalg.solve(self._cells[structures], cells)
        carried = torch.einsum("ai,aij->aj", self._positions[places], stretch[batch])
        moved = torch.linalg.vector_norm(positions - carried, dim=1)
        farthest = moved.new_zeros(len(structures)).scatter_reduce(0, batch, moved, "amax")
        off = stretch - torch.eye(3, device=self._device, dtype=stretch.dtype)
        shrunk = torch.linalg.matrix_norm(off) * (self._cutoff + SKIN)
        stale = (2.0 * farthest + shrunk > SKIN).tolist()
        changed = self._joined is None or self._joined[0] != structures
        for number, structure in enumerate(structures):
            if stale[number] or structure not in self._lists:
                self._list(structure, positions[batch == number], cells[number])
                changed = True
        if changed:
            self._joined = structures, self._join(structures)
        assert self._joined is not None
        return self._joined[1]

    def forget(self, structure: int) -> None:
        """Free the list of a structure.

        Parameters
        ----------
        structure
            Its index.
        """
        self._lists.pop(structure, None)

    def _list(self, structure: int, positions: Tensor, cell: Tensor) -> None:
        atoms = self._structures[structure]
        atoms.set_cell(cell.cpu().numpy())
        atoms.positions = positions.cpu().numpy()
        found = find_neighbours(atoms, self._cutoff + SKIN)
        values = (found.centres, found.neighbours, found.shifts, found.opposites)
        self._lists[structure] = NeighbourTensors(
            *(torch.as_tensor(value, device=self._device) for value in values)
        )
        self._positions[self._starts[structure] : self._starts[structure + 1]] = positions
        self._cells[structure] = cell

    def _join(self, structures: list[int]) -> NeighbourTensors:
        lists = [self._lists[structure] for structure in structures]
        atoms = np.cumsum([0, *(len(self._structures[structure]) for structure in structures)])
        edges = np.cumsum([0, *(len(pairs.centres) for pairs in lists)])
        of = list(zip(lists, atoms.tolist(), edges.tolist(), strict=False))
        return NeighbourTensors(
            centres=torch.cat([pairs.centres + first for pairs, first, _ in of]),
            neighbours=torch.cat([pairs.neighbours + first for pairs, first, _ in of]),
            shifts=torch.cat([pairs.shifts for pairs in lists]),
            opposites=torch.cat([pairs.opposites + first for pairs, _, first in of]),
        )
