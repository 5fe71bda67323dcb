"""The default U is the Materials Project's, whatever the engine, and none acts on the metal."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from pymatgen.core import Composition, Lattice, Structure

from al_charge.labelers.dft.settings import DftSettings
from al_charge.labelers.gpaw import request
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.hubbard import u_text, usual_u, without_u
from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp.incar import common, of_metal
from al_charge.labelers.vasp.potcars import usual_datasets
from al_charge.labelers.vasp.settings import VaspSettings

ENGINES = pytest.mark.parametrize("kind", [GpawSettings, VaspSettings])

COMPOUNDS = (
    "LiCoO2",
    "NaFePO4",
    "LiFeSO4F",  # the most electronegative element is fluorine
    "Li2VO2F",
    "LiMnPO4",
    "Na3V2(PO4)3",
    "LiNi0.5Mn1.5O4",
    "MgMn2O4",
    "Na2Mo3O10",
    "LiWO3",
    "LiCuO2",  # an oxide of an element without a U
    "Li2TiO3",
    "NaCrO2",
    "FeF3",
    "LiTiS2",
    "LiFeS2",
    "Na2Fe2OS2",  # oxygen beside sulfur
    "LiCoSe2",
    "NaCrCl3",
    "Fe2OCl2",
    "VN",
    "CoN2O6",
    "Na2Mn2(CN)6",  # nitrogen is the most electronegative element of a dry Prussian white
    "Na2Mn2(CN)6O",
)


def materials_projects(formula: str) -> dict[str, float]:
    """Return what pymatgen's input set writes into the INCAR of a compound."""
    from pymatgen.io.vasp.sets import MPRelaxSet

    amounts, _ = Composition(formula).get_integer_formula_and_factor()
    symbols = [el.symbol for el, n in Composition(amounts).items() for _ in range(int(n))]
    places = [[i / len(symbols), 0.0, 0.0] for i in range(len(symbols))]
    structure = Structure(Lattice.cubic(3.0 * len(symbols)), symbols, places)
    given = MPRelaxSet(structure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the spin of cobalt
        incar = given.incar
    values = incar.get("LDAUU", [0] * len(given.poscar.site_symbols))
    return {el: u for el, u in zip(given.poscar.site_symbols, values, strict=True) if u}


@pytest.mark.parametrize("formula", COMPOUNDS)
@ENGINES
def test_defaults_are_what_pymatgen_writes(kind: type[DftSettings], formula: str) -> None:
    elements = {el.symbol for el in Composition(formula)}
    theirs = materials_projects(formula)
    assert usual_u(elements) == theirs
    assert kind().u_of(elements) == theirs
    assert kind().with_defaults_for(elements).hubbard_u == theirs


def test_every_element_of_the_table_is_tried() -> None:
    from pymatgen.io.vasp.sets import MPRelaxSet

    tried = {el for formula in COMPOUNDS for el in materials_projects(formula)}
    assert tried == set(MPRelaxSet.CONFIG["INCAR"]["LDAUU"]["O"])


def test_usual_datasets_are_those_that_u_was_fitted_with() -> None:
    from pymatgen.io.vasp.sets import MPRelaxSet

    assert usual_datasets() == MPRelaxSet.CONFIG["POTCAR"]


@pytest.mark.parametrize("table", [{}, {"Fe": "4 eV"}, {"Fe": "4 eV", "S": "1 eV"}])
@ENGINES
def test_a_given_table_wins(kind: type[DftSettings], table: dict[str, str]) -> None:
    settings = kind.model_validate({"hubbard_u": table})
    given = {el: float(u.split()[0]) for el, u in table.items()}
    assert settings.with_defaults_for({"Fe", "O"}) == settings
    for elements in ({"Li", "Fe", "Mn", "O"}, {"Li", "Fe", "S"}):
        wanted = {el: u for el, u in given.items() if el in elements}
        assert settings.u_of(elements) == wanted
        assert settings.of_elements(elements).u_of(elements) == wanted


@pytest.mark.parametrize("formula", ["LiMn2O4", "LiTiS2", "LiFeS2", "FeF3"])
def test_both_engines_write_the_same_u(formula: str) -> None:
    atoms = Atoms(Composition(formula).get_integer_formula_and_factor()[0], pbc=True)
    atoms.set_cell([6.0, 6.0, 6.0])
    atoms.set_array("species", tokens(atoms))
    elements = list(dict.fromkeys(atoms.get_chemical_symbols()))
    theirs = materials_projects(formula)
    vasp = common(VaspSettings().of_elements(elements), elements)
    assert {el: u for el, u in vasp.get("LDAUU", {}).items() if u} == theirs
    assert ("LDAU" in vasp) is bool(theirs)
    settings = GpawSettings(kpoints=(1, 1, 1)).of_elements(elements)
    gpaw = request.label(settings, atoms, None, Relax.NONE, [])
    assert gpaw["parameters"]["setups"] == {el: f":d,{u:g}" for el, u in theirs.items()}


def tokens(atoms: Atoms) -> NDArray[np.str_]:
    return np.array([f"{symbol}0" for symbol in atoms.get_chemical_symbols()])


@pytest.mark.parametrize("ion", ["Li", "Cu", "V"])
def test_the_metal_has_no_u_and_the_same_functional_and_cutoff(ion: str) -> None:
    table = {"hubbard_u": {"Li": "1 eV", "Cu": "4 eV", "V": "3.25 eV", "Fe": "5.3 eV"}}
    gpaw = GpawSettings.model_validate({"mode": "pw", "cutoff": "555 eV", "xc": "LDA", **table})
    atoms = bulk(ion)
    oxide = Atoms("FeO", positions=[[0, 0, 0], [0, 0, 2]], cell=[3, 3, 4], pbc=True)
    oxide.set_array("species", tokens(oxide))
    metal = request.metal(gpaw, atoms, [])["parameters"]
    label = request.label(gpaw, oxide, None, Relax.NONE, [])["parameters"]
    assert (metal["setups"], label["setups"]) == ({}, {"Fe": ":d,5.3"})
    for same in ("xc", "mode", "convergence"):
        assert metal[same] == label[same]
    lcao = GpawSettings.model_validate(table)
    metal = request.metal(lcao, atoms, [])["parameters"]
    label = request.label(lcao, oxide, None, Relax.NONE, [])["parameters"]
    for same in ("xc", "mode", "basis", "h", "convergence"):
        assert metal[same] == label[same]
    vasp = VaspSettings.model_validate({"cutoff": "555 eV", "incar": {"GGA": "PS"}, **table})
    tags, of_oxide = of_metal(common(vasp, [ion])), common(vasp, ["Fe", "O"])
    assert of_oxide["LDAUU"] == {"Fe": 5.3, "O": 0.0}
    assert not [tag for tag in tags if tag.startswith("LDAU")]
    for same in ("GGA", "ENCUT", "PREC", "LASPH", "EDIFF"):
        assert tags[same] == of_oxide[same]


@pytest.mark.parametrize(
    ("redox", "elements", "u", "named"),
    [
        ({"Fe"}, {"Na", "Fe", "O"}, {"Fe": 5.3}, ""),
        ({"Fe"}, {"Na", "Fe", "O"}, {}, "Fe without U in an oxide"),
        ({"Fe"}, {"Na", "Fe", "O"}, {"Fe": 0.0}, "Fe without U in an oxide"),
        ({"Cu", "Fe", "Ti"}, {"Cu", "Fe", "Ti", "O", "S"}, {"Fe": 5.3}, "Cu, Ti without U"),
        ({"Fe"}, {"Li", "Fe", "F"}, {}, "Fe without U in a fluoride"),
        ({"Ti"}, {"Li", "Ti", "S"}, {}, ""),
        ({"Fe"}, {"Na", "Fe", "C", "N"}, {}, ""),
        ({"Ce"}, {"Ce", "O"}, {}, "Ce without U"),
        ({"S"}, {"Li", "S", "O"}, {}, ""),  # no d or f electrons
    ],
)
def test_a_redox_element_without_u_is_told_in_oxides_and_fluorides(
    redox: set[str], elements: set[str], u: dict[str, float], named: str
) -> None:
    line = without_u(redox, elements, u)
    assert line.startswith(named) if named else line == ""


def test_u_is_written_with_its_unit() -> None:
    assert u_text({"Mn": 3.9, "Fe": 5.3, "O": 0.0}) == "Fe 5.3 eV, Mn 3.9 eV"
    assert u_text({}) == u_text({"Fe": 0.0}) == "none"
