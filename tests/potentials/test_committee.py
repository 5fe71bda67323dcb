"""Committees: mean, spread, and the calibration of the spread."""

from __future__ import annotations

import numpy as np
import pytest

from al_charge.errors import AlChargeError
from al_charge.potentials.committee import (
    LEAST_HELD_OUT,
    Committee,
    calibrate,
    standard_deviation,
)
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.testing.potentials import small_salt, untrained

SCALE = 1.7


@pytest.fixture(scope="module")
def members() -> list[Potential]:
    """Return three potentials that disagree, one of them with a longer cutoff."""
    short = PainnSettings(cutoff="4 A", channels=4, radial=4)
    far = PainnSettings(cutoff="5 A", channels=4, radial=4)
    return [untrained(s, seed=seed) for seed, s in enumerate((short, far, short))]


def test_mean_and_spread_are_those_of_the_members(members: list[Potential]) -> None:
    structures = [small_salt(seed) for seed in range(2)]
    alone = [member.predict(structures) for member in members]
    together = Committee(members, SCALE).predict(structures)
    assert len(together) == len(structures)
    for k, prediction in enumerate(together):
        energies = [predictions[k].energy for predictions in alone]
        assert prediction.energy == pytest.approx(np.mean(energies), abs=1e-9)
        assert prediction.spread == pytest.approx(SCALE * np.std(energies, ddof=1), abs=1e-9)
        assert prediction.spread > 0.01
        np.testing.assert_allclose(
            prediction.forces, np.mean([p[k].forces for p in alone], axis=0), atol=1e-9
        )
        np.testing.assert_allclose(
            prediction.stress, np.mean([p[k].stress for p in alone], axis=0), atol=1e-11
        )


def test_the_scale_changes_the_spread_alone(members: list[Potential]) -> None:
    (plain,) = Committee(members).predict([small_salt()])
    (scaled,) = Committee(members, SCALE).predict([small_salt()])
    assert scaled.spread == pytest.approx(SCALE * plain.spread)
    assert scaled.energy == plain.energy
    np.testing.assert_array_equal(scaled.forces, plain.forces)


def test_the_calculator_gives_the_mean(members: list[Potential]) -> None:
    committee = Committee(members)
    atoms = small_salt()
    (prediction,) = committee.predict([atoms])
    atoms.calc = committee.calculator()
    assert atoms.get_potential_energy() == pytest.approx(prediction.energy)
    np.testing.assert_allclose(atoms.get_forces(), prediction.forces, atol=1e-9)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), prediction.stress, atol=1e-9)


def test_one_member_has_no_spread(members: list[Potential]) -> None:
    (prediction,) = Committee(members[:1]).predict([small_salt()])
    assert prediction.spread == 0.0
    assert standard_deviation(np.array([1.0])) == 0.0


def test_a_committee_has_a_member() -> None:
    with pytest.raises(AlChargeError, match="needs at least one member"):
        Committee([])


@pytest.mark.parametrize("true_scale", [0.5, 3.0])
@pytest.mark.parametrize("n_members", [2, 5])
def test_calibration_finds_the_scale_of_the_errors(n_members: int, true_scale: float) -> None:
    """Members scatter by a tenth; what they predict is wrong by that times a factor."""
    rng = np.random.default_rng(n_members)
    n, sigma = 20_000, 0.1
    members = sigma * rng.normal(size=(n, n_members))
    spreads = [standard_deviation(row) for row in members]
    residuals = list(true_scale * sigma * rng.normal(size=n))
    scale = calibrate(residuals, spreads)
    assert scale == pytest.approx(true_scale, rel=0.03)
    within = np.mean(np.abs(residuals) < scale * sigma)
    assert within == pytest.approx(0.683, abs=0.02)


def test_too_few_residuals_calibrate_nothing() -> None:
    few = LEAST_HELD_OUT - 1
    assert calibrate([9.0] * few, [1.0] * few) == 1.0
    assert calibrate([], []) == 1.0
    assert calibrate([9.0] * LEAST_HELD_OUT, [1.0] * LEAST_HELD_OUT) == pytest.approx(9.0)


def test_members_that_agree_calibrate_nothing() -> None:
    assert calibrate([1.0] * 8, [0.0] * 8) == 1.0


def test_calibration_needs_a_spread_for_every_residual() -> None:
    with pytest.raises(AlChargeError, match="differ in number"):
        calibrate([1.0, 2.0], [1.0])
