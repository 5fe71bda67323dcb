"""What other magnetic orders change in a hull whose labels all have one order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from al_charge.thermo.hull import Entry, Hull


@dataclass(frozen=True)
class Undecided:
    """A vertex that lies less below its neighbours than a magnetic order changes.

    Attributes
    ----------
    x
        Its composition.
    depth
        How far it lies below the line between its neighbours, eV per formula unit.
    change
        By how much the corrections lower that line against the vertex, eV per formula unit: so much
        less deep is it with them, or so much deeper if negative. None where it or a neighbour was
        not run in another order.
    largest
        The largest difference between corrections that are known, eV per formula unit.
    """

    x: Fraction
    depth: float
    change: float | None
    largest: float


def corrected_formation_energy(
    hull: Hull, entry: Entry, corrections: Mapping[str, float]
) -> float | None:
    """Return the formation energy of an entry in the lowest of the magnetic orders that were run.

    Parameters
    ----------
    hull
        The hull, of labels in one order.
    entry
        One of its entries.
    corrections
        By how much another order is lower, eV per formula unit, by the hash of the configuration.

    Returns
    -------
    float or None
        eV per formula unit, against both end members in the lowest of theirs; None if one of the
        three was not run in another order.
    """
    change = _change(hull.vertices[0], entry, hull.vertices[-1], corrections)
    return None if change is None else hull.formation_energy(entry) + change


def undecided(hull: Hull, corrections: Mapping[str, float]) -> list[Undecided]:
    """Return the vertices whose depth is smaller than what magnetic orders change.

    Parameters
    ----------
    hull
        The hull, of labels in one order.
    corrections
        As for `corrected_formation_energy`.

    Returns
    -------
    list of Undecided
        Ordered by x.
    """
    known = [corrections[v.config_hash] for v in hull.vertices if v.config_hash in corrections]
    largest = max(known, default=0.0) - min(known, default=0.0)
    if len(known) < len(hull.vertices):  # the others may change by nothing
        largest = max(largest, -min(known, default=0.0))
    found = []
    for left, vertex, right in zip(
        hull.vertices, hull.vertices[1:], hull.vertices[2:], strict=False
    ):
        share = float((vertex.x - left.x) / (right.x - left.x))
        depth = (1 - share) * left.energy + share * right.energy - vertex.energy
        change = _change(left, vertex, right, corrections)
        if depth < (largest if change is None else abs(change)):
            found.append(Undecided(vertex.x, depth, change, largest))
    return found


def _change(
    left: Entry, entry: Entry, right: Entry, corrections: Mapping[str, float]
) -> float | None:
    """Return how much corrections move an entry up against the line between two others, eV/f.u."""
    share = float((entry.x - left.x) / (right.x - left.x))
    ends = [corrections.get(one.config_hash) for one in (left, right)]
    own = corrections.get(entry.config_hash)
    if entry.config_hash in (left.config_hash, right.config_hash):
        return None if None in ends else 0.0
    first, last = ends
    if own is None or first is None or last is None:
        return None
    return own - (1 - share) * first - share * last
