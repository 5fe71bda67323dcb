"""How many labels random choice would have needed for the vertices that a campaign has found.

The null model: configurations are drawn from all distinct ones, each with the same chance and none
twice, until every vertex is among those that were drawn. With ``m`` vertices among ``N``
configurations, the last of them is drawn at place ``m (N + 1) / (m + 1)`` on average: they split
the others into ``m + 1`` runs that are equally long on average. All of them are among the first
``n`` with the probability C(n, m) / C(N, m). (David and Nagaraja, *Order Statistics*, 3rd edition,
section 3.7, for the order statistics of a finite population.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, comb

LOW, HIGH = 0.05, 0.95
"""Shares of random orders in which all vertices are drawn by the two bounds."""


@dataclass(frozen=True)
class RandomChoice:
    """What random choice would have needed.

    Attributes
    ----------
    configurations
        Distinct configurations that are drawn from.
    vertices
        Vertices among them.
    given
        End members with a single configuration, which are labelled first whatever the rule.
    labels
        Labels until every vertex has one, on average; those of ``given`` included.
    low, high
        Labels after which this is so in 5 and in 95 % of all random orders.
    """

    configurations: int
    vertices: int
    given: int
    labels: float
    low: int
    high: int


def random_choice(
    counts: Mapping[Fraction, int], vertices: Collection[Fraction]
) -> RandomChoice | None:
    """Return how many labels random choice would have needed for the same vertices.

    Parameters
    ----------
    counts
        Distinct configurations by composition.
    vertices
        Compositions of the hull's vertices, the end members included; one configuration of each is
        looked for.

    Returns
    -------
    RandomChoice or None
        None where nothing is left to be drawn: every vertex is an end member with a single
        configuration.
    """
    ends = {x for x in (min(counts, default=None), max(counts, default=None)) if x is not None}
    given = {x for x in ends if counts[x] == 1}
    pool = sum(number for x, number in counts.items() if x not in given)
    wanted = len(set(vertices) - given)
    if not 0 < wanted <= pool:
        return None
    mean = wanted * (pool + 1) / (wanted + 1)
    low, high = (_place(pool, wanted, share) for share in (LOW, HIGH))
    return RandomChoice(
        configurations=pool,
        vertices=wanted,
        given=len(given),
        labels=len(given) + mean,
        low=len(given) + low,
        high=len(given) + high,
    )


def _place(pool: int, wanted: int, share: float) -> int:
    """Return after how many draws all that is wanted is drawn in a share of random orders."""
    enough = ceil(Fraction(share) * comb(pool, wanted))
    return bisect_left(range(pool + 1), enough, key=lambda drawn: comb(drawn, wanted))
