"""Correlations against counting one by one, Ewald energies against pymatgen's own sum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation

from al_charge.crystal.configuration import Configuration, to_atoms, to_structure
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import permutations
from al_charge.errors import InputError
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.polynomial import functions_of_states

Draw = Callable[..., NDArray[np.int8]]


def near(host: Host, cutoff: float) -> list[tuple[int, int, NDArray[np.float64]]]:
    """Find every pair of variable sites within a distance, by trying all images."""
    lattice = host.structure.lattice.matrix
    places = host.structure.cart_coords[host.variable_sites]
    images = np.array(list(product(range(-4, 5), repeat=3))) @ lattice
    found = []
    for i, j in product(range(len(places)), repeat=2):
        vectors = places[j] + images - places[i]
        lengths = np.linalg.norm(vectors, axis=1)
        found += [(i, j, v) for v in vectors[(lengths < cutoff) & (lengths > 1e-6)]]
    return found


def counted(
    host: Host, occupations: NDArray[np.int8], pairs: float, triplets: float
) -> NDArray[np.float64]:
    """Return correlations as the mean over clusters of products, averaged over corners' order."""
    orbit = permutations(host).min(axis=0)  # alike in the cells that are tested
    of_site = [
        functions_of_states(len(allowed))[np.searchsorted(allowed, occupations[:, site])].T
        for site, allowed in enumerate(host.allowed_states)
    ]
    clusters: dict[object, list[tuple[int, ...]]] = defaultdict(list)
    for site in range(len(of_site)):
        clusters[orbit[site],].append((site,))
    for i, j, vector in near(host, pairs):
        if orbit[i] <= orbit[j]:
            length = round(float(np.linalg.norm(vector)), 3)
            clusters[orbit[i], orbit[j], length].append((i, j))
    by_centre = defaultdict(list)
    for i, j, vector in near(host, triplets):
        by_centre[i].append((j, vector))
    for i, around in by_centre.items():
        for (j, one), (k, other) in product(around, repeat=2):
            across = float(np.linalg.norm(one - other))
            if 1e-6 < across < triplets:
                sides = [*map(float, map(np.linalg.norm, (one, other))), across]
                r = [round(side, 3) for side in sides]
                kind = (orbit[i], orbit[j], orbit[k], r[0], r[1], r[2])
                ways = [  # the same triangle from its other corners
                    (orbit[a], orbit[b], orbit[c], p, q, s)
                    for (a, b, c), (p, q, s) in zip(
                        [(i, j, k), (i, k, j), (j, i, k), (j, k, i), (k, i, j), (k, j, i)],
                        [
                            (r[0], r[1], r[2]),
                            (r[1], r[0], r[2]),
                            (r[0], r[2], r[1]),
                            (r[2], r[0], r[1]),
                            (r[1], r[2], r[0]),
                            (r[2], r[1], r[0]),
                        ],
                        strict=True,
                    )
                ]
                if kind == min(ways):
                    clusters[kind].append((i, j, k))
    columns = []
    for some in clusters.values():
        mean: dict[tuple[int, ...], NDArray[np.float64]] = {}
        for chosen in product(*(range(len(of_site[site])) for site in some[0])):
            values = [
                np.prod([of_site[s][f] for s, f in zip(sites, chosen, strict=True)], axis=0)
                for sites in some
            ]
            mean[chosen] = np.mean(values, axis=0)
        columns += list(mean.values())
    return np.array(columns)


@pytest.mark.parametrize("triplets", [0.0, 4.5])
def test_lengths_and_products_are_those_of_counting(
    any_host: Host, randomly: Draw, triplets: float
) -> None:
    """The kernel is compared: it does not depend on how equal functions are put together."""
    occupations = randomly(any_host, 12)
    clusters = Clusters(any_host, 5.5, triplets)
    found = features(any_host, clusters).of(occupations)[:, 1:-1]
    expected = counted(any_host, occupations, 5.5, triplets)
    assert found @ found.T == pytest.approx(expected.T @ expected, abs=1e-9)


