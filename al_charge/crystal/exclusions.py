"""Ion sites too near each other to be occupied at once: which, and what occupations they leave.

Occupations without such a pair are the independent sets of a graph. They are counted, listed and
drawn with a decision diagram: sites are decided one after the other, and two histories with the
same sites left blocked share a node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matscipy.neighbours import neighbour_list
from numpy.typing import NDArray
from pymatgen.core.structure import Structure

from al_charge.errors import InputError

Pairs = tuple[tuple[int, int], ...]
"""Pairs of sites, by their places among the ion sites, the lower first; ascending."""
ALIKE = 0.02
"""Distances in angstrom that differ by no more count as equal: each site may lie half of it off
its symmetric place."""
WIDEST = 50_000
"""Largest number of nodes of a diagram at one site; counting takes seconds up to it."""
CHUNK = 1000
"""About as many occupations are listed at a time."""


def excluded_pairs(structure: Structure, sites: NDArray[np.int64], limit: float) -> Pairs:
    """Return the pairs of sites that are nearer to each other than a limit.

    Parameters
    ----------
    structure
        The supercell.
    sites
        Indices of the ion sites.
    limit
        angstrom; 0 for no limit.

    Returns
    -------
    tuple of pairs
        Pairs at distances just above the limit belong to them where they may be symmetry images of
        pairs below it.

    Raises
    ------
    InputError
        If a site is too near its own image in the next cell.
    """
    if not limit:
        return ()
    one, other, distances = neighbour_list(
        "ijd",
        positions=structure.cart_coords[sites],
        cell=structure.lattice.matrix,
        pbc=[True] * 3,
        cutoff=limit + 1.0,
    )
    order = np.argsort(distances, kind="stable")
    found = distances[order]
    # The limit moves up to the first gap between distances.
    beyond = (found >= limit) & (np.diff(found, prepend=0.0) > ALIKE)
    near = order[: int(beyond.argmax()) if beyond.any() else None]
    itself = near[one[near] == other[near]]
    if len(itself):
        raise InputError(
            f"an ion site is {distances[itself].min():.2f} A from its own image in the next cell",
            where="host.min_distance",
            remedy="give a smaller one, or a larger supercell",
        )
    pairs = {(int(i), int(j)) for i, j in zip(one[near], other[near], strict=True) if i < j}
    return tuple(sorted(pairs))


def refuse_blocked(
    structure: Structure, sites: NDArray[np.int64], inert: NDArray[np.int64], limit: float
) -> None:
    """Refuse ion sites that an ion which stays leaves no room for.

    Parameters
    ----------
    structure
        The supercell.
    sites
        Indices of the ion sites.
    inert
        Indices of the ions of the same element that stay.
    limit
        angstrom; 0 for no limit.

    Raises
    ------
    InputError
        If one is nearer to such an ion than the limit.
    """
    if not len(inert):
        return
    coordinates = structure.frac_coords
    distances = structure.lattice.get_all_distances(coordinates[sites], coordinates[inert])
    if distances.min(initial=np.inf) < limit:
        raise InputError(
            f"an ion site is {distances.min():.2f} A from an ion that stays",
            where="host.sites",
            remedy="leave that site out of the structure, or give a smaller 'min_distance'",
        )


@dataclass(frozen=True)
class Diagram:
    """All occupations of sites without an excluded pair, as paths from the first node to the last.

    Attributes
    ----------
    order
        The sites, in the order in which they are decided.
    vacant, occupied
        For each of them, the next node that an empty or an occupied site leads to, by node; -1
        where the site may not be occupied.
    """

    order: tuple[int, ...]
    vacant: tuple[NDArray[np.int64], ...]
    occupied: tuple[NDArray[np.int64], ...]

    def numbers(self, sizes: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Count the occupations by their number of ions.

        Parameters
        ----------
        sizes
            Ions that each site stands for; None for one each.

        Returns
        -------
        tuple of int
            Exact numbers, of occupations with 0, 1, ... ions up to the most that there is room for.
        """
        sizes = sizes or (1,) * len(self.order)
        # Polynomials as integers: each coefficient is below 2^sites, and gets so many bits.
        bits = len(self.order) + 1
        ways = np.array([1], dtype=object)
        for place in reversed(range(len(self.order))):
            occupied = self.occupied[place]
            more = ways[occupied] << (bits * sizes[self.order[place]])
            ways = ways[self.vacant[place]] + np.where(occupied >= 0, more, 0)
        polynomial, numbers = int(ways[0]), []
        while polynomial:
            numbers.append(polynomial & ((1 << bits) - 1))
            polynomial >>= bits
        return tuple(numbers)

    def weights(
        self, n_ions: int, vacant: NDArray[np.float64], occupied: NDArray[np.float64]
    ) -> list[NDArray[np.float64]]:
        """Return the weight of what may follow each node, by the ions that are still to be placed.

        Parameters
        ----------
        n_ions
            Ions in all.
        vacant
            Logarithms of the weights of empty sites, by site.
        occupied
            Logarithms of the weights of occupied sites, by site.

        Returns
        -------
        list of ndarray
            Logarithms, shape (n_nodes, n_ions + 1), for each site in order and for the end; minus
            infinity where nothing can follow.
        """
        last = np.full((1, n_ions + 1), -np.inf)
        last[0, 0] = 0.0
        found = [last]
        for place in reversed(range(len(self.order))):
            site, rest = self.order[place], found[-1]
            more = np.full((len(self.occupied[place]), n_ions + 1), -np.inf)
            free = self.occupied[place] >= 0
            more[free, 1:] = rest[self.occupied[place][free], :-1] + occupied[site]
            found.append(np.logaddexp(rest[self.vacant[place]] + vacant[site], more))
        return found[::-1]

    def occupations(self, n_ions: int) -> Iterator[NDArray[np.bool_]]:
        """Yield the occupations with a number of ions, some at a time.

        Parameters
        ----------
        n_ions
            Ions in all.

        Yields
        ------
        ndarray of bool, shape (n_occupations, n_sites)
            In no order that means anything.
        """
        n_sites = len(self.order)
        even = np.zeros(n_sites)
        possible = [table > -np.inf for table in self.weights(n_ions, even, even)]
        start = np.zeros((1, n_sites), dtype=bool)
        left = [(0, start, np.array([0]), np.array([n_ions]))] if possible[0][0, n_ions] else []
        while left:
            place, rows, nodes, ions = left.pop()
            if place == n_sites:
                yield rows
                continue
            filled = rows.copy()
            filled[:, self.order[place]] = True
            rows = np.concatenate([rows, filled])
            nodes = np.concatenate([self.vacant[place][nodes], self.occupied[place][nodes]])
            ions = np.concatenate([ions, ions - 1])
            fits = (nodes >= 0) & (ions >= 0)
            fits[fits] = possible[place + 1][nodes[fits], ions[fits]]
            rows, nodes, ions = rows[fits], nodes[fits], ions[fits]
            parts = math.ceil(len(rows) / CHUNK)
            left += zip(
                [place + 1] * parts,
                np.array_split(rows, parts),
                np.array_split(nodes, parts),
                np.array_split(ions, parts),
                strict=True,
            )


