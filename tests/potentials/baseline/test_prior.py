"""Potentials on top of a pretrained one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.potentials.baseline.prior import load_prior
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train

SETTINGS = PainnSettings(prior="chgnet", cutoff="4 A", channels=4, pair_cutoff="0 A")


@pytest.fixture(scope="module")
def half(olivine: Host) -> Atoms:
    """Half-filled olivine with some disorder."""
    atoms = to_atoms(olivine, enumerate_distinct(olivine, 2)[0])
    atoms.rattle(0.05, seed=1)
    return atoms


def shifted_frames(half: Atoms, shift: float) -> list[TrainingFrame]:
    """Return frames whose labels are the prior's, moved by a constant energy for each atom."""
    frames = []
    for seed in range(4):
        atoms = half.copy()
        atoms.rattle(0.02, seed=seed)
        of_prior = load_prior("chgnet").predict(atoms)
        frames.append(
            TrainingFrame(
                atoms=atoms,
                energy=of_prior.energy + shift * len(atoms),
                forces=of_prior.forces,
                stress=of_prior.stress,
                group=str(seed),
            )
        )
    return frames


def test_the_prior_is_chgnet_in_our_units(half: Atoms) -> None:
    from chgnet.model.dynamics import CHGNetCalculator

    atoms = Atoms(half.numbers, half.positions, cell=half.cell, pbc=True)
    atoms.calc = CHGNetCalculator(use_device="cpu")
    found = load_prior("chgnet").predict(half)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-4)
    np.testing.assert_allclose(found.stress, atoms.get_stress(voigt=False), atol=1e-5)


def test_stress_is_the_derivative_of_the_energy(half: Atoms) -> None:
    prior = load_prior("chgnet")
    strain = 2e-3
    energies = []
    for sign in (-1, 1):
        strained = half.copy()
        strained.set_cell(strained.cell * (1.0 + sign * strain), scale_atoms=True)
        energies.append(prior.predict(strained).energy)
    slope = (energies[1] - energies[0]) / (2 * strain) / half.get_volume()
    assert slope == pytest.approx(float(np.trace(prior.predict(half).stress)), rel=0.02)


def test_a_potential_on_a_prior_learns_the_difference(half: Atoms, tmp_path: Path) -> None:
    frames = shifted_frames(half, shift=0.7)
    result = train(
        SETTINGS,
        TrainingSettings(epochs=3),
        frames,
        seed=0,
        fold=0,
        n_folds=4,
        checkpoint=tmp_path / "checkpoint",
    )
    predictions = result.potential.predict([frame.atoms for frame in frames])
    for frame, prediction in zip(frames, predictions, strict=True):
        assert prediction.energy == pytest.approx(frame.energy, abs=0.02)
        np.testing.assert_allclose(prediction.forces, frame.forces, atol=0.02)

    again = Potential.from_state(*result.potential.state())
    assert again.predict([half])[0].energy == result.potential.predict([half])[0].energy


def test_charge_states_are_told_apart_beside_the_prior(half: Atoms, tmp_path: Path) -> None:
    """The prior sees elements only; what is learned on top of it sees charge states."""
    swapped = half.copy()
    species = swapped.arrays["species"]
    first = int(np.flatnonzero(species == "Fe2+")[0])
    second = int(np.flatnonzero(species == "Fe3+")[0])
    species[[first, second]] = species[[second, first]]
    prior = load_prior("chgnet")
    assert prior.predict(swapped).energy == prior.predict(half).energy

    frames = shifted_frames(half, shift=0.0)
    softer = [
        TrainingFrame(
            atoms=frame.atoms,
            energy=frame.energy,
            forces=np.where((frame.atoms.arrays["species"] == "Fe3+")[:, None], 1.0, frame.forces),
            stress=frame.stress,
            group=frame.group,
        )
        for frame in frames
    ]
    settings = SETTINGS.model_copy(update={"pair_cutoff": 4.0})
    result = train(
        settings,
        TrainingSettings(epochs=1),
        softer,
        seed=0,
        fold=0,
        n_folds=4,
        checkpoint=tmp_path / "checkpoint",
    )
    energies = [found.energy for found in result.potential.predict([half, swapped])]
    assert abs(energies[0] - energies[1]) > 1e-3
