"""Random occupations: neutral, all as likely, and as near to a preferred one as can be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_charge.crystal.configuration import Configuration, configuration, ion_count
from al_charge.crystal.enumeration import count_occupations, enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.errors import InputError
from al_charge.search.random_occupation import (
    draw_with_sum,
    random_distinct,
    random_occupation,
)

V = VACANCY
seeds = st.integers(0, 2**32 - 1)


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
    with pytest.raises(InputError, match=r"^configuration: no occupation has 5 ions$"):
        random_occupation(overlapping, 5, np.random.default_rng(0))


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
        (random_occupation(olivine_doubled, 4, rng, wanted).as_array() != wanted.as_array()).sum()
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
    with pytest.raises(InputError, match=r"^configuration: no occupation sums to 3$"):
        draw_with_sum([(2, 4), (4, 6)], 3, rng)


def test_large_cells_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    drawn = draw_with_sum([(2, 3, 4)] * 800, 2400, rng)
    assert sum(drawn) == 2400
    assert 180 < drawn.count(3) < 360


def test_preferences_that_can_hardly_be_kept_are_given_up() -> None:
    """The weight of 400 changes is less than the smallest number."""
    rng = np.random.default_rng(0)
    assert draw_with_sum([(0, 1)] * 400, 400, rng, preferred=[0] * 400) == (1,) * 400


def test_ions_that_stay_are_not_drawn_again() -> None:
    """One of three Li stays: its site is no working-ion site, but it counts."""
    spec = HostSpec(
        structure=Path(__file__).parents[1] / "cases" / "hosts" / "licoo2.cif",
        working_ion="Li",
        redox={"Co": (3, 4)},
        fixed={"O": -2},
        sites={"0": 1},
    )
    host, rng = Host.from_spec(spec), np.random.default_rng(0)
    assert host.ion_counts == (1, 2, 3)
    for n_ions in host.ion_counts:
        config = random_occupation(host, n_ions, rng)
        assert config.occupation[:2].count(1) == n_ions - 1
        assert configuration(host, config.occupation) == config


def test_distinct_ones_are_drawn_until_so_many_differ(olivine: Host) -> None:
    rng = np.random.default_rng(0)
    every = enumerate_distinct(olivine, 2)
    assert random_distinct(olivine, 2, len(every), rng) == every
    some = random_distinct(olivine, 2, 4, rng)
    assert some == [config for config in every if config in some] and len(some) == 4
