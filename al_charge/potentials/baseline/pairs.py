"""Pair terms: the part of the energy that least squares can find at once.

A spline per pair of species takes over what repulsion, bond stretching and screened electrostatics
contribute, so that a network has only the rest to learn, with far fewer labels and epochs. The
splines are linear in their coefficients: one solve fits them to energies, forces and stresses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.potentials.networks.neighbours import Edges, Neighbours

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

# Powers of t, the position within an interval, in the four cubic B-splines that overlap there.
_PIECES = (
    np.array(
        [[1.0, -3.0, 3.0, -1.0], [4.0, 0.0, -6.0, 3.0], [1.0, 3.0, 3.0, -3.0], [0.0, 0.0, 0.0, 1.0]]
    )
    / 6.0
)
_FREE_END = 3
"""Number of last coefficients that are zero, so that value, slope and curvature vanish at the
cutoff."""

WALL = 100.0
"""Curvature in eV/A^2 of pair terms at distances shorter than any in the data."""


@dataclass(frozen=True)
class PairTerms:
    """A cubic spline of the distance for each unordered pair of species.

    Attributes
    ----------
    cutoff
        angstrom.
    coefficients
        eV, shape (n_species, n_species, n_coefficients), symmetric in the species; those of
        uniform cubic B-splines from zero to the cutoff.
    """

    cutoff: float
    coefficients: Array

    @property
    def spacing(self) -> float:
        """Distance between knots in angstrom."""
        return float(self.cutoff / (self.coefficients.shape[2] - 3))

    @cached_property
    def pieces(self) -> Array:
        """Cubic of each interval of each pair in powers of t, shape (pairs * intervals, 4)."""
        windows = np.lib.stride_tricks.sliding_window_view(self.coefficients, 4, axis=2)
        pieces: Array = np.ascontiguousarray((windows @ _PIECES).reshape(-1, 4))
        return pieces

    def evaluate(
        self, edges: Edges, species: Integers, volume: float
    ) -> tuple[float, Array, Array]:
        """Return energy, forces and stress of a structure.

        Parameters
        ----------
        edges
            Each pair within the cutoff, in one direction.
        species
            Rows of the vocabulary, shape (n_atoms,).
        volume
            angstrom^3.

        Returns
        -------
        energy : float
            eV for the cell.
        forces : ndarray, shape (n_atoms, 3)
            eV/angstrom.
        stress : ndarray, shape (3, 3)
            eV/angstrom^3, ASE's sign.
        """
        vectors, centres, neighbours, _ = edges
        distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        pair = species[centres] * self.coefficients.shape[0] + species[neighbours]
        place = distances / self.spacing
        interval = place.astype(np.int64)
        t = place - interval
        n_intervals = self.coefficients.shape[2] - 3
        c = self.pieces[pair * n_intervals + interval].T
        energy = float(np.sum(((c[3] * t + c[2]) * t + c[1]) * t + c[0]))
        slope = ((3.0 * c[3] * t + 2.0 * c[2]) * t + c[1]) / (self.spacing * distances)
        pulls = vectors * slope[:, None]
        forces: Array = np.stack(
            [
                np.bincount(centres, pull, minlength=len(species))
                - np.bincount(neighbours, pull, minlength=len(species))
                for pull in pulls.T
            ],
            axis=1,
            dtype=np.float64,
        )
        return energy, forces, vectors.T @ pulls / volume

    def stiffness(self, vectors: Array, species: Integers, neighbours: Integers) -> Array:
        """Return the second derivative of each pair's energy by its vector.

        Parameters
        ----------
        vectors
            Of the edges, angstrom, shape (n_edges, 3).
        species
            Row of the vocabulary of every centre, shape (n_edges,).
        neighbours
            Row of the vocabulary of every neighbour, shape (n_edges,).

        Returns
        -------
        ndarray, shape (n_edges, 3, 3)
            eV/angstrom^2.
        """
        distances = np.linalg.norm(vectors, axis=1)
        n_intervals = self.coefficients.shape[2] - 3
        place = np.minimum(distances / self.spacing, n_intervals * (1.0 - 1e-12))
        interval = place.astype(np.int64)
        t = place - interval
        pair = species * self.coefficients.shape[0] + neighbours
        c = self.pieces[pair * n_intervals + interval].T
        inside = distances < self.cutoff
        slope = inside * ((3.0 * c[3] * t + 2.0 * c[2]) * t + c[1]) / (self.spacing * distances)
        curvature = inside * (6.0 * c[3] * t + 2.0 * c[2]) / self.spacing**2
        along = vectors / distances[:, None]
        blocks: Array = slope[:, None, None] * np.eye(3) + (
            (curvature - slope)[:, None, None] * along[:, :, None] * along[:, None, :]
        )
        return blocks

    def plus(self, other: PairTerms) -> PairTerms:
        """Return the sum of two sets of terms on the same knots.

        Parameters
        ----------
        other
            The terms to add.

        Returns
        -------
        PairTerms
            The sum.

        Raises
        ------
        AlChargeError
            If their cutoffs or numbers of intervals differ.
        """
        same = self.coefficients.shape == other.coefficients.shape and self.cutoff == other.cutoff
        if not same:
            raise AlChargeError(
                "pair terms with another cutoff or other intervals cannot be trained further",
                where="warm start",
                remedy="keep pair_cutoff and pair_intervals as they were",
            )
        return PairTerms(self.cutoff, self.coefficients + other.coefficients)

    def with_rows(self, rows: Sequence[int | None]) -> PairTerms:
        """Return the terms of a vocabulary whose species start as copies.

        Parameters
        ----------
        rows
            For each species of the new vocabulary the row here to copy; None for no interaction.

        Returns
        -------
        PairTerms
            Of as many species as there are rows.
        """
        index = [0 if row is None else row for row in rows]
        known = np.array([row is not None for row in rows])
        coefficients = self.coefficients[np.ix_(index, index)] * np.outer(known, known)[:, :, None]
        return PairTerms(self.cutoff, coefficients)


class PairFeatures:
    """Energy, forces and stress of every spline on its own: the rows of a least-squares problem.

    Parameters
    ----------
    n_species
        Rows of the vocabulary.
    cutoff
        angstrom.
    n_intervals
        Between zero and the cutoff.
    """

    def __init__(self, n_species: int, cutoff: float, n_intervals: int) -> None:
        self.cutoff = cutoff
        self.n_intervals = n_intervals
        self.n_species = n_species
        self.n_free = n_intervals + 3 - _FREE_END
        low, high = np.triu_indices(n_species)
        self._unordered = np.zeros((n_species, n_species), dtype=np.int64)
        self._unordered[low, high] = self._unordered[high, low] = np.arange(len(low))
        self.n_pairs = len(low)

    @property
    def size(self) -> int:
        """Number of free coefficients."""
        return self.n_pairs * self.n_free

    def rows(
        self, atoms: Atoms, pairs: Neighbours, species: Integers
    ) -> tuple[Array, Array, Array]:
        """Return the rows that a structure adds to the least-squares problem.

        Parameters
        ----------
        atoms
            The structure.
        pairs
            Its neighbours, at least to the cutoff.
        species
            Rows of the vocabulary, shape (n_atoms,).

        Returns
        -------
        energy : ndarray, shape (size,)
            eV per unit of each coefficient.
        forces : ndarray, shape (3 n_atoms, size)
            eV/angstrom.
        stress : ndarray, shape (9, size)
            eV/angstrom^3.
        """
        vectors = pairs.vectors(atoms.positions, np.asarray(atoms.cell))
        distances = np.linalg.norm(vectors, axis=1)
        near = distances < self.cutoff
        vectors, distances, centres = vectors[near], distances[near], pairs.centres[near]
        pair = self._unordered[species[centres], species[pairs.neighbours[near]]]
        spacing = self.cutoff / self.n_intervals
        place = distances / spacing
        interval = place.astype(np.int64)
        t = place - interval
        powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
        slopes = np.stack([np.zeros_like(t), np.ones_like(t), 2 * t, 3 * t**2], axis=1)
        width = self.n_free + _FREE_END
        column = (pair * width + interval)[:, None] + np.arange(4)
        total = self.n_pairs * width
        halves = 0.5 * (powers @ _PIECES.T)
        energy: Array = np.zeros(total)
        energy += np.bincount(column.ravel(), halves.ravel(), minlength=total)
        pull = (slopes @ _PIECES.T) / (spacing * distances)[:, None]
        n_atoms = len(atoms)
        forces = np.zeros((n_atoms, 3, total))
        stress = np.zeros((3, 3, total))
        for k in range(3):
            along = pull * vectors[:, k : k + 1]
            where = (centres[:, None] * total + column).ravel()
            forces[:, k] = np.bincount(where, along.ravel(), minlength=n_atoms * total).reshape(
                n_atoms, total
            )
            for m in range(3):
                outer = 0.5 * along * vectors[:, m : m + 1] / atoms.get_volume()
                stress[k, m] = np.bincount(column.ravel(), outer.ravel(), minlength=total)
        free = np.flatnonzero(np.arange(total) % width < self.n_free)
        return (
            energy[free],
            forces.reshape(-1, total)[:, free],
            stress.reshape(9, total)[:, free],
        )

    def penalty(self) -> Array:
        """Return the matrix of summed squared second differences of coefficients.

        Returns
        -------
        ndarray, shape (size, size)
            Symmetric; dimensionless.
        """
        padded = np.eye(self.n_free + _FREE_END)[:, : self.n_free]
        second = np.diff(padded, 2, axis=0)
        return np.kron(np.eye(self.n_pairs), second.T @ second).astype(np.float64)

    def nearest(self, atoms: Atoms, pairs: Neighbours, species: Integers) -> Integers:
        """Return the first interval in which a structure has each pair of species.

        Parameters
        ----------
        atoms
            The structure.
        pairs
            Its neighbours.
        species
            Rows of the vocabulary, shape (n_atoms,).

        Returns
        -------
        ndarray, shape (n_pairs,)
            Counted from zero distance; the number of intervals where there is no such pair.
        """
        vectors = pairs.vectors(atoms.positions, np.asarray(atoms.cell))
        interval = np.linalg.norm(vectors, axis=1) * (self.n_intervals / self.cutoff)
        least = np.full(self.n_pairs, self.n_intervals)
        pair = self._unordered[species[pairs.centres], species[pairs.neighbours]]
        np.minimum.at(least, pair, interval.astype(np.int64))
        return least

    def terms(self, free: Array, nearest: Integers) -> PairTerms:
        """Return the pair terms that have given free coefficients.

        Below the first interval with data they become a repulsive wall: a fit has no information
        there, and a relaxation could collapse into whatever it gives.

        Parameters
        ----------
        free
            Free coefficients, eV, shape (size,).
        nearest
            First interval with data of each pair, shape (n_pairs,).

        Returns
        -------
        PairTerms
            Of all pairs of species.
        """
        table = np.zeros((self.n_pairs, self.n_free + _FREE_END))
        table[:, : self.n_free] = free.reshape(self.n_pairs, self.n_free)
        for row, first in zip(table, nearest, strict=True):
            if first < self.n_free:
                _raise_wall(row, int(first), WALL * (self.cutoff / self.n_intervals) ** 2)
        return PairTerms(self.cutoff, table[self._unordered])


def _raise_wall(coefficients: Array, first: int, bend: float) -> None:
    """Make coefficients below the first that data touch convex and repulsive, in place."""
    rise = max(float(coefficients[first] - coefficients[first + 1]), 0.0)
    for k in range(first - 1, -1, -1):
        rise += bend
        coefficients[k] = coefficients[k + 1] + rise
