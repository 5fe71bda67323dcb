"""Coordination shells: bond lengths that show the charge order, and distortions that steer it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from al_charge.crystal.species import charge_of, element_of, tokens_of

SHELL_RATIO = 1.35
"""An anion belongs to a cation's shell up to this multiple of its shortest distance to one."""

SHELL_DISTORTION = 0.06
"""Default amplitude of distortions in angstrom; the bond lengths of neighbouring states come to
differ by twice as much."""

LONGEST_BOND = 3.5
"""Distance in angstrom beyond which no anion counts as a neighbour."""

LONGEST_TRIPLE_BOND = 1.25
"""Distance in angstrom up to which an anion carries its neighbour along, as N3- of cyanide C2+."""

KIND = "site_kind"
"""Array of atoms: sites of one element with different numbers are not compared, since a host gives
them different states. Without it all of an element are."""

Shell = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Indices of the anions, shape (n,), and the vectors to them in angstrom, shape (n, 3)."""


def mixed_sites(atoms: Atoms) -> dict[tuple[str, int], dict[int, int]]:
    """Return the charge of every site of each kind of sites that has more than one charge state.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array, and `KIND` where sites of one element differ.

    Returns
    -------
    dict
        Charge in e, by element and kind, and index of the atom. Kinds in a single state are left
        out.
    """
    kinds = atoms.arrays.get(KIND, np.zeros(len(atoms), dtype=int)).tolist()
    charges: dict[tuple[str, int], dict[int, int]] = {}
    for index, (token, kind) in enumerate(zip(tokens_of(atoms), kinds, strict=True)):
        charges.setdefault((element_of(token), kind), {})[index] = charge_of(token)
    return {kind: sites for kind, sites in charges.items() if len(set(sites.values())) > 1}


def shells(atoms: Atoms, sites: list[int]) -> dict[int, Shell]:
    """Return the coordination shell of the given cations: their nearest anions.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array; every species of negative charge is an anion.
    sites
        Indices of the cations.

    Returns
    -------
    dict
        For each cation, indices of its anions, shape (n,), and the vectors to them in angstrom,
        shape (n, 3); empty for a cation without an anion nearby.
    """
    anion = np.array([charge_of(token) < 0 for token in tokens_of(atoms)])
    first, second, distances, vectors = neighbor_list("ijdD", atoms, LONGEST_BOND)
    found: dict[int, Shell] = {}
    for site in sites:
        near = np.flatnonzero((first == site) & anion[second])
        if len(near):
            near = near[distances[near] <= SHELL_RATIO * distances[near].min()]
        found[site] = (second[near], vectors[near])
    return found


def shell_lengths(atoms: Atoms, sites: list[int]) -> NDArray[np.float64]:
    """Return the mean bond length of the given cations.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array.
    sites
        Indices of the cations.

    Returns
    -------
    ndarray, shape (n_sites,)
        angstrom; NaN for a cation without an anion nearby.
    """
    found = shells(atoms, sites)
    return np.array(
        [
            np.linalg.norm(found[site][1], axis=1).mean() if len(found[site][0]) else np.nan
            for site in sites
        ]
    )


def charge_order_contrast(atoms: Atoms) -> float:
    """Return the margin by which bond lengths distinguish the charge states of a geometry.

    For two neighbouring states of an element it is the shortest mean bond length among sites of the
    lower state minus the longest among sites of the higher one.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array.

    Returns
    -------
    float
        The smallest margin of all neighbouring states, angstrom: positive where all bond lengths
        agree with the charge order, infinite where no element has two states, negative infinity
        where a cation has no anion nearby.
    """
    contrast = np.inf
    for sites in mixed_sites(atoms).values():
        lengths = shell_lengths(atoms, list(sites))
        charges = np.array(list(sites.values()))
        states = np.unique(charges)
        for lower, higher in pairwise(states):
            gap = lengths[charges == lower].min() - lengths[charges == higher].max()
            contrast = min(contrast, float(gap)) if np.isfinite(gap) else -np.inf
    return contrast


def distort_shells(atoms: Atoms, amplitude: float) -> Atoms:
    """Move the anions around mixed-valence sites so that the geometry favours its charge order.

    Anions move along their bonds, towards a site whose state is higher than its element's mean in
    the cell and away from one whose state is lower. Displacements of an anion that several sites
    share add up. Carbon of a cyanide moves with its nitrogen. Where no element has two states,
    nothing moves.

    Parameters
    ----------
    atoms
        Atoms with a ``species`` array; not modified.
    amplitude
        angstrom; an anion moves by twice this per unit of charge by which its cation differs from
        the mean, so that the bonds of neighbouring states come to differ by twice the amplitude.

    Returns
    -------
    Atoms
        A copy with moved anions.
    """
    distorted: Atoms = atoms.copy()
    displacement = np.zeros_like(distorted.positions)
    for sites in mixed_sites(atoms).values():
        mean = np.mean(list(sites.values()))
        for site, (anions, vectors) in shells(atoms, list(sites)).items():
            outwards = vectors / np.linalg.norm(vectors, axis=1)[:, None]
            np.add.at(displacement, anions, 2 * amplitude * (mean - sites[site]) * outwards)
    if displacement.any():
        anion = np.array([charge_of(token) < 0 for token in tokens_of(atoms)])
        first, second = neighbor_list("ij", atoms, LONGEST_TRIPLE_BOND)
        carried = anion[first] & ~anion[second]
        np.add.at(displacement, second[carried], displacement[first[carried]])
    distorted.positions += displacement
    return distorted
