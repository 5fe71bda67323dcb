"""Operators of the genetic search: each makes a neutral child with as many ions as its parents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations as permutations_of

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration, ion_count
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.states import charge_of_state
from al_charge.crystal.symmetry import permutations
from al_charge.search.random_occupation import random_occupation

Parents = Sequence[Configuration]
Change = tuple[tuple[int, int], ...]
"""Redox sites, by their place among them, with their new states."""
DISTANCE_TIE = 0.05
"""Sites whose distances differ by less than this, in angstrom, count as equally near."""


@dataclass(frozen=True)
class Operator:
    """One way to make a child.

    Attributes
    ----------
    name
        Name of its weight in the settings.
    n_parents
        How many parents it needs.
    make
        Called with host, parents and random generator; returns None where no such move exists.
    """

    name: str
    n_parents: int
    make: Callable[[Host, Parents, np.random.Generator], Configuration | None]


def ion_swap(host: Host, parents: Parents, rng: np.random.Generator) -> Configuration | None:
    """Move one working ion to a vacancy; charge states stay.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        One parent.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration or None
        None if no working-ion site is occupied, or none is vacant that it may go to.
    """
    hop = _random_hop(host, parents[0], rng)
    return None if hop is None else _exchanged(parents[0], *hop)


def charge_swap(host: Host, parents: Parents, rng: np.random.Generator) -> Configuration | None:
    """Exchange two different states of one element, between sites that allow both.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        One parent.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration or None
        None if no element has two states.
    """
    occupation = parents[0].occupation
    elements = [host.elements[site] for site in host.variable_sites]
    allowed = host.allowed_states
    redox = range(len(host.ion_sites), len(occupation))
    pairs = [
        (a, b)
        for a in redox
        for b in redox
        if a < b
        and elements[a] == elements[b]
        and occupation[a] != occupation[b]
        and occupation[a] in allowed[b]
        and occupation[b] in allowed[a]
    ]
    return _exchanged(parents[0], *pairs[rng.integers(len(pairs))]) if pairs else None


def coupled_swap(host: Host, parents: Parents, rng: np.random.Generator) -> Configuration | None:
    """Move an ion to a vacancy, and an electron along with it.

    The electron moves from the redox site nearest to the ion's old site to the redox site nearest
    to its new one. Sites that cannot give or take an electron are passed over.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        One parent.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration or None
        None if no ion or no electron can move.
    """
    parent = parents[0]
    hop = _random_hop(host, parent, rng)
    if hop is None:
        return None
    distances = _ion_redox_distances(host)
    leaving, arriving = (distances[place] for place in hop)
    moves = _electron_moves(host, parent)
    if not moves:
        return None
    lengths = np.array([leaving[giver] + arriving[taker] for (giver, _), (taker, _) in moves])
    nearest = np.flatnonzero(lengths < lengths.min() + DISTANCE_TIE)
    return _changed(host, _exchanged(parent, *hop), moves[int(rng.choice(nearest))])


def electron_transfer(
    host: Host, parents: Parents, rng: np.random.Generator
) -> Configuration | None:
    """Move electrons between two redox sites such that the numbers of the states change.

    Two V4+ become V3+ and V5+ or the reverse; Fe2+ and Mn3+ become Fe3+ and Mn2+.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        One parent.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration or None
        None if no transfer changes the numbers of the states.
    """
    parent = parents[0]
    before = _state_counts(host, parent)
    children = [_changed(host, parent, move) for move in _electron_moves(host, parent)]
    children = [child for child in children if _state_counts(host, child) != before]
    return children[rng.integers(len(children))] if children else None


def spin_change(host: Host, parents: Parents, rng: np.random.Generator) -> Configuration | None:
    """Give one redox site another spin state of its charge.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        One parent.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration or None
        None if no ion has two spin states.
    """
    n_sites = len(host.ion_sites)
    states = parents[0].occupation[n_sites:]
    changes = [
        ((site, other),)
        for site, (state, allowed) in enumerate(
            zip(states, host.allowed_states[n_sites:], strict=True)
        )
        for other in allowed
        if other != state and charge_of_state(other) == charge_of_state(state)
    ]
    return _changed(host, parents[0], changes[rng.integers(len(changes))]) if changes else None


def exchange_sublattices(
    host: Host, parents: Parents, rng: np.random.Generator
) -> Configuration | None:
    """Take the ions of the first parent and the charge states of an image of the second.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        Two parents of the same composition.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration
        The child.
    """
    n_sites = len(host.ion_sites)
    other = _random_image(host, parents[1], rng)
    return Configuration(parents[0].occupation[:n_sites] + other.occupation[n_sites:])


def splice(host: Host, parents: Parents, rng: np.random.Generator) -> Configuration | None:
    """Take one half of the cell from the first parent, the other from an image of the second.

    The halves are slabs across a random axis, at a random height. Composition and neutrality are
    restored with as few changes as possible.

    Parameters
    ----------
    host
        Cell of the parents.
    parents
        Two parents of the same composition.
    rng
        Source of all random choices.

    Returns
    -------
    Configuration
        The child.
    """
    other = _random_image(host, parents[1], rng)
    heights = host.structure.frac_coords[host.variable_sites][:, rng.integers(3)]
    inside = (heights + rng.random()) % 1.0 < 0.5
    mixed = np.where(inside, parents[0].as_array(), other.as_array())
    wanted = Configuration(tuple(int(state) for state in mixed))
    return random_occupation(host, ion_count(host, parents[0]), rng, preferred=wanted)


OPERATORS: tuple[Operator, ...] = (
    Operator("ion_swap", 1, ion_swap),
    Operator("charge_swap", 1, charge_swap),
    Operator("coupled_swap", 1, coupled_swap),
    Operator("electron_transfer", 1, electron_transfer),
    Operator("spin_change", 1, spin_change),
    Operator("exchange_sublattices", 2, exchange_sublattices),
    Operator("splice", 2, splice),
)


def _random_hop(
    host: Host, config: Configuration, rng: np.random.Generator
) -> tuple[int, int] | None:
    ions = np.array(config.occupation[: len(host.ion_sites)])
    occupied, empty = np.flatnonzero(ions != VACANCY), np.flatnonzero(ions == VACANCY)
    if not (len(occupied) and len(empty)):
        return None
    if not host.exclusions:
        return int(rng.choice(occupied)), int(rng.choice(empty))
    near = np.zeros((len(ions), len(ions)), dtype=int)
    first, second = np.array(host.exclusions).T
    near[first, second] = near[second, first] = 1
    # The ion that leaves no longer blocks the sites near it.
    blocked = near[np.ix_(empty, occupied)]
    hops = np.argwhere((blocked.sum(axis=1, keepdims=True) == blocked).T)
    if not len(hops):
        return None
    leaving, arriving = hops[rng.integers(len(hops))]
    return int(occupied[leaving]), int(empty[arriving])


def _exchanged(config: Configuration, first: int, second: int) -> Configuration:
    occupation = list(config.occupation)
    occupation[first], occupation[second] = occupation[second], occupation[first]
    return Configuration(tuple(occupation))


def _electron_moves(host: Host, config: Configuration) -> list[Change]:
    """List how the fewest electrons may move from one redox site to another.

    Returns
    -------
    list
        Of the giver and the taker, each with its new state.
    """
    n_sites = len(host.ion_sites)
    states = config.occupation[n_sites:]
    allowed = host.allowed_states[n_sites:]
    moves: list[Change] = []
    for giver, taker in permutations_of(range(len(states)), 2):
        pairs = [
            (charge_of_state(state) - charge_of_state(states[giver]), state, other)
            for state in allowed[giver]
            for other in allowed[taker]
        ]
        kept = charge_of_state(states[taker])
        steps = [
            (electrons, state, other)
            for electrons, state, other in pairs
            if electrons > 0 and charge_of_state(other) == kept - electrons
        ]
        fewest = min((electrons for electrons, _, _ in steps), default=0)
        moves += [
            ((giver, state), (taker, other))
            for electrons, state, other in steps
            if electrons == fewest
        ]
    return moves


def _changed(host: Host, config: Configuration, changes: Change) -> Configuration:
    occupation = list(config.occupation)
    for site, state in changes:
        occupation[len(host.ion_sites) + site] = state
    return Configuration(tuple(occupation))


def _state_counts(host: Host, config: Configuration) -> list[tuple[str, int]]:
    sites = host.redox_sites
    states = config.occupation[len(host.ion_sites) :]
    return sorted((host.elements[i], state) for i, state in zip(sites, states, strict=True))


def _random_image(host: Host, config: Configuration, rng: np.random.Generator) -> Configuration:
    group = permutations(host)
    image = config.as_array()[group[rng.integers(len(group))]]
    return Configuration(tuple(int(state) for state in image))


@lru_cache(maxsize=32)
def _ion_redox_distances(host: Host) -> NDArray[np.float64]:
    """Return nearest-image distances in angstrom, shape (n_ion_sites, n_redox_sites)."""
    fractional = host.structure.frac_coords
    distances: NDArray[np.float64] = host.structure.lattice.get_all_distances(
        fractional[host.ion_sites], fractional[host.redox_sites]
    )
    return distances
