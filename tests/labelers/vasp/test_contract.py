"""The VASP labeler keeps what of the contract a stand-in for VASP can show."""

from __future__ import annotations

from typing import Any

import pytest
from ase import Atoms
from ase.build import bulk

from al_charge.crystal.configuration import set_species
from al_charge.labelers.settings import LabelerSettings, VaspSettings
from al_charge.testing.labelers import LabelerContract

# pymatgen, inside custodian, about POTCARs that are headers only.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


class TestVasp(LabelerContract):
    results = ("static/vasprun.xml",)
    physical = (
        {"cutoff": "500 eV"},
        {"hubbard_u": {"Fe": "4 eV"}},
        {"kpoints": [1, 1, 1]},
        {"kpoint_density": 100.0},
        {"metal_kpoint_density": 900.0},
        {"fixed_moment": False},
        {"magnetic_order": "antiferromagnetic"},
        {"potcar_functional": "PBE_54"},
        {"potcars": {"Fe": "Fe"}},
        {"verify_potcars": True},
        {"incar": {"EDIFF": 1e-5}},
    )
    other = (
        {"incar": {"NCORE": 4}},
        {"relax": "cell"},
        {"fmax": "0.05 eV/A"},
        {"max_steps": 50},
        {"shell_distortion": "0.1 A"},
        {"shell_contrast": "0.01 A"},
        {"tries": 2},
        {"moment_windows": {"Fe2+": [3.5, 3.9]}},
        {"bader": True},
        {"command": "srun vasp_std"},
        {"gamma_command": "srun vasp_gam"},
        {"timeout": "1 h"},
        {"keep_wavecar": True},
    )
    unknown_species = "Ni3+"
    force_tolerance = 1e-4
    force_sum = 0.1
    recorded = "the stand-in for VASP computes nothing"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def vasp(cls, lasting_standin: Any) -> None:
        lasting_standin.tell(energy=-40.0, moments=[0.0, 3.75, 4.25, 0.1, 0.1, 0.1])

    @classmethod
    def settings(cls) -> LabelerSettings:
        return VaspSettings.model_validate(
            {"verify_potcars": False, "bader": False, "timeout": "60 s", "shell_distortion": "0 A"}
        )

    @classmethod
    def atoms(cls) -> Atoms:
        atoms = bulk("FeO", "rocksalt", a=4.4) * (1, 1, 3)
        atoms.symbols[0] = "Na"
        atoms = atoms[[0, 2, 4, 1, 3, 5]]
        set_species(atoms, ["Na+", "Fe2+", "Fe3+", "O2-", "O2-", "O2-"])
        atoms.rattle(0.02, seed=1)
        return atoms
