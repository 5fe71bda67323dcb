"""The lowest structures of a campaign, and how their charges are ordered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymatgen.core.lattice import Lattice

from al_charge.crystal.species import element_of
from al_charge.store.documents import LabelDoc

if TYPE_CHECKING:
    from al_charge.thermo.hull import Entry, Hull

Array = NDArray[np.float64]

PER_COMPOSITION = 3
"""Structures of a composition that are listed, the lowest first."""


@dataclass(frozen=True)
class Order:
    """The charge order of one label.

    Attributes
    ----------
    states
        Redox sites of the cell by their state as found, ``Fe?`` where it is uncertain.
    like
        By state, shortest distance between two sites in it, periodic images included; angstrom.
    to_ion
        By state, shortest distance from a site in it to a working ion; angstrom. Empty without any.
    """

    states: dict[str, int]
    like: dict[str, float]
    to_ion: dict[str, float]


def lowest_entries(hull: Hull, most: int = PER_COMPOSITION) -> list[Entry]:
    """Return the lowest labelled configurations of each composition.

    Parameters
    ----------
    hull
        A labelled hull.
    most
        How many of each composition.

    Returns
    -------
    list of Entry
        By x and energy.
    """
    seen: Counter[Fraction] = Counter()
    found = []
    for entry in hull.entries:  # by x and energy
        seen[entry.x] += 1
        if seen[entry.x] <= most:
            found.append(entry)
    return found


def charge_order(label: LabelDoc, redox: Collection[str], ion: str) -> Order:
    """Return how the charges of a label are ordered.

    Parameters
    ----------
    label
        With its last frame.
    redox
        Elements that change their charge.
    ion
        The working ion.

    Returns
    -------
    Order
        Of the last geometry.
    """
    last = label.frames[-1]
    elements = [element_of(token) for token in label.requested]
    states = label.states_found
    sites: dict[str, list[int]] = {}
    for atom, element in enumerate(elements):
        if element in redox:
            sites.setdefault(states[atom], []).append(atom)
    ions = [
        atom for atom, element in enumerate(elements) if element == ion and element not in redox
    ]
    places = np.array(last.positions, dtype=float)
    cell = np.array(last.cell, dtype=float)
    return Order(
        states={state: len(of) for state, of in sorted(sites.items())},
        like={state: nearest(cell, places[of], places[of]) for state, of in sorted(sites.items())},
        to_ion={
            state: nearest(cell, places[of], places[ions])
            for state, of in sorted(sites.items())
            if ions
        },
    )


def nearest(cell: ArrayLike, some: ArrayLike, others: ArrayLike) -> float:
    """Return the shortest distance between sites of two kinds in a crystal.

    Parameters
    ----------
    cell
        Rows are its vectors, angstrom, shape (3, 3).
    some
        Positions, angstrom, shape (n, 3).
    others
        Positions, angstrom, shape (m, 3). A site is no neighbour of itself, but of its own periodic
        images.

    Returns
    -------
    float
        angstrom.
    """
    reduced: Array = Lattice(np.array(cell)).get_lll_reduced_lattice().matrix
    into = np.linalg.inv(reduced)
    apart = np.array(others)[None, :, :] @ into - np.array(some)[:, None, :] @ into
    apart -= np.round(apart)
    # In a reduced cell the nearest image is among the cells around.
    images = np.array(list(product((-1, 0, 1), repeat=3)))
    vectors = (apart[:, :, None, :] + images) @ reduced
    distances = np.linalg.norm(vectors, axis=-1)
    return float(distances[distances > 1e-6].min())


def distances_text(distances: dict[str, float]) -> str:
    """Return distances by state for people.

    Parameters
    ----------
    distances
        angstrom, by state.

    Returns
    -------
    str
        Such as ``Fe2+ 3.81, Fe3+ 4.72``.
    """
    return ", ".join(f"{state} {distance:.2f}" for state, distance in distances.items())


def states_text(states: dict[str, int], order: Sequence[str] = ()) -> str:
    """Return how many sites are in each state.

    Parameters
    ----------
    states
        Sites by state.
    order
        States in the order in which they are told; others follow.

    Returns
    -------
    str
        Such as ``4 Fe2+, 4 Fe3+``.
    """
    known = [state for state in order if state in states]
    return ", ".join(
        f"{states[state]} {state}" for state in [*known, *(s for s in states if s not in known)]
    )
