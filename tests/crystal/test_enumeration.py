"""Enumeration against Burnside's count and against brute force."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import Configuration, ion_count, total_charge
from al_charge.crystal.enumeration import (
    count_distinct,
    count_occupations,
    distinct_occupations,
    enumerate_distinct,
)
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.symmetry import canonical, multiplicity, permutations
from al_charge.loop.spec import load_spec

CASES = Path(__file__).parents[1] / "cases" / "hosts"


def case(name: str, **changes: object) -> Host:
    """Return the host of a campaign file of the cases, with some fields changed."""
    spec = load_spec(CASES / f"{name}.yaml").host
    return Host.from_spec(HostSpec(**(spec.model_dump(exclude_unset=True) | changes)))


@pytest.fixture(scope="module")
def layered() -> Host:
    """Conventional cell of LiCoO2, 3 Li and 3 Co."""
    return case("licoo2", supercell=(1, 1, 1))


@pytest.fixture(scope="module")
def spinel(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Primitive cell of LiMn2O4, 2 Li and 4 Mn."""
    cell = case("limn2o4_average_state").structure.get_primitive_structure()
    path = tmp_path_factory.mktemp("spinel") / "POSCAR"
    cell.sort().to(filename=str(path))
    return case("limn2o4_average_state", structure=path)


def brute_force(host: Host, n_ions: int) -> list[Configuration]:
    """Return every neutral occupation with ``n_ions`` ions, out of all products of states."""
    occupations = (Configuration(states) for states in product(*host.allowed_states))
    return [
        config
        for config in occupations
        if ion_count(host, config) == n_ions and total_charge(host, config) == 0
    ]


def orbits(host: Host, occupations: list[Configuration]) -> list[set[Configuration]]:
    """Return the occupations grouped by repeated application of the symmetry operations."""
    left = set(occupations)
    found = []
    while left:
        orbit, fresh = set(), [left.pop()]
        while fresh:
            config = fresh.pop()
            orbit.add(config)
            for row in permutations(host).tolist():
                image = Configuration(tuple(config.occupation[i] for i in row))
                if image not in orbit and image not in fresh:
                    fresh.append(image)
        left -= orbit
        found.append(orbit)
    return found


def test_olivine_has_16(olivine: Host) -> None:
    assert sum(len(enumerate_distinct(olivine, n)) for n in olivine.ion_counts) == 16
    assert sum(count_distinct(olivine).values()) == 16


def test_doubled_olivine_has_874(olivine_doubled: Host) -> None:
    listed = {n: enumerate_distinct(olivine_doubled, n) for n in olivine_doubled.ion_counts}
    counted = count_distinct(olivine_doubled)
    assert {Fraction(n, 8): len(configs) for n, configs in listed.items()} == counted
    assert sum(counted.values()) == 874
    assert counted[Fraction(0)] == counted[Fraction(1)] == 1


