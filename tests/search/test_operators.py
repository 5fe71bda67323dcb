"""Operators: every child is neutral and has as many ions as its parents."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_charge.crystal.configuration import Configuration, configuration, ion_count
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.symmetry import canonical, permutations
from al_charge.search.genetic import OperatorWeights
from al_charge.search.operators import (
    OPERATORS,
    Operator,
    charge_swap,
    coupled_swap,
    electron_transfer,
    exchange_sublattices,
    ion_swap,
    spin_change,
    splice,
)
from al_charge.search.random_occupation import random_occupation

V = VACANCY
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.name)
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_children_are_neutral_with_the_same_ions(
    any_host: Host, operator: Operator, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n_ions = int(rng.choice(any_host.ion_counts))
    parents = [random_occupation(any_host, n_ions, rng) for _ in range(operator.n_parents)]
    child = operator.make(any_host, parents, rng)
    if child is not None:
        assert configuration(any_host, child.occupation) == child
        assert ion_count(any_host, child) == n_ions


def test_operators_alone_reach_every_allowed_configuration(overlapping: Host) -> None:
    rng = np.random.default_rng(3)
    for n_ions in overlapping.ion_counts:
        wanted = set(enumerate_distinct(overlapping, n_ions))
        found = [canonical(overlapping, random_occupation(overlapping, n_ions, rng))]
        for _ in range(60 * len(wanted)):
            operator = OPERATORS[rng.integers(len(OPERATORS))]
            parents = [found[i] for i in rng.integers(len(found), size=operator.n_parents)]
            child = operator.make(overlapping, parents, rng)
            if child is not None and (form := canonical(overlapping, child)) not in found:
                found.append(form)
        if n_ions < overlapping.ion_counts[-1]:
            assert set(found) == wanted
        else:  # a full layer changes from one kind of site to the other as a whole
            assert set(found) <= wanted


def test_every_operator_has_a_weight() -> None:
    assert {operator.name for operator in OPERATORS} == set(OperatorWeights.model_fields)


def differing(a: Configuration, b: Configuration) -> list[int]:
    return [i for i, (p, q) in enumerate(zip(a.occupation, b.occupation, strict=True)) if p != q]


def test_ion_swap_moves_one_ion(olivine_doubled: Host) -> None:
    rng = np.random.default_rng(0)
    parent = random_occupation(olivine_doubled, 3, rng)
    for _ in range(20):
        child = ion_swap(olivine_doubled, [parent], rng)
        assert child is not None
        changed = differing(parent, child)
        assert len(changed) == 2 and max(changed) < 8


def test_charge_swap_keeps_the_states_of_each_element(mixed: Host) -> None:
    rng = np.random.default_rng(0)
    elements = [mixed.elements[i] for i in mixed.redox_sites]
    found = 0
    for _ in range(40):
        parent = random_occupation(mixed, 2, rng)
        child = charge_swap(mixed, [parent], rng)
        if child is None:
            continue
        found += 1
        before, after = (
            Counter(zip(elements, c.occupation[4:], strict=True)) for c in (parent, child)
        )
        assert before == after and len(differing(parent, child)) == 2
    assert found > 10


def test_coupled_swap_takes_the_electron_along(olivine_doubled: Host) -> None:
    host = olivine_doubled
    rng = np.random.default_rng(0)
    distances = host.structure.lattice.get_all_distances(
        host.structure.frac_coords[host.ion_sites], host.structure.frac_coords[host.redox_sites]
    )
    states = [V] * 8 + [3] * 8
    home = 5
    states[home] = 1
    states[8 + int(distances[home].argmin())] = 2
    parent = configuration(host, states)
    for _ in range(20):
        child = coupled_swap(host, [parent], rng)
        assert child is not None
        place, polaron = child.occupation.index(1), child.occupation.index(2) - 8
        assert place != home
        # The nearest Fe is the old one's only if both places share it.
        others = np.delete(distances[place], int(distances[home].argmin()))
        assert distances[place, polaron] <= others.min() + 0.05


def test_electron_transfer_disproportionates_and_back(vanadium: Host) -> None:
    rng = np.random.default_rng(0)
    even = configuration(vanadium, [V] * 4 + [4] * 4)
    child = electron_transfer(vanadium, [even], rng)
    assert child is not None and sorted(child.occupation[4:]) == [3, 4, 4, 5]
    found = set()
    for _ in range(30):
        grandchild = electron_transfer(vanadium, [child], rng)
        assert grandchild is not None
        found.add(tuple(sorted(grandchild.occupation[4:])))
    assert found == {(4, 4, 4, 4), (3, 3, 5, 5)}


def test_electron_transfer_between_elements(mixed: Host) -> None:
    elements = [mixed.elements[i] for i in mixed.redox_sites]
    parent = configuration(mixed, [1] * 2 + [V] * 2 + [2 if el == "Fe" else 3 for el in elements])
    child = electron_transfer(mixed, [parent], np.random.default_rng(0))
    assert child is not None
    states = sorted(zip(elements, child.occupation[4:], strict=True))
    possible = (
        [("Fe", 2), ("Fe", 3), ("Mn", 2), ("Mn", 3)],
        [("Fe", 2), ("Fe", 2), ("Mn", 2), ("Mn", 4)],
    )
    assert states in possible


def test_moves_that_do_not_exist(olivine: Host) -> None:
    rng = np.random.default_rng(0)
    full = configuration(olivine, [1] * 4 + [2] * 4)
    half = configuration(olivine, [1, 1, V, V, 2, 2, 3, 3])
    assert ion_swap(olivine, [full], rng) is None
    assert charge_swap(olivine, [full], rng) is None
    assert coupled_swap(olivine, [full], rng) is None
    # With two states of one element, their numbers follow from the composition.
    assert electron_transfer(olivine, [half], rng) is None


def test_exchange_takes_each_sublattice_from_one_parent(olivine_doubled: Host) -> None:
    host = olivine_doubled
    rng = np.random.default_rng(0)
    first, second = random_occupation(host, 4, rng), random_occupation(host, 4, rng)
    child = exchange_sublattices(host, [first, second], rng)
    assert child is not None and child.occupation[:8] == first.occupation[:8]
    assert sorted(child.occupation[8:]) == sorted(second.occupation[8:])


def test_splice_of_equal_parents_mixes_only_images(olivine_doubled: Host) -> None:
    host = olivine_doubled
    rng = np.random.default_rng(0)
    full = configuration(host, [1] * 8 + [2] * 8)
    assert splice(host, [full, full], rng) == full
    parents = [random_occupation(host, 4, rng) for _ in range(2)]
    children = {splice(host, parents, rng) for _ in range(20)}
    assert len(children) > 3


def test_splice_takes_a_slab_of_each_parent(olivine_doubled: Host) -> None:
    """Against all mixtures of one parent and all images of the other, repaired by fewest changes.

    A random occupation is such a child with a probability of a half, twenty of them never are.
    """
    host, rng = olivine_doubled, np.random.default_rng(0)
    parents = [random_occupation(host, 4, rng) for _ in range(2)]
    heights = host.structure.frac_coords[host.variable_sites].T
    slabs = np.array([(h + shift) % 1.0 < 0.5 for h in heights for shift in np.linspace(0, 1, 101)])
    slabs = slabs[slabs.any(axis=1) & ~slabs.all(axis=1), None]
    mixed = np.where(slabs, parents[0].as_array(), parents[1].as_array()[permutations(host)])
    mixed = mixed.reshape(-1, len(host.variable_sites))
    excess = (mixed[:, :8] != V).sum(axis=1) - 4, mixed[:, 8:].sum(axis=1) - host.redox_charge(4)
    children = [splice(host, parents, rng) for _ in range(20)]
    for child in children:
        assert child is not None
        changes = (mixed != child.as_array()).sum(axis=1)
        assert (changes == np.abs(excess).sum(axis=0)).any()
    forms = {canonical(host, parent) for parent in parents}
    images = [child for child in children if child and canonical(host, child) in forms]
    assert len(images) < 5


def test_spin_change_reaches_every_other_spin_state(spins: Host) -> None:
    """Of each ion alone; charges stay."""
    rng = np.random.default_rng(0)
    parent = configuration(spins, [1, 1, V, 3, 35, 4])
    children = {spin_change(spins, [parent], rng) for _ in range(20)}
    assert children == {
        configuration(spins, [1, 1, V, 35, 35, 4]),
        configuration(spins, [1, 1, V, 3, 3, 4]),
    }
    assert spin_change(spins, [configuration(spins, [V, V, V, 4, 4, 4])], rng) is None


def test_children_cover_the_space(olivine: Host) -> None:
    rng = np.random.default_rng(0)
    everything = set(enumerate_distinct(olivine, 2))
    found = {canonical(olivine, random_occupation(olivine, 2, rng))}
    for _ in range(300):
        operator = OPERATORS[rng.integers(len(OPERATORS))]
        pool = sorted(found, key=lambda config: config.occupation)
        parents = [pool[rng.integers(len(pool))] for _ in range(operator.n_parents)]
        child = operator.make(olivine, parents, rng)
        if child is not None:
            found.add(canonical(olivine, child))
    assert found == everything
