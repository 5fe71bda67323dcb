"""Antiferromagnetic order: which moments point up and which point down."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.species import unpaired_electrons

SAME_DISTANCE = 0.3
"""Largest difference in angstrom between the distances of one shell of redox sites, as found in
relaxed mixed-valence cells."""

Pair = tuple[int, int]


def signs(atoms: Atoms) -> NDArray[np.int64]:
    """Return the sign of every atom's moment in an antiferromagnetic cell.

    Moments of neighbouring magnetic sites alternate as far as the cell allows, nearest neighbours
    first: pairs of sites are visited by distance, and each joins two groups of sites such that most
    pairs between the groups at this distance have opposite signs; where as many are equal as
    opposite, the pair itself decides. The first magnetic site points up. Pairs within a group do
    not change it, and a site's own images are not counted.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array, periodic along all axes.

    Returns
    -------
    ndarray of int, shape (n_atoms,)
        1 or -1; 1 for species without unpaired electrons.
    """
    sites = [i for i, token in enumerate(atoms.arrays["species"]) if unpaired_electrons(str(token))]
    found = np.ones(len(atoms), dtype=np.int64)
    group = {site: {site} for site in sites}
    for shell in _shells(atoms, sites):
        for first, second in shell:
            ours, theirs = group[first], group[second]
            if ours is theirs:
                continue
            between = [(i, j) for i, j in shell if {i, j} & ours and {i, j} & theirs]
            alike = sum(found[i] * found[j] for i, j in between) or found[first] * found[second]
            if alike > 0:
                found[list(theirs)] *= -1
            ours |= theirs
            group |= dict.fromkeys(theirs, ours)
    for members in group.values():
        found[list(members)] *= found[min(members)]
    return found


def _shells(atoms: Atoms, sites: list[int]) -> list[list[Pair]]:
    """Return pairs of different sites, those of one distance together, nearest first."""
    distances = atoms.get_all_distances(mic=True)
    pairs = [(i, j) for at, i in enumerate(sites) for j in sites[at + 1 :]]
    shells: list[list[Pair]] = []
    shortest = -np.inf
    for pair in sorted(pairs, key=lambda pair: distances[pair]):
        if distances[pair] > shortest + SAME_DISTANCE:
            shortest = distances[pair]
            shells.append([])
        shells[-1].append(pair)
    return [sorted(shell) for shell in shells]
