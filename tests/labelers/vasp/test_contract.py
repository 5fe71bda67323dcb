"""The VASP labeler keeps the contract of labelers, with a stand-in that has a small model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ase import Atoms

from al_charge.crystal.configuration import set_species
from al_charge.labelers.dft import process
from al_charge.labelers.plugin import LabelerSettings
from al_charge.labelers.vasp import run
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.testing.labelers import LabelerContract

# pymatgen, inside custodian, about POTCARs that are headers only.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")
HERE = Path(__file__).parent


def in_this_process(command: Sequence[str], directory: Path, timeout: float) -> None:
    """Run a job where everything is imported already; test_run.py has processes of their own."""
    assert command[-1] == run.__name__
    run.run_stages(directory)


class TestVasp(LabelerContract):
    results = ("static/vasprun.xml", "static/OUTCAR")
    unknown_species = "Ti3+"
    stress_tolerance = 1e-5
    force_tolerance = 1e-4
    force_sum = 1e-6
    energy_tolerance = 1e-6
    physical = (
        {"cutoff": "500 eV"},
        {"hubbard_u": {"Fe": "4 eV"}},
        {"kpoints": [1, 1, 1]},
        {"kpoint_spacing": 0.4},
        {"kpoint_density": 32.0},
        {"metal_kpoint_density": 500.0},
        {"fixed_moment": False},
        {"magnetic_order": "antiferromagnetic"},
        {"moments": {"Fe3+": 4.2}},
        {"total_moment": 2.0},
        {"potcar_functional": "PBE_54"},
        {"potcars": {"Fe": "Fe"}},
        {"verify_potcars": True},
        {"incar": {"EDIFF": 1e-5}},
        {"incar": {"GGA": "PS"}},
    )
    other = (
        {"relax": "ions"},
        {"fmax": "0.1 eV/A"},
        {"max_steps": 10},
        {"shell_distortion": "0.1 A"},
        {"shell_contrast": "0.01 A"},
        {"tries": 2},
        {"moment_windows": {"Fe2+": [3.6, 3.8], "Fe3+": [4.2, 4.4]}},
        {"bader": True},
        {"explore_spin": False},
        {"explore_runs": 2},
        {"command": "srun vasp_std"},
        {"gamma_command": "srun vasp_gam"},
        {"timeout": "1 h"},
        {"keep_wavecar": True},
        {"incar": {"NCORE": 4}},
    )

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def surroundings(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Put a stand-in on PATH and headers of POTCARs where pymatgen looks."""
        from pymatgen.core import SETTINGS

        root = tmp_path_factory.mktemp("vasp")
        headers = root / "potcars" / "POT_GGA_PAW_PBE"
        headers.mkdir(parents=True)
        for name, electrons in {"Na_pv": 7, "Fe_pv": 14, "O": 6}.items():
            (headers / f"POTCAR.{name}").write_text(header(name, electrons))
        program = root / "vasp_std"
        program.write_text(f"#!/bin/sh\nexec {sys.executable} -S {HERE / 'vasp_std.py'}\n")
        program.chmod(0o755)
        (root / "plan.json").write_text("{}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(root / "potcars"))
            patch.setenv("PATH", str(root), prepend=":")
            patch.setenv("VASP_STANDIN", str(root / "plan.json"))
            patch.setattr(process, "run", in_this_process)
            yield

    @classmethod
    def settings(cls) -> LabelerSettings:
        return VaspSettings.model_validate(
            {"verify_potcars": False, "bader": False, "timeout": "10 min"}
        )

    @classmethod
    def atoms(cls) -> Atoms:
        atoms = Atoms(
            "OFeNaOFeO",
            positions=[(2, 0, 0), (0, 0, 0), (2, 2, 2), (0, 2, 0.2), (2.1, 2.2, 0), (0, 0, 2.1)],
            cell=[4.2, 4.4, 4.6],
            pbc=True,
        )
        set_species(atoms, ["O2-", "Fe3+", "Na+", "O2-", "Fe2+", "O2-"])
        return atoms


def header(name: str, electrons: int) -> str:
    """Return what pymatgen reads of a POTCAR, and no dataset."""
    return (
        f"  PAW_PBE {name} 01Jan2000\n   {electrons}\n parameters from PSCTR are:\n"
        f"   VRHFIN ={name.partition('_')[0]}: test\n   LEXCH  = PE\n"
        f"   TITEL  = PAW_PBE {name} 01Jan2000\n"
        f"   POMASS =   10.000; ZVAL   =   {electrons:.3f}    mass and valenz\n"
        "   ENMAX  =  300.000; ENMIN  =  200.000 eV\n   LPAW   =        T    paw PP\n"
        "END of PSCTR-controll parameters\n local part\n 1.0\nEnd of Dataset\n"
    )
