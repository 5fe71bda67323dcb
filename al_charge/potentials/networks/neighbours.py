"""Neighbours: the pairs of atoms of a structure that lie within a cutoff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from al_charge.crystal.geometry import refuse_non_periodic


class Edges(NamedTuple):
    """Pairs of a structure that lie within a cutoff.

    Attributes
    ----------
    vectors
        From centres to neighbours, angstrom, shape (n_edges, 3).
    centres, neighbours
        Their atoms, shape (n_edges,).
    places
        Where they are among all pairs, shape (n_edges,).
    """

    vectors: NDArray[np.float64]
    centres: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    places: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pairs of atoms within a cutoff, periodic images included; each pair in both directions.

    What was computed last is kept: the members of a committee all ask for the same.

    Attributes
    ----------
    centres, neighbours
        Atoms of every pair, shape (n_edges,); centres ascend.
    shifts
        Image of the neighbour in whole cell vectors, shape (n_edges, 3).
    """

    centres: NDArray[np.int64]
    neighbours: NDArray[np.int64]
    shifts: NDArray[np.float64]
    _placed: list[NDArray[np.float64]] = field(default_factory=list, init=False, repr=False)
    _numbered: list[NDArray[np.int64]] = field(default_factory=list, init=False, repr=False)
    _near: dict[tuple[float, bool], Edges] = field(default_factory=dict, init=False, repr=False)

    def vectors(
        self, positions: NDArray[np.float64], cell: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the vectors from centres to neighbours.

        Parameters
        ----------
        positions
            angstrom, shape (n_atoms, 3).
        cell
            Rows are cell vectors, angstrom, shape (3, 3).

        Returns
        -------
        ndarray, shape (n_edges, 3)
            angstrom; it cannot be written to.
        """
        if not _same(self._placed, positions, cell):
            vectors = positions[self.neighbours] - positions[self.centres] + self.shifts @ cell
            vectors.flags.writeable = False
            self._placed[:] = positions.copy(), cell.copy(), vectors
            self._near.clear()
        return self._placed[-1]

    def within(
        self,
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        cutoff: float,
        *,
        single: bool = False,
    ) -> Edges:
        """Return the pairs that are closer than a cutoff now.

        Parameters
        ----------
        positions
            angstrom, shape (n_atoms, 3).
        cell
            Rows are cell vectors, angstrom, shape (3, 3).
        cutoff
            angstrom.
        single
            Whether each pair is wanted in one direction only.

        Returns
        -------
        Edges
            In their order here; not to be changed.
        """
        vectors = self.vectors(positions, cell)
        if (found := self._near.get((cutoff, single))) is None:
            some = vectors[self.single] if single else vectors
            near = np.flatnonzero(np.einsum("ij,ij->i", some, some) < cutoff**2)
            places = self.single[near] if single else near
            found = Edges(some[near], self.centres[places], self.neighbours[places], places)
            self._near[cutoff, single] = found
        return found

    @cached_property
    def opposites(self) -> NDArray[np.int64]:
        """Index of the opposite pair, for every pair; shape (n_edges,)."""
        shifts, n_atoms = self.shifts.astype(np.int64), self.centres.max(initial=0) + 1
        farthest = np.abs(shifts).max(initial=0)

        def order(ends: tuple[NDArray[np.int64], ...]) -> NDArray[np.int64]:
            """Return the order of pairs, of which each has a number of its own."""
            sides = (n_atoms, n_atoms, *[2 * farthest + 1] * 3)
            return np.argsort(np.ravel_multi_index(ends, sides))

        places = np.empty(len(shifts), dtype=np.int64)
        places[order((self.neighbours, self.centres, *(farthest - shifts).T))] = order(
            (self.centres, self.neighbours, *(farthest + shifts).T)
        )
        return places

    @cached_property
    def single(self) -> NDArray[np.int64]:
        """Indices of pairs in one direction: of each pair and its opposite, the first."""
        return np.flatnonzero(np.arange(len(self.centres)) < self.opposites)

    def opposites_within(self, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the opposites among some of the pairs, numbered anew.

        Parameters
        ----------
        kept
            Indices of pairs, each together with its opposite, shape (n_kept,).

        Returns
        -------
        ndarray, shape (n_kept,)
            Position in ``kept`` of each pair's opposite.
        """
        if not _same(self._numbered, kept):
            renumbered = np.full(len(self.centres), -1, dtype=np.int64)
            renumbered[kept] = np.arange(len(kept))
            self._numbered[:] = kept.copy(), renumbered[self.opposites[kept]]
        return self._numbered[-1]


def _same(known: Sequence[NDArray[Any]], *asked: NDArray[Any]) -> bool:
    """Return whether what is known, the last of it, is the answer to what is asked."""
    return bool(known) and all(map(np.array_equal, known, asked))


def find_neighbours(atoms: Atoms, cutoff: float) -> Neighbours:
    """Return all pairs of atoms within a cutoff.

    Parameters
    ----------
    atoms
        Periodic structure.
    cutoff
        angstrom.

    Returns
    -------
    Neighbours
        Each pair in both directions.

    Raises
    ------
    InputError
        If it is not periodic along every axis.
    """
    refuse_non_periodic(atoms.pbc, "structure")
    centres, neighbours, shifts = neighbour_list("ijS", atoms, cutoff)
    return Neighbours(
        centres.astype(np.int64), neighbours.astype(np.int64), shifts.astype(np.float64)
    )
