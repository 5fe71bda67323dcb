"""The space group of a host's supercell as permutations, and the canonical form under it."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import spglib
from numpy.typing import NDArray
from scipy.spatial import KDTree

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.crystal.space_group import SYMPREC
from al_charge.errors import AlChargeError


@lru_cache(maxsize=32)
def permutations(host: Host) -> NDArray[np.int64]:
    """Return how every operation of the supercell's space group permutes the variable sites.

    Translations by vectors of the primitive cell are included. Sites are mapped onto sites of the
    same element with the same allowed states.

    Parameters
    ----------
    host
        The host.

    Returns
    -------
    ndarray of int, shape (n_operations, n_variable_sites)
        Row g, column i: the variable site that operation g maps site i to; rows are distinct.

    Raises
    ------
    AlChargeError
        If spglib finds no symmetry, or an operation that does not map the sites onto each other.
    """
    structure = host.structure
    fractional = structure.frac_coords
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(host.kinds), start=1)}
    cell = structure.lattice.matrix.tolist(), fractional.tolist(), [kinds[k] for k in host.kinds]
    dataset = spglib.get_symmetry(cell, symprec=SYMPREC)
    if dataset is None:
        raise AlChargeError("spglib finds no symmetry", where="host.structure")
    rotations, translations = dataset["rotations"], dataset["translations"]
    is_translation = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
    shifts = [
        _permutation(host, rotation, translation)
        for rotation, translation in zip(
            rotations[is_translation], translations[is_translation], strict=True
        )
    ]
    # Any other operation is one with the same rotation, and then a translation of the lattice.
    _, one_each = np.unique(rotations, axis=0, return_index=True)
    others = [_permutation(host, rotations[i], translations[i]) for i in one_each]
    rows = np.array(shifts)[:, np.array(others)].reshape(-1, len(host.variable_sites))
    if len(rows) != len(rotations):
        raise AlChargeError("spglib's operations do not form a group", where="host.structure")
    return np.unique(rows, axis=0)


def _permutation(
    host: Host, rotation: NDArray[np.int64], translation: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return how one operation permutes the variable sites."""
    sites = host.structure.frac_coords[host.variable_sites]
    images = sites @ rotation.T + translation
    _, nearest = KDTree(sites % 1.0 % 1.0, boxsize=1.0).query(images)
    moves = images - sites[nearest]
    distances = np.linalg.norm((moves - np.round(moves)) @ host.structure.lattice.matrix, axis=1)
    if not _fits(distances, nearest):
        # In a very oblique cell the nearest site need not have the nearest coordinates.
        every = host.structure.lattice.get_all_distances(images, sites)
        distances, nearest = every.min(axis=1), every.argmin(axis=1)
    if not _fits(distances, nearest):
        raise AlChargeError("a symmetry operation moves a site off the host")
    return np.asarray(nearest, dtype=np.int64)


def _fits(distances: NDArray[np.float64], nearest: NDArray[np.int64]) -> bool:
    return bool(distances.max() <= 10 * SYMPREC) and len(set(nearest)) == len(nearest)


def canonical(host: Host, config: Configuration) -> Configuration:
    """Return the canonical form of a configuration under the host's space group.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    Configuration
        The symmetry image whose occupation comes first in lexicographic order.
    """
    # Reading an occupation through a permutation gives the image under its inverse; the set of all
    # images is the same, since a group holds every inverse.
    images = config.as_array()[permutations(host)]
    first = images[np.lexsort(images.T[::-1])[0]]
    return Configuration(tuple(int(state) for state in first))


def canonical_hash(host: Host, config: Configuration) -> str:
    """Return the identity of a configuration.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration, in any symmetry image.

    Returns
    -------
    str
        24 hexadecimal digits: equal for symmetry images, different otherwise.
    """
    return hash_of_canonical(host, canonical(host, config))


def hash_of_canonical(host: Host, config: Configuration) -> str:
    """Return the identity of a configuration that is in canonical form.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        Its canonical form.

    Returns
    -------
    str
        As of `canonical_hash`.
    """
    occupation = ",".join(map(str, config.occupation))
    return hashlib.sha256(f"{host.fingerprint}:{occupation}".encode()).hexdigest()[:24]


def multiplicity(host: Host, config: Configuration) -> int:
    """Return the number of distinct symmetry images of a configuration.

    Parameters
    ----------
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    int
        1 or more; the configuration itself is counted.
    """
    group, occupation = permutations(host), config.as_array()
    unchanged = np.count_nonzero((occupation[group] == occupation).all(axis=1))
    return len(group) // int(unchanged)
