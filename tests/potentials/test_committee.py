"""Committees: mean, spread, and the calibration of the spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from al_charge.errors import AlChargeError, InputError
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.committee import (
    LEAST_HELD_OUT,
    Committee,
    calibrate,
    standard_deviation,
)
from al_charge.potentials.networks.neighbours import Neighbours, find_neighbours
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.prediction import Prediction
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


def test_moments_are_those_of_members_that_all_predict_them(members: list[Potential]) -> None:
    tiny = ChgnetSettings(pretrained=False, channels=4, layers=2)
    magnetic = [untrained(tiny, seed=seed) for seed in range(2)]
    alone = [member.predict([small_salt()])[0].moments for member in magnetic]
    (together,) = Committee(magnetic).predict([small_salt()])
    assert together.moments is not None and together.moments.shape == (len(small_salt()),)
    np.testing.assert_allclose(together.moments, np.mean(np.stack(alone), axis=0), atol=1e-12)
    (mixed,) = Committee([magnetic[0], members[0]]).predict([small_salt()])
    assert mixed.moments is None


def test_charges_are_those_of_members_that_all_predict_them(
    members: list[Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    neutral = Potential.predict

    def charged(
        self: Potential, structures: Sequence[Atoms], pairs: Sequence[Neighbours] | None = None
    ) -> list[Prediction]:
        """Take the forces along x for charges."""
        found = neutral(self, structures, pairs)
        return [replace(one, charges=one.forces[:, 0]) for one in found]

    assert Committee(members).predict([small_salt()])[0].charges is None
    monkeypatch.setattr(Potential, "predict", charged)
    (together,) = Committee(members).predict([small_salt()])
    assert together.charges is not None
    np.testing.assert_allclose(together.charges, together.forces[:, 0], atol=1e-12)


def test_pairs_are_found_once_to_the_longest_cutoff(
    members: list[Potential], monkeypatch: pytest.MonkeyPatch
) -> None:
    committee = Committee(members)
    assert committee.neighbour_cutoff == max(member.neighbour_cutoff for member in members)
    atoms = small_salt()
    (alone,) = committee.predict([atoms])
    given = [find_neighbours(atoms, committee.neighbour_cutoff)]
    monkeypatch.delattr("al_charge.potentials.potential.find_neighbours")  # no member looks again
    assert committee.predict([atoms])[0].energy == alone.energy
    monkeypatch.delattr("al_charge.potentials.committee.find_neighbours")
    assert committee.predict([atoms], given)[0].energy == alone.energy


def test_the_calculator_gives_the_mean(members: list[Potential]) -> None:
    committee = Committee(members)
    atoms = small_salt()
    (prediction,) = committee.predict([atoms])
    atoms.calc = committee.calculator()
    assert atoms.get_potential_energy() == pytest.approx(prediction.energy)
    np.testing.assert_allclose(atoms.get_forces(), prediction.forces, atol=1e-9)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), prediction.stress, atol=1e-9)


def test_the_calculator_needs_charge_states_if_a_member_does(members: list[Potential]) -> None:
    blind = untrained(PainnSettings(cutoff="4 A", channels=4, radial=4, charge_aware=False))
    atoms = small_salt()
    (expected,) = Committee([blind]).predict([atoms])
    del atoms.arrays["species"]
    atoms.calc = Committee([blind]).calculator()
    assert atoms.get_potential_energy() == pytest.approx(expected.energy)
    atoms.calc = Committee([blind, members[0]]).calculator()
    with pytest.raises(InputError, match="charge state"):
        atoms.get_potential_energy()


def test_one_member_has_no_spread(members: list[Potential]) -> None:
    (prediction,) = Committee(members[:1]).predict([small_salt()])
    assert prediction.spread == 0.0
    assert standard_deviation(np.array([1.0])) == 0.0


def test_a_committee_has_a_member() -> None:
    with pytest.raises(AlChargeError, match=r"^committee: a committee needs at least one member"):
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
    with pytest.raises(
        AlChargeError, match=r"^calibration: residuals and spreads differ in number"
    ):
        calibrate([1.0, 2.0], [1.0])
