"""Structures in any cell, origin and order are placed on the sites of a host, with their forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray

from al_charge.crystal.configuration import from_atoms, set_species, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.placing import place
from al_charge.crystal.symmetry import canonical_hash
from al_charge.errors import InputError
from al_charge.labelers.dft.kpoints import in_other_vectors

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"


@pytest.fixture(scope="module")
def host() -> Host:
    spec = {"structure": HOST, "working_ion": "Na", "redox": {"Fe": [2, 3]}}
    return Host.from_spec(HostSpec.model_validate(spec | {"fixed": {"P": 5, "O": -2}}))


def forces_of(atoms: Atoms) -> NDArray[np.float64]:
    """Return the forces of a pair repulsion exp(-r)."""
    i, r, vectors = neighbour_list("idD", atoms, 6.0)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, -(np.exp(-r) / r)[:, None] * vectors)
    return forces


def as_others_have_it(atoms: Atoms, vectors: list[list[int]], seed: int) -> Atoms:
    """Return the same crystal in other vectors and another frame, shifted and shuffled."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    cell = np.array(vectors) @ atoms.cell.array
    moved = Atoms(atoms.numbers, atoms.positions @ turn, cell=cell @ turn, pbc=True)
    moved.set_array("species", atoms.arrays["species"])
    moved.positions += rng.normal(size=3)
    moved.wrap()
    return moved[rng.permutation(len(moved))]


@pytest.mark.parametrize(
    "vectors",
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
        [[0, 1, 0], [1, 0, 0], [0, 0, -1]],
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    ],
    ids=["shifted", "cyclic", "swapped", "left-handed"],
)
def test_it_is_the_same_configuration_with_its_forces(host: Host, vectors: list[list[int]]) -> None:
    for number, config in enumerate(enumerate_distinct(host, 1)):
        atoms = to_atoms(host, config)
        atoms.rattle(0.03, seed=number)
        given = as_others_have_it(atoms, vectors, number)
        placed = place(host, given)
        again = placed.atoms.copy()
        set_species(again, [str(given.arrays["species"][i]) for i in placed.order])
        assert canonical_hash(host, from_atoms(host, again)) == canonical_hash(host, config)
        assert again.arrays["host_site"].tolist() == sorted(again.arrays["host_site"])
        sign = -1 if placed.inverted else 1
        expected = forces_of(placed.atoms)
        np.testing.assert_allclose(sign * forces_of(given)[placed.order], expected, atol=1e-9)
        cell = sign * placed.vectors @ given.cell.array
        np.testing.assert_allclose(placed.atoms.cell.array, cell, atol=1e-9)
        assert np.linalg.det(placed.atoms.cell.array) > 0
        ideal = host.structure.frac_coords[again.arrays["host_site"]]
        assert np.abs(placed.atoms.get_scaled_positions(wrap=False) - ideal).max() < 0.05


def test_what_is_another_crystal_is_refused(host: Host) -> None:
    atoms = to_atoms(host, enumerate_distinct(host, 2)[0])
    with pytest.raises(InputError, match="its cell has 8 formula units, the host's 4"):
        place(host, atoms * (2, 1, 1))
    manganese = atoms.copy()
    manganese.symbols[[symbol == "Fe" for symbol in manganese.symbols]] = "Mn"
    with pytest.raises(InputError, match="it has Mn4O16P4 where the host has Fe4O16P4"):
        place(host, manganese)
    other = atoms.copy()
    other.set_scaled_positions(np.random.default_rng(1).random((len(atoms), 3)))
    with pytest.raises(InputError, match="do not lie on the sites"):
        place(host, other)


def test_a_grid_along_other_vectors() -> None:
    assert in_other_vectors((2, 3, 4), np.eye(3)) == (2, 3, 4)
    # The new vectors are the old second, third and first: so the old first has the third grid.
    assert in_other_vectors((2, 3, 4), [[0, 1, 0], [0, 0, -1], [1, 0, 0]]) == (4, 2, 3)
    sheared = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert in_other_vectors((2, 3, 4), sheared) is None
    assert in_other_vectors((3, 3, 3), sheared) == (3, 3, 3)
