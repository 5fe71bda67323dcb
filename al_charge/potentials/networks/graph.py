"""Graphs: structures as atoms and the pairs of them that lie within a cutoff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from al_charge.errors import AlChargeError
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.vocabulary import Vocabulary

BATCH_ATOMS = 512
"""Atoms in one batch of predictions at most; larger batches exceed a CPU's cache and are slower."""


@dataclass(frozen=True)
class Graph:
    """One or several structures as one graph; all that an architecture sees.

    Energies depend on geometry through ``vectors`` alone, so that forces and stress follow from
    the gradient with respect to them; those of networks with long-range interactions also through
    ``positions`` and ``cells``.

    Attributes
    ----------
    vectors
        From centre to neighbour, angstrom, shape (n_edges, 3).
    centres, neighbours
        Atoms of every edge, shape (n_edges,), int64; centres ascend. Messages run from the
        neighbour to the centre.
    opposites
        For every edge the index of that from its neighbour to its centre, shape (n_edges,), int64.
    species
        Rows of the vocabulary, shape (n_atoms,), int64.
    moments
        Site moments in Bohr magnetons, an input of spin-aware networks only, shape (n_atoms,).
    numbers
        Atomic numbers, shape (n_atoms,), int64.
    batch
        Structure of every atom, shape (n_atoms,), int64; ascending.
    volumes
        angstrom^3, shape (n_graphs,).
    positions, cells
        angstrom, shapes (n_atoms, 3) and (n_graphs, 3, 3), cell vectors as rows; None for networks
        that see edges alone.
    """

    vectors: Tensor
    centres: Tensor
    neighbours: Tensor
    opposites: Tensor
    species: Tensor
    moments: Tensor
    numbers: Tensor
    batch: Tensor
    volumes: Tensor
    positions: Tensor | None = None
    cells: Tensor | None = None

    @property
    def n_atoms(self) -> int:
        """Number of atoms in all structures."""
        return int(self.species.shape[0])

    @property
    def n_graphs(self) -> int:
        """Number of structures."""
        return int(self.volumes.shape[0])

    @property
    def geometry(self) -> dict[str, Tensor]:
        """What energies are differentiated by: vectors, and positions and cells if any."""
        known = {name: getattr(self, name) for name in ("vectors", "positions", "cells")}
        return {name: values for name, values in known.items() if values is not None}

    def with_geometry(self, geometry: Mapping[str, Tensor]) -> Graph:
        """Return the same graph with other vectors, positions or cells.

        Parameters
        ----------
        geometry
            Tensors by the names of ``geometry``.

        Returns
        -------
        Graph
            Its topology is as before.
        """
        return replace(self, **geometry)

    def within(self, cutoff: float) -> Graph:
        """Return the graph without edges beyond a cutoff.

        Parameters
        ----------
        cutoff
            angstrom.

        Returns
        -------
        Graph
            The graph itself if all edges are shorter.
        """
        inside = torch.linalg.vector_norm(self.vectors.detach(), dim=1) < cutoff
        return self if bool(inside.all()) else self.with_edges(inside)

    def with_edges(self, inside: Tensor) -> Graph:
        """Return the graph with some of its edges.

        Parameters
        ----------
        inside
            Which edges to keep, each together with its opposite; boolean, shape (n_edges,).

        Returns
        -------
        Graph
            Of the same atoms.
        """
        renumbered = torch.cumsum(inside, 0) - 1
        return replace(
            self,
            vectors=self.vectors[inside],
            centres=self.centres[inside],
            neighbours=self.neighbours[inside],
            opposites=renumbered[self.opposites[inside]],
        )

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> Graph:
        """Return the graph in another precision, on a device.

        Parameters
        ----------
        dtype
            Of its floating-point tensors.
        device
            As before if None.

        Returns
        -------
        Graph
            A copy where anything changes.
        """
        real, whole = (
            {name: getattr(self, name) for name in names}
            for names in (
                ("vectors", "moments", "volumes", *(self.geometry.keys() - {"vectors"})),
                ("centres", "neighbours", "opposites", "species", "numbers", "batch"),
            )
        )
        return Graph(
            **{name: sent(values.to(dtype), device) for name, values in real.items()},
            **{name: sent(values, device) for name, values in whole.items()},
        )


