"""The rehearsal labeler keeps the contract of labelers."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.labelers.plugin import LabelerSettings
from al_charge.rehearsal.settings import ModelSettings
from al_charge.testing.labelers import LabelerContract


class TestModel(LabelerContract):
    results = ("result.json",)
    other = (
        {"relax": "none"},
        {"relax": "ions"},
        {"fmax": "0.02 eV/A"},
        {"max_steps": 50},
    )
    unknown_species = "Co3+"
    start: ClassVar[Atoms]
    file: ClassVar[Path]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def trained(cls, model: Path, single: Path, olivine: Host) -> None:
        """Let the class know the files and the structure that fixtures have made."""
        atoms = to_atoms(olivine, enumerate_distinct(olivine, 2)[0])
        atoms.rattle(0.05, seed=2)
        shear = np.array([[1.01, 0.01, 0.0], [0.01, 0.99, 0.02], [0.0, 0.02, 1.0]])
        atoms.set_cell(atoms.cell.array @ shear, scale_atoms=True)
        cls.start, cls.file = atoms, model
        cls.physical = (
            {"model": str(single)},
            {"sha256": "0" * 64},
            {"metal_energy": "-1.3 eV"},
        )

    @classmethod
    def settings(cls) -> LabelerSettings:
        return ModelSettings(model=cls.file)

    @classmethod
    def atoms(cls) -> Atoms:
        return cls.start.copy()
