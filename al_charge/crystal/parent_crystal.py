"""The infinite parent crystal: its primitive cell and its space group, in exact integers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.space_group import STATES, SYMPREC, spglib_cell
from al_charge.crystal.superlattices import hermite
from al_charge.errors import AlChargeError

Integers = NDArray[np.int64]
SAME_SITE = 10 * SYMPREC
"""Largest distance in angstrom of a site's image from the site that it falls on."""


@dataclass(frozen=True, eq=False)
class PrimitiveCell:
    """A primitive cell of a structure, and how the structure consists of it.

    Attributes
    ----------
    structure
        The first sites of the given structure of which each other is a translation.
    vectors
        The given cell's vectors in units of the primitive ones, as rows, shape (3, 3).
    site
        For every site of the given structure, the site of the primitive cell that it repeats.
    offset
        The lattice vectors between the two, shape (n_sites, 3).
    """

    structure: Structure
    vectors: Integers
    site: Integers
    offset: Integers

    @cached_property
    def operations(self) -> tuple[Integers, Integers, Integers]:
        """Return the space group, without the translations of the lattice.

        Returns
        -------
        rotations
            Matrices that act on columns of primitive coordinates, shape (n_operations, 3, 3).
        images
            The site that each site falls on, shape (n_operations, n_sites).
        shifts
            The lattice vectors from there to where it falls, shape (n_operations, n_sites, 3).

        Raises
        ------
        AlChargeError
            If spglib finds no symmetry, or an operation that moves a site off the others.
        """
        dataset = spglib.get_symmetry(spglib_cell(self.structure), symprec=SYMPREC)
        if dataset is None:
            raise AlChargeError("spglib finds no symmetry", where="host.structure")
        rotations, first = np.unique(dataset["rotations"], axis=0, return_index=True)
        if len(rotations) < len(dataset["rotations"]):
            raise AlChargeError("spglib's operations do not form a group", where="host.structure")
        places = self.structure.frac_coords
        moved = [
            places @ rotation.T + translation
            for rotation, translation in zip(rotations, dataset["translations"][first], strict=True)
        ]
        images, shifts = zip(*(_sites_at(self.structure, one) for one in moved), strict=True)
        return rotations.astype(np.int64), np.array(images), np.array(shifts)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the cell, its sites, and their elements and states."""
        digest = hashlib.sha256()
        sites = [(site.specie.symbol, site.properties.get(STATES, "")) for site in self.structure]
        digest.update(repr(sites).encode())
        # Adding zero turns -0.0 into 0.0: equal numbers must have equal bytes.
        digest.update((np.round(self.structure.lattice.matrix, 4) + 0.0).tobytes())
        digest.update((np.round(self.structure.frac_coords, 4) % 1.0).tobytes())
        return digest.hexdigest()[:16]


def primitive_cell(structure: Structure) -> PrimitiveCell:
    """Return the primitive cell of a structure.

    Parameters
    ----------
    structure
        Sites of one element whose property `STATES` differs do not count as alike.

    Returns
    -------
    PrimitiveCell
        The structure itself, if it is primitive.

    Raises
    ------
    AlChargeError
        If spglib finds no symmetry, or translations that do not fit the sites.
    """
    content = (
        structure.lattice.matrix.tobytes(),
        structure.frac_coords.tobytes(),
        repr([(site.species, site.label, site.properties) for site in structure]),
    )
    return _primitive_cell(_Given(content, structure))


@dataclass(frozen=True)
class _Given:
    """A structure that equals another of the same content: pymatgen's cannot be hashed."""

    content: tuple[bytes, bytes, str]
    structure: Structure = field(compare=False)


@lru_cache(maxsize=64)  # many hosts, as of one campaign in other spin states, have one parent
def _primitive_cell(given: _Given) -> PrimitiveCell:
    structure = given.structure
    dataset = spglib.get_symmetry(spglib_cell(structure), symprec=SYMPREC)
    if dataset is None:
        raise AlChargeError("spglib finds no symmetry", where="host.structure")
    pure = (dataset["rotations"] == np.eye(3, dtype=int)).all(axis=(1, 2))
    cells = int(pure.sum())
    # Translations of a cell that holds so many lattice points are such fractions of its vectors.
    parts = np.round(dataset["translations"][pure] * cells).astype(int)
    form = np.array(hermite([*(cells * np.eye(3, dtype=int)).tolist(), *parts.tolist()]))
    vectors = _inverse(form, cells)
    # Sums in a fixed order, so that the same file has the same bytes on every machine.
    cell = (form[:, :, None] * structure.lattice.matrix[None]).sum(axis=1) / cells
    coordinates = (structure.frac_coords[:, :, None] * vectors[None]).sum(axis=1)
    kinds = np.array(spglib_cell(structure)[2])
    apart = coordinates[:, None] - coordinates[None]
    away = np.linalg.norm((apart - np.round(apart)) @ cell, axis=2)
    alike = (away <= SAME_SITE) & (kinds[:, None] == kinds[None])
    first = alike.argmax(axis=1)
    kept, site, numbers = np.unique(first, return_inverse=True, return_counts=True)
    if (numbers != cells).any():
        raise AlChargeError("translations do not map the sites", where="host.structure")
    offset = np.round(coordinates - coordinates[first]).astype(np.int64)
    if cells == 1:
        return PrimitiveCell(structure, np.eye(3, dtype=np.int64), site, offset)
    primitive = Structure(
        Lattice(cell),
        [structure[int(i)].species for i in kept],
        coordinates[kept],
        site_properties={
            name: [values[int(i)] for i in kept]
            for name, values in structure.site_properties.items()
        },
        labels=[structure[int(i)].label for i in kept],
    )
    return PrimitiveCell(primitive, vectors, site, offset)


def _inverse(form: Integers, cells: int) -> Integers:
    """Return a cell's vectors in units of those that are given as fractions of it."""
    (a, b, c), (_, d, e), (_, _, f) = form.tolist()
    # The inverse of a triangular matrix; every quotient is exact.
    rows = [
        [cells * d * f, -cells * b * f, cells * (b * e - c * d)],
        [0, cells * a * f, -cells * a * e],
        [0, 0, cells * a * d],
    ]
    inverse: Integers = np.array(rows, dtype=np.int64) // (a * d * f)
    return inverse


def _sites_at(structure: Structure, coordinates: NDArray[np.float64]) -> tuple[Integers, Integers]:
    """Return the site at each place, and the lattice vector between the two."""
    sites = structure.frac_coords
    apart = coordinates[:, None] - sites[None]
    shifts = np.round(apart)
    away = np.linalg.norm((apart - shifts) @ structure.lattice.matrix, axis=2)
    nearest = away.argmin(axis=1)
    here = np.arange(len(nearest))
    if away[here, nearest].max() > SAME_SITE or len(set(nearest.tolist())) < len(nearest):
        raise AlChargeError("a symmetry operation moves a site off the host")
    return nearest, shifts[here, nearest].astype(np.int64)
