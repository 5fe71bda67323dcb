"""The identity of a configuration as an infinite crystal, whatever supercell it was written in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.crystal.parent import Matrix
from al_charge.crystal.superlattices import hermite, index_of, points
from al_charge.crystal.symmetry import Images, canonical, placement


def identity(host: Host, config: Configuration) -> str:
    """Return the identity of a configuration in the infinite parent crystal.

    Parameters
    ----------
    host
        The host that it belongs to, any supercell of its parent.
    config
        A configuration, in any symmetry image.

    Returns
    -------
    str
        24 hexadecimal digits; see `identities`.
    """
    return identities(host, config.as_array()[None])[0]


def identities(host: Host, occupations: NDArray[np.int8]) -> list[str]:
    """Return the identities of configurations in the infinite parent crystal.

    The canonical form is that of the primitive cell of the decorated crystal under the parent's
    space group: its lattice is the image whose Hermite normal form comes first, and its occupation
    the first, in lexicographic order, of those that operations onto that lattice give.

    Parameters
    ----------
    host
        The host that they belong to, any supercell of its parent.
    occupations
        States, shape (n, n_variable_sites).

    Returns
    -------
    list of str
        24 hexadecimal digits each: equal for the same order in different supercells of one parent
        structure, for symmetry images and for other origins; different otherwise. Which ion sites
        exclude each other is no part of it.
    """
    occupations = occupations.astype(np.int8)
    states = host.working_ion, host.working_ion_charge, sorted(host.unpaired.items())
    which, lattices = _lattices(host, occupations)
    found = [""] * len(occupations)
    for number, lattice in enumerate(lattices):
        images, form = _frame(host, lattice)
        rows = np.flatnonzero(which == number)
        start = f"{placement(host).cell.fingerprint}:{states}:{form}:".encode()
        for row, occupation in zip(rows.tolist(), images.first(occupations[rows]), strict=True):
            found[row] = hashlib.sha256(start + occupation.tobytes()).hexdigest()[:24]
    return found


def repetitions(host: Host, occupations: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return how often a supercell repeats the primitive cells of configurations.

    Parameters
    ----------
    host
        The host that they belong to.
    occupations
        States, shape (n, n_variable_sites).

    Returns
    -------
    ndarray of int, shape (n,)
        1 for a configuration that no smaller cell holds.
    """
    which, lattices = _lattices(host, occupations)
    size = index_of(placement(host).form)
    return np.array([size // index_of(lattice) for lattice in lattices])[which]


def holds(host: Host, lattice: Matrix) -> bool:
    """Return whether a cell holds configurations with certain periods, turned as they may be.

    Parameters
    ----------
    host
        The cell.
    lattice
        Hermite normal form of the lattice of all their periods, in units of the parent's.

    Returns
    -------
    bool
        Whether an image of the cell's lattice is part of it.
    """
    return any(hermite([*lattice, *image]) == lattice for image in _images(host))


def held(host: Host, occupations: NDArray[np.int8], others: Sequence[Host]) -> NDArray[np.bool_]:
    """Return which configurations other cells hold.

    Parameters
    ----------
    host
        The host that they belong to.
    occupations
        States, shape (n, n_variable_sites).
    others
        Other cells of its crystal.

    Returns
    -------
    ndarray of bool, shape (n,)
        Whether any does.
    """
    if not others:
        return np.zeros(len(occupations), dtype=bool)
    which, lattices = _lattices(host, occupations)
    found = np.array([any(holds(one, lattice) for one in others) for lattice in lattices])
    return found[which]


def written_in(other: Host, host: Host, config: Configuration) -> Configuration | None:
    """Return a configuration as one of another cell.

    Parameters
    ----------
    other
        A cell of the same crystal.
    host
        The host that it belongs to.
    config
        A configuration.

    Returns
    -------
    Configuration or None
        The same infinite crystal in canonical form; None if the other cell does not hold it.
    """
    (lattice,) = _lattices(host, config.as_array()[None])[1][-1:]
    here, there = placement(host), placement(other)
    for operation, image in enumerate(_images(other)):
        if hermite([*lattice, *image]) == lattice:
            read = config.as_array()[here.moved(operation, there.site, there.vector)]
            return canonical(other, Configuration(tuple(read.tolist())))
    return None


@lru_cache(maxsize=64)
def _images(host: Host) -> list[Matrix]:
    """Return the images of a cell's lattice under the operations of the parent, in their order."""
    placed = placement(host)
    return [hermite(np.array(placed.form) @ rotation.T) for rotation in placed.rotations]


def _lattices(host: Host, occupations: NDArray[np.int8]) -> tuple[NDArray[np.int64], list[Matrix]]:
    """Return the lattices of all periods of configurations, and which is that of each."""
    placed = placement(host)
    translations = points(placed.form)[1:]
    same = np.empty((len(occupations), len(translations)), dtype=bool)
    for column, vector in enumerate(translations):
        same[:, column] = (
            occupations[:, placed.at(placed.site, placed.vector + vector)] == occupations
        ).all(axis=1)
    which = np.zeros(len(occupations), dtype=np.int64)
    periodic = same.any(axis=1)
    kinds, which[periodic] = np.unique(same[periodic] * 1, axis=0, return_inverse=True)
    which[periodic] += 1
    further = [translations[kind > 0].tolist() for kind in kinds]
    return which, [placed.form, *(hermite([*placed.form, *some]) for some in further)]


@lru_cache(maxsize=256)
def _frame(host: Host, lattice: Matrix) -> tuple[Images, Matrix]:
    """Return how configurations with the periods of a lattice are read in its canonical image.

    Returned are the host's variable sites that each image is read from, and the Hermite normal form
    of the lattice that the images have.
    """
    placed = placement(host)
    inverses = np.round(np.linalg.inv(placed.rotations)).astype(np.int64)
    # What is read at the places onto which an operation moves has the inverse image of the period.
    forms = [hermite(np.array(lattice) @ inverse.T) for inverse in inverses]
    form = min(forms)
    here = points(form)
    sites = np.repeat(np.arange(placed.images.shape[1]), len(here))
    vectors = np.tile(here, (placed.images.shape[1], 1))
    rows = [
        placed.moved(operation, np.broadcast_to(sites, (len(here), len(sites))), moved)
        for operation, one in enumerate(forms)
        if one == form
        for moved in [vectors[None] + here[:, None]]
    ]
    return Images(np.unique(np.concatenate(rows), axis=0), host.allowed_states), form
