"""All distinct configurations of a host, and their number without enumerating them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.exclusions import diagram
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.identity import holds
from al_charge.crystal.parent import Matrix
from al_charge.crystal.states import charge_of_state
from al_charge.crystal.superlattices import lattices_between, lattices_containing
from al_charge.crystal.symmetry import permutations, placement

Cycles = tuple[tuple[int, int], ...]
"""Lengths of cycles, each with the number of cycles of that length."""
Redox = tuple[Cycles, ...]
"""The cycles of each kind of redox site, in the order of `_redox_kinds`."""
CHUNK = 1000
"""Occupations of the ion sites that are compared with their images at a time."""
LARGEST_LISTED = 10_000_000
"""Most configurations of one composition that are listed and ranked rather than sampled. With 24
redox sites so many take half a gigabyte, and half a minute of one core each time."""


def distinct_occupations(host: Host, n_ions: int) -> NDArray[np.int8]:
    """Return every distinct configuration with ``n_ions`` working ions as a row.

    Parameters
    ----------
    host
        The host to occupy.
    n_ions
        Working ions in the cell.

    Returns
    -------
    ndarray of int8, shape (n_configs, n_variable_sites)
        Occupations in canonical form and lexicographic order. Nothing is cached: a million rows
        take seconds, and a byte per site.
    """
    empty = np.empty((0, len(host.variable_sites)), dtype=np.int8)
    return np.concatenate([empty, *_distinct_blocks(host, n_ions)])


def enumerate_distinct(host: Host, n_ions: int) -> list[Configuration]:
    """Return the canonical form of every distinct configuration with ``n_ions`` working ions.

    Parameters
    ----------
    host
        The host to occupy.
    n_ions
        Working ions in the cell.

    Returns
    -------
    list of Configuration
        In lexicographic order of their occupations.
    """
    return list(iterate_distinct(host, n_ions))


def iterate_distinct(host: Host, n_ions: int) -> Iterator[Configuration]:
    """Yield the canonical form of every distinct configuration with ``n_ions`` working ions.

    Parameters
    ----------
    host
        The host to occupy.
    n_ions
        Working ions in the cell.

    Yields
    ------
    Configuration
        In lexicographic order of their occupations.
    """
    for block in _distinct_blocks(host, n_ions):
        for row in block.tolist():
            yield Configuration(tuple(row))


def _distinct_blocks(host: Host, n_ions: int) -> Iterator[NDArray[np.int8]]:
    """Yield the distinct occupations, those with the same ions together.

    The ion sublattice is reduced by the space group, and the states of the redox sites by those
    operations that leave the ions unchanged.
    """
    if n_ions not in host.ion_counts:
        return
    n_sites = len(host.ion_sites)
    group = permutations(host)
    states = _neutral_states(host, n_ions)
    for ions in _distinct_ion_occupations(host, n_ions):
        unchanged = (ions[group[:, :n_sites]] == ions).all(axis=1)
        moves = np.unique(group[unchanged, n_sites:] - n_sites, axis=0)
        distinct = states[_comes_first(states, moves)]
        yield np.hstack([np.broadcast_to(ions, (len(distinct), n_sites)), distinct])


def count_occupations(host: Host, n_ions: int) -> int:
    """Return the number of charge-neutral occupations, symmetry images counted separately.

    Parameters
    ----------
    host
        The host to occupy.
    n_ions
        Working ions in the cell.

    Returns
    -------
    int
        Exact, and found without enumeration.
    """
    identity = np.arange(len(host.variable_sites))[None, :]
    return sum(_count_unchanged(host, *kind)[n_ions] for kind in _kinds(host, identity))


def count_distinct(host: Host) -> dict[Fraction, int]:
    """Return the exact number of distinct configurations at every composition.

    Burnside's lemma: the mean over the space group of the number of neutral occupations that an
    operation leaves unchanged. Where no ion sites exclude each other, that number depends only on
    the lengths of the operation's cycles; else it is the same for conjugate operations, so that
    only one of them is looked at.

    Parameters
    ----------
    host
        The host to occupy.

    Returns
    -------
    dict
        Number by composition x (working ions per formula unit), ascending.
    """
    group = permutations(host)
    totals: Counter[int] = Counter()
    for kind, operations in _kinds(host, group).items():
        for n_ions, unchanged in _count_unchanged(host, *kind).items():
            totals[n_ions] += operations * unchanged
    return {host.composition(n): totals[n] // len(group) for n in host.ion_counts}


def count_primitive(host: Host) -> dict[Fraction, int]:
    """Return how many distinct configurations at every composition no smaller cell holds.

    Burnside's lemma, where the occupations that an operation leaves unchanged are those without
    further periods: inclusion and exclusion over the lattices between the parent's and that of the
    supercell. Summed over all distinct supercells up to a size, these are the distinct
    configurations with primitive cells up to that size.

    Parameters
    ----------
    host
        The host to occupy.

    Returns
    -------
    dict
        Number by composition x (working ions per formula unit), ascending.
    """
    return _count_with_periods(host, [placement(host).form])


@lru_cache(maxsize=64)
def count_new(host: Host, smaller: tuple[Host, ...]) -> dict[Fraction, int]:
    """Return how many distinct configurations at every composition none of some cells holds.

    As `count_primitive` where these are all cells of which the host is a supercell; where some of
    them cannot be hosts, with what they would hold.

    Parameters
    ----------
    host
        The host to occupy.
    smaller
        Other cells of its crystal.

    Returns
    -------
    dict
        Number by composition x (working ions per formula unit), ascending.
    """
    if not smaller:
        return count_distinct(host)
    lattices = lattices_containing(placement(host).form)
    new = [one for one in lattices if not any(holds(other, one) for other in smaller)]
    return _count_with_periods(host, new)


def _count_with_periods(host: Host, lattices: Sequence[Matrix]) -> dict[Fraction, int]:
    """Count distinct configurations whose lattice of all periods is one of some lattices.

    Images of each under the host's group must be among them.
    """
    group, placed = permutations(host), placement(host)
    signs: Counter[Matrix] = Counter()
    for lattice in lattices:
        for other, sign in lattices_between(lattice):
            signs[other] += sign
    periods = [
        ([placed.at(placed.site, placed.vector + np.array(row)) for row in lattice], sign)
        for lattice, sign in signs.items()
    ]
    totals: Counter[int] = Counter()
    # What one lattice adds is not the same for conjugate operations, but the sum is.
    for operation, operations in _conjugates(group):
        for moves, sign in periods:
            kind = _cycles_together(host, np.array([operation, *moves]))
            for n_ions, unchanged in _count_unchanged(host, *kind).items():
                totals[n_ions] += sign * operations * unchanged
    return {host.composition(n): totals[n] // len(group) for n in host.ion_counts}


def _kinds(host: Host, group: NDArray[np.int64]) -> Counter[tuple[tuple[int, ...], Redox]]:
    """Count the operations of a group by what they leave unchanged.

    That is the number of occupations of the ion sites, by the number of ions; and, by kind of redox
    site, the lengths of cycles.
    """
    kinds: Counter[tuple[tuple[int, ...], Redox]] = Counter()
    if not host.exclusions:
        for (ion_cycles, *redox), operations in _cycle_types(host, group).items():
            ions = _sums({0: 1}, (0, 1), ion_cycles)
            numbers = tuple(ions.get(n, 0) for n in range(len(host.ion_sites) + 1))
            kinds[numbers, tuple(redox)] += operations
        return kinds
    for operation, operations in _conjugates(group):
        kinds[_cycles_together(host, operation[None])] += operations
    return kinds


def _cycles_together(host: Host, moves: NDArray[np.int64]) -> tuple[tuple[int, ...], Redox]:
    """Return what the group that some permutations generate leaves unchanged, as `_kinds` does."""
    here = np.broadcast_to(np.arange(moves.shape[1]), moves.shape)
    graph = coo_array((np.ones(moves.size), (here.ravel(), moves.ravel())))
    _, orbits = connected_components(graph, directed=False)
    lengths, first = np.bincount(orbits), np.unique(orbits, return_index=True)[1]
    ions = np.unique(orbits[: len(host.ion_sites)])
    redox = {states: Counter[int]() for states in _redox_kinds(host)}
    for orbit in range(len(ions), len(lengths)):
        redox[host.allowed_states[first[orbit]]][int(lengths[orbit])] += 1
    cycles = tuple(tuple(sorted(sizes.items())) for sizes in redox.values())
    return _ion_numbers(host, orbits[: len(host.ion_sites)], lengths[ions].tolist()), cycles


def _conjugates(group: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Yield one operation of each class of conjugate ones, with their number."""
    inverses = np.argsort(group, axis=1)
    left = {row.tobytes(): row for row in group}
    while left:
        operation = next(iter(left.values()))
        conjugate = np.take_along_axis(group, operation[inverses], axis=1)
        members = {row.tobytes() for row in conjugate}
        for member in members:
            del left[member]
        yield operation, len(members)


