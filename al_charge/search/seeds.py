"""Configurations that a search starts from."""

from __future__ import annotations

import numpy as np

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import count_occupations, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical
from al_charge.search.ewald import ewald_energies
from al_charge.search.random_occupation import random_occupation

LARGEST_ENUMERATION = 20_000
"""Up to so many occupations of one composition are enumerated, a matter of a second or two."""
SAMPLE_SIZE = 4_000
"""Beyond that, so many random occupations are ranked instead."""


def seeds(host: Host, n_ions: int, count: int, rng: np.random.Generator) -> list[Configuration]:
    """Return distinct configurations in canonical form, the most promising first.

    All of them if there are no more than ``count``. Otherwise the first half has the lowest Ewald
    energies of formal charges, among all configurations or a large random sample, and the rest is
    random, since point charges on ideal sites know nothing of relaxation.

    Parameters
    ----------
    n_ions
        Number of working ions in the cell.
    count
        How many are wanted; fewer come back only if fewer exist or a large space repeats itself.
    """
    pool = _pool(host, n_ions, rng)
    energies = ewald_energies(host, pool)
    ranked = [pool[i] for i in np.argsort(np.round(energies, 6), kind="stable")]
    if len(ranked) <= count:
        return ranked
    n_best = (count + 1) // 2
    rest = ranked[n_best:]
    drawn = rng.choice(len(rest), size=count - n_best, replace=False)
    return ranked[:n_best] + [rest[i] for i in drawn]


def _pool(host: Host, n_ions: int, rng: np.random.Generator) -> list[Configuration]:
    if count_occupations(host, n_ions) <= LARGEST_ENUMERATION:
        return enumerate_distinct(host, n_ions)
    sample = (canonical(host, random_occupation(host, n_ions, rng)) for _ in range(SAMPLE_SIZE))
    return list(dict.fromkeys(sample))
