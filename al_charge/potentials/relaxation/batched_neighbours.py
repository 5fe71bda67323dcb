"""Neighbours of many structures while they are relaxed, found where they are kept.

Lists extend a little beyond the cutoff and are found again only for those structures whose atoms
have moved by that much, all of these at once: distances of all pairs and images are a few
operations on a device, where searching one structure after the other would take longer than the
networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

SKIN = 0.6
"""Distance in angstrom by which lists extend beyond the cutoff of the potentials."""
DISTANCES = {"cuda": 2**25, "cpu": 2**19}
"""Distances that are held at once: 0.3 GiB, and on a CPU what fits into its cache."""


@dataclass(frozen=True)
class NeighbourTensors:
    """Pairs of atoms, numbered from the first atom of the first structure of a batch.

    Attributes
    ----------
    centres, neighbours, shifts, opposites
        As of `al_charge.potentials.networks.neighbours.Neighbours`, on the device.
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
        Where lists are found and kept.
    """

    def __init__(self, structures: Sequence[Atoms], cutoff: float, device: torch.device) -> None:
        self._cutoff = cutoff
        self._sizes = [len(atoms) for atoms in structures]
        # The geometries that lists were found at.
        cells = np.array([atoms.cell.array for atoms in structures])
        positions = np.concatenate([atoms.positions for atoms in structures])
        self._cells = torch.as_tensor(cells, device=device)
        self._positions = torch.as_tensor(positions, device=device)
        self._known: list[int] = []
        self._lists = _nothing(device)
        """Of the structures that are known, atoms numbered among those of all structures."""
        self._joined = self._lists

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
        off = stretch - torch.eye(3, device=stretch.device, dtype=stretch.dtype)
        shrunk = torch.linalg.matrix_norm(off) * (self._cutoff + SKIN)
        moved_far = (2.0 * farthest + shrunk > SKIN).tolist()
        known = set(self._known)
        stale = [far or one not in known for far, one in zip(moved_far, structures, strict=True)]
        if any(stale):
            self._renew(structures, stale, places, positions, cells, batch)
        if any(stale) or structures != self._known:
            self._known = list(structures)
            self._joined = self._join(places)
        return self._joined

    def _renew(
        self,
        structures: list[int],
        stale: list[bool],
        places: Tensor,
        positions: Tensor,
        cells: Tensor,
        batch: Tensor,
    ) -> None:
        """Replace the lists of stale structures."""
        chosen = torch.tensor(stale, device=batch.device)
        atoms = torch.nonzero(chosen[batch]).squeeze(1)
        self._positions[places[atoms]] = positions[atoms]
        numbers = [one for one, old in zip(structures, stale, strict=True) if old]
        self._cells[numbers] = cells[chosen]
        self._lists = _within(self._lists, ~_marked(places[atoms], len(self._positions)))
        sizes = [self._sizes[number] for number in numbers]
        reach = self._cutoff + SKIN
        first, parts = 0, [self._lists]
        for part, span in _chunks(sizes, cells[chosen], reach):
            own = atoms[first : first + sum(sizes[part])]
            found = _all_pairs(sizes[part], positions[own], cells[chosen][part], reach, span)
            parts.append(_numbered(found, places[own]))
            first += len(own)
        self._lists = _together(parts)

    def _join(self, places: Tensor) -> NeighbourTensors:
        """Return the lists of a batch, and forget those of structures that are not in it."""
        n_atoms = len(self._positions)
        self._lists = _within(self._lists, _marked(places, n_atoms))
        local = places.new_zeros(n_atoms)
        local[places] = torch.arange(len(places), device=places.device)
        found = _numbered(self._lists, local)
        centres, order = torch.sort(found.centres, stable=True)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order), device=order.device)
        return NeighbourTensors(
            centres, found.neighbours[order], found.shifts[order], ranks[found.opposites[order]]
        )


def _nothing(device: torch.device) -> NeighbourTensors:
    none = torch.zeros(0, dtype=torch.int64, device=device)
    return NeighbourTensors(none, none, torch.zeros(0, 3, dtype=torch.float64, device=device), none)


def _marked(places: Tensor, number: int) -> Tensor:
    """Return which of a number of atoms are at given places, boolean."""
    marks = torch.zeros(number, dtype=torch.bool, device=places.device)
    marks[places] = True
    return marks


def _within(lists: NeighbourTensors, atoms: Tensor) -> NeighbourTensors:
    """Return the pairs of some atoms, which are those of whole structures."""
    kept = atoms[lists.centres]
    ranks = torch.cumsum(kept, 0) - 1
    return NeighbourTensors(
        lists.centres[kept],
        lists.neighbours[kept],
        lists.shifts[kept],
        ranks[lists.opposites[kept]],
    )


def _numbered(lists: NeighbourTensors, places: Tensor) -> NeighbourTensors:
    """Return the same pairs with other numbers of atoms."""
    return NeighbourTensors(
        places[lists.centres], places[lists.neighbours], lists.shifts, lists.opposites
    )


def _together(parts: Sequence[NeighbourTensors]) -> NeighbourTensors:
    firsts = itertools.accumulate((len(part.centres) for part in parts), initial=0)
    return NeighbourTensors(
        centres=torch.cat([part.centres for part in parts]),
        neighbours=torch.cat([part.neighbours for part in parts]),
        shifts=torch.cat([part.shifts for part in parts]),
        opposites=torch.cat(
            [part.opposites + first for part, first in zip(parts, firsts, strict=False)]
        ),
    )


def _chunks(
    sizes: Sequence[int], cells: Tensor, reach: float
) -> Iterator[tuple[slice, tuple[int, int, int]]]:
    """Yield consecutive structures whose distances are held at once, and images that they need.

    Images are counted in cells to either side along each cell vector: two atoms of one cell are
    less than a cell apart, so that no more than the reach over the cell's height is needed.
    """
    needed = torch.ceil(reach * torch.linalg.vector_norm(torch.linalg.inv(cells), dim=1))
    images = needed.long().tolist()
    limit, first = DISTANCES[cells.device.type], 0
    size, span = sizes[0], tuple(images[0])
    for number in range(1, len(sizes)):
        wider = tuple(map(max, span, images[number]))
        larger = max(size, sizes[number])
        count = (number + 1 - first) * larger**2 * int(np.prod([2 * n + 1 for n in wider]))
        if count > limit:
            yield slice(first, number), (span[0], span[1], span[2])
            first, larger, wider = number, sizes[number], tuple(images[number])
        size, span = larger, wider
    yield slice(first, len(sizes)), (span[0], span[1], span[2])


def _all_pairs(
    sizes: Sequence[int], positions: Tensor, cells: Tensor, reach: float, span: tuple[int, int, int]
) -> NeighbourTensors:
    """Return all pairs within a reach of structures, one after the other; centres ascend."""
    device, most = positions.device, max(sizes)
    ranges = [torch.arange(-n, n + 1, device=device) for n in span]
    images = torch.cartesian_prod(*ranges).to(positions)  # the last is minus the first, and so on
    vectors = images @ cells
    lengths = torch.tensor(sizes, device=device)
    real = torch.arange(most, device=device) < lengths[:, None]
    padded = positions.new_zeros(len(sizes), most, 3)
    padded[real] = positions
    fractions = padded @ torch.linalg.inv(cells)
    away = torch.floor(fractions)
    inside = (fractions - away) @ cells
    apart = inside[:, None] - inside[:, :, None]
    squares = 2.0 * apart.flatten(1, 2) @ vectors.mT + vectors.square().sum(2)[:, None]
    squares = squares.unflatten(1, (most, most)) + apart.square().sum(3)[:, :, :, None]
    near = squares < reach**2
    near &= (real[:, None] & real[:, :, None])[:, :, :, None]
    near[:, :, :, len(images) // 2] &= ~torch.eye(most, dtype=torch.bool, device=device)
    near &= near.transpose(1, 2).flip(3)  # also where rounding decides
    ranks = torch.cumsum(near.flatten(), 0).view_as(near) - 1
    structure, centre, neighbour, image = torch.nonzero(near).unbind(1)
    starts = torch.cumsum(lengths, 0) - lengths
    return NeighbourTensors(
        centres=starts[structure] + centre,
        neighbours=starts[structure] + neighbour,
        shifts=images[image] + away[structure, centre] - away[structure, neighbour],
        opposites=ranks[structure, neighbour, centre, len(images) - 1 - image],
    )
