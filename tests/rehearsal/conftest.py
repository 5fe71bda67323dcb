"""Small potentials of olivine, trained on a few seconds of Born labels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.labelling import make_label
from al_charge.labelers.plugin import LABELERS
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.model_file import write_model
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train


@pytest.fixture(scope="session")
def frames(olivine: Host, tmp_path_factory: pytest.TempPathFactory) -> list[TrainingFrame]:
    """Every geometry that Born's labels of all 16 configurations keep."""
    folder, born = tmp_path_factory.mktemp("born"), BornSettings()
    labeler = LABELERS.of(born).make(born)
    found = []
    for n_ions in olivine.ion_counts:
        for configuration in enumerate_distinct(olivine, n_ions):
            start, key = to_atoms(olivine, configuration), canonical_hash(olivine, configuration)
            for frame in make_label(labeler, start, folder / key).reading.frames:
                atoms = start.copy()
                atoms.set_cell(frame.cell)
                atoms.set_positions(frame.positions)
                found.append(TrainingFrame(atoms, frame.energy, frame.forces, frame.stress, key))
    return found


@pytest.fixture(scope="session")
def members(
    frames: list[TrainingFrame], tmp_path_factory: pytest.TempPathFactory
) -> list[Potential]:
    """Two potentials on those labels."""
    settings = PainnSettings(cutoff="4 A", channels=8, layers=1, pair_cutoff="6 A")
    folder = tmp_path_factory.mktemp("training")
    return [
        train(
            settings,
            TrainingSettings(epochs=2),
            frames,
            seed=seed,
            fold=seed,
            n_folds=2,
            checkpoint=folder / f"{seed}",
            device=torch.device("cpu"),
        ).potential
        for seed in (0, 1)
    ]


@pytest.fixture(scope="session")
def model(members: list[Potential], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the committee of both."""
    path = tmp_path_factory.mktemp("models") / "olivine.model"
    write_model(path, members)
    return path


@pytest.fixture(scope="session")
def single(members: list[Potential], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the first alone."""
    path = tmp_path_factory.mktemp("models") / "single.model"
    write_model(path, members[:1])
    return path