def _ion_numbers(host: Host, orbits: NDArray[np.int64], lengths: list[int]) -> tuple[int, ...]:
    """Count the allowed occupations of the ion sites with equal states on the sites of each orbit.

    Given are the orbit of every ion site, from 0 up, and how many sites each orbit has.
    """
    if not host.exclusions:
        ions = _sums({0: 1}, (0, 1), tuple(Counter(lengths).items()))
        return tuple(ions.get(n, 0) for n in range(len(host.ion_sites) + 1))
    pairs = {(min(a, b), max(a, b)) for a, b in orbits[np.array(host.exclusions)].tolist()}
    # Sites of one orbit are all occupied or all empty; where two exclude each other, all empty.
    never = {one for one, other in pairs if one == other}
    kept = [one for one in range(len(lengths)) if one not in never]
    place = {one: i for i, one in enumerate(kept)}
    edges = sorted((place[a], place[b]) for a, b in pairs if a in place and b in place)
    return diagram(len(kept), tuple(edges)).numbers(tuple(lengths[one] for one in kept))


def _cycle_types(host: Host, group: NDArray[np.int64]) -> Counter[tuple[Cycles, ...]]:
    """Count the permutations by their cycle type: the cycles of each kind of site.

    Kinds of sites differ in the states that they allow; the first is that of the ion sites, and
    the others are in the order of `_redox_kinds`.
    """
    n_ion_sites = len(host.ion_sites)
    numbers = {states: i for i, states in enumerate(_redox_kinds(host), start=1)}
    redox = [numbers[states] for states in host.allowed_states[n_ion_sites:]]
    kinds = np.array([0] * n_ion_sites + redox)
    here = np.arange(group.shape[1])
    lengths, reached, length = np.zeros_like(group), group, 1
    while not lengths.all():
        lengths[(lengths == 0) & (reached == here)] = length
        reached = np.take_along_axis(group, reached, axis=1)
        length += 1
    found = [
        (kind, int(size), np.count_nonzero(lengths[:, kinds == kind] == size, axis=1) // size)
        for kind in range(len(numbers) + 1)
        for size in np.unique(lengths[:, kinds == kind])
    ]
    counts = np.stack([number for _, _, number in found], axis=1)
    types: Counter[tuple[Cycles, ...]] = Counter()
    for row, operations in Counter(map(tuple, counts.tolist())).items():
        cycles: list[list[tuple[int, int]]] = [[] for _ in range(len(numbers) + 1)]
        for (kind, size, _), number in zip(found, row, strict=True):
            if number:
                cycles[kind].append((size, number))
        types[tuple(map(tuple, cycles))] += operations
    return types


def _redox_kinds(host: Host) -> list[tuple[int, ...]]:
    """Return the sets of states that redox sites allow, each once."""
    return list(dict.fromkeys(host.allowed_states[len(host.ion_sites) :]))


def _count_unchanged(host: Host, ions: tuple[int, ...], redox: Redox) -> Counter[int]:
    """Count the neutral occupations that a permutation leaves unchanged, by number of ions."""
    charges = {0: 1}
    for states, lengths in zip(_redox_kinds(host), redox, strict=True):
        charges = _sums(charges, tuple(map(charge_of_state, states)), lengths)
    ways = dict(enumerate(ions, start=host.inert_ions))
    return Counter(
        {n: ways.get(n, 0) * charges.get(host.redox_charge(n), 0) for n in host.ion_counts}
    )


def _sums(counts: dict[int, int], values: tuple[int, ...], cycles: Cycles) -> dict[int, int]:
    """Return in how many ways each sum arises if all sites of each further cycle have one value."""
    for length, number in cycles:
        for _ in range(number):
            grown: Counter[int] = Counter()
            for total, ways in counts.items():
                for value in values:
                    grown[total + length * value] += ways
            counts = dict(grown)
    return counts


def _comes_first(rows: NDArray[np.int8], group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are, in lexicographic order, the first of their images under a group."""
    first = np.ones(len(rows), dtype=bool)
    if not rows.shape[1]:  # no site of this kind: the only row is the first
        return first
    for permutation in group:
        left = np.flatnonzero(first)
        differences = rows[left][:, permutation] - rows[left]
        place = (differences != 0).argmax(axis=1)
        first[left] = differences[np.arange(len(left)), place] >= 0
    return first


def _distinct_ion_occupations(host: Host, n_ions: int) -> Iterator[NDArray[np.int8]]:
    """Yield the canonical form of every distinct occupation of the ion sites, in order."""
    n_sites = len(host.ion_sites)
    group = np.unique(permutations(host)[:, :n_sites], axis=0)
    chunks: Iterable[NDArray[np.int8]] = (
        rows[_comes_first(rows, group)] for rows in _ion_occupations(host, n_ions)
    )
    if host.exclusions:  # they come in no order
        rows = np.concatenate(list(chunks))
        chunks = [rows[np.lexsort(rows.T[::-1])]]
    for rows in chunks:
        yield from rows


def _ion_occupations(host: Host, n_ions: int) -> Iterator[NDArray[np.int8]]:
    """Yield every allowed occupation of the ion sites, some at a time."""
    n_sites = len(host.ion_sites)
    if host.exclusions:
        for occupied in host.ion_diagram.occupations(n_ions - host.inert_ions):
            yield np.where(occupied, host.working_ion_charge, VACANCY).astype(np.int8)
        return
    vacant = combinations(range(n_sites), n_sites + host.inert_ions - n_ions)
    while len(chunk := list(islice(vacant, CHUNK))):
        rows = np.full((len(chunk), n_sites), host.working_ion_charge, dtype=np.int8)
        np.put_along_axis(
            rows, np.array(chunk, dtype=np.int64).reshape(len(chunk), -1), VACANCY, axis=1
        )
        yield rows


def _neutral_states(host: Host, n_ions: int) -> NDArray[np.int8]:
    """Return every assignment of states whose charges make the cell neutral, in order."""
    allowed = [np.array(some) for some in host.allowed_states[len(host.ion_sites) :]]
    charges = [charge_of_state(states) for states in allowed]
    lowest = np.cumsum([0] + [some.min() for some in reversed(charges)])[::-1]
    highest = np.cumsum([0] + [some.max() for some in reversed(charges)])[::-1]
    rows, left = np.empty((1, 0), dtype=np.int8), np.array([host.redox_charge(n_ions)])
    for site, (states, some) in enumerate(zip(allowed, charges, strict=True), start=1):
        left = np.subtract.outer(left, some).ravel()
        possible = (lowest[site] <= left) & (left <= highest[site])
        each = np.repeat(rows, len(states), axis=0)
        here = np.tile(states, len(rows)).astype(np.int8)
        rows, left = np.column_stack([each, here])[possible], left[possible]
    return rows