def sent(values: Tensor, device: torch.device | None) -> Tensor:
    """Return a tensor on a device, without waiting for a GPU to receive it.

    Parameters
    ----------
    values
        Any tensor.
    device
        Where it is needed; as before if None.

    Returns
    -------
    Tensor
        A copy where it is not there already.
    """
    if device is not None and device.type == "cuda" and values.device.type == "cpu":
        # Only from memory that stays where it is a copy can go on while the CPU does other things.
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def build_graph(
    atoms: Atoms,
    vocabulary: Vocabulary,
    cutoff: float,
    *,
    dtype: torch.dtype = torch.float32,
    neighbours: Neighbours | None = None,
    moments: NDArray[np.float64] | None = None,
    long_range: bool = False,
) -> Graph:
    """Return the graph of one structure.

    Parameters
    ----------
    atoms
        Structure with a ``species`` array.
    vocabulary
        Gives every species its row.
    cutoff
        angstrom.
    dtype
        Precision of vectors and volumes.
    neighbours
        Pairs found before, at least to the cutoff, beyond which they are left out; found here if
        None.
    moments
        Site moments in Bohr magnetons, shape (n_atoms,); zeros if None.
    long_range
        Whether the graph has positions and cells, for energies beyond the cutoff.

    Returns
    -------
    Graph
        On the CPU.

    Raises
    ------
    AlChargeError
        If there is no species array, or a species is not in the vocabulary.
    """
    if "species" not in atoms.arrays:
        raise AlChargeError("the structure has no species array", where="atoms.arrays")
    pairs = find_neighbours(atoms, cutoff) if neighbours is None else neighbours
    cell = np.asarray(atoms.cell)
    near = pairs.within(atoms.positions, cell, cutoff)
    species = vocabulary.index(atoms.arrays["species"])
    if moments is None:
        moments = np.zeros(len(atoms))
    return Graph(
        vectors=torch.as_tensor(near.vectors, dtype=dtype),
        centres=torch.as_tensor(near.centres),
        neighbours=torch.as_tensor(near.neighbours),
        opposites=torch.as_tensor(pairs.opposites_within(near.places)),
        species=torch.as_tensor(species),
        moments=torch.as_tensor(moments, dtype=dtype),
        numbers=torch.as_tensor(atoms.numbers.astype(np.int64)),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
        volumes=torch.tensor([abs(np.linalg.det(atoms.cell))], dtype=dtype),
        positions=torch.tensor(atoms.positions, dtype=dtype) if long_range else None,
        cells=torch.tensor(cell, dtype=dtype)[None] if long_range else None,
    )


def chunks(structures: Iterable[Atoms]) -> Iterator[list[Atoms]]:
    """Divide structures into batches of a bounded number of atoms.

    Parameters
    ----------
    structures
        Read one at a time.

    Yields
    ------
    list of Atoms
        In their order; at most ``BATCH_ATOMS`` atoms, or one larger structure.
    """
    chunk: list[Atoms] = []
    size = 0
    for atoms in structures:
        if chunk and size + len(atoms) > BATCH_ATOMS:
            yield chunk
            chunk, size = [], 0
        chunk.append(atoms)
        size += len(atoms)
    if chunk:
        yield chunk


def collate(graphs: Sequence[Graph]) -> Graph:
    """Return several graphs as one.

    Parameters
    ----------
    graphs
        At least one, all with positions and cells or all without.

    Returns
    -------
    Graph
        Its atoms and edges in the order of the graphs.
    """
    if len(graphs) == 1:
        return graphs[0]
    atoms = np.cumsum([0, *(graph.n_atoms for graph in graphs)])
    edges = np.cumsum([0, *(len(graph.centres) for graph in graphs)])
    structures = np.cumsum([0, *(graph.n_graphs for graph in graphs)])
    pairs = list(zip(graphs, atoms, strict=False))
    return Graph(
        vectors=torch.cat([graph.vectors for graph in graphs]),
        centres=torch.cat([graph.centres + int(first) for graph, first in pairs]),
        neighbours=torch.cat([graph.neighbours + int(first) for graph, first in pairs]),
        opposites=torch.cat(
            [graph.opposites + int(first) for graph, first in zip(graphs, edges, strict=False)]
        ),
        species=torch.cat([graph.species for graph in graphs]),
        moments=torch.cat([graph.moments for graph in graphs]),
        numbers=torch.cat([graph.numbers for graph in graphs]),
        batch=torch.cat(
            [graph.batch + int(s) for graph, s in zip(graphs, structures, strict=False)]
        ),
        volumes=torch.cat([graph.volumes for graph in graphs]),
        positions=_together([graph.positions for graph in graphs]),
        cells=_together([graph.cells for graph in graphs]),
    )


def _together(parts: Sequence[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None
