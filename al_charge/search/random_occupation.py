"""Random occupations of a host that are neutral by construction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.states import charge_of_state
from al_charge.crystal.symmetry import canonical
from al_charge.errors import InputError

CHANGE_WEIGHT = 1e-3
"""Weight of a site that departs from its preferred value; one that keeps it has the weight 1."""


def draw_with_sum(
    allowed: Sequence[Sequence[int]],
    total: int,
    rng: np.random.Generator,
    preferred: Sequence[int] | None = None,
) -> tuple[int, ...]:
    """Draw one allowed value for every site such that their charges sum to a total.

    Without preferences every such assignment is equally likely. With them an assignment's weight
    falls by a factor `CHANGE_WEIGHT` for each site that departs from its preferred value, so that
    a list with a wrong sum is almost always repaired by as few changes as possible.

    Parameters
    ----------
    allowed
        For each site, the states that it may have.
    total
        The sum of their charges, in e.
    rng
        Source of all random choices.
    preferred
        For each site, the value to keep where possible; None for no preferences.

    Returns
    -------
    tuple of int
        One value for each site.

    Raises
    ------
    InputError
        If no assignment has this sum.
    """
    weights = [
        {
            value: 1.0 if preferred is None or value == preferred[site] else CHANGE_WEIGHT
            for value in values
        }
        for site, values in enumerate(allowed)
    ]
    remaining = _weights_of_the_rest(tuple(tuple(choices.items()) for choices in weights))
    if total not in remaining[0]:
        raise InputError(f"no occupation sums to {total}", where="configuration")
    drawn: list[int] = []
    left = total
    for site, choices in enumerate(weights):
        rest = remaining[site + 1]
        values = [value for value in choices if left - charge_of_state(value) in rest]
        chances = [choices[value] * rest[left - charge_of_state(value)] for value in values]
        value = values[_place(chances, rng.random())]
        drawn.append(value)
        left -= charge_of_state(value)
    return tuple(drawn)


def _place(chances: Sequence[float], at: float) -> int:
    """Return the index that a number between 0 and 1 selects, given relative probabilities."""
    limits = list(accumulate(chances))
    return min(bisect_right(limits, at * limits[-1]), len(limits) - 1)


@lru_cache(maxsize=64)
def _weights_of_the_rest(
    weights: tuple[tuple[tuple[int, float], ...], ...],
) -> list[dict[int, float]]:
    """Return, for each site, the total weight of the choices from it onwards, by their sum."""
    remaining: list[dict[int, float]] = [{0: 1.0}]
    for choices in reversed(weights):
        sums: dict[int, float] = {}
        for value, weight in choices:
            for rest, rest_weight in remaining[-1].items():
                total = charge_of_state(value) + rest
                sums[total] = sums.get(total, 0.0) + weight * rest_weight
        largest = max(sums.values())
        # Only ratios within one site's table matter; without this, large cells overflow.
        remaining.append({key: weight / largest for key, weight in sums.items()})
    return remaining[::-1]


def random_occupation(
    host: Host,
    n_ions: int,
    rng: np.random.Generator,
    preferred: Configuration | None = None,
) -> Configuration:
    """Return a random neutral configuration with ``n_ions`` working ions.

    Parameters
    ----------
    host
        Cell to occupy.
    n_ions
        Working ions in it.
    rng
        Source of all random choices.
    preferred
        Occupation to keep where composition and neutrality allow it. It need not be neutral.
        When None, every neutral occupation is equally likely.

    Returns
    -------
    Configuration
        Not in canonical form.

    Raises
    ------
    InputError
        If the host has no neutral configuration with so many ions.
    """
    n_sites = len(host.ion_sites)
    wanted_ions = wanted_states = None
    if preferred is not None:
        wanted_ions = [int(state != VACANCY) for state in preferred.occupation[:n_sites]]
        wanted_states = preferred.occupation[n_sites:]
    if host.exclusions:
        occupied = _draw_allowed(host, n_ions - host.inert_ions, rng, wanted_ions)
    else:
        occupied = draw_with_sum([(0, 1)] * n_sites, n_ions - host.inert_ions, rng, wanted_ions)
    needed = host.redox_charge(n_ions)
    states = draw_with_sum(host.allowed_states[n_sites:], needed, rng, wanted_states)
    ions = tuple(host.working_ion_charge if here else VACANCY for here in occupied)
    return Configuration(ions + states)


def _draw_allowed(
    host: Host, n_ions: int, rng: np.random.Generator, preferred: Sequence[int] | None
) -> tuple[int, ...]:
    """Draw which ion sites are occupied, as `draw_with_sum` does, without an excluded pair."""
    every, n_sites = host.ion_diagram, len(host.ion_sites)
    empty, full = np.zeros(n_sites), np.zeros(n_sites)
    if preferred is not None:
        wanted = np.array(preferred, dtype=bool)
        empty[wanted], full[~wanted] = np.log(CHANGE_WEIGHT), np.log(CHANGE_WEIGHT)
    if n_ions > host.most_ions:
        raise InputError(f"no occupation has {n_ions} ions", where="configuration")
    weights = every.weights(n_ions, empty, full)
    drawn, node, left = [0] * n_sites, 0, n_ions
    for place, site in enumerate(every.order):
        vacant, occupied = every.vacant[place][node], every.occupied[place][node]
        without, filled = empty[site] + weights[place + 1][vacant, left], -np.inf
        if occupied >= 0 and left:
            filled = full[site] + weights[place + 1][occupied, left - 1]
        if rng.random() < np.exp(without - np.logaddexp(without, filled)):
            node = vacant
        else:
            drawn[site], node, left = 1, occupied, left - 1
    return tuple(drawn)


def random_distinct(
    host: Host, n_ions: int, number: int, rng: np.random.Generator
) -> list[Configuration]:
    """Return some of the distinct configurations with ``n_ions`` working ions.

    Every neutral occupation is equally likely, so that configurations of high symmetry are rare.

    Parameters
    ----------
    host
        Cell to occupy.
    n_ions
        Working ions in it.
    number
        How many to return; much fewer than there are, since they are drawn until so many differ.
    rng
        Source of all random choices.

    Returns
    -------
    list of Configuration
        In canonical form and lexicographic order.
    """
    found: set[Configuration] = set()
    while len(found) < number:
        found.add(canonical(host, random_occupation(host, n_ions, rng)))
    return sorted(found, key=lambda config: config.occupation)
