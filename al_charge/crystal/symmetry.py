"""A host's supercell in its parent crystal: its symmetry operations, and the canonical form."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import Host
from al_charge.crystal.parent import Matrix, matrix_of
from al_charge.crystal.parent_crystal import Integers, PrimitiveCell, primitive_cell
from al_charge.crystal.superlattices import hermite, index_of, places, points
from al_charge.errors import AlChargeError

MANY = 2**20
"""Largest number of keys of images that are compared at once."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the variable sites of a host lie in its infinite parent crystal.

    Attributes
    ----------
    cell
        The crystal's primitive cell.
    form
        Hermite normal form of the supercell's lattice in units of it.
    site
        The primitive cell's variable site, from 0 up, of which each variable site is a translation.
    vector
        By which lattice vector, shape (n_variable_sites, 3).
    rotations, images, shifts
        How operations of the space group move these sites; see `PrimitiveCell.operations`.
    """

    cell: PrimitiveCell
    form: Matrix
    site: Integers
    vector: Integers
    rotations: Integers
    images: Integers
    shifts: Integers

    @cached_property
    def table(self) -> Integers:
        """Return the variable site at each site and place.

        Returns
        -------
        ndarray of int, shape (n_primitive_sites, index)
            Variable sites, from 0 up.

        Raises
        ------
        AlChargeError
            If one is missing.
        """
        found = np.full((self.images.shape[1], index_of(self.form)), -1)
        found[self.site, places(self.form, self.vector)] = np.arange(len(self.site))
        if found.min() < 0:
            raise AlChargeError("the supercell does not repeat its parent", where="host.structure")
        return found

    def at(self, site: Integers, vector: Integers) -> Integers:
        """Return the variable sites at places of the infinite crystal.

        Parameters
        ----------
        site
            Sites of the primitive cell, shape (...).
        vector
            Lattice vectors, shape (..., 3).

        Returns
        -------
        ndarray of int, shape (...)
            The configuration is repeated with the supercell's period.
        """
        found: Integers = self.table[site, places(self.form, vector)]
        return found

    def moved(self, operation: int, site: Integers, vector: Integers) -> Integers:
        """Return the variable sites onto which an operation moves places of the crystal.

        Parameters
        ----------
        operation
            Number of the operation.
        site
            Sites of the primitive cell, shape (...).
        vector
            Lattice vectors, shape (..., 3).

        Returns
        -------
        ndarray of int, shape (...)
            Variable sites.
        """
        turned = vector @ self.rotations[operation].T + self.shifts[operation, site]
        return self.at(self.images[operation, site], turned)


@lru_cache(maxsize=64)
def placement(host: Host) -> Placement:
    """Return where a host's variable sites lie in its parent crystal.

    Parameters
    ----------
    host
        The host.

    Returns
    -------
    Placement
        In integers.

    Raises
    ------
    AlChargeError
        For any reason of `primitive_cell` and its ``operations``.
    """
    cell = primitive_cell(host.parent)
    matrix = np.array(matrix_of(host.supercell))
    cells = len(host.structure) // len(host.parent)
    site = cell.site[host.variable_sites // cells]
    coordinates = host.structure.frac_coords[host.variable_sites] @ (matrix @ cell.vectors)
    vector = np.round(coordinates - cell.structure.frac_coords[site]).astype(np.int64)
    variable, numbers = np.unique(site, return_inverse=True)
    order = np.full(len(cell.structure), -1)
    order[variable] = np.arange(len(variable))
    rotations, images, shifts = cell.operations
    return Placement(
        cell=cell,
        form=hermite((matrix @ cell.vectors).tolist()),
        site=numbers,
        vector=vector,
        rotations=rotations,
        images=order[images[:, variable]],
        shifts=shifts[:, variable],
    )


@lru_cache(maxsize=64)
def permutations(host: Host) -> NDArray[np.int64]:
    """Return how every operation of the supercell's space group permutes the variable sites.

    These are the operations of the parent's space group that map the supercell's lattice onto
    itself, with all translations of the parent.

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
        For any reason of `placement`.
    """
    placed = placement(host)
    translations = points(placed.form)[:, None]
    rows = [
        placed.at(
            placed.images[g, placed.site],
            placed.vector @ rotation.T + placed.shifts[g, placed.site] + translations,
        )
        for g, rotation in enumerate(placed.rotations)
        if hermite(np.array(placed.form) @ rotation.T) == placed.form
    ]
    return np.unique(np.concatenate(rows), axis=0)


@dataclass(frozen=True, eq=False)
class Images:
    """Symmetry images of occupations, of which the first in lexicographic order is wanted.

    Attributes
    ----------
    rows
        The variable sites that each image is read from, shape (n_images, n_sites).
    allowed
        Allowed states of every variable site, ascending.
    """

    rows: Integers
    allowed: tuple[tuple[int, ...], ...]

    @cached_property
    def _powers(self) -> Integers:
        """Weights of the ranks of states in one key, as many as a float holds exactly."""
        base = max(map(len, self.allowed))
        width = 1
        while base ** (width + 1) <= 2**53 and width < self.rows.shape[1]:
            width += 1
        return np.array([base**power for power in reversed(range(width))])

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """Weights of every variable site in the first key of each image, for one matrix product."""
        weights = np.zeros((len(self.allowed), len(self.rows)))
        width = len(self._powers)
        numbers = np.arange(len(self.rows))[:, None]
        weights[self.rows[:, :width], numbers] = self._powers
        return weights

    def first(self, occupations: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the first image of each occupation.

        Parameters
        ----------
        occupations
            States, shape (n, n_variable_sites).

        Returns
        -------
        ndarray of int8, shape (n, n_sites)
            The images.
        """
        step = max(1, MANY // max(self.rows.shape))
        found = [
            np.take_along_axis(part, self.rows[self._first_rows(self._ranks(part))], axis=1)
            for part in np.split(occupations, range(step, len(occupations), step))
        ]
        return np.concatenate(found)

    def _ranks(self, occupations: NDArray[np.int8]) -> Integers:
        """Return the place of every state among those of its site."""
        ranks = np.empty(occupations.shape, dtype=np.int64)
        for states in set(self.allowed):
            sites = [site for site, some in enumerate(self.allowed) if some == states]
            ranks[:, sites] = np.searchsorted(states, occupations[:, sites])
        return ranks

    def _first_rows(self, ranks: Integers) -> Integers:
        """Return which image of each is the first: keys of some sites at a time are compared."""
        keys = ranks.astype(float) @ self._weights
        which, image = np.nonzero(keys == keys.min(axis=1, keepdims=True))
        width = len(self._powers)
        for start in range(width, self.rows.shape[1], width):
            sites = self.rows[image, start : start + width]
            values = ranks[which[:, None], sites] @ self._powers[-sites.shape[1] :]
            begins = np.flatnonzero(np.diff(which, prepend=-1))
            lowest = np.minimum.reduceat(values, begins)
            kept = values == lowest[which]
            which, image = which[kept], image[kept]
        found: Integers = image[np.diff(which, prepend=-1) > 0]
        return found


@lru_cache(maxsize=64)
def _images(host: Host) -> Images:
    return Images(permutations(host), host.allowed_states)


def canonical_forms(host: Host, occupations: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the canonical forms of many configurations, many times faster than `canonical` each.

    Parameters
    ----------
    host
        The host that they belong to.
    occupations
        Their occupations, shape (n, n_variable_sites).

    Returns
    -------
    ndarray of int8, shape (n, n_variable_sites)
        Occupations of the canonical forms.
    """
    return _images(host).first(occupations)


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
