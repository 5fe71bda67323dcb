"""Antiferromagnetic order: which redox sites' moments point up and which point down."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.crystal.species import high_spin_moment

SAME_DISTANCE = 0.3
"""Angstrom within which two distances count as the same: those between the redox sites of one shell
differ by up to this much in a relaxed mixed-valence cell."""


def signs(atoms: Atoms) -> NDArray[np.int64]:
    """Return the sign of every atom's moment in an antiferromagnetic cell, shape (n_atoms,).

    Moments of neighbouring magnetic sites alternate as far as the cell allows, the nearest
    neighbours first: the links between sites are taken by distance, and each joins two groups of
    sites such that its own two sites differ. The first magnetic site points up. Links to a site's
    own image, and those that close a loop the other way, are left as they are.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array, periodic along all axes. Sites of species without a
        high-spin moment have the sign 1.
    """
    magnetic = [
        i for i, token in enumerate(atoms.arrays["species"]) if high_spin_moment(str(token))
    ]
    found = np.ones(len(atoms), dtype=np.int64)
    group = {site: site for site in magnetic}
    for first, second in _links(atoms, magnetic):
        if group[first] == group[second]:
            continue
        joined = [site for site in magnetic if group[site] == group[second]]
        if found[first] == found[second]:
            found[joined] *= -1
        for site in joined:
            group[site] = group[first]
    for leader in sorted(set(group.values())):
        members = [site for site in magnetic if group[site] == leader]
        found[members] *= found[members[0]]
    return found


def _links(atoms: Atoms, sites: list[int]) -> list[tuple[int, int]]:
    """Return pairs of different sites, nearest first; those at one distance by index."""
    distances = atoms.get_all_distances(mic=True)
    pairs = [(i, j) for at, i in enumerate(sites) for j in sites[at + 1 :]]
    return sorted(pairs, key=lambda pair: (round(distances[pair] / SAME_DISTANCE), pair))
