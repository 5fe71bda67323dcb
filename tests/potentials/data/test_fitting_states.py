"""Charge states of uncertain sites: neutral first, then near to the moments."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import ase.io
import numpy as np
import pytest

from al_charge.crystal.species import charge_of
from al_charge.potentials.data.nearest_states import fitting_states, nearest_states

DATA = Path(__file__).parents[3] / "examples" / "data" / "nafepo4_gpaw_spin.extxyz"
CENTRES = {"Fe3+": 4.2, "Fe2+": 3.65, "Mn3+": 3.9, "Mn2+": 4.6, "O2-": 0.1}


def test_another_spin_state_does_not_cost_a_site_its_charge() -> None:
    """Fe3+ with one electron turned has 2.3, nearest to Fe2+; the other sites tell its charge."""
    asked = ["Fe3+", "Fe3+", "O2-", "O2-", "O2-"]
    found = ["Fe3+", None, "O2-", "O2-", "O2-"]
    assert fitting_states(found, asked, [4.2, 2.3, 0.1, 0.1, 0.1], CENTRES) == asked


def test_of_neutral_choices_the_nearest_to_the_moments() -> None:
    found = [None, None, "O2-", "O2-", "O2-", "Na+", None]
    asked = ["Fe2+", "Fe3+", "O2-", "O2-", "O2-", "Na+", "Na+"]
    moments = [-4.05, -3.95, 0.1, 0.1, 0.1, 0.0, 0.0]
    neutral = ["Fe2+", "Fe2+", "O2-", "O2-", "O2-", "Na+", "Na+"]
    assert fitting_states(found, asked, moments, CENTRES) == neutral
    charged = ["Fe3+", "Fe2+", "O2-", "O2-", "O2-", "Na+"]
    assert fitting_states(found[:6], asked[:6], moments[:6], CENTRES) == charged


def test_without_a_neutral_choice_every_site_has_the_nearest() -> None:
    found = [None, None, None]
    assert fitting_states(found, ["Fe3+"] * 3, [4.1, 3.7, 4.3], CENTRES) == ["Fe3+", "Fe2+", "Fe3+"]


@pytest.mark.parametrize("seed", range(20))
def test_against_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = ["Fe3+"] * 4 + ["Mn3+"] * 3 + ["O2-"] * 9
    moments = rng.uniform(3.0, 5.0, len(asked))
    found = [None] * 7 + ["O2-"] * 9
    choices = product(*[["Fe3+", "Fe2+"]] * 4, *[["Mn3+", "Mn2+"]] * 3)
    costs = {
        choice: sum(abs(CENTRES[t] - m) for t, m in zip(choice, moments, strict=False))
        for choice in choices
        if sum(charge_of(token) for token in choice) == 18
    }
    assert tuple(fitting_states(found, asked, moments, CENTRES)[:7]) == min(
        costs, key=costs.__getitem__
    )


def test_labels_of_gpaw_with_one_electron_turned() -> None:
    """Their shells were made for a charge order, which the moment of one iron no longer tells."""
    images = ase.io.read(DATA, ":")
    states = nearest_states(images)
    assert len(states) == sum(image.info["ambiguous"] for image in images) == 24
    for place, tokens in states.items():
        assert "Fe?" in images[place].arrays["resolved_species"]
        assert tokens == images[place].arrays["requested_species"].tolist()
