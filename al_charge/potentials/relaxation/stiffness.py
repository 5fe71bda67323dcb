"""The stiffness of a crystal from its pair terms: a first guess for quasi-Newton steps."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.potentials.committee import Committee
from al_charge.potentials.networks.neighbours import Neighbours

Array = NDArray[np.float64]

LEAST_STIFFNESS, DEFAULT_STIFFNESS = 1.0, 10.0
"""eV/A^2: least stiffness of a mode, and that of all modes without pair terms."""
_ROWS, _COLUMNS = np.array([0, 1, 2, 1, 0, 0]), np.array([0, 1, 2, 2, 2, 1])
_ROOT = np.sqrt(2.0)


def symmetric(components: Array) -> Array:
    """Return the symmetric matrix of six components.

    Parameters
    ----------
    components
        xx, yy, zz, and root two times yz, xz, xy; shape (6,).

    Returns
    -------
    ndarray, shape (3, 3)
        In the unit of the components.
    """
    matrix = np.zeros((3, 3))
    scaled = components / np.array([1.0, 1.0, 1.0, _ROOT, _ROOT, _ROOT])
    matrix[_ROWS, _COLUMNS] = matrix[_COLUMNS, _ROWS] = scaled
    return matrix


def voigt(matrix: Array) -> Array:
    """Return the six components of a symmetric matrix, such that their dot products agree.

    Parameters
    ----------
    matrix
        Shape (3, 3).

    Returns
    -------
    ndarray, shape (6,)
        xx, yy, zz, and root two times yz, xz, xy.
    """
    components: Array = matrix[_ROWS, _COLUMNS] * np.array([1.0, 1.0, 1.0, _ROOT, _ROOT, _ROOT])
    return components


def pair_stiffness(committee: Committee, atoms: Atoms, pairs: Neighbours, length: float) -> Array:
    """Return the inverse of the second derivative by displacements and strain times a length.

    Modes that are soft or unstable are made stiff enough to descend along.

    Parameters
    ----------
    committee
        Its members' mean pair terms are used.
    atoms
        The structure.
    pairs
        Its neighbours, at least to the cutoff of the pair terms.
    length
        angstrom per unit of strain.

    Returns
    -------
    ndarray, shape (3 n_atoms + 6, 3 n_atoms + 6)
        angstrom^2/eV.
    """
    size = 3 * len(atoms) + 6
    blocks = _edge_stiffness(committee, atoms, pairs)
    if blocks is None:
        return np.eye(size) / DEFAULT_STIFFNESS
    vectors = pairs.vectors(atoms.positions, np.asarray(atoms.cell))[pairs.single]
    centres, neighbours = pairs.centres[pairs.single], pairs.neighbours[pairs.single]
    basis = np.array([symmetric(row) for row in np.eye(6)]) / length
    # How an edge changes with each component of strain, shape (n_edges, 3, 6).
    strained = np.einsum("aij,ej->eia", basis, vectors)
    coupled = blocks @ strained
    n = len(atoms)
    whole = np.zeros((size, size))
    whole[:-6, :-6] = _assemble(centres, neighbours, blocks, n)
    for a in range(6):
        for i in range(3):
            pull = coupled[:, i, a]
            whole[i : 3 * n : 3, 3 * n + a] = np.bincount(
                neighbours, pull, minlength=n
            ) - np.bincount(centres, pull, minlength=n)
    whole[-6:, :-6] = whole[:-6, -6:].T
    whole[-6:, -6:] = strained.reshape(-1, 6).T @ coupled.reshape(-1, 6)
    values, modes = np.linalg.eigh(whole)
    inverse: Array = (modes / np.maximum(np.abs(values), LEAST_STIFFNESS)) @ modes.T
    return inverse


def _edge_stiffness(committee: Committee, atoms: Atoms, pairs: Neighbours) -> Array | None:
    """Return the mean of the members' stiffness of single pairs, shape (n_edges, 3, 3)."""
    vectors = pairs.vectors(atoms.positions, np.asarray(atoms.cell))[pairs.single]
    found = []
    for member in committee.members:
        if member.baseline.pairs is not None:
            rows = member.vocabulary.index(atoms.arrays["species"])
            centres, neighbours = (
                rows[some[pairs.single]] for some in (pairs.centres, pairs.neighbours)
            )
            found.append(member.baseline.pairs.stiffness(vectors, centres, neighbours))
    return np.mean(found, axis=0) if found else None


def _assemble(
    centres: NDArray[np.int64], neighbours: NDArray[np.int64], blocks: Array, n_atoms: int
) -> Array:
    """Return the stiffness by displacements, shape (3 n_atoms, 3 n_atoms)."""
    matrix = np.zeros((n_atoms, 3, n_atoms, 3))
    where = centres * n_atoms + neighbours
    diagonal = np.arange(n_atoms)
    for i in range(3):
        for j in range(3):
            between = np.bincount(where, blocks[:, i, j], minlength=n_atoms**2)
            table = between.reshape(n_atoms, n_atoms)
            table = table + table.T  # a block is symmetric
            matrix[:, i, :, j] = -table
            matrix[diagonal, i, diagonal, j] += table.sum(axis=1)
    return matrix.reshape(3 * n_atoms, 3 * n_atoms)
