"""Functional and U are read from outputs, and compared with those that windows stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import ulm
from ase.io.trajectory import write_atoms

from al_charge.crystal.windows import GPAW_PW_WINDOWS, VASP_WINDOWS, Windows
from al_charge.labelers.method import MEASURED_WITH, Method, unlike_default_windows
from al_charge.labelers.outputs.gpaw import read_gpaw_output
from al_charge.labelers.outputs.vasp import _method_of_outcar, _method_of_vasprun
from al_charge.labelers.plugin import method_of
from al_charge.labelers.vasp_run import functional_of

TAIL = """
 LDA+U is selected, type is set to LDAUTYPE =  2
   angular momentum for each species LDAUL =     2    2   -1   -1
   U (eV)           for each species LDAUU =   5.3  3.9  9.9  0.0
   J (eV)           for each species LDAUJ =   1.0  0.0  0.0  0.0
"""
"""As VASP 5 and 6 write it; the third U acts on no electrons."""


def outcar(gga: str = "PE", dataset: str = "PE", tail: str = "", head: str = "") -> str:
    return (
        f"{head}   LEXCH  = {dataset}     \n   ions per type =               1   1   2   1\n{tail}"
        f" Exchange correlation treatment:\n   GGA     =    {gga}    GGA type\n"
        "   LEXCH   =     8    internal setting for exchange type\n   LHFCALC =     F    Hartree\n"
    )


SYMBOLS = ("Fe", "Mn", "O", "O", "Na")


@pytest.mark.parametrize(
    ("text", "method"),
    [
        (outcar(), Method("PBE", {})),
        (outcar(tail=TAIL), Method("PBE", {"Fe": pytest.approx(4.3), "Mn": 3.9})),
        (outcar("--", "PE"), Method("PBE", {})),
        (outcar("--", "CA"), Method("LDA", {})),
        (outcar("PS"), Method("PBEsol", {})),
        (outcar(head="   METAGGA = R2SCAN\n"), Method("R2SCAN", {})),
        (outcar(head="   METAGGA = NONE\n"), Method("PBE", {})),
        (outcar().replace("LHFCALC =     F", "LHFCALC =     T"), Method("a hybrid functional", {})),
        ("nothing of the kind", None),
    ],
)
def test_an_outcar_tells_functional_and_u(text: str, method: Method | None) -> None:
    assert _method_of_outcar(text, SYMBOLS) == method


def vasprun(ldau: str, gga: str = "--") -> str:
    return (
        '<modeling><incar><v name="LDAUU"> 5.3 0.0</v><v name="LDAUJ"> 0.0 0.0</v>'
        '<v type="int" name="LDAUL"> 2 -1</v></incar><parameters><separator name="a">'
        f'<i type="logical" name="LDAU"> {ldau} </i><v name="LDAUU"> 9.0</v></separator>'
        f'<separator name="b"><i type="string" name="GGA">{gga}</i>'
        '<i type="logical" name="LHFCALC"> F </i></separator></parameters></modeling>'
    )


@pytest.mark.parametrize(
    ("text", "dataset", "method"),
    [
        (vasprun("T"), "PAW_PBE Fe_pv 02Aug2007", Method("PBE", {"Fe": 5.3})),
        (vasprun("F"), "PAW_PBE Fe_pv 02Aug2007", Method("PBE", {})),
        (vasprun("F"), "PAW Fe 02Aug2007", Method("LDA", {})),
        (vasprun("F", "RP"), "PAW Fe 02Aug2007", Method("RPBE", {})),
    ],
)
def test_a_vasprun_tells_functional_and_u(text: str, dataset: str, method: Method) -> None:
    from xml.etree import ElementTree

    assert _method_of_vasprun(ElementTree.fromstring(text), ["Fe", "O"], dataset) == method


@pytest.mark.parametrize(
    ("incar", "functional"),
    [
        ({}, "PBE"),
        ({"GGA": "PE", "METAGGA": "--"}, "PBE"),
        ({"GGA": "91"}, "PW91"),
        ({"GGA": 91.0}, "PW91"),
        ({"GGA": "BF"}, "GGA = BF"),
        ({"GGA": "PE", "METAGGA": "r2scan"}, "R2SCAN"),
        ({"GGA": "PE", "LHFCALC": True}, "a hybrid functional"),
    ],
)
def test_tags_name_the_functional(incar: dict[str, object], functional: str) -> None:
    assert functional_of(incar) == functional


LOG = """
  __  _  _
 | _ |_)|_||  |
 |__||  | ||/\\| - 26.7.0

