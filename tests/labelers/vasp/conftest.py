"""Stand-ins for what is licensed: POTCARs with headers only, and a vasp_std that copies outputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ase import Atoms

from al_charge.crystal.configuration import configuration, set_species, to_atoms
from al_charge.crystal.host import VACANCY, Host
from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp.labeler import VaspLabeler
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import document_of
from al_charge.store.mongo import Store

STANDIN = Path(__file__).with_name("vasp_std.py")
OLIVINE = Path(__file__).parents[3] / "workflows" / "hosts" / "NaFePO4.cif"
MOMENTS = {"Fe2+": 3.75, "Fe3+": 4.33}
LABELER: dict[str, Any] = {
    "kind": "vasp",
    "verify_potcars": False,
    "bader": False,
    "shell_distortion": "0 A",
    "hubbard_u": {"Fe": "5.3 eV"},
}
RECORDED = Path(__file__).parents[4] / "shared" / "data"

HEADER = """  PAW_PBE {name} 01Jan2000
   {electrons:.3f}
 parameters from PSCTR are:
   VRHFIN ={element}: test
   LEXCH  = PE
   EATOM  =    10.0000 eV,    1.0000 Ry

   TITEL  = PAW_PBE {name} {date}
   LULTRA =        F    use ultrasoft PP ?
   POMASS =   10.000; ZVAL   =   {electrons:.3f}    mass and valenz
   ENMAX  =  300.000; ENMIN  =  200.000 eV
   LPAW   =        T    paw PP
END of PSCTR-controll parameters
 local part
 1.0
End of Dataset
"""
"""What pymatgen reads of a POTCAR, and no dataset."""

DATASETS = {
    "Na_pv": (7, "01Jan2000"),
    "Li_sv": (3, "01Jan2000"),
    "Fe_pv": (14, "01Jan2000"),
    "Mn_pv": (13, "01Jan2000"),
    "Ni_pv": (16, "06Sep2000"),
    "P": (5, "01Jan2000"),
    "O": (6, "08Apr2002"),
}


def write_potcars(folder: Path) -> None:
    """Write headers of the datasets that the tests use, as pymatgen expects them."""
    folder.mkdir(parents=True)
    for name, (electrons, date) in DATASETS.items():
        text = HEADER.format(
            name=name, element=name.partition("_")[0], electrons=float(electrons), date=date
        )
        (folder / f"POTCAR.{name}").write_text(text)


@pytest.fixture
def potcars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with headers of POTCARs, which pymatgen finds."""
    from pymatgen.core import SETTINGS

    root = tmp_path / "potcars"
    write_potcars(root / "POT_GGA_PAW_PBE")
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(root))
    monkeypatch.setenv("PMG_VASP_PSP_DIR", str(root))
    return root


class StandIn:
    """The stand-in on PATH and what it has been told."""

    def __init__(self, folder: Path) -> None:
        self._plan = folder / "plan.json"
        self.tell()

    def tell(self, **plan: Any) -> None:
        """Say what it does from now on."""
        self._plan.write_text(json.dumps(plan))
        self._plan.with_name("starts").unlink(missing_ok=True)

    def starts(self) -> list[str]:
        """Return the folders in which it was started, in order."""
        return [line.split()[0] for line in self._lines()]

    def last_process(self) -> int:
        """Return the process id of its last start."""
        return int(self._lines()[-1].split()[1])

    def _lines(self) -> list[str]:
        file = self._plan.with_name("starts")
        return file.read_text().splitlines() if file.exists() else []


def install(programs: Path, patch: pytest.MonkeyPatch) -> StandIn:
    """Put the stand-in into a new folder and that on PATH."""
    from pymatgen.io.vasp.inputs import PotcarSingle

    # The headers above are none of those that pymatgen knows and would look through for each.
    known = PotcarSingle._potcar_summary_stats
    patch.setattr(PotcarSingle, "_potcar_summary_stats", {release: {} for release in known})
    programs.mkdir()
    program = programs / "vasp_std"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {STANDIN} "$@"\n')
    program.chmod(0o755)
    patch.setenv("PATH", str(programs), prepend=":")
    patch.setenv("VASP_STANDIN", str(programs / "plan.json"))
    return StandIn(programs)


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, potcars: Path) -> StandIn:
    """A vasp_std on PATH."""
    return install(tmp_path / "bin", monkeypatch)


