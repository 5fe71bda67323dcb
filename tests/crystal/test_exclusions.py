"""Sites that exclude each other, against brute force on distances that pymatgen computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal import exclusions
from al_charge.crystal.configuration import (
    Configuration,
    configuration,
    from_atoms,
    ion_count,
    to_atoms,
    total_charge,
)
from al_charge.crystal.enumeration import (
    count_distinct,
    count_occupations,
    enumerate_distinct,
    iterate_distinct,
)
from al_charge.crystal.exclusions import WIDEST, Pairs, diagram, excluded_pairs
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import MIN_DISTANCE, HostSpec
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.crystal.symmetry import permutations
from al_charge.errors import InputError
from al_charge.loop.spec import load_spec

CASES = Path(__file__).parents[1] / "cases" / "hosts"
WORKFLOWS = Path(__file__).parents[2] / "workflows"


def p2() -> Structure:
    """P2-NaxCoO2: two layers, in each of them a site over Co and one over O for every Co."""
    return read_structure(CASES / "nacoo2_p2_both_sites.cif")


def p3() -> Structure:
    """P3-NaxCoO2: three layers, two prismatic sites in each for every Co."""
    sites = {
        "Na": [[0, 0, 1 / 6], [2 / 3, 1 / 3, 1 / 6]],
        "Co": [[0, 0, 0]],
        "O": [[2 / 3, 1 / 3, -0.06], [1 / 3, 2 / 3, 0.06]],
    }
    return Structure.from_spacegroup(
        "R3m",
        Lattice.hexagonal(2.83, 16.5),
        [element for element, places in sites.items() for _ in places],
        [place for places in sites.values() for place in places],
    )


def spinel() -> Structure:
    """LixMn2O4, the primitive cell: Li on the tetrahedral 8a and on the octahedral 16c."""
    return Structure.from_spacegroup(
        "Fd-3m",
        Lattice.cubic(8.24),
        ["Li", "Li", "Mn", "O"],
        [[0, 0, 0], [0.125] * 3, [0.625] * 3, [0.3875] * 3],
    ).get_primitive_structure()


def host_of(structure: Structure, supercell: object = (1, 1, 1), distance: str = "2 A") -> Host:
    """Return a host that Na or Li moves in, next to Co or Mn."""
    ion, metal = ("Na", "Co") if "Na" in structure.symbol_set else ("Li", "Mn")
    spec = {
        "structure": "cell.cif",
        "working_ion": ion,
        "redox": {metal: [3, 4]},
        "fixed": {"O": -2},
        "supercell": supercell,
        "min_distance": distance,
    }
    return Host.build(HostSpec.model_validate(spec), structure)


SMALL = {
    "P2": (p2, (1, 1, 1)),
    "P2, two cells": (p2, (2, 1, 1)),
    "P2, another way": (p2, ((1, 1, 0), (-1, 1, 0), (0, 0, 1))),
    "P2, three cells": (p2, ((1, -1, 0), (1, 2, 0), (0, 0, 1))),
    "P3": (p3, (1, 1, 1)),
    "P3, four primitive cells": (lambda: p3().get_primitive_structure(), (2, 2, 1)),
    "spinel": (spinel, (1, 1, 1)),
}
"""A structure and its supercell."""


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest) -> Host:
    make, supercell = SMALL[request.param]
    return host_of(make(), supercell)


def allowed(host: Host) -> list[Configuration]:
    """Return every neutral occupation with no two ions less than 2 A apart, out of all products."""
    sites = host.structure.frac_coords[host.ion_sites]
    distances = host.structure.lattice.get_all_distances(sites, sites)
    near = np.argwhere(np.triu(distances < 2.0, 1)).tolist()
    found = []
    for ions in product((VACANCY, 1), repeat=len(sites)):
        if any(ions[a] == ions[b] == 1 for a, b in near):
            continue
        for states in product((3, 4), repeat=len(host.redox_sites)):
            config = Configuration(ions + states)
            if total_charge(host, config) == 0:
                found.append(config)
    return found


def first_image(host: Host, config: Configuration) -> tuple[int, ...]:
    return min(tuple(config.occupation[i] for i in row) for row in permutations(host).tolist())


def test_brute_force_finds_the_same(small: Host) -> None:
    occupations = allowed(small)
    per_count = Counter(ion_count(small, config) for config in occupations)
    assert small.ion_counts == tuple(sorted(per_count))
    assert small.ion_counts[-1] <= small.most_ions < len(small.ion_sites)
    counted = count_distinct(small)
    for n_ions in small.ion_counts:
        these = [config for config in occupations if ion_count(small, config) == n_ions]
        forms = sorted({first_image(small, config) for config in these})
        assert count_occupations(small, n_ions) == len(these)
        assert counted[small.composition(n_ions)] == len(forms)
        assert [config.occupation for config in enumerate_distinct(small, n_ions)] == forms


def test_the_case_of_a_layer_with_both_sites() -> None:
    host = Host.from_spec(load_spec(CASES / "nacoo2_p2_both_sites.yaml").host)
    counted = count_distinct(host)
    assert counted[Fraction(1)] == 3 and counted[Fraction(3, 4)] == 89
    unlimited = replace(host, exclusions=())
    without = count_distinct(unlimited)
    assert without[Fraction(1)] == 376 and without[Fraction(3, 4)] == 3122
    for n_ions in (6, 7, 8):
        assert len(enumerate_distinct(host, n_ions)) == counted[host.composition(n_ions)]
    # Those that are left are those of the unlimited host that have no near ions.
    far = [
        config
        for config in iterate_distinct(unlimited, 8)
        if not any(config.occupation[a] == config.occupation[b] == 1 for a, b in host.exclusions)
    ]
    assert far == enumerate_distinct(host, 8)


def test_compositions_that_nothing_reaches_are_none() -> None:
    """There is room for one ion on two sites of a layer, and neutrality would allow two."""
    cell = p2()
    both = Host.build(
        HostSpec(
            structure=Path("cell.cif"),
            working_ion="Na",
            redox={"Co": (2, 3, 4)},
            fixed={"O": -2},
        ),
        cell,
    )
    assert both.ion_counts == (0, 1, 2) and both.most_ions == 2
    assert replace(both, exclusions=()).ion_counts == (0, 1, 2, 3, 4)
    with pytest.raises(InputError, match=r"no composition x = 2; choose one of: 0, 1/2, 1$"):
        both.n_ions(Fraction(2))


def random_graph(n_sites: int, density: float, rng: np.random.Generator) -> Pairs:
    return tuple(p for p in combinations(range(n_sites), 2) if rng.random() < density)


@pytest.mark.parametrize("seed", range(20))
def test_diagrams_of_random_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_sites = int(rng.integers(1, 11))
    pairs = random_graph(n_sites, rng.random(), rng)
    sizes = tuple(rng.integers(1, 5, size=n_sites).tolist())
    sets = [
        chosen
        for chosen in product((False, True), repeat=n_sites)
        if not any(chosen[a] and chosen[b] for a, b in pairs)
    ]
    found = diagram(n_sites, pairs)
    listed: list[tuple[bool, ...]] = []
    for n_ions in range(n_sites + 1):
        rows = [tuple(row) for chunk in found.occupations(n_ions) for row in chunk.tolist()]
        assert all(sum(row) == n_ions for row in rows)
        listed += rows
    assert sorted(listed) == sets
    for weights in (None, sizes):
        expected = Counter(int(np.dot(chosen, weights or (1,) * n_sites)) for chosen in sets)
        numbers = found.numbers(weights)
        assert {i: n for i, n in enumerate(numbers) if n} == expected


def test_many_occupations_come_some_at_a_time() -> None:
    pairs = tuple((i, i + 1) for i in range(23))
    chunks = list(diagram(24, pairs).occupations(8))
    assert max(map(len, chunks)) <= 2 * exclusions.CHUNK
    rows = {tuple(row) for chunk in chunks for row in chunk.tolist()}
    # Eight of 24 in a row, no two of them neighbours.
    assert len(rows) == sum(map(len, chunks)) == 24310


def test_what_is_too_much_to_count_is_refused() -> None:
    side = 24
    grid = np.arange(side * side).reshape(side, side)
    pairs = [
        pair
        for a, b in ((grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:]))
        for pair in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
    ]
    with pytest.raises(InputError, match=r"host\.supercell: too many of the 576 ion sites excl"):
        diagram(side * side, tuple(pairs))
    assert 2**side > WIDEST


def test_large_layers_are_counted_in_seconds() -> None:
    host = host_of(p2(), (4, 4, 1))
    counted = count_distinct(host)
    assert counted[Fraction(1)] == 3
    assert len(enumerate_distinct(host, 32)) == 3
    assert host.ion_counts[-1] == 32
    # Burnside's sum over the whole group, without classes of conjugate operations.
    n_sites, group = len(host.ion_sites), permutations(host)
    assert len(group) == 24 * 16
    total = 0
    for operation in group.tolist():
        cycles: dict[int, set[int]] = {}
        for site in range(n_sites):
            if not any(site in cycle for cycle in cycles.values()):
                cycle, here = {site}, operation[site]
                while here != site:
                    cycle.add(here)
                    here = operation[here]
                cycles[site] = cycle
        # With two ions: one cycle of two, or two cycles of one.
        near = set(host.exclusions)
        lone = [site for site, cycle in cycles.items() if len(cycle) == 1]
        ions = sum((a, b) not in near for a, b in combinations(lone, 2))
        ions += sum(len(c) == 2 and tuple(sorted(c)) not in near for c in cycles.values())
        redox = [operation[i] - n_sites for i in range(n_sites, len(operation))]
        fixed = sum(redox[i] == i for i in range(len(redox)))
        swapped = sum(redox[i] != i and redox[redox[i]] == i for i in range(len(redox))) // 2
        total += ions * (fixed * (fixed - 1) // 2 + swapped)
    assert counted[Fraction(2, 32)] == total // len(group)


def test_a_configuration_with_near_ions_is_refused() -> None:
    host = host_of(p2(), (1, 1, 1))
    (one, other), *_ = host.exclusions
    states = [VACANCY] * 4
    states[one] = states[other] = 1
    with pytest.raises(InputError, match=r"Na on sites \d+ and \d+, which are too near each other"):
        configuration(host, [*states, 3, 3])
    unlimited = replace(host, exclusions=())
    atoms = to_atoms(unlimited, configuration(unlimited, [*states, 3, 3]))
    assert from_atoms(unlimited, atoms).occupation == (*states, 3, 3)
    with pytest.raises(InputError, match="too near"):
        from_atoms(host, atoms)


def test_no_limit_means_what_it_meant() -> None:
    host = host_of(p2(), (2, 2, 1), "0 A")
    assert host.exclusions == () and host.most_ions == 16
    assert count_distinct(host)[Fraction(1)] == 376
    unlimited = replace(host_of(p2(), (2, 2, 1)), exclusions=())
    assert host.fingerprint == unlimited.fingerprint


def test_identity_follows_which_sites_exclude_each_other() -> None:
    cell = p2()
    near, same, none = (host_of(cell, (2, 2, 1), d) for d in ("2 A", "1.8 A", "1.6 A"))
    assert none.exclusions == () != near.exclusions
    assert near.fingerprint == same.fingerprint != none.fingerprint


@pytest.mark.parametrize(
    "file", sorted([*CASES.glob("*.yaml"), *WORKFLOWS.glob("*.yaml")]), ids=lambda file: file.stem
)
def test_ordinary_hosts_lose_nothing(file: Path) -> None:
    """Their identity is that of a host without a limit, and so are their configurations."""
    if file.stem == "nacoo2_p2_both_sites":
        return
    spec = load_spec(file).host
    host = Host.from_spec(spec)
    assert spec.min_distance == MIN_DISTANCE and host.exclusions == ()
    unlimited = Host.from_spec(spec.model_copy(update={"min_distance": 0.0}))
    assert host.fingerprint == unlimited.fingerprint
    assert host.ion_counts == unlimited.ion_counts


@pytest.mark.parametrize(
    ("group", "lattice", "places", "kept"),
    [
        # Ions that are there at once: Li3N (2.11 A) and Li2O (2.31 A), the nearest known.
        ("P6/mmm", Lattice.hexagonal(3.648, 3.875), [[0, 0, 0.5], [1 / 3, 2 / 3, 0]], True),
        ("Fm-3m", Lattice.cubic(4.619), [[0.25] * 3], True),
        ("R-3m", Lattice.hexagonal(2.816, 14.05), [[0, 0, 0.5]], True),
        # Sites of which one is empty: 8a and 16c of LiMn2O4, both kinds of a rock salt.
        ("Fd-3m", Lattice.cubic(8.24), [[0, 0, 0], [0.125] * 3], False),
        ("Fm-3m", Lattice.cubic(4.15), [[0, 0, 0], [0.25] * 3], False),
    ],
)
def test_default_keeps_what_is_known_and_refuses_what_overlaps(
    group: str, lattice: Lattice, places: list[list[float]], kept: bool
) -> None:
    ions = Structure.from_spacegroup(group, lattice, ["Li"] * len(places), places)
    assert (excluded_pairs(ions, np.arange(len(ions)), MIN_DISTANCE) == ()) is kept


def test_noise_does_not_break_the_symmetry_of_pairs() -> None:
    """Pairs that are images of each other exclude each other all or not at all."""
    cell = p2()
    rng = np.random.default_rng(1)
    exact = host_of(cell, (2, 2, 1), "2 A")
    distance = exact.structure.distance_matrix[tuple(exact.ion_sites[list(exact.exclusions[0])])]
    noisy = exact.structure.copy()
    for site in range(len(noisy)):
        noisy.translate_sites([site], rng.uniform(-0.003, 0.003, 3), frac_coords=False)
    for limit in (distance - 0.002, distance, distance + 0.002):
        assert excluded_pairs(noisy, exact.ion_sites, limit) == exact.exclusions
    assert excluded_pairs(noisy, exact.ion_sites, distance - 0.02) == ()


def test_a_site_that_excludes_itself_is_refused() -> None:
    with pytest.raises(InputError, match=r"host\.min_distance: an ion site is 2\.84 A from its ow"):
        host_of(p2(), (1, 1, 1), "3 A")
    host = host_of(p2(), (2, 2, 1), "3 A")
    n_ions = host.ion_counts[-1]
    sites = host.structure.frac_coords[host.ion_sites]
    distances = host.structure.lattice.get_all_distances(sites, sites) + 9 * np.eye(len(sites))
    for config in enumerate_distinct(host, n_ions):
        there = [i for i, state in enumerate(config.occupation[: len(sites)]) if state == 1]
        assert distances[np.ix_(there, there)].min() > 3.0


def test_the_filled_host_has_the_geometry_of_the_file() -> None:
    """Of two sites of which one is occupied at a time, half are occupied when the host is full."""
    full = p2()
    host = host_of(full, (2, 1, 1))
    empty = full.copy()
    empty.remove_species(["Na"])
    empty.apply_strain([0.0, 0.0, 0.04])
    matched = match_empty(full, empty, "Na")
    cells = [interpolated_host(host, full, matched, n) for n in (0, 2, host.most_ions)]
    assert host.most_ions == 4
    c = [cell.structure.lattice.c for cell in cells]
    assert c == pytest.approx([10.88 * 1.04, 10.88 * 1.02, 10.88])
    assert all(cell.exclusions == host.exclusions for cell in cells)