species:
  Fe:
    name:    Iron
    Hubbard: {U: 4.0,  # eV
              l: 2,
              scale: True}
    projectors

  O:
    name:    Oxygen

xc functional:
  name: PBE with 2 nearest neighbor stencil
"""


def gpw(path: Path, parameters: dict[str, object]) -> Path:
    atoms = bulk("FeO", "rocksalt", a=4.3)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    with ulm.open(path, "w", tag="gpaw") as file:
        write_atoms(file.child("atoms"), atoms)
        file.write(parameters=parameters, gpaw_version="26.7.0")
        file.child("results").write(energy=-1.0)
    return path


@pytest.mark.parametrize(
    ("parameters", "method"),
    [
        ({"xc": {"name": "PBE"}, "setups": {"Fe": ":d,5.3"}}, Method("PBE", {"Fe": 5.3})),
        ({"xc": "LDA", "setups": {"Fe": "paw:d,4.0,0;p,2.0"}}, Method("LDA", {"Fe": 4.0})),
        ({"setups": {"default": "paw", "0": ":d,3"}}, Method("LDA", {"Fe": 3.0})),
        ({"xc": {"name": "PBE"}, "setups": "paw"}, Method("PBE", {})),
        ({"xc": {"name": "PBE"}}, Method("PBE", {})),
    ],
)
def test_a_gpw_file_tells_functional_and_u(
    parameters: dict[str, object], method: Method, tmp_path: Path
) -> None:
    path = gpw(tmp_path / "x.gpw", parameters | {"mode": {"name": "pw"}})
    assert read_gpaw_output(path, bader=False).method == method


def test_a_log_of_gpaw_tells_functional_and_u() -> None:
    from al_charge.labelers.outputs.gpaw import _method_of_log

    assert _method_of_log(LOG) == Method("PBE", {"Fe": 4.0})
    assert _method_of_log(LOG.replace("xc functional", "XC and Coulomb")) is None


def test_settings_of_labels_tell_functional_and_u() -> None:
    gpaw = {"engine": "gpaw", "xc": "LDA", "hubbard_u": {"Fe": 4.0}}
    vasp = {"engine": "vasp", "incar": {"GGA": "PE"}, "hubbard_u": {"Fe": 5.3}}
    assert method_of(gpaw) == Method("LDA", {"Fe": 4.0})
    assert method_of(vasp) == Method("PBE", {"Fe": 5.3})
    assert method_of({"engine": "born", "version": 1}) is None
    assert method_of({"engine": "gpaw"}) is method_of({"engine": "other"}) is method_of({}) is None


PBE_4 = Method("PBE", {"Fe": 4.0, "Mn": 3.9})


@pytest.mark.parametrize(
    ("method", "species", "windows", "found"),
    [
        (MEASURED_WITH, VASP_WINDOWS.ranges, VASP_WINDOWS, ""),
        (None, ["Fe2+"], VASP_WINDOWS, ""),
        (PBE_4, ["Fe2+", "Mn2+"], VASP_WINDOWS, "U = 4 instead of 5.3 eV on Fe"),
        (PBE_4, ["Mn2+"], VASP_WINDOWS, ""),
        (PBE_4, ["Fe2+"], GPAW_PW_WINDOWS, "U = 4 instead of 5.3 eV on Fe"),
        (Method("LDA", {"Fe": 5.3}), ["Fe2+"], VASP_WINDOWS, "LDA instead of PBE"),
        (Method("PBE", {}), ["Fe2+"], VASP_WINDOWS, "U = 0 instead of 5.3 eV on Fe"),
        # Calibrated, or the user's own: whoever gave them knows what they stand for.
        (PBE_4, ["Fe2+"], Windows({"Fe2+": (3.61, 3.8)}), ""),
        # A known window that a calibrated one has narrowed is known all the same.
        (PBE_4, ["Fe2+"], Windows({"Fe2+": (3.65, 3.7)}), "U = 4 instead"),
        (PBE_4, ["Fe2+"], Windows({}), ""),
        (Method("PBE", {"Fe": 5.301, "Mn": 3.9}), ["Fe2+"], VASP_WINDOWS, ""),
    ],
)
def test_known_windows_stand_for_pbe_with_the_usual_u(
    method: Method | None, species: list[str], windows: Windows, found: str
) -> None:
    line = unlike_default_windows(method, species, windows)
    assert line.startswith(f"computed with {found}" if found else "")
    assert bool(line) is bool(found)
