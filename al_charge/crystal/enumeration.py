"""All distinct configurations of a host, and their number without enumerating them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations

import numpy as np

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.symmetry import canonical, permutations


def enumerate_distinct(host: Host, n_ions: int) -> list[Configuration]:
    """Return the canonical form of every distinct configuration with ``n_ions`` working ions.

    Every charge-neutral occupation is visited, with the ion sublattice reduced by symmetry first.

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
    found: set[Configuration] = set()
    for ions in _distinct_ion_occupations(host, n_ions):
        for states in _neutral_states(host, n_ions):
            found.add(canonical(host, Configuration(ions + states)))
    return sorted(found, key=lambda config: config.occupation)


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
    identity = np.arange(len(host.variable_sites))
    return _fixed_occupations(host, identity).get((n_ions, _needed_charge(host, n_ions)), 0)


def count_distinct(host: Host) -> dict[Fraction, int]:
    """Return the exact number of distinct configurations at every composition.

    Burnside's lemma: the mean over the space group of the number of neutral occupations that an
    operation leaves unchanged, each a coefficient of a product over the operation's cycles.

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
    for permutation in group:
        fixed = _fixed_occupations(host, permutation)
        for n_ions in host.ion_counts:
            totals[n_ions] += fixed.get((n_ions, _needed_charge(host, n_ions)), 0)
    return {host.composition(n): totals[n] // len(group) for n in host.ion_counts}


def _needed_charge(host: Host, n_ions: int) -> int:
    """Return the charge that all redox sites must sum to, in e."""
    return -host.fixed_charge - n_ions * host.working_ion_charge


def _fixed_occupations(host: Host, permutation: np.ndarray) -> dict[tuple[int, int], int]:
    """Count the occupations that a permutation leaves unchanged, by (ions, redox charge)."""
    n_ion_sites = len(host.ion_sites)
    counts = {(0, 0): 1}
    for cycle in _cycles(permutation):
        grown: Counter[tuple[int, int]] = Counter()
        for (ions, charge), ways in counts.items():
            for state in host.allowed_states[cycle[0]]:
                if cycle[0] >= n_ion_sites:
                    grown[ions, charge + len(cycle) * state] += ways
                else:
                    grown[ions + len(cycle) * (state != VACANCY), charge] += ways
        counts = dict(grown)
    return counts


def _cycles(permutation: np.ndarray) -> Iterator[list[int]]:
    seen: set[int] = set()
    for start in range(len(permutation)):
        cycle = []
        site = start
        while site not in seen:
            seen.add(site)
            cycle.append(site)
            site = int(permutation[site])
        if cycle:
            yield cycle


def _distinct_ion_occupations(host: Host, n_ions: int) -> list[tuple[int, ...]]:
    n_sites = len(host.ion_sites)
    group = np.unique(permutations(host)[:, :n_sites], axis=0)
    found = set()
    for occupied in combinations(range(n_sites), n_ions):
        ions = np.full(n_sites, VACANCY)
        ions[list(occupied)] = host.working_ion_charge
        images = ions[group]
        first = images[np.lexsort(images.T[::-1])[0]]
        found.add(tuple(int(state) for state in first))
    return sorted(found)


def _neutral_states(host: Host, n_ions: int) -> Iterator[tuple[int, ...]]:
    """Yield every assignment of oxidation states whose sum makes the cell neutral."""
    allowed = host.allowed_states[len(host.ion_sites) :]
    lowest = np.cumsum([0] + [min(states) for states in reversed(allowed)])[::-1]
    highest = np.cumsum([0] + [max(states) for states in reversed(allowed)])[::-1]

    def extend(states: tuple[int, ...], left: int) -> Iterator[tuple[int, ...]]:
        site = len(states)
        if not lowest[site] <= left <= highest[site]:
            return
        if site == len(allowed):
            yield states
            return
        for state in allowed[site]:
            yield from extend((*states, state), left - state)

    yield from extend((), _needed_charge(host, n_ions))