def test_images_share_them(any_host: Host, randomly: Draw) -> None:
    polynomial = features(any_host, Clusters(any_host, 6.0, 5.0))
    rng = np.random.default_rng(1)
    occupations = randomly(any_host, 20)
    group = permutations(any_host)
    images = np.array([row[group[rng.integers(len(group))]] for row in occupations])
    assert polynomial.of(images) == pytest.approx(polynomial.of(occupations), abs=1e-9)


def repeated_in(large: Host, small: Host, occupations: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return configurations of a small cell in a large one, by where its sites lie."""
    lattice = small.structure.lattice
    places = lattice.get_fractional_coords(large.structure.cart_coords[large.variable_sites])
    distances = lattice.get_all_distances(places, small.structure.frac_coords[small.variable_sites])
    assert distances.min(axis=1).max() < 1e-3
    return occupations[:, distances.argmin(axis=1)]


@pytest.mark.parametrize("cell", [(2, 2, 1), (3, 1, 1), ((1, 1, 0), (-1, 1, 0), (0, 0, 1))])
@pytest.mark.parametrize("reference", ["small", "large"])
def test_a_crystal_has_the_same_in_every_cell(
    p2: Callable[..., Host], randomly: Draw, cell: object, reference: str
) -> None:
    small, large = p2((1, 1, 1)), p2(cell)
    clusters = Clusters({"small": small, "large": large}[reference], 6.0, 5.0)
    occupations = randomly(small, 6)
    expected = features(small, clusters).of(occupations)
    found = features(large, clusters).of(repeated_in(large, small, occupations))
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_two_kinds_of_sodium_sites_are_told_apart(p2: Callable[..., Host]) -> None:
    host = p2((2, 1, 1))
    classes = Clusters(host).classes(host)
    sodium = classes[: len(host.ion_sites)]
    assert sorted(np.bincount(sodium)) == [4, 4]
    assert set(sodium).isdisjoint(classes[len(host.ion_sites) :])
    # A site and the one that it excludes share a face: they are of different kinds.
    assert all(sodium[one] != sodium[other] for one, other in host.exclusions)


def test_ewald_energies_are_those_of_pymatgen(any_host: Host, spins: Host, randomly: Draw) -> None:
    for host in (any_host, spins):
        occupations = randomly(host, 4)
        found = features(host, Clusters(host, 4.0)).of(occupations)[:, -1]
        for row, energy in zip(occupations, found, strict=True):
            atoms = to_atoms(host, Configuration(tuple(row.tolist())))
            expected = EwaldSummation(to_structure(atoms)).total_energy / host.formula_units
            assert energy == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("number", [2, 3, 5])
def test_functions_of_states_are_orthonormal_and_have_no_mean(number: int) -> None:
    values = functions_of_states(number)
    assert values.T @ values / number == pytest.approx(np.eye(number - 1))
    assert values.mean(axis=0) == pytest.approx(0.0)


def test_correlations_vanish_on_average_over_random_states(olivine: Host) -> None:
    occupations = np.array(list(product(*olivine.allowed_states)), dtype=np.int8)
    found = features(olivine, Clusters(olivine, 5.0, 5.0)).of(occupations)
    # All states, neutral or not; clusters with no site twice.
    kinds = Clusters(olivine, 5.0, 5.0).kinds
    repeats = 4.5  # the shortest vector of the lattice is longer
    short = [i for i, key in enumerate(kinds) if Clusters(olivine).reach(key) < repeats]
    assert len(short) > 5
    assert found[:, 1:-1][:, short].mean(axis=0) == pytest.approx(0.0, abs=1e-12)


def test_other_crystals_are_refused(olivine: Host, vanadium: Host, mixed: Host) -> None:
    for other in (vanadium, mixed):
        with pytest.raises(InputError, match="not of one crystal") as refused:
            Clusters(olivine).classes(other)
        assert refused.value.where == "host"


def test_reach_is_the_longest_side(olivine: Host) -> None:
    clusters = Clusters(olivine, 5.0, 5.0)
    lengths = {round(float(np.linalg.norm(vector)), 2) for *_, vector in near(olivine, 5.0)}
    for key in clusters.kinds:
        reach = clusters.reach(key)
        if len(key[0]) == 1:
            assert reach == 0
        else:
            assert min(abs(reach - length) for length in lengths) < 0.06
    assert max(map(clusters.reach, clusters.kinds)) == pytest.approx(max(lengths), abs=0.06)