@pytest.fixture(scope="class")
def lasting_standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A vasp_std on PATH, with POTCARs, for all tests of a class."""
    from pymatgen.core import SETTINGS

    root = tmp_path_factory.mktemp("vasp")
    write_potcars(root / "POT_GGA_PAW_PBE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(root))
        patch.setenv("PMG_VASP_PSP_DIR", str(root))
        yield install(root / "bin", patch)


@pytest.fixture
def labeler() -> Callable[..., VaspLabeler]:
    """Make a labeler that takes the headers for POTCARs and has no densities for Bader."""

    def make(**changes: Any) -> VaspLabeler:
        settings = {"verify_potcars": False, "bader": False, "timeout": "10 min"} | changes
        return VaspLabeler(VaspSettings.model_validate(settings))

    return make


def filled(host: Host, n_ions: int) -> Atoms:
    """Return a configuration with the first ion sites filled and the last Fe oxidised."""
    ions = [1] * n_ions + [VACANCY] * (len(host.ion_sites) - n_ions)
    redox = [2] * n_ions + [3] * (len(host.redox_sites) - n_ions)
    return to_atoms(host, configuration(host, ions + redox))


@pytest.fixture
def nickel_oxide() -> Atoms:
    """The two atoms of the recorded run, oxygen first."""
    atoms = Atoms(
        "ONi",
        positions=[(0.0, 1.76, 1.76), (0.0, 0.0, 0.0)],
        cell=[(0.0, 3.52, 3.52), (1.76, 0.0, 1.76), (1.76, 1.76, 0.0)],
        pbc=True,
    )
    set_species(atoms, ["O2-", "Ni2+"])
    return atoms


@pytest.fixture(scope="session")
def recorded_nickel_oxide() -> Path:
    """A published run, which is not part of the project."""
    folder = RECORDED / "vasp_NiO"
    if not folder.is_dir():
        pytest.skip("the published runs are not here")
    return folder


@pytest.fixture
def fill() -> Callable[[Host, int], Atoms]:
    """Give tests `filled`."""
    return filled


def remove(folder: Path) -> None:
    """Remove a folder."""
    shutil.rmtree(folder)


@pytest.fixture
def task_document() -> Callable[[Path], dict[str, Any]]:
    """Return what makes the document of a task as atomate2 has it before jobflow stores it.

    These are the fields of emmet's TaskDoc that count, filled as its own parser does: emmet itself
    does not build one under the present pydantic.
    """
    from pymatgen.io.vasp.outputs import Outcar, Vasprun

    kept = ("e_fr_energy", "e_0_energy", "forces", "stress", "structure", "electronic_steps")

    def make(folder: Path) -> dict[str, Any]:
        (xml,), (outcar,) = folder.glob("vasprun.xml*"), folder.glob("OUTCAR*")
        run = Vasprun(str(xml), parse_potcar_file=False)
        calculation = {
            "vasp_version": run.vasp_version,
            "has_vasp_completed": True,
            "input": {
                "incar": dict(run.incar),
                "kpoints": run.kpoints,
                "potcar_spec": [{"titel": title, "hash": None} for title in run.potcar_symbols],
                "parameters": dict(run.parameters),
                "is_hubbard": run.is_hubbard,
                "hubbards": run.hubbards,
            },
            "output": {
                "ionic_steps": [{key: step[key] for key in kept} for step in run.ionic_steps],
                "outcar": {"magnetization": Outcar(str(outcar)).magnetization},
            },
        }
        structure = run.final_structure
        return {
            "calcs_reversed": [calculation],
            "chemsys": structure.chemical_system,
            "structure": structure,
            "dir_name": f"host:{folder}",
        }

    return make


@pytest.fixture
def campaign_of() -> Callable[..., Campaign]:
    """Return what submits a campaign of VASP to a store."""

    def make(store: Store, supercell: Any = None, **labeler: Any) -> Campaign:
        document = {
            "name": "olivine",
            "host": {
                "structure": str(OLIVINE),
                "working_ion": "Na",
                "redox": {"Fe": [2, 3]},
                "fixed": {"P": 5, "O": -2},
                **({"supercell": supercell} if supercell else {}),
            },
            "labeler": LABELER | labeler,
            "potential": {"kind": "painn"},
        }
        store.campaigns.add(document_of(parse_spec(document, source=OLIVINE))[0])
        return open_campaign(store, "olivine")

    return make


@pytest.fixture
def compute(standin: Any) -> Callable[..., Path]:
    """Return what runs the stand-in on a structure by settings of somebody else."""

    def run(atoms: Atoms, folder: Path, energy: float, **settings: Any) -> Path:
        given = VaspSettings.model_validate(LABELER | settings)
        VaspLabeler(given).prepare(atoms, folder, relax=Relax.NONE, attempt=0)
        static = folder / "static"
        elements = (static / "POSCAR").read_text().splitlines()[5].split()
        order = sorted(range(len(atoms)), key=lambda i: elements.index(atoms.symbols[i]))
        species = [str(atoms.arrays["species"][i]) for i in order]
        standin.tell(energy=energy, moments=[MOMENTS.get(token, 0.05) for token in species])
        subprocess.run(["vasp_std"], cwd=static, check=True)
        return static

    return run
