"""Groups of frames that do not name theirs: symmetric copies, and steps of one relaxation.

Two frames are of one group if they have the same composition, charge states included, and

- they follow each other in the file, list the same species in the same order, and no atom is
  farther than ``SAME_SITE`` from where it was; or
- their fingerprints differ nowhere by more than ``TOLERANCE``; or
- a chain of such frames connects them.

A fingerprint is made of the distances from atoms of one species to their nearest neighbours of
another, in the order of their size. Symmetry, the order of atoms, the choice of the cell and its
repetition do not change it, and where every atom moves by less than d no entry changes by more than
2 d. So copies have equal fingerprints, and small steps similar ones. Different configurations with
similar fingerprints may fall into one group, which makes a validation harder but never
too optimistic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from math import gcd

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from matscipy.neighbours import neighbour_list
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]

SAME_SITE = 1.0
"""angstrom; sites of different ions are at least twice as far apart."""
TOLERANCE = 0.4
"""angstrom; the fingerprint moves by no more where every atom moves by 0.2."""
CUTOFF = 8.0
"""angstrom; longer distances are counted as this."""
NEAREST = 4
"""Neighbours of each species that are counted."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the distances of all atoms of a species to their n-th neighbour of another."""
BLOCK = 256
"""Fingerprints compared with all others at once, to bound the memory."""
VOLUME_PER_ATOM = 10.0
"""angstrom^3; cells are compared at this density, since relaxations change it."""


def derive_groups(structures: Sequence[Atoms]) -> list[str]:
    """Return the name of every structure's group.

    Parameters
    ----------
    structures
        With ``species`` arrays, in the order of their file.

    Returns
    -------
    list of str
        One per structure; equal for structures of one group.
    """
    names = [""] * len(structures)
    by_composition: dict[str, list[int]] = {}
    for index, atoms in enumerate(structures):
        by_composition.setdefault(composition_key(atoms.arrays["species"]), []).append(index)
    for key, members in by_composition.items():
        prints = np.array([fingerprint(structures[i]) for i in members])
        links = _alike(prints)
        for place, (one, other) in enumerate(pairwise(members)):
            if other == one + 1 and _same_sites(structures[one], structures[other]):
                links.append((place, place + 1))
        rows, columns = np.array(links).T
        linked = csr_array((np.ones(len(links)), (rows, columns)), shape=(len(members),) * 2)
        _, labels = connected_components(linked, directed=False)
        firsts: dict[int, str] = {}
        for place, (index, label) in enumerate(zip(members, labels.tolist(), strict=True)):
            names[index] = firsts.setdefault(label, _name(key, prints[place]))
    return names


def _alike(prints: Array) -> list[tuple[int, int]]:
    """Return all pairs of fingerprints that differ by no more than the tolerance."""
    links: list[tuple[int, int]] = []
    for start in range(0, len(prints), BLOCK):
        near = cdist(prints[start : start + BLOCK], prints, "chebyshev") <= TOLERANCE
        links += [
            (start + int(one), int(other)) for one, other in zip(*near.nonzero(), strict=True)
        ]
    return links


def composition_key(species: ArrayLike) -> str:
    """Return the composition of one cell or of several.

    Parameters
    ----------
    species
        Species tokens, of any shape.

    Returns
    -------
    str
        In lowest terms, such as ``Fe3+1 O2-4 P5+1``.
    """
    tokens, counts = np.unique(np.asarray(species), return_counts=True)
    unit = gcd(*counts.tolist())
    return " ".join(f"{token}{count // unit}" for token, count in zip(tokens, counts, strict=True))


def fingerprint(atoms: Atoms) -> Array:
    """Return the fingerprint of a structure.

    Parameters
    ----------
    atoms
        With a ``species`` array.

    Returns
    -------
    ndarray, shape (n_entries,)
        Distances, angstrom; as many for all structures of one composition.
    """
    scale = (VOLUME_PER_ATOM * len(atoms) / atoms.get_volume()) ** (1 / 3)
    tokens, rows = np.unique(atoms.arrays["species"], return_inverse=True)
    centres, neighbours, distances = neighbour_list("ijd", atoms, CUTOFF / scale)
    entries = []
    for there in range(len(tokens)):
        chosen = rows[neighbours] == there
        near = _nearest(centres[chosen], scale * distances[chosen], len(atoms))
        entries += [
            np.quantile(near[rows == here], QUANTILES, axis=0, method="inverted_cdf")
            for here in range(len(tokens))
        ]
    return np.concatenate(entries, axis=None)


def _nearest(centres: NDArray[np.int64], distances: Array, n_atoms: int) -> Array:
    """Return the smallest distances of every atom, ascending; shape (n_atoms, NEAREST)."""
    order = np.lexsort((distances, centres))
    counts = np.bincount(centres, minlength=n_atoms)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    near = np.full((n_atoms, NEAREST), CUTOFF)
    kept = rank < NEAREST
    near[centres[order][kept], rank[kept]] = np.minimum(distances[order][kept], CUTOFF)
    return near


def _same_sites(one: Atoms, other: Atoms) -> bool:
    """Tell whether every atom is near the same atom of another structure, apart from strain."""
    if len(one) != len(other) or (one.arrays["species"] != other.arrays["species"]).any():
        return False
    change = other.get_scaled_positions(wrap=False) - one.get_scaled_positions(wrap=False)
    moves, _ = find_mic(change @ one.cell.array, one.cell)
    return bool(np.linalg.norm(moves - np.median(moves, axis=0), axis=1).max() < SAME_SITE)


def _name(composition: str, of_first: Array) -> str:
    text = f"{composition} {np.round(of_first, 3).tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
