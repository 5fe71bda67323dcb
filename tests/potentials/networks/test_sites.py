"""Moments and charges of sites: as outputs of cPaiNN, and as an input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from al_charge.errors import AlChargeError
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.loss import errors, join, prepare
from al_charge.potentials.training.train import train
from al_charge.testing.potentials import TOKENS, small_salt, teacher_frames, untrained

MOMENTS = np.array([{"Fe2+": 3.7, "Fe3+": 4.3}.get(token, 0.05) for token in TOKENS])
CHARGES = np.array(
    [{"Fe2+": 1.4, "Fe3+": 1.8, "Na+": 0.9, "P5+": 3.6}.get(token, -1.2) for token in TOKENS]
)
SPIN: dict[str, PotentialSettings] = {
    "painn": PainnSettings(cutoff="4 A", channels=8, radial=6, spin=True),
    "mace": MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4, spin=True),
}


def _trained(
    settings: PotentialSettings, frames: list[TrainingFrame], folder: Path, epochs: int = 8
) -> Potential:
    return train(
        settings,
        TrainingSettings(epochs=epochs, learning_rate=0.02, averaging=0.0),
        frames,
        seed=1,
        fold=0,
        n_folds=1,
        checkpoint=folder / "checkpoint",
    ).potential


def test_cpainn_tells_moments_and_charges_of_sites_it_was_told(tmp_path: Path) -> None:
    """The frames of an antiferromagnet have the same sizes; half of the frames tell nothing."""
    signs = np.where(np.arange(len(TOKENS)) == 4, -1.0, 1.0)
    frames = [
        replace(frame, moments=signs * MOMENTS, charges=CHARGES) if k % 2 else frame
        for k, frame in enumerate(teacher_frames(3))
    ]
    potential = _trained(CpainnSettings(cutoff="4 A", channels=8, radial=6), frames, tmp_path)
    (found,) = potential.predict([small_salt(seed=99)])
    assert found.moments == pytest.approx(MOMENTS, abs=0.1)
    assert found.charges == pytest.approx(CHARGES, abs=0.1)


def test_the_energy_of_cpainn_is_that_of_painn() -> None:
    """The heads only read: the same weights give the same energies, forces and stress."""
    painn = untrained(PainnSettings(cutoff="4 A", channels=8, radial=6))
    cpainn = Potential.fresh(
        CpainnSettings(cutoff="4 A", channels=8, radial=6),
        painn.vocabulary,
        mean_neighbours=painn.mean_neighbours,
        seed=0,
        baseline=painn.baseline,
        scale=painn.scale,
    )
    cpainn.module.double()
    cpainn.module.load_state_dict(painn.module.state_dict(), strict=False)
    atoms = small_salt()
    (first,), (second,) = painn.predict([atoms]), cpainn.predict([atoms])
    assert first.energy == second.energy
    assert np.array_equal(first.forces, second.forces)
    assert np.array_equal(first.stress, second.stress)
    assert first.moments is None and second.moments is not None


def test_unknown_moments_do_not_count() -> None:
    """The loss of sites is the mean over those that a label tells of, by hand."""
    potential = untrained(CpainnSettings(cutoff="4 A", channels=8, radial=6))
    silent, telling = teacher_frames(1)
    telling = replace(telling, moments=MOMENTS)
    batch = join(prepare(potential, [silent, telling]))
    found = errors(potential.module, potential.scale, batch)
    (prediction,) = potential.predict([telling.atoms])
    assert prediction.moments is not None
    off = np.mean((prediction.moments - MOMENTS) ** 2)
    assert float(found.moment) == pytest.approx(float(batch.weights[1]) * off, rel=1e-9)
    assert float(found.charge) == 0.0


def test_moments_of_another_number_of_atoms_are_refused() -> None:
    """As forces are."""
    frame = teacher_frames(1)[0]
    with pytest.raises(AlChargeError, match="moments and atoms differ in number"):
        replace(frame, moments=MOMENTS[:-1])


@pytest.mark.parametrize("settings", SPIN.values(), ids=SPIN)
def test_turning_all_spins_over_changes_nothing(settings: PotentialSettings) -> None:
    """But turning one does, and so does a moment of another size."""
    potential, atoms = untrained(settings), small_salt()
    variants = []
    one_turned_over = np.where(np.arange(8) == 4, -1.0, 1.0)
    for change in (np.ones(8), -np.ones(8), one_turned_over, np.full(8, 0.9)):
        other = atoms.copy()
        other.set_array("moments", change * MOMENTS)
        variants.append(other)
    same, turned, one_turned, smaller = potential.predict(variants)
    assert turned.energy == pytest.approx(same.energy, abs=1e-10)
    np.testing.assert_allclose(turned.forces, same.forces, atol=1e-10)
    assert abs(one_turned.energy - same.energy) > 1e-3
    assert abs(smaller.energy - same.energy) > 1e-3


@pytest.mark.parametrize("settings", SPIN.values(), ids=SPIN)
def test_a_structure_without_moments_has_the_typical_ones(
    settings: PotentialSettings, tmp_path: Path
) -> None:
    """Which are the medians over the frames that were trained on."""
    frames = [replace(frame, moments=MOMENTS) for frame in teacher_frames(2)]
    potential = _trained(settings, frames, tmp_path)
    plain = small_salt(seed=5)
    told = plain.copy()
    told.set_array("moments", MOMENTS)
    (first,), (second,) = potential.predict([plain]), potential.predict([told])
    assert first.energy == pytest.approx(second.energy, abs=1e-6)
    config, weights = potential.state()
    assert Potential.from_state(config, weights).predict([plain])[0].energy == first.energy


def test_a_label_in_another_spin_state_does_not_move_pair_terms(tmp_path: Path) -> None:
    """It has another energy, of which they cannot be told the reason."""
    settings = PainnSettings(cutoff="4 A", channels=8, radial=6, pair_cutoff="4 A", spin=True)
    usual = [replace(frame, moments=MOMENTS) for frame in teacher_frames(9)]
    turned = np.where(np.arange(len(TOKENS)) == 4, MOMENTS - 2.0, MOMENTS)
    other = replace(usual[-1], energy=usual[-1].energy + 3.0, group="other", moments=turned)
    other = replace(other, atoms=other.atoms.copy())
    for frame in (*usual, other):
        frame.atoms.set_array("moments", frame.moments)
    without, with_it = (
        _trained(settings, frames, tmp_path, epochs=1).baseline
        for frames in (usual, [*usual, other])
    )
    np.testing.assert_allclose(with_it.references, without.references, atol=0.01)
    assert without.pairs is not None and with_it.pairs is not None
    np.testing.assert_allclose(with_it.pairs.coefficients, without.pairs.coefficients, atol=0.01)


def test_a_fresh_spin_input_adds_nothing() -> None:
    """A spin-aware potential starts as the one that is not, to rounding."""
    told = small_salt()
    told.set_array("moments", MOMENTS)
    plain = untrained(PainnSettings(cutoff="4 A", channels=8, radial=6))
    aware = Potential.fresh(
        plain.settings.model_copy(update={"spin": True}),
        plain.vocabulary,
        mean_neighbours=plain.mean_neighbours,
        seed=3,
        baseline=plain.baseline,
        scale=plain.scale,
    )
    aware.module.double()
    aware.module.copy_rows(plain.module, range(len(plain.vocabulary)))
    (first,), (second,) = aware.predict([told]), plain.predict([told])
    assert first.energy == pytest.approx(second.energy, abs=1e-9)


def test_a_moment_moves_the_energy_smoothly_through_zero() -> None:
    """No kink where a moment changes its sign."""
    potential, atoms = untrained(SPIN["painn"]), small_salt()
    energies = []
    for moment in (-2e-3, -1e-3, 0.0, 1e-3, 2e-3):
        atoms.set_array("moments", np.where(np.arange(8) == 2, moment, MOMENTS))
        energies.append(potential.predict([atoms])[0].energy)
    slopes = np.diff(energies) / 1e-3
    assert np.abs(np.diff(slopes)).max() < 0.05 * max(1.0, float(np.abs(slopes).max()))
    assert torch.get_default_dtype() == torch.float32
