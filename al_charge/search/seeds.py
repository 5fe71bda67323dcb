"""Configurations that a search starts from: of low electrostatic energy, and random ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.electrostatics import pair_energies
from al_charge.crystal.enumeration import count_occupations, enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.identity import held
from al_charge.crystal.states import charge_of_state
from al_charge.crystal.symmetry import canonical
from al_charge.search.random_occupation import random_occupation

LARGEST_ENUMERATION = 20_000
"""Most occupations of one composition that are enumerated; it takes a second or two."""
SAMPLE_SIZE = 4_000
"""Random occupations that are ranked instead where there are more."""


def seeds(
    host: Host,
    n_ions: int,
    count: int,
    rng: np.random.Generator,
    smaller: Sequence[Host] = (),
) -> list[Configuration]:
    """Return distinct configurations in canonical form, the most promising first.

    All of them if there are no more than ``count``. Otherwise the first half has the lowest Ewald
    energies of formal charges, among all configurations or a large random sample, and the rest is
    random, since point charges on ideal sites say nothing about relaxation.

    Parameters
    ----------
    host
        Cell to occupy.
    n_ions
        Working ions in it.
    count
        How many are wanted.
    rng
        Source of all random choices.
    smaller
        Cells of the same crystal whose configurations are left out.

    Returns
    -------
    list of Configuration
        Fewer than ``count`` if fewer exist, or if a large random sample holds fewer.
    """
    pool = _pool(host, n_ions, rng)
    if smaller:
        elsewhere = held(host, np.array([one.occupation for one in pool], np.int8), smaller)
        pool = [one for one, there in zip(pool, elsewhere, strict=True) if not there]
    energies = ewald_energies(host, pool)
    ranked = [pool[i] for i in np.argsort(np.round(energies, 6), kind="stable")]
    if len(ranked) <= count:
        return ranked
    n_best = (count + 1) // 2
    rest = ranked[n_best:]
    drawn = rng.choice(len(rest), size=count - n_best, replace=False)
    return ranked[:n_best] + [rest[i] for i in drawn]


class DrawnLater(Sequence[Configuration]):
    """Configurations that are drawn when they are first looked at, which many searches never do.

    Parameters
    ----------
    draw
        Returns them.
    """

    def __init__(self, draw: Callable[[], Sequence[Configuration]]) -> None:
        self._draw = draw

    @cached_property
    def _drawn(self) -> Sequence[Configuration]:
        return self._draw()

    @override
    def __getitem__(self, place: Any) -> Any:
        return self._drawn[place]

    @override
    def __len__(self) -> int:
        return len(self._drawn)


def _pool(host: Host, n_ions: int, rng: np.random.Generator) -> list[Configuration]:
    if count_occupations(host, n_ions) <= LARGEST_ENUMERATION:
        return enumerate_distinct(host, n_ions)
    sample = (canonical(host, random_occupation(host, n_ions, rng)) for _ in range(SAMPLE_SIZE))
    return list(dict.fromkeys(sample))


def ewald_energies(host: Host, configs: Sequence[Configuration]) -> NDArray[np.float64]:
    """Return the Ewald energies of neutral configurations.

    The energy is quadratic in the site charges, so the lattice sums are done once per host and
    each configuration costs one small matrix product.

    Parameters
    ----------
    host
        Cell of all configurations.
    configs
        Neutral configurations.

    Returns
    -------
    ndarray, shape (n_configs,)
        eV per cell, for formal charges on the host's ideal sites; large, and of use for ranking
        only.
    """
    charges = np.zeros((len(configs), len(host.elements)))
    charges[:, list(host.fixed)] = charge_of_state(np.array(list(host.fixed.values()), dtype=float))
    occupation: NDArray[np.float64] = np.array(
        [config.occupation for config in configs], dtype=float
    )
    ions = occupation[:, : len(host.ion_sites)]
    ions[ions == VACANCY] = 0.0
    charges[:, host.variable_sites] = charge_of_state(occupation)
    energies: NDArray[np.float64] = np.einsum(
        "ci,ij,cj->c", charges, _pair_energies(host), charges, optimize=True
    )
    return energies


@lru_cache(maxsize=8)
def _pair_energies(host: Host) -> NDArray[np.float64]:
    return pair_energies(host.structure)
