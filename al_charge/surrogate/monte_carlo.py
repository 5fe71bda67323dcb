"""Monte Carlo of ions and electrons at one composition, with parallel tempering.

Every proposal is as likely as its reverse, keeps the cell neutral, and is accepted by Metropolis'
rule; neighbouring temperatures exchange their configurations (Swendsen and Wang 1986).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from ase.units import kB
from numpy.typing import NDArray

from al_charge.crystal.configuration import Configuration, configuration, ion_count
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.states import charge_of_state
from al_charge.crystal.symmetry import canonical
from al_charge.errors import InputError
from al_charge.surrogate.polynomial import Energy, occupations_of

EXCHANGE_EVERY = 10
"""Moves between exchanges of neighbouring temperatures."""

States = tuple[int, ...]
Changes = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Sites that change one after the other, and their new states: one each for every temperature."""


class Tempering:
    """Configurations of one composition at several temperatures.

    Parameters
    ----------
    energy
        eV per formula unit, as `Surrogate.energy` returns it.
    starts
        The configuration that each temperature starts from.
    temperatures
        In kelvin, ascending; as many as ``starts``.
    rng
        Source of all random choices.

    Attributes
    ----------
    occupations
        Present configurations, lowest temperature first, shape (n_temperatures, n_variable_sites).
    energies
        Their energies, eV per cell, summed up from the differences that moves made.
    tried, accepted
        Moves by temperature, shape (n_temperatures,).
    exchanged
        Exchanges with the next higher temperature, shape (n_temperatures - 1,).

    Raises
    ------
    InputError
        If a start is no configuration of the host or has another composition than the first,
        or temperatures are not positive and ascending, or not as many as starts.
    """

    def __init__(
        self,
        energy: Energy,
        starts: Sequence[Configuration],
        temperatures: Sequence[float],
        rng: np.random.Generator,
    ) -> None:
        host = energy.functions.host
        checked = [configuration(host, start.occupation) for start in starts]
        numbers = {ion_count(host, config) for config in checked}
        if len(numbers) != 1 or not numbers <= set(host.ion_counts):
            raise InputError("the starts are not of one composition of the host", where="starts")
        if len(starts) != len(temperatures) or min(temperatures) <= 0:
            raise InputError("give a positive temperature for each start", where="temperatures")
        if any(one >= other for one, other in pairwise(temperatures)):
            raise InputError("the temperatures do not ascend", where="temperatures")
        self.energy, self.host, self.rng = energy, host, rng
        self.occupations = occupations_of(checked, host)
        self.energies = energy.of(self.occupations) * host.formula_units
        self.tried = np.zeros(len(starts), dtype=np.int64)
        self.accepted = np.zeros(len(starts), dtype=np.int64)
        self.exchanged = np.zeros(len(starts) - 1, dtype=np.int64)
        self._beta = 1 / (kB * np.array(temperatures, dtype=float))
        self._values = energy.functions.of(self.occupations)
        self._steps = 0
        near = np.zeros((len(host.ion_sites),) * 2, dtype=bool)
        for one, other in host.exclusions:
            near[one, other] = near[other, one] = True
        self._near = near
        n_ions = int((self.occupations[0, : len(near)] != VACANCY).sum())
        self._kinds = []
        if 0 < n_ions < len(near):
            self._kinds.append("ion")
        if len(host.redox_sites):
            self._kinds.append("charge")
        if len(self._kinds) == 2:
            self._kinds.append("both")

    def advance(self, steps: int) -> None:
        """Try moves at every temperature, and exchange configurations now and then.

        Parameters
        ----------
        steps
            Moves at each temperature.
        """
        for _ in range(steps):
            if self._kinds:
                self._move()
            self._steps += 1
            if self._steps % EXCHANGE_EVERY == 0:
                self._exchange(first=self._steps // EXCHANGE_EVERY % 2)

    def _move(self) -> None:
        kind = self._kinds[self.rng.integers(len(self._kinds))]
        allowed = np.ones(len(self.energies), dtype=bool)
        changes: Changes = []
        if kind != "charge":
            changes, allowed = self._hop()
        if kind != "ion":
            changes += self._transfer()
        values, difference = self._values, np.zeros(len(self.energies))
        for site, state in changes:
            change, values = self.energy.change(values, site, state)
            difference += change
        difference *= self.host.formula_units
        chances = np.exp(-np.maximum(difference * self._beta, 0.0))
        taken = allowed & (self.rng.random(len(chances)) < chances)
        self.tried += 1
        self.accepted += taken
        self.energies[taken] += difference[taken]
        self._values = np.where(taken[:, None], values, self._values)
        for site, state in changes:
            self.occupations[taken, site[taken]] = state[taken]

    def _hop(self) -> tuple[Changes, NDArray[np.bool_]]:
        """Propose to move an ion to a vacancy; say where no ion would be too near to another."""
        filled = self.occupations[:, : len(self._near)] != VACANCY
        draws = self.rng.random(filled.shape)
        leaving, arriving = (draws * filled).argmax(axis=1), (draws * ~filled).argmax(axis=1)
        filled[np.arange(len(filled)), leaving] = False
        allowed = ~(self._near[arriving] & filled).any(axis=1)
        vacancies = np.full(len(filled), VACANCY, dtype=np.int64)
        ions = np.full(len(filled), self.host.working_ion_charge, dtype=np.int64)
        return [(leaving, vacancies), (arriving, ions)], allowed

    def _transfer(self) -> Changes:
        """Propose new states of some redox sites, among all that sum to the same charge."""
        n_ion_sites, number = len(self._near), _at_once(self.host)
        n_redox = len(self.host.redox_sites)
        draws = self.rng.random((len(self.energies), n_redox)).argsort(axis=1)[:, :number]
        places = self.rng.random(len(self.energies))
        sites = draws + n_ion_sites
        states = np.empty_like(sites)
        for row, (some, place) in enumerate(zip(sites.tolist(), places.tolist(), strict=True)):
            now = tuple(self.occupations[row, some].tolist())
            choices = _same_charge(tuple(self.host.allowed_states[site] for site in some), now)
            states[row] = choices[int(place * len(choices))]
        return list(zip(sites.T, states.T, strict=True))

    def _exchange(self, first: int) -> None:
        """Exchange configurations of temperatures first and first + 1, and so on in pairs."""
        for low in range(first, len(self.energies) - 1, 2):
            high = low + 1
            gain = (self._beta[low] - self._beta[high]) * (self.energies[low] - self.energies[high])
            if self.rng.random() < np.exp(min(gain, 0.0)):
                for array in (self.occupations, self.energies, self._values):
                    array[[low, high]] = array[[high, low]]
                self.exchanged[low] += 1


def lowest_visited(
    tempering: Tempering, steps: int, number: int
) -> list[tuple[Configuration, float]]:
    """Advance, and return the lowest of the distinct configurations that are visited.

    Parameters
    ----------
    tempering
        Its present configurations count as visited.
    steps
        Moves at each temperature.
    number
        How many configurations are wanted.

    Returns
    -------
    list of tuples
        Configurations in canonical form with their energies, eV per formula unit, lowest first;
        fewer if fewer were met.
    """
    host = tempering.host
    found: dict[Configuration, float] = {}
    seen: set[bytes] = set()
    worst = np.inf
    for step in range(steps + 1):
        for row in np.flatnonzero(tempering.energies < worst - 1e-9):
            occupation = tempering.occupations[row]
            if (key := occupation.tobytes()) not in seen:
                seen.add(key)
                config = canonical(host, Configuration(tuple(occupation.tolist())))
                found[config] = float(tempering.energies[row])
        if len(found) > 2 * number or (step == steps and found):
            ranked = sorted(found.items(), key=lambda item: (item[1], item[0].occupation))
            found = dict(ranked[:number])
            worst = ranked[number - 1][1] if len(ranked) >= number else np.inf
        if step < steps:
            tempering.advance(1)
    return [(config, energy / host.formula_units) for config, energy in found.items()]


def _at_once(host: Host) -> int:
    """Return how many redox sites change at once, so that all configurations can be reached.

    Two are enough where the charges of every site follow each other.
    """
    charges = [
        sorted({charge_of_state(state) for state in host.allowed_states[site]})
        for site in range(len(host.ion_sites), len(host.variable_sites))
    ]
    gaps = any(other - one > 1 for some in charges for one, other in pairwise(some))
    return min(3 if gaps else 2, len(charges))


@lru_cache(maxsize=100_000)
def _same_charge(allowed: tuple[States, ...], now: States) -> list[States]:
    """Return all states of some sites that have the same total charge as those that they have."""
    by_charge: dict[int, list[States]] = defaultdict(list)
    for states in product(*allowed):
        by_charge[sum(map(charge_of_state, states))].append(states)
    return by_charge[sum(map(charge_of_state, now))]
