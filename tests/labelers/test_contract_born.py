"""The Born labeler keeps the contract of labelers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from pymatgen.core.structure import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from al_charge.crystal.configuration import set_species
from al_charge.labelers.born.settings import BornSettings
from al_charge.labelers.plugin import LabelerSettings
from al_charge.testing.labelers import LabelerContract

OLIVINE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"


def half_filled_olivine() -> Atoms:
    """Return olivine with two of four Na, two Fe2+ and two Fe3+, rattled and strained."""
    filled = AseAtomsAdaptor.get_atoms(Structure.from_file(OLIVINE))
    atoms = Atoms(filled.numbers, filled.positions, cell=filled.cell, pbc=True)
    sodium = np.flatnonzero(atoms.symbols == "Na")
    del atoms[sodium[[0, 3]]]
    tokens = {"Na": "Na+", "Fe": "Fe2+", "P": "P5+", "O": "O2-"}
    species = [tokens[symbol] for symbol in atoms.symbols]
    for iron in np.flatnonzero(atoms.symbols == "Fe")[::2]:
        species[iron] = "Fe3+"
    set_species(atoms, species)
    atoms.rattle(0.05, seed=2)
    shear = np.array([[1.01, 0.01, 0.0], [0.01, 0.99, 0.02], [0.0, 0.02, 1.0]])
    atoms.set_cell(atoms.cell.array @ shear, scale_atoms=True)
    return atoms


class TestBorn(LabelerContract):
    results = ("result.json",)
    physical = ()  # the model is fixed
    other = (
        {"relax": "none"},
        {"relax": "ions"},
        {"fmax": "0.02 eV/A"},
        {"max_steps": 50},
    )
    unknown_species = "Co3+"

    @classmethod
    def settings(cls) -> LabelerSettings:
        return BornSettings()

    @classmethod
    def atoms(cls) -> Atoms:
        return half_filled_olivine()
