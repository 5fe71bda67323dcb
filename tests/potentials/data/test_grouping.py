"""Groups where a file names none: never two sides of a split for one configuration."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.potentials.data.grouping import TOLERANCE, derive_groups, fingerprint


def disguised(atoms: Atoms, seed: int) -> Atoms:
    """Return the same crystal in another cell, order and orientation."""
    other = make_supercell(atoms, [[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    other = other[np.random.default_rng(seed).permutation(len(other))]
    other.rotate(40 + seed, (1, 2, 3), rotate_cell=True)
    other.positions += 0.37
    return other


def test_copies_are_one_group_and_configurations_are_not(olivine: Host) -> None:
    found = [
        to_atoms(olivine, config)
        for n_ions in (1, 2, 3)
        for config in enumerate_distinct(olivine, n_ions)
    ]
    names = derive_groups(found)
    copies = derive_groups([*found, *(disguised(a, i) for i, a in enumerate(found))])
    assert copies[: len(found)] == names
    assert copies[len(found) :] == names
    assert len(set(names)) == len(found)


def test_relaxations_stay_together(olivine: Host) -> None:
    """Frames with small steps, and one large jump between sites that are the same."""
    config = enumerate_distinct(olivine, 2)[0]
    rng = np.random.default_rng(0)
    frames = [to_atoms(olivine, config)]
    for _ in range(6):
        nxt = frames[-1].copy()
        nxt.positions += rng.uniform(-0.05, 0.05, size=nxt.positions.shape)
        nxt.set_cell(nxt.cell.array * 0.985, scale_atoms=True)
        frames.append(nxt)
    jumped = frames[-1].copy()
    jumped.positions += rng.uniform(-0.5, 0.5, size=jumped.positions.shape)
    frames.append(jumped)
    assert np.abs(fingerprint(jumped) - fingerprint(frames[-2])).max() > TOLERANCE
    assert len(set(derive_groups(frames))) == 1


def test_a_charge_order_is_a_group_of_its_own(olivine: Host) -> None:
    """On the same positions, one after the other in the file."""
    first = to_atoms(olivine, enumerate_distinct(olivine, 1)[0])
    species = first.arrays["species"]
    iron = np.flatnonzero([t.startswith("Fe") for t in species])
    orders = []
    for site in iron:
        other = first.copy()
        other.arrays["species"][iron] = "Fe3+"
        other.arrays["species"][site] = "Fe2+"
        orders.append(other)
    distinct = len(enumerate_distinct(olivine, 1))
    assert 1 < len(set(derive_groups(orders))) <= distinct


def test_the_fingerprint_moves_no_more_than_twice_the_atoms(olivine: Host) -> None:
    atoms = to_atoms(olivine, enumerate_distinct(olivine, 2)[0])
    scale = (10.0 * len(atoms) / atoms.get_volume()) ** (1 / 3)
    for seed in range(5):
        steps = np.random.default_rng(seed).normal(size=atoms.positions.shape)
        moved = atoms.copy()
        moved.positions += 0.1 * steps / np.linalg.norm(steps, axis=1)[:, None]
        change = np.abs(fingerprint(moved) - fingerprint(atoms)).max()
        assert 0.0 < change <= 0.2 * scale + 1e-9