@pytest.fixture(scope="module")
def divalent(spinel: Host, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Primitive cell of MgMn2O4, 2 Mg and 4 Mn."""
    cell = spinel.structure.copy()
    cell.replace_species({"Li": "Mg"})
    path = tmp_path_factory.mktemp("divalent") / "POSCAR"
    cell.to(filename=str(path))
    return case("mgmn2o4", structure=path)


@pytest.mark.parametrize("name", ["olivine", "mixed", "vanadium", "layered", "spinel", "divalent"])
def test_brute_force_finds_the_same(name: str, request: pytest.FixtureRequest) -> None:
    host: Host = request.getfixturevalue(name)
    counted = count_distinct(host)
    for n_ions in host.ion_counts:
        occupations = brute_force(host, n_ions)
        assert len(occupations) == count_occupations(host, n_ions)
        groups = orbits(host, occupations)
        listed = enumerate_distinct(host, n_ions)
        assert len(listed) == len(groups) == counted[host.composition(n_ions)]
        for orbit in groups:
            forms = {canonical(host, config) for config in orbit}
            assert len(forms) == 1 and forms <= set(listed)
            assert multiplicity(host, next(iter(forms))) == len(orbit)


def test_listed_configurations_are_canonical_and_sorted(any_host: Host) -> None:
    for n_ions in any_host.ion_counts:
        listed = enumerate_distinct(any_host, n_ions)
        assert listed == sorted(set(listed), key=lambda config: config.occupation)
        assert all(canonical(any_host, config) == config for config in listed)
        assert all(ion_count(any_host, config) == n_ions for config in listed)
        rows = distinct_occupations(any_host, n_ions)
        assert rows.dtype == np.int8
        assert list(map(tuple, rows.tolist())) == [config.occupation for config in listed]


def test_occupations_are_orbits_added_up(olivine_doubled: Host) -> None:
    for n_ions in (1, 4):
        listed = enumerate_distinct(olivine_doubled, n_ions)
        orbits_added = sum(multiplicity(olivine_doubled, config) for config in listed)
        assert orbits_added == count_occupations(olivine_doubled, n_ions)


def test_several_state_counts_at_one_composition(vanadium: Host) -> None:
    # An empty cell is all V4+, or has one or two pairs of V3+ and V5+.
    states = {tuple(sorted(config.occupation[4:])) for config in enumerate_distinct(vanadium, 0)}
    assert states == {(4, 4, 4, 4), (3, 4, 4, 5), (3, 3, 5, 5)}


def test_mixed_host_shares_its_charge_in_every_way(mixed: Host) -> None:
    elements = np.array(mixed.elements)[mixed.redox_sites]
    found = set()
    for config in enumerate_distinct(mixed, 2):
        states = np.array(config.occupation[4:])
        found.add((int(states[elements == "Fe"].sum()), int(states[elements == "Mn"].sum())))
    assert found == {(4, 6), (5, 5), (6, 4)}


def test_counting_is_quick_where_listing_is_not(olivine: Host) -> None:
    big = replace(
        olivine,
        structure=olivine.structure.make_supercell((2, 3, 3), in_place=False),
        states=tuple(states for states in olivine.states for _ in range(18)),
        supercell=(2, 3, 3),
    )
    counted = count_distinct(big)
    assert len(counted) == 73
    assert counted[Fraction(1, 72)] > 1
    assert counted[Fraction(1, 2)] > 10**35


def test_no_such_number_of_ions(olivine: Host) -> None:
    assert enumerate_distinct(olivine, 5) == []
    assert distinct_occupations(olivine, 5).shape == (0, len(olivine.variable_sites))
    assert count_occupations(olivine, 5) == 0


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("licoo2", 20729),
        ("limn2o4_average_state", 4222),
        ("lini05mn15o4", 183),
        ("nmc333", 3388),
        ("mgmn2o4", 10514),
    ],
)
def test_cathodes_have_as_many_as_are_listed(name: str, number: int) -> None:
    host = case(name)
    counted = count_distinct(host)
    assert sum(counted.values()) == number
    for n_ions in host.ion_counts:
        listed = enumerate_distinct(host, n_ions)
        assert len(listed) == counted[host.composition(n_ions)]
        if len(listed) < 300:  # every neutral occupation is an image of one of them
            images = sum(multiplicity(host, config) for config in listed)
            assert images == count_occupations(host, n_ions)


def test_matrix_of_the_rhombohedral_cell_gives_the_hexagonal_one(tmp_path: Path) -> None:
    hexagonal = case("licoo2")
    small = case("licoo2", supercell=(1, 1, 1)).structure
    # The usual rhombohedral cell (Setyawan and Curtarolo): vectors between those of the hexagonal.
    third = np.array([[2, 1, 1], [-1, 1, 1], [-1, -2, 1]]) / 3
    lattice = third @ small.lattice.matrix
    sites = {}
    for site in small:
        place = np.round(site.coords @ np.linalg.inv(lattice), 5) % 1.0
        sites[site.specie.symbol, *place.tolist()] = place
    primitive = Structure(lattice, [key[0] for key in sites], list(sites.values()))
    assert primitive.composition.formula == "Li1 Co1 O2"
    path = tmp_path / "POSCAR"
    primitive.to(filename=str(path))
    host = case("licoo2", structure=path, supercell=((2, -2, 0), (0, 2, -2), (1, 1, 1)))
    assert len(host.structure) == len(hexagonal.structure)
    assert count_distinct(host) == count_distinct(hexagonal)
    assert len(permutations(host)) == len(permutations(hexagonal)) == 144


def unchanged(permutation: list[int], host: Host) -> dict[tuple[int, int], int]:
    """Count what one permutation leaves unchanged, by ions and charge, cycle after cycle."""
    counts, left = {(0, 0): 1}, set(range(len(permutation)))
    while left:
        site = cycle = left.pop()
        length = 1
        while (cycle := permutation[cycle]) != site:
            left.remove(cycle)
            length += 1
        grown: dict[tuple[int, int], int] = {}
        for (ions, charge), ways in counts.items():
            for state in host.allowed_states[site]:
                is_ion = site < len(host.ion_sites)
                key = (
                    ions + length * (is_ion and state != VACANCY),
                    charge + length * (0 if is_ion else state),
                )
                grown[key] = grown.get(key, 0) + ways
        counts = grown
    return counts


@pytest.mark.parametrize("name", ["licoo2", "nmc333"])
def test_operations_counted_together_and_one_by_one(name: str) -> None:
    host = case(name)
    group = permutations(host).tolist()
    totals = dict.fromkeys(host.ion_counts, 0)
    for permutation in group:
        found = unchanged(permutation, host)
        for n in totals:
            totals[n] += found.get((n, -host.fixed_charge - n), 0)
    assert count_distinct(host) == {
        host.composition(n): total // len(group) for n, total in totals.items()
    }


@pytest.mark.parametrize(
    ("name", "supercell", "operations"),
    # R-3m has 12 operations in each of 192 primitive cells, Fd-3m 48 in each of 32.
    [("licoo2", (4, 4, 4), 192 * 12), ("limn2o4_average_state", (2, 2, 2), 32 * 48)],
)
def test_counting_large_cells_takes_seconds(
    name: str, supercell: tuple[int, int, int], operations: int
) -> None:
    start = time.process_time()
    host = case(name, supercell=supercell)
    counted = count_distinct(host)
    assert time.process_time() - start < 5.0
    assert len(permutations(host)) == operations
    sites, redox = len(host.ion_sites), len(host.redox_sites)
    for n_ions in host.ion_counts[::16]:
        occupations = count_occupations(host, n_ions)
        # With each Li comes one trivalent ion, wherever both are.
        assert occupations == comb(sites, n_ions) * comb(redox, n_ions)
        assert occupations <= operations * counted[host.composition(n_ions)]
    assert counted[host.composition(0)] == 1
