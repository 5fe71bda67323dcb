"""Operators: every child is neutral and has as many ions as its parents."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_charge.crystal.configuration import Configuration, configuration, ion_count
from al_charge.crystal.enumeration import count_occupations, enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.symmetry import canonical
from al_charge.errors import InputError
from al_charge.search.genetic import OperatorWeights
from al_charge.search.operators import (
    OPERATORS,
    Operator,
    charge_swap,
    coupled_swap,
    electron_transfer,
    exchange_sublattices,
    ion_swap,
    splice,
)
from al_charge.search.random_occupation import draw_with_sum, random_occupation

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


def test_draws_reach_every_allowed_occupation_alike(overlapping: Host) -> None:
    rng = np.random.default_rng(2)
    for n_ions in overlapping.ion_counts:
        number = count_occupations(overlapping, n_ions)
        drawn = Counter(random_occupation(overlapping, n_ions, rng) for _ in range(40 * number))
        for config in drawn:
            assert configuration(overlapping, config.occupation) == config
        assert len(drawn) == number
        # Chi squared, with as many degrees of freedom less one; four standard deviations of it.
        excess = sum((times - 40) ** 2 / 40 for times in drawn.values())
        assert abs(excess - (number - 1)) < 4 * np.sqrt(2 * number)


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


def test_preferred_ions_stay_where_they_may(overlapping: Host) -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        config = random_occupation(overlapping, 2, rng)
        assert random_occupation(overlapping, 2, rng, preferred=config) == config
        one, other = overlapping.exclusions[rng.integers(len(overlapping.exclusions))]
        both = Configuration(
            tuple(1 if i in (one, other) else V for i in range(8)) + config.occupation[8:]
        )
        kept = random_occupation(overlapping, 2, rng, preferred=both).occupation
        assert (kept[one] == 1) != (kept[other] == 1)


def test_too_many_ions_are_refused(overlapping: Host) -> None:
    with pytest.raises(InputError, match="no occupation has 5 ions"):
        random_occupation(overlapping, 5, np.random.default_rng(0))


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


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_random_occupation_is_neutral_and_keeps_what_it_can(any_host: Host, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_ions = int(rng.choice(any_host.ion_counts))
    config = random_occupation(any_host, n_ions, rng)
    assert configuration(any_host, config.occupation) == config
    assert ion_count(any_host, config) == n_ions


def test_random_occupation_repairs_with_few_changes(olivine_doubled: Host) -> None:
    rng = np.random.default_rng(0)
    wanted = Configuration((1,) * 5 + (V,) * 3 + (2,) * 3 + (3,) * 5)
    changes = [
        len(differing(random_occupation(olivine_doubled, 4, rng, wanted), wanted))
        for _ in range(100)
    ]
    # One ion too many and one Fe2+ too few.
    assert min(changes) == 2 and np.mean(changes) < 2.2


def test_random_occupations_are_all_as_likely(vanadium: Host) -> None:
    rng = np.random.default_rng(0)
    draws = Counter(random_occupation(vanadium, 0, rng).occupation[4:] for _ in range(1900))
    # 1 filling with four V4+, 12 with one pair of V3+ and V5+, 6 with two pairs.
    assert len(draws) == 19
    assert max(draws.values()) < 150 and min(draws.values()) > 60


def test_states_with_gaps_are_repaired() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_with_sum([(2, 4), (3, 5), (2, 3, 4)], 9, rng, preferred=(4, 5, 4))
    assert sum(drawn) == 9 and drawn[0] in (2, 4) and drawn[1] in (3, 5)
    with pytest.raises(InputError, match="no occupation sums to 3"):
        draw_with_sum([(2, 4), (4, 6)], 3, rng)


def test_large_cells_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_with_sum([(2, 3, 4)] * 800, 2400, rng)
    assert sum(drawn) == 2400
    assert 180 < drawn.count(3) < 360


def test_children_cover_the_space(olivine: Host) -> None:
    rng = np.random.default_rng(0)
    from al_charge.crystal.symmetry import canonical

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
