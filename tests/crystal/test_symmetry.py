"""The canonical form against symmetry operations found without it."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core.structure import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from al_charge.crystal.configuration import Configuration, to_atoms, to_structure
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.symmetry import canonical, canonical_hash, multiplicity, permutations

seeds = st.integers(0, 2**32 - 1)


def independent_group(host: Host) -> set[tuple[int, ...]]:
    """Return how the variable sites move, from operations on the small cell and its translations.

    The small cell's operations act on Cartesian coordinates, each followed by every translation
    of the small cell; those that carry the supercell onto itself are kept.
    """
    supercell = host.structure
    matrix = supercell.lattice.matrix / np.array(host.supercell)[:, None]
    inside = np.all(supercell.frac_coords % 1.0 < 1.0 / np.array(host.supercell) - 1e-6, axis=1)
    small = Structure(
        matrix,
        [site.specie for site, keep in zip(supercell, inside, strict=True) if keep],
        supercell.cart_coords[inside],
        coords_are_cartesian=True,
    )
    operations = SpacegroupAnalyzer(small, symprec=0.01).get_symmetry_operations(cartesian=True)
    group = set()
    lattice = supercell.lattice.matrix
    for operation in operations:
        turned = lattice @ operation.rotation_matrix.T @ np.linalg.inv(lattice)
        if np.abs(turned - np.round(turned)).max() > 0.01:
            continue
        moved = operation.operate_multi(supercell.cart_coords)
        for repeats in product(*map(range, host.supercell)):
            order = matched(supercell, moved + np.array(repeats) @ matrix)
            if order is not None:
                index = {int(site): i for i, site in enumerate(host.variable_sites)}
                group.add(tuple(index[int(order[site])] for site in host.variable_sites))
    return group


def matched(structure: Structure, positions: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Return the site of the same element at every position, or None if one has none."""
    fractional = structure.lattice.get_fractional_coords(positions)
    distances = structure.lattice.get_all_distances(fractional, structure.frac_coords)
    order: NDArray[np.int64] = distances.argmin(axis=1)
    same = all(structure[i].specie == structure[int(j)].specie for i, j in enumerate(order))
    return order if same and distances.min(axis=1).max() < 0.05 else None


def random_configuration(host: Host, rng: np.random.Generator) -> Configuration:
    configs = enumerate_distinct(host, int(rng.choice(host.ion_counts)))
    return configs[rng.integers(len(configs))]


def test_group_is_the_independent_one(any_host: Host) -> None:
    assert {tuple(row) for row in permutations(any_host).tolist()} == independent_group(any_host)


def test_group_sizes(olivine: Host, olivine_doubled: Host, vanadium: Host) -> None:
    # Pnma has 8 operations, which move Na and Fe sites in 8 ways; the doubled cell has one
    # translation more, and the tetragonal 2x2x1 cell 16 operations (a mirror in the plane
    # moves no variable site) times 4 translations.
    assert len(permutations(olivine)) == 8
    assert len(permutations(olivine_doubled)) == 16
    assert len(permutations(vanadium)) == 32


def test_group_is_closed(any_host: Host) -> None:
    group = permutations(any_host)
    rows = {tuple(row) for row in group.tolist()}
    assert {tuple(a[b].tolist()) for a in group for b in group} == rows


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_canonical_form_is_shared_by_all_images(any_host: Host, seed: int) -> None:
    rng = np.random.default_rng(seed)
    config = random_configuration(any_host, rng)
    group = permutations(any_host)
    image = Configuration(tuple(config.as_array()[group[rng.integers(len(group))]].tolist()))
    assert canonical(any_host, image) == canonical(any_host, config)
    assert canonical_hash(any_host, image) == canonical_hash(any_host, config)
    form = canonical(any_host, config)
    assert canonical(any_host, form) == form
    assert form.occupation <= image.occupation


def test_translation_gives_the_same_configuration(olivine_doubled: Host) -> None:
    host = olivine_doubled
    config = enumerate_distinct(host, 3)[17]
    shifted = host.structure.copy()
    shifted.translate_sites(range(len(shifted)), [0.0, 0.5, 0.0])
    order = matched(host.structure, shifted.cart_coords)
    assert order is not None
    state_at = dict(zip(order[host.variable_sites].tolist(), config.occupation, strict=True))
    moved = Configuration(tuple(state_at[int(site)] for site in host.variable_sites))
    assert moved != config
    assert canonical(host, moved) == canonical(host, config)


def test_hashes_differ_between_hosts_and_configurations(
    olivine: Host, olivine_doubled: Host
) -> None:
    hashes = {
        canonical_hash(host, config)
        for host in (olivine, olivine_doubled)
        for n in host.ion_counts
        for config in enumerate_distinct(host, n)
    }
    assert len(hashes) == 16 + 874
    assert all(re.fullmatch("[0-9a-f]{24}", found) for found in hashes)


def test_multiplicities_count_every_occupation(olivine: Host) -> None:
    # Two Na on four sites and two Fe2+ among four Fe: 6 times 6 occupations.
    assert sum(multiplicity(olivine, c) for c in enumerate_distinct(olivine, 2)) == 36
    full = enumerate_distinct(olivine, 4)
    assert [multiplicity(olivine, config) for config in full] == [1]


@pytest.mark.parametrize("n_ions", range(5))
def test_structure_matcher_agrees_on_what_is_distinct(olivine: Host, n_ions: int) -> None:
    matcher = StructureMatcher(
        ltol=0.01, stol=0.01, angle_tol=0.1, scale=False, primitive_cell=False
    )
    configs = enumerate_distinct(olivine, n_ions)
    structures = [to_structure(to_atoms(olivine, config)) for config in configs]
    group = permutations(olivine)
    for i, (config, structure) in enumerate(zip(configs, structures, strict=True)):
        image = Configuration(tuple(config.as_array()[group[-1]].tolist()))
        assert matcher.fit(structure, to_structure(to_atoms(olivine, image)))
        assert not any(matcher.fit(structure, other) for other in structures[:i])


def test_vacancies_come_first_in_the_canonical_form(olivine: Host) -> None:
    for config in enumerate_distinct(olivine, 1):
        assert config.occupation[:4] == (VACANCY, VACANCY, VACANCY, 1)
