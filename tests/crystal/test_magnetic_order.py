"""Antiferromagnetic order is found from distances, and is the same however the cell is given."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

from al_charge.crystal.configuration import set_species, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.magnetic_order import signs


def oxide(repeat: tuple[int, int, int]) -> Atoms:
    """Return MnO in its conventional cell, repeated."""
    atoms = bulk("MnO", "rocksalt", a=4.44, cubic=True) * repeat
    set_species(atoms, ["Mn2+" if symbol == "Mn" else "O2-" for symbol in atoms.symbols])
    return atoms


def test_a_chain_alternates() -> None:
    atoms = Atoms("Fe4", [(3.0 * i, 0, 0) for i in range(4)], cell=[12, 9, 9], pbc=True)
    set_species(atoms, ["Fe2+", "Fe3+", "Fe3+", "Fe2+"])
    assert signs(atoms).tolist() == [1, -1, 1, -1]


def test_sites_without_a_moment_count_for_nothing() -> None:
    found = signs(oxide((1, 1, 1)))
    oxygen = np.array(oxide((1, 1, 1)).symbols) == "O"
    assert (found[oxygen] == 1).all()
    assert found[~oxygen].sum() == 0


def test_the_nearest_iron_of_olivine_points_the_other_way(olivine: Host) -> None:
    for n_ions in range(5):
        for configuration in enumerate_distinct(olivine, n_ions):
            atoms = to_atoms(olivine, configuration)
            found = signs(atoms)
            iron = np.flatnonzero(atoms.symbols == "Fe")
            assert found[iron[0]] == 1
            assert found[iron].sum() == 0
            distances = atoms.get_all_distances(mic=True)[np.ix_(iron, iron)]
            np.fill_diagonal(distances, np.inf)
            near = distances < distances.min() + 0.05
            opposite = found[iron][:, None] != found[iron][None, :]
            assert opposite[near].all()


def test_small_moves_and_translations_change_nothing(olivine: Host) -> None:
    atoms = to_atoms(olivine, enumerate_distinct(olivine, 2)[0])
    expected = signs(atoms)
    moved = atoms.copy()
    moved.positions += [1.3, 0.7, -2.1]
    moved.rattle(0.02, seed=4)
    moved.wrap()
    np.testing.assert_array_equal(signs(moved), expected)


def test_a_lone_site_points_up() -> None:
    atoms = bulk("MnO", "rocksalt", a=4.44)
    set_species(atoms, ["Mn2+", "O2-"])
    assert signs(atoms).tolist() == [1, 1]
