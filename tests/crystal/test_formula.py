"""Formula units: counted as pymatgen counts them, and refused where they do not fit."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core.composition import Composition

from al_charge.crystal.formula import amounts_in, units_in_cell, usual_formula, written
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.errors import InputError
from al_charge.loop.spec import load_spec
from al_charge.thermo.hull import Entry, Hull, build_hull, pretty_formula
from al_charge.thermo.voltage import voltage_profile

CASES = Path(__file__).parents[1] / "cases" / "hosts"


def case(name: str, **changes: Any) -> Host:
    """Return the host of a campaign file of the cases, with some fields changed."""
    spec = load_spec(CASES / f"{name}.yaml").host
    return Host.from_spec(HostSpec(**(spec.model_dump(exclude_unset=True) | changes)))


def factor(composition: Composition) -> float:
    return float(composition.get_reduced_formula_and_factor()[1])


@pytest.mark.parametrize(
    ("cell", "formula", "ion"),
    [
        ("Li8 Mn16 O32", "LiMn2O4", "Li"),
        ("Li8 Mn16 O32", "Li2Mn4O8", "Li"),
        ("Mg8 Mn16 O32", "MgMn2O4", "Mg"),
        ("Na24 V12 P18 O72", "Na3V2(PO4)3", "Na"),
        ("Na18 V12 P18 O72", "Na4V2(PO4)3", "Na"),
        ("Na4 Fe4 P4 O16", "FePO4", "Na"),
        ("Na8 Mn4 Fe4 C24 N24", "Na2Mn[Fe(CN)6]", "Na"),
        ("Na16 Fe8 P8 O32 F8", "Na2FePO4F", "Na"),
        ("Li12 Co12 O24", "LiCoO2", "Li"),
    ],
)
def test_units_are_as_many_as_pymatgen_counts(cell: str, formula: str, ion: str) -> None:
    def framework(composition: Composition) -> Composition:
        amounts = composition.get_el_amt_dict()
        return Composition({el: n for el, n in amounts.items() if el != ion})

    whole = {el: int(n) for el, n in Composition(cell).get_el_amt_dict().items()}
    expected = factor(framework(Composition(cell))) / factor(framework(Composition(formula)))
    assert units_in_cell(formula, whole, ion) == expected


@pytest.mark.parametrize(
    ("formula", "units"),
    [
        ("LiNi1/3Mn1/3Co1/3O2", 9),
        ("LiNi0.333Mn0.333Co0.333O2", 9),
        ("LiNi0.33Mn0.33Co0.34O2", 9),
        ("Li Ni0.3333 Mn0.3333 Co0.3333 O2", 9),
        ("Li3NiMnCoO6", 3),
        ("Ni1/3Mn1/3Co1/3O2", 9),
        ("Li1.5Ni0.5Mn0.5Co0.5O3", 6),
    ],
)
def test_fractions_and_decimals_stand_for_the_atoms_there_are(formula: str, units: int) -> None:
    cell = {"Li": 9, "Ni": 3, "Mn": 3, "Co": 3, "O": 18}
    assert units_in_cell(formula, cell, "Li") == units
    more = {element: 8 * number for element, number in cell.items()}
    if formula != "LiNi0.33Mn0.33Co0.34O2":
        assert units_in_cell(formula, more, "Li") == 8 * units


@pytest.mark.parametrize(
    ("formula", "line"),
    [
        ("LiCoO2", "'LiCoO2' does not fit: without Li the structure is MnO2; write a formula of "),
        ("LiMn2O5", "that, such as 'LiMn2O4'"),
        ("LiMn1.97O4", "does not fit"),
        ("Li", "does not fit"),
        ("Li3Mn6O12", "the cell holds 8/3 of Li3Mn6O12; choose another supercell or another"),
        ("Li32Mn64O128", "the cell holds 1/4 of Li32Mn64O128"),
        ("LixMn2O4", "'LixMn2O4' is not a formula; write it like LiNi0.5Mn1.5O4 or"),
        ("", "'' is not a formula"),
        ("LiMn2/0O4", "is not a formula"),
        ("Li1e999Mn2O4", "is not a formula"),
        ("((((", "is not a formula"),
    ],
)
def test_a_formula_that_does_not_fit_is_told_what_would(formula: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        case("limn2o4_average_state", formula=formula)
    refused = str(caught.value)
    assert refused.startswith("host.formula: ") and line in refused and "\n" not in refused


def test_rounding_does_not_hide_an_atom() -> None:
    """One atom more or less in 64 formula units is another framework."""
    cell = {"Li": 64, "Ni": 32, "Mn": 96, "O": 256}
    assert units_in_cell("LiNi0.5Mn1.5O4", cell, "Li") == 64
    with pytest.raises(InputError, match="does not fit"):
        units_in_cell("LiNi0.5Mn1.5O4", cell | {"Ni": 31, "Mn": 97}, "Li")


def test_both_fields_must_agree() -> None:
    both = case("limn2o4_average_state", formula="LiMn2O4", redox_sites_per_formula=2)
    assert both.formula_units == 8
    with pytest.raises(InputError) as caught:
        case("lini05mn15o4", formula="LiNi0.5Mn1.5O4", redox_sites_per_formula=1)
    assert str(caught.value) == (
        "host.redox_sites_per_formula: LiNi0.5Mn1.5O4 has 1/2 redox sites, not 1; leave it out"
    )


def test_a_formula_that_changes_nothing_is_the_same_host() -> None:
    plain = case("limn2o4_average_state")
    assert plain.fingerprint == "e66d261cd3e55d46"  # as in labels that were made before
    assert case("limn2o4_average_state", formula="LiMnO2").fingerprint == plain.fingerprint
    spinel = case("limn2o4_average_state", formula="LiMn2O4")
    two = case("limn2o4_average_state", redox_sites_per_formula=2)
    assert spinel.fingerprint == two.fingerprint == "aa5639b804919d84"


@pytest.mark.parametrize(
    ("cell", "ion", "usual"),
    [
        ("Li8 Mn16 O32", "Li", "LiMn2O4"),
        ("Li8 Ni4 Mn12 O32", "Li", "LiMn1.5Ni0.5O4"),
        ("Li9 Ni3 Co3 Mn3 O18", "Li", "LiMn1/3Co1/3Ni1/3O2"),
        ("Na24 V12 P18 O72", "Na", "Na4V2(PO4)3"),
        ("Na18 V12 P18 O72", "Na", "Na3V2(PO4)3"),
        ("Na8 Mn4 Fe4 C24 N24", "Na", "Na2MnFe(CN)6"),
        ("Li8 Fe4 Si4 O16", "Li", "Li2FeSiO4"),
        ("Li4 Fe2 Mn2 P4 O16", "Li", "Li2MnFe(PO4)2"),
        ("Mg2 V4 O10", "Mg", "MgV2O5"),
    ],
)
def test_the_formula_that_is_proposed(cell: str, ion: str, usual: str) -> None:
    whole = {el: int(n) for el, n in Composition(cell).get_el_amt_dict().items()}
    assert Composition(usual_formula(whole, ion).replace("1/3", "0.33333333")).almost_equals(
        Composition(usual.replace("1/3", "0.33333333"))
    )
    assert units_in_cell(usual, whole, ion) == units_in_cell(usual_formula(whole, ion), whole, ion)


def test_amounts_are_written_as_they_are_read() -> None:
    for formula in ("Mn1/3Co1/3Ni1/3O2", "Mn1.5Ni0.5O4", "Fe1.72S3O12", "Mn7/12Co5/12O2"):
        assert written(amounts_in(formula)) == formula == pretty_formula(formula, "Li")


def hull_of(host: Host, cells: dict[int, float]) -> Hull:
    """Return the hull of energies of whole cells, by number of ions."""
    return build_hull(
        [
            Entry(str(n), str(n), host.composition(n), energy / host.formula_units)
            for n, energy in cells.items()
        ],
        framework=host.framework,
        working_ion=host.working_ion,
        working_ion_charge=host.working_ion_charge,
        metal_energy=-1.9,
        ends=(host.composition(host.ion_counts[0]), host.composition(host.ion_counts[-1])),
    )


def test_voltages_are_those_of_any_formula_unit_and_energies_scale_exactly() -> None:
    rng = np.random.default_rng(3)
    plain = case("nmc333")
    cells = {n: -200.0 - 5.5 * n - 0.3 * float(rng.random()) for n in plain.ion_counts}
    reference = hull_of(plain, cells)
    mean = -(cells[9] - cells[0] + 9 * 1.9) / 9
    for formula, units in (("LiNi1/3Mn1/3Co1/3O2", 9), ("Li3NiMnCoO6", 3), ("Li9Ni3Mn3Co3O18", 1)):
        host = case("nmc333", formula=formula)
        hull = hull_of(host, cells)
        assert host.formula_units == units
        assert hull.compositions == tuple(x * Fraction(6, units) for x in reference.compositions)
        assert [v.key for v in hull.vertices] == [v.key for v in reference.vertices]
        for ours, theirs in zip(hull.entries, reference.entries, strict=True):
            scaled = reference.formation_energy(theirs) * 6 / units
            assert hull.formation_energy(ours) == pytest.approx(scaled, abs=1e-11)
        profile, expected = voltage_profile(hull), voltage_profile(reference)
        assert [s.voltage for s in profile.steps] == pytest.approx(
            [s.voltage for s in expected.steps]
        )
        assert profile.mean == pytest.approx(mean)
    assert len(reference.vertices) > 2
    assert hull_of(case("nmc333", formula="LiNi1/3Mn1/3Co1/3O2"), cells).formula(
        Fraction(1, 3)
    ) == ("Li1/3Mn1/3Co1/3Ni1/3O2")


def test_composition_and_number_of_ions_are_each_others_inverse() -> None:
    host = case("lini05mn15o4", formula="LiNi0.5Mn1.5O4")
    assert host.redox_sites_per_formula == Fraction(1, 2)
    assert [host.n_ions(host.composition(n)) for n in host.ion_counts] == list(range(9))
    steps = {right - left for left, right in pairwise(map(host.composition, host.ion_counts))}
    assert steps == {Fraction(1, 8)}
    assert Counter(host.elements)["Ni"] == 4 and host.formula_units == 8