@lru_cache(maxsize=256)
def diagram(n_sites: int, pairs: Pairs) -> Diagram:
    """Return the diagram of all occupations without an excluded pair.

    Parameters
    ----------
    n_sites
        Number of sites.
    pairs
        Those that exclude each other.

    Returns
    -------
    Diagram
        Nodes at a site differ in which of the sites that are left are blocked.

    Raises
    ------
    InputError
        If it has more than `WIDEST` nodes at a site.
    """
    near = [0] * n_sites
    for one, other in pairs:
        near[one] |= 1 << other
        near[other] |= 1 << one
    order = _order(near)
    undecided, nodes = (1 << n_sites) - 1, {0: 0}
    vacant, occupied = [], []
    for site in order:
        bit, following = 1 << site, dict[int, int]()
        undecided &= ~bit
        empty, full = [], []
        for blocked in nodes:
            empty.append(following.setdefault(blocked & ~bit, len(following)))
            after = (blocked | near[site]) & undecided
            full.append(-1 if blocked & bit else following.setdefault(after, len(following)))
        if len(following) > WIDEST:
            raise InputError(
                f"too many of the {n_sites} ion sites exclude each other: they cannot be counted",
                where="host.supercell",
                remedy="choose a smaller one, or leave out sites that overlap in 'structure'",
            )
        vacant.append(np.array(empty))
        occupied.append(np.array(full))
        nodes = following
    return Diagram(tuple(order), tuple(vacant), tuple(occupied))


def _order(near: list[int]) -> list[int]:
    """Return sites in an order in which few of those that are left have neighbours before them."""
    order, border, left = [], 0, (1 << len(near)) - 1
    while left:
        # After the last of a group that hangs together, any site; else one at the border.
        among = border or left
        sizes = [
            (((border | near[site]) & left & ~(1 << site)).bit_count(), site)
            for site in _members(among)
        ]
        _, site = min(sizes)
        order.append(site)
        left &= ~(1 << site)
        border = (border | near[site]) & left
    return order


def _members(bits: int) -> Iterator[int]:
    while bits:
        yield (bits & -bits).bit_length() - 1
        bits &= bits - 1
