"""The GPAW labeler keeps the contract of labelers, on a cell that takes seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import set_species
from al_charge.labelers import make_labeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.plugin import LabelerSettings
from al_charge.labelers.protocol import Labeler
from al_charge.testing.labelers import LabelerContract
from al_charge.testing.settings import changed

pytestmark = [
    pytest.mark.gpaw,
    pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed"),
    pytest.mark.usefixtures("forked_gpaw"),
]


def manganese_hydrides() -> Atoms:
    """Return linear MnH2 and planar MnH3, whose bonds hold the charge order, rattled.

    In a smaller cell more orbitals of neighbouring cells overlap, which costs more than its grid
    saves.
    """
    long, short, apart = 1.7, 1.55, 3.9
    positions = [(0, 0, 0), (long, 0, 0), (-long, 0, 0), (0, 0, apart)]
    for angle in 0.5 + 2 * np.pi * np.arange(3) / 3:
        positions.append((short * np.cos(angle), short * np.sin(angle), apart))
    atoms = Atoms("MnH2MnH3", positions, cell=[5.8, 5.8, 7.8], pbc=True)
    set_species(atoms, ["Mn2+", "H-", "H-", "Mn3+", "H-", "H-", "H-"])
    atoms.rattle(0.02, seed=1)
    return atoms


class TestGpaw(LabelerContract):
    results = ("result.json",)
    physical = (
        {"mode": "pw"},
        {"basis": "szp(dzp)"},
        {"grid_spacing": "0.21 A"},
        {"xc": "PBE"},
        {"hubbard_u": {"Mn": "3.8 eV"}},
        {"hubbard_u": {}},
        {"smearing": "0.1 eV"},
        {"kpoints": [1, 1, 2]},
        {"kpoints": None},
        {"metal_kpoints": 5},
        {"magnetic_order": "antiferromagnetic"},
        {"moments": {"Mn2+": 4.2}},
        {"total_moment": 2.0},
        {"fixed_moment": True},
        {"energy_tolerance": "2e-5 eV"},
        {"density_tolerance": 1e-4},
    )
    other = (
        {"cutoff": "500 eV"},  # plane waves
        {"kpoint_spacing": 0.5},  # where no grid is given
        {"eigenstates_tolerance": 1e-5},
        {"max_iterations": 90},
        {"mixer": "pulay"},
        {"scf_ladder": False},
        {"relax": "ions"},
        {"fmax": "0.1 eV/A"},
        {"max_steps": 10},
        {"shell_distortion": "0.1 A"},
        {"shell_contrast": "0.01 A"},
        {"tries": 2},
        {"moment_limit": 3.0},
        {"moment_windows": {"Mn2+": [4.0, 4.5]}},
        {"bader": True},
        {"explore_spin": False},
        {"explore_runs": 2},
        {"bader_refinement": 4},
        {"processes": 2},
        {"timeout": "1 h"},
        {"save_interval": "60 s"},
    )
    unknown_species = "Pu4+"
    relaxes = ()
    force_step = 0.02
    force_tolerance = 0.08
    force_sum = 0.3
    energy_tolerance = 2e-3

    @classmethod
    def settings(cls) -> LabelerSettings:
        return GpawSettings.model_validate(
            {
                "basis": "sz(dzp)",
                "grid_spacing": "0.25 A",
                "xc": "LDA",
                "hubbard_u": {"Mn": "3.9 eV"},
                "kpoints": [1, 1, 1],
                "metal_kpoints": 4,
                "energy_tolerance": "1e-4 eV",
                "density_tolerance": 1e-3,
                "moment_windows": {"Mn2+": [4.1, 4.6], "Mn3+": [3.4, 4.0]},
                "shell_contrast": "0.05 A",  # less than these bonds', so that none is distorted
                "bader": False,
            }
        )

    @classmethod
    def atoms(cls) -> Atoms:
        return manganese_hydrides()

    def test_the_metal_has_an_energy(self, labeler: Labeler, tmp_path: Path) -> None:
        """In plane waves: sodium's orbitals reach so far that its small cell takes a minute."""
        quick = changed(
            self.settings(), {"mode": "pw", "xc": "PBE", "cutoff": "250 eV", "metal_kpoints": 3}
        )
        super().test_the_metal_has_an_energy(make_labeler(quick), tmp_path)
