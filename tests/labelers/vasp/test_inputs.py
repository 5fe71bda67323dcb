"""Every input tag of NaxFePO4 at x = 0, 2/3 and 1, against the list that the design gives."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from ase import Atoms

from al_charge.crystal.configuration import set_species
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.errors import InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import Relax, settings_hash
from al_charge.labelers.vasp import incar, inputs
from al_charge.labelers.vasp.labeler import VaspLabeler
from al_charge.labelers.vasp.settings import VaspSettings

from .conftest import write_potcars

if TYPE_CHECKING:  # slow to import, and each process collects all tests
    from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

Make = Callable[..., VaspLabeler]
Fill = Callable[[Host, int], Atoms]
ROOT = Path(__file__).parents[3]
OLIVINE = ROOT / "workflows" / "hosts" / "NaFePO4.cif"

EVERY_STAGE = {
    "ALGO": "All",
    "EDIFF": 1e-6,
    "ENCUT": 520.0,
    "GGA": "Pe",
    "IBRION": -1,
    "ISMEAR": 0,
    "ISPIN": 2,
    "ISYM": 0,
    "LASPH": True,
    "LCHARG": True,
    "LDAU": True,
    "LDAUPRINT": 1,
    "LDAUTYPE": 2,
    "LMAXMIX": 4,
    "LORBIT": 12,
    "LREAL": False,
    "LWAVE": True,
    "NELM": 200,
    "NSW": 0,
    "PREC": "Accurate",
    "SIGMA": 0.05,
}


@pytest.fixture(scope="module")
def tripled() -> Host:
    """Twelve Fe, so that x = 2/3 exists."""
    return Host.from_spec(
        HostSpec(
            structure=OLIVINE,
            working_ion="Na",
            redox={"Fe": (2, 3)},
            fixed={"P": 5, "O": -2},
            supercell=(1, 3, 1),
        )
    )


def written(labeler: VaspLabeler, atoms: Atoms, folder: Path, **job: Any) -> dict[str, Incar]:
    """Prepare a job and return the INCAR of each of its stages."""
    from pymatgen.io.vasp.inputs import Incar

    labeler.prepare(atoms, folder, **{"relax": Relax.NONE, "attempt": 0} | job)
    return {file.parent.name: Incar.from_file(str(file)) for file in folder.glob("*/INCAR")}


def read_poscar(folder: Path) -> Poscar:
    """Read the POSCAR of a stage."""
    from pymatgen.io.vasp.inputs import Poscar

    return Poscar.from_file(folder / "POSCAR", check_for_potcar=False)


def read_kpoints(folder: Path) -> Kpoints:
    """Read the k-points of a stage."""
    from pymatgen.io.vasp.inputs import Kpoints

    return Kpoints.from_file(str(folder / "KPOINTS"))


@pytest.mark.parametrize(
    ("n_sodium", "nupdown", "magmom", "u", "angular"),
    [
        # FePO4: Fe, P, O
        (0, 60, [5.0] * 12 + [0.0] * 60, [5.3, 0, 0], [2, -1, -1]),
        # Na2/3FePO4: Na, Fe, P, O
        (8, 52, [0.0] * 8 + [4.0] * 8 + [5.0] * 4 + [0.0] * 60, [0, 5.3, 0, 0], [-1, 2, -1, -1]),
        # NaFePO4
        (12, 48, [0.0] * 12 + [4.0] * 12 + [0.0] * 60, [0, 5.3, 0, 0], [-1, 2, -1, -1]),
    ],
)
def test_every_tag(
    potcars: Path,
    labeler: Make,
    tripled: Host,
    fill: Fill,
    tmp_path: Path,
    n_sodium: int,
    nupdown: int,
    magmom: list[float],
    u: list[float],
    angular: list[int],
) -> None:
    atoms = fill(tripled, n_sodium)
    # Fe2+ comes before Fe3+ here only because the atoms do.
    stages = written(labeler(bader=True), atoms, tmp_path / "job")
    specific = {
        "LAECHG": True,
        "LDAUJ": [0.0] * len(u),
        "LDAUL": angular,
        "LDAUU": u,
        "MAGMOM": magmom,
        "NUPDOWN": float(nupdown),
    }
    if n_sodium == 8:  # ideal sites do not hold the order, so a density with it is made first
        assert dict(stages.pop("start")) == EVERY_STAGE | specific | {"LAECHG": False}
        specific |= {"ISTART": 1, "ICHARG": 1}
    assert dict(stages.pop("static")) == EVERY_STAGE | specific
    assert not stages
    folder = tmp_path / "job" / "static"
    elements = ["Na", "Fe", "P", "O"] if n_sodium else ["Fe", "P", "O"]
    assert read_poscar(folder).site_symbols == elements
    titles = [line for line in (folder / "POTCAR").read_text().split("\n") if "TITEL" in line]
    # One dataset for iron whatever its charge states, and the Materials Project's choice.
    assert [title.split()[3] for title in titles] == [
        {"Na": "Na_pv", "Fe": "Fe_pv"}.get(element, element) for element in elements
    ]
    kpoints = read_kpoints(folder)
    assert kpoints.style.name == "Gamma"
    # At most 0.3 per angstrom apart: 0.60, 0.50 and 1.27 are 2 pi over 10.41, 12.45 and 4.95.
    assert tuple(kpoints.kpts[0]) == (3, 2, 5)


@pytest.mark.parametrize(("relax", "isif"), [(Relax.IONS, 2), (Relax.CELL, 3)])
def test_relaxations(
    potcars: Path, labeler: Make, olivine: Host, fill: Fill, tmp_path: Path, relax: Relax, isif: int
) -> None:
    stages = written(
        labeler(fmax="0.01 eV/A", max_steps=50), fill(olivine, 4), tmp_path / "job", relax=relax
    )
    moved = stages["relax"]
    assert (moved["IBRION"], moved["ISIF"], moved["NSW"]) == (2, isif, 50)
    assert moved["EDIFFG"] == -0.01
    assert "ISTART" not in moved
    assert stages["static"]["NSW"] == 0
    assert stages["static"]["ISTART"] == 1


def test_shuffled_atoms_keep_their_moments(
    potcars: Path, labeler: Make, olivine: Host, fill: Fill, tmp_path: Path
) -> None:
    atoms = fill(olivine, 1)
    atoms = atoms[np.random.default_rng(5).permutation(len(atoms))]
    static = written(labeler(), atoms, tmp_path / "job")["static"]
    species = [str(s) for s in atoms.arrays["species"] if str(s).startswith("Fe")]
    assert static["MAGMOM"][1:5] == [{"Fe2+": 4.0, "Fe3+": 5.0}[token] for token in species]
    assert sum(static["MAGMOM"]) == static["NUPDOWN"] == 19.0
    poscar = read_poscar(tmp_path / "job" / "static")
    place = np.array([site.coords for site in poscar.structure[1:5]])
    assert np.allclose(place, atoms.positions[atoms.symbols.search("Fe")], atol=1e-9)


def test_the_user_has_the_last_word(
    potcars: Path, labeler: Make, olivine: Host, fill: Fill, tmp_path: Path
) -> None:
    vasp = labeler(
        incar={"lreal": "Auto", "NCORE": 4, "EDIFF": 1e-5, "NGXF": 160},
        hubbard_u={"Fe": "4.3 eV"},
        cutoff="600 eV",
        kpoints=[1, 2, 3],
        potcars={"Na": "Na_pv"},
        fixed_moment=False,
    )
    static = written(vasp, fill(olivine, 4), tmp_path / "job")["static"]
    assert static["LREAL"] == "Auto"
    assert (static["NCORE"], static["EDIFF"], static["NGXF"]) == (4, 1e-5, 160)
    assert static["LDAUU"] == [0, 4.3, 0, 0]
    assert static["ENCUT"] == 600
    assert "NUPDOWN" not in static
    kpoints = read_kpoints(tmp_path / "job" / "static")
    assert tuple(kpoints.kpts[0]) == (1, 2, 3)


def test_f_electrons_are_mixed_and_corrected_as_such() -> None:
    settings = VaspSettings.model_validate({"hubbard_u": {"Ce": "4 eV"}})
    tags = incar.common(settings, ["Ce", "O"])
    assert tags["LMAXMIX"] == 6
    assert tags["LDAUL"] == {"Ce": 3, "O": -1}


def test_antiferromagnetic_order_sums_its_signed_moments(
    potcars: Path, labeler: Make, olivine: Host, fill: Fill, tmp_path: Path
) -> None:
    pytest.importorskip("al_charge.crystal.magnetic_order")
    vasp = labeler(magnetic_order="antiferromagnetic")
    for n_sodium in (0, 1, 2, 4):
        static = written(vasp, fill(olivine, n_sodium), tmp_path / f"{n_sodium}")["static"]
        iron = [m for m in static["MAGMOM"] if m]
        assert sum(m > 0 for m in iron) == 2
        assert sorted(map(abs, iron)) == [4.0] * n_sodium + [5.0] * (4 - n_sodium)
        assert static["NUPDOWN"] == sum(iron) >= 0  # to VASP a negative one means none


def test_moments_and_the_total_moment_by_hand(
    potcars: Path, labeler: Make, olivine: Host, fill: Fill, tmp_path: Path
) -> None:
    atoms = fill(olivine, 1)
    given = written(labeler(moments={"Fe3+": 4.2}), atoms, tmp_path / "start")["static"]
    assert sorted(m for m in given["MAGMOM"] if m) == [4.0, 4.2, 4.2, 4.2]
    assert given["NUPDOWN"] == 19
    down = written(labeler(moments={"Fe3+": -4.2}), atoms, tmp_path / "down")["static"]
    assert sorted(m for m in down["MAGMOM"] if m) == [-4.0, 4.2, 4.2, 4.2]
    assert down["NUPDOWN"] == 11
    for total in (0, 2.5):
        vasp = labeler(total_moment=total, fixed_moment=False)
        assert written(vasp, atoms, tmp_path / f"{total}")["static"]["NUPDOWN"] == total


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("ENCT", "did you mean 'ENCUT'?"),
        ("ENCUT", "use cutoff"),
        ("nupdown", "use fixed_moment"),
        ("MAGMOM", "moments follow the charge states"),
        ("LDAUU", "use hubbard_u"),
    ],
)
def test_tags_that_are_refused(tag: str, words: str) -> None:
    with pytest.raises(ValueError, match="incar") as caught:
        VaspSettings.model_validate({"incar": {tag: 1}})
    assert words in str(caught.value)


def test_a_value_that_vasp_does_not_know_is_refused(potcars: Path, labeler: Make) -> None:
    with pytest.raises(InputError, match="ISMEAR"):
        labeler(incar={"ISMEAR": "gauss"}).check(["Fe2+"], "Na")


def test_a_missing_potcar_is_explained(
    potcars: Path, labeler: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymatgen.core import SETTINGS

    labeler().check(["Fe2+", "Fe3+", "O2-"], "Na")
    with pytest.raises(InputError, match=r"no POTCAR for Mn \(Mn, PBE\)") as caught:
        labeler(potcars={"Mn": "Mn"}).check(["Mn2+"], "Na")
    assert str(potcars / "POT_GGA_PAW_PBE" / "POTCAR.Mn") in str(caught.value)
    with pytest.raises(InputError, match=r"there is no folder .*PBE_54"):
        labeler(potcar_functional="PBE_54").check(["Fe2+"], "Na")
    with pytest.raises(InputError, match="not those of Fe_pv in the release PBE"):
        labeler(verify_potcars=True).check(["Fe2+"], "Na")
    (potcars / "POT_GGA_PAW_PBE" / "POTCAR.P").write_text("nothing")
    with pytest.raises(InputError, match="this POTCAR cannot be read"):
        labeler().check(["P5+"], "Na")
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", str(potcars / "elsewhere"))
    with pytest.raises(InputError, match="there is no folder"):
        labeler().check(["Fe2+"], "Na")
    monkeypatch.delitem(SETTINGS, "PMG_VASP_PSP_DIR")
    with pytest.raises(InputError, match="PMG_VASP_PSP_DIR is not set") as caught:
        labeler().check(["Fe2+"], "Na")
    assert "pmg config" in caught.value.remedy


def test_the_documented_steps_put_potcars_where_they_are_looked_for(
    labeler: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a home where nothing of pymatgen is; pmg runs in this process, which is faster."""
    from pymatgen.cli import pmg, pmg_config
    from pymatgen.core import SETTINGS

    page = (ROOT / "docs" / "vasp.md").read_text(encoding="utf-8")
    steps = re.search(r"1\. \*\*POTCARs.*?\n\n((?: {7}.*\n)+)", page)
    assert steps is not None
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    write_potcars(datasets / "flat")
    with tarfile.open(tmp_path / "potpaw_PBE.54.tar.gz", "w:gz") as archive:
        for file in (datasets / "flat").iterdir():
            archive.add(file, f"{file.name.removeprefix('POTCAR.')}/POTCAR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / ".config" / ".pmgrc.yaml"
    monkeypatch.setattr(pmg_config, "SETTINGS_FILE", str(settings))
    monkeypatch.setattr(pmg_config, "OLD_SETTINGS_FILE", str(tmp_path / "none"))
    for line in steps[1].splitlines():
        words = ["bash", "-c", f"printf '%s\\n' {line}"]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
        if told[0] == "pmg":
            monkeypatch.setattr(sys, "argv", told[:-1])
            pmg.main()
        else:
            subprocess.run(["bash", "-c", line], check=True)
    stored = yaml.safe_load(settings.read_text())["PMG_VASP_PSP_DIR"]
    assert stored == str(tmp_path / "potcars")
    assert (tmp_path / "potcars" / "POT_GGA_PAW_PBE_54" / "POTCAR.Fe_pv.gz").is_file()
    monkeypatch.setitem(SETTINGS, "PMG_VASP_PSP_DIR", stored)
    labeler(potcar_functional="PBE_54").check(["Fe2+", "Fe3+", "O2-"], "Na")


@pytest.mark.parametrize(
    "changes",
    [
        {"cutoff": "521 eV"},
        {"hubbard_u": {"Fe": "5.2 eV"}},
        {"kpoints": [1, 1, 1]},
        {"kpoint_density": 65.0},
        {"metal_kpoint_density": 500.0},
        {"fixed_moment": False},
        {"magnetic_order": "antiferromagnetic"},
        {"potcar_functional": "PBE_54"},
        {"potcars": {"Fe": "Fe"}},
        {"verify_potcars": False},
        *(
            {"incar": {tag: value}}
            for tag, value in {
                "GGA": "PS",
                "METAGGA": "R2SCAN",
                "IVDW": 11,
                "LASPH": False,
                "LREAL": "Auto",
                "PREC": "Normal",
                "ISMEAR": -5,
                "SIGMA": 0.1,
                "EDIFF": 1e-5,
                "ADDGRID": True,
                "LDAUTYPE": 1,
                "ENAUG": 900.0,
                "NGXF": 100,
            }.items()
        ),
    ],
)
def test_physical_settings_tell_hulls_apart(changes: dict[str, Any]) -> None:
    assert _hash(changes) != _hash({})


@pytest.mark.parametrize(
    "changes",
    [
        {"relax": "cell"},
        {"fmax": "0.05 eV/A"},
        {"tries": 2},
        {"shell_distortion": "0.1 A"},
        {"timeout": "1 h"},
        {"command": "srun vasp_std"},
        {"bader": False},
        {"incar": {"NCORE": 8}},
        {"incar": {"ALGO": "Normal"}},
        {"incar": {"AMIX": 0.1}},
        {"incar": {"PREC": "accurate"}},
    ],
)
def test_how_a_state_is_found_does_not(changes: dict[str, Any]) -> None:
    assert _hash(changes) == _hash({})


def _hash(changes: dict[str, Any]) -> str:
    return settings_hash(make_labeler(VaspSettings.model_validate(changes)))


def test_poscar_order_is_by_element() -> None:
    atoms = Atoms("OFePNaFe", positions=np.arange(15).reshape(5, 3), cell=[9, 9, 9], pbc=True)
    set_species(atoms, ["O2-", "Fe3+", "P5+", "Na+", "Fe2+"])
    assert inputs.poscar_order(atoms).tolist() == [3, 1, 4, 2, 0]
