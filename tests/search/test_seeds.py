"""Seeds, and the Ewald sums that rank them."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation

from al_charge.crystal.configuration import (
    Configuration,
    ion_count,
    to_atoms,
    to_structure,
    total_charge,
)
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.identity import identity
from al_charge.crystal.symmetry import canonical
from al_charge.search import seeds as module
from al_charge.search.seeds import DrawnLater, ewald_energies, seeds
from al_charge.testing.searches import olivine as olivine_of


def test_energies_are_those_of_each_structure(any_host: Host) -> None:
    n_ions = any_host.ion_counts[1]
    configs = enumerate_distinct(any_host, n_ions)[:3]
    fast = ewald_energies(any_host, configs)
    structures = [to_structure(to_atoms(any_host, config)) for config in configs]
    slow = [EwaldSummation(structure, acc_factor=16).total_energy for structure in structures]
    assert fast == pytest.approx(slow, abs=1e-4)


def test_everything_where_little_exists(olivine: Host) -> None:
    rng = np.random.default_rng(0)
    for n_ions in olivine.ion_counts:
        found = seeds(olivine, n_ions, 50, rng)
        assert set(found) == set(enumerate_distinct(olivine, n_ions))


def test_what_smaller_cells_hold_is_left_out() -> None:
    small, large = olivine_of((1, 1, 1)), olivine_of((1, 1, 2))
    held = {identity(small, config) for config in enumerate_distinct(small, 1)}
    every = enumerate_distinct(large, 2)
    new = {config for config in every if identity(large, config) not in held}
    assert len(new) == len(every) - 2
    found = seeds(large, 2, len(every), np.random.default_rng(0), (small,))
    assert len(found) == len(new) and set(found) == new


def test_best_half_by_energy_the_rest_at_random(olivine_doubled: Host) -> None:
    host = olivine_doubled
    found = seeds(host, 4, 12, np.random.default_rng(0))
    assert len(set(found)) == 12
    assert all(canonical(host, config) == config for config in found)
    energies = np.sort(ewald_energies(host, enumerate_distinct(host, 4)))
    assert ewald_energies(host, found[:6]) == pytest.approx(energies[:6], abs=1e-5)
    other = seeds(host, 4, 12, np.random.default_rng(1))
    assert other[:6] == found[:6] and other[6:] != found[6:]
    assert seeds(host, 4, 12, np.random.default_rng(0)) == found


def test_large_spaces_are_sampled(olivine_doubled: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host = olivine_doubled
    monkeypatch.setattr(module, "LARGEST_ENUMERATION", 100)
    monkeypatch.setattr(module, "SAMPLE_SIZE", 60)
    found = seeds(host, 4, 12, np.random.default_rng(0))
    assert len(set(found)) == 12
    assert all(canonical(host, config) == config for config in found)
    assert all(ion_count(host, c) == 4 and total_charge(host, c) == 0 for c in found)
    energies = ewald_energies(host, found)
    assert energies[:6].max() <= energies[6:].min() + 1e-5


def test_several_states_compete(vanadium: Host) -> None:
    found = seeds(vanadium, 0, 50, np.random.default_rng(0))
    assert {tuple(sorted(config.occupation[4:])) for config in found} == {
        (4, 4, 4, 4),
        (3, 4, 4, 5),
        (3, 3, 5, 5),
    }


def test_what_is_drawn_later_is_drawn_once_and_only_if_it_is_looked_at(
    olivine_doubled: Host,
) -> None:
    asked = []

    def draw() -> list[Configuration]:
        asked.append(1)
        return seeds(olivine_doubled, 4, 6, np.random.default_rng(3))

    later = DrawnLater(draw)
    assert not asked
    expected = seeds(olivine_doubled, 4, 6, np.random.default_rng(3))
    assert [*later] == expected
    assert (len(later), later[2], later[4:]) == (6, expected[2], expected[4:])
    assert len(asked) == 1
