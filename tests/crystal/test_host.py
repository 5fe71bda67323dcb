"""Hosts: what they hold, and every way in which one is refused."""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymatgen.core.structure import Structure

from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.parent import LARGEST_SUPERCELL, read_structure
from al_charge.errors import InputError

OLIVINE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
SPEC: dict[str, Any] = {
    "structure": OLIVINE,
    "working_ion": "Na",
    "redox": {"Fe": (2, 3)},
    "fixed": {"P": 5, "O": -2},
}


def refusal(**changes: Any) -> str:
    """Return the one line with which a changed specification is refused."""
    with pytest.raises(InputError) as caught:
        Host.from_spec(HostSpec(**(SPEC | changes)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_olivine(olivine: Host) -> None:
    assert len(olivine.elements) == 28
    assert [olivine.elements[i] for i in olivine.ion_sites] == ["Na"] * 4
    assert [olivine.elements[i] for i in olivine.redox_sites] == ["Fe"] * 4
    assert olivine.allowed_states == ((VACANCY, 1),) * 4 + ((2, 3),) * 4
    assert olivine.formula_units == 4
    assert olivine.ion_counts == (0, 1, 2, 3, 4)
    assert olivine.fixed_charge == 4 * 5 - 16 * 2


def test_supercell_compositions_are_exact(olivine_doubled: Host) -> None:
    assert olivine_doubled.formula_units == 8
    compositions = [olivine_doubled.composition(n) for n in olivine_doubled.ion_counts]
    assert compositions == [Fraction(n, 8) for n in range(9)]
    assert olivine_doubled.n_ions(Fraction(3, 8)) == 3


def test_redox_limits_the_compositions(mixed: Host, vanadium: Host) -> None:
    # Two Fe at most 3+ and two Mn at most 4+ could carry 14 e, but an empty host needs only 12.
    assert mixed.ion_counts == (0, 1, 2, 3, 4)
    # V4+ already balances an empty VO2.
    assert vanadium.ion_counts == (0, 1, 2, 3, 4)
    spec = HostSpec(**(SPEC | {"redox": {"Fe": (3, 4)}}))
    assert Host.from_spec(spec).ion_counts == (0,)


def test_two_redox_sites_per_formula_unit() -> None:
    host = Host.from_spec(HostSpec(**SPEC, redox_sites_per_formula=2))
    assert host.formula_units == 2
    assert host.composition(3) == Fraction(3, 2)


def test_fingerprint_tells_hosts_apart(olivine: Host, olivine_doubled: Host) -> None:
    again = Host.from_spec(HostSpec(**SPEC))
    assert again.fingerprint == olivine.fingerprint
    assert olivine_doubled.fingerprint != olivine.fingerprint
    wider = Host.from_spec(HostSpec(**(SPEC | {"redox": {"Fe": (2, 3, 4)}})))
    assert wider.fingerprint != olivine.fingerprint


def test_fingerprint_does_not_see_the_sign_of_zero(olivine: Host) -> None:
    flipped = olivine.structure.copy()
    matrix = flipped.lattice.matrix.copy()
    matrix[abs(matrix) < 1e-8] = -1e-12
    moved = Structure(matrix, flipped.species, flipped.frac_coords)
    assert Host.build(HostSpec(**SPEC), moved).fingerprint == olivine.fingerprint


def test_shipped_cif_reads_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        structure = Structure.from_file(OLIVINE)
    assert structure.composition.formula == "Na4 Fe4 P4 O16"


def test_cif_without_formula_keys_is_quiet(tmp_path: Path, recwarn: Any) -> None:
    lines = OLIVINE.read_text().splitlines()
    path = tmp_path / "bare.cif"
    path.write_text("\n".join(x for x in lines if "formula" not in x))
    assert Host.from_spec(HostSpec(**(SPEC | {"structure": path}))).formula_units == 4
    assert not [w for w in recwarn if "CIF" in str(w.message)]


def test_oxidation_states_of_the_file_are_ignored(tmp_path: Path, olivine: Host) -> None:
    decorated = olivine.structure.copy()
    decorated.add_oxidation_state_by_element({"Na": 1, "Fe": 2, "P": 5, "O": -2})
    host = Host.build(HostSpec(**SPEC), decorated)
    assert host.fingerprint == olivine.fingerprint


def test_no_such_file(tmp_path: Path) -> None:
    line = refusal(structure=tmp_path / "none.cif")
    assert line.startswith("host.structure: no structure file") and "none.cif" in line


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.cif"
    path.write_text("this is not a crystal")
    line = refusal(structure=path)
    assert line.startswith("host.structure: cannot read broken.cif") and "POSCAR" in line


@pytest.mark.parametrize("name", ["host.json", "host.mson.gz", "host.yaml", "host.yml"])
def test_documents_of_pymatgen_are_not_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    assert refusal(structure=tmp_path / name).startswith(f"host.structure: {name} is")


def test_partial_occupancy(tmp_path: Path, olivine: Host) -> None:
    path = tmp_path / "partial.cif"
    text = OLIVINE.read_text().replace("0.00000 0.00000 0.00000 1", "0.0 0.0 0.0 0.5")
    path.write_text("\n".join(x for x in text.splitlines() if "formula" not in x))
    assert Host.from_spec(HostSpec(**(SPEC | {"structure": path}))).fingerprint == (
        olivine.fingerprint
    )
    with pytest.raises(InputError, match="partly occupied"):
        read_structure(path)


def test_unknown_element_suggests_one() -> None:
    line = refusal(redox={"Fee": (2, 3)})
    assert line == "host.redox: 'Fee' is not an element; did you mean 'Fe'?"


def test_absent_element() -> None:
    assert (
        refusal(working_ion="Li")
        == "host.working_ion: the structure has no Li; it has Fe, Na, O, P"
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [({"redox": {"Mn": (2, 3)}}, "host.redox"), ({"fixed": {"Mn": 2}}, "host.fixed")],
)
def test_an_absent_element_is_told_with_its_field(change: dict[str, Any], field: str) -> None:
    assert refusal(**change).startswith(f"{field}: the structure has no Mn;")


def test_missing_oxidation_state() -> None:
    assert refusal(fixed={"O": -2}) == "host.fixed: P has no oxidation state; add 'P: ...'"


def test_element_with_two_roles() -> None:
    assert refusal(fixed={"P": 5, "O": -2, "Fe": 2}).startswith("host: an element has two roles")


def test_single_redox_state() -> None:
    line = refusal(redox={"Fe": (2, 2)})
    assert line.startswith("host.redox: ") and "belongs in 'fixed'" in line


def test_never_neutral() -> None:
    line = refusal(fixed={"P": 5, "O": -1})
    assert line.startswith("host.redox: no occupation of the 4 Na sites is neutral")


def test_bad_supercell() -> None:
    assert refusal(supercell=(1, 0, 1)).startswith("host.supercell: repeats must be 1 or more")


def test_a_supercell_that_is_too_large() -> None:
    line = refusal(supercell=(10, 10, 10))
    assert line.startswith("host.supercell: the supercell would have 28000 sites")
    assert line.endswith(f"at most {LARGEST_SUPERCELL}")


@pytest.mark.parametrize(
    ("ion", "charge"),
    [
        *((ion, 1) for ion in ("Li", "Na", "K", "Rb", "Ag")),
        *((ion, 2) for ion in ("Mg", "Ca", "Sr", "Ba", "Zn", "Mn", "Ni", "Pb")),
        *((ion, 3) for ion in ("Al", "Y")),
    ],
)
def test_charge_of_the_working_ion_comes_from_its_element(ion: str, charge: int) -> None:
    spec = HostSpec(**(SPEC | {"working_ion": ion}))
    assert spec.working_ion_charge == charge
    assert "working_ion_charge" not in spec.model_fields_set


def test_supercell_of_a_matrix(olivine_doubled: Host) -> None:
    diagonal = Host.from_spec(HostSpec(**SPEC, supercell=((1, 0, 0), (0, 2, 0), (0, 0, 1))))
    assert diagonal.fingerprint == olivine_doubled.fingerprint
    turned = Host.from_spec(HostSpec(**SPEC, supercell=((1, 1, 0), (-1, 1, 0), (0, 0, 1))))
    assert (turned.formula_units, len(turned.elements)) == (8, 56)
    a, b = olivine_doubled.structure.lattice.a, olivine_doubled.structure.lattice.b / 2
    assert turned.structure.lattice.a == pytest.approx((a**2 + b**2) ** 0.5)
    assert turned.fingerprint != olivine_doubled.fingerprint


@pytest.mark.parametrize(
    ("matrix", "line"),
    [
        (((0, 1, 0), (1, 0, 0), (0, 0, 1)), "the determinant -1; exchange two rows"),
        (((1, 1, 0), (1, 1, 0), (0, 0, 1)), "the determinant 0; give three rows that span"),
        (((6, 1, 0), (0, 6, 0), (0, 0, 1)), "the supercell would have 1008 sites"),
    ],
)
def test_bad_matrix(matrix: Any, line: str) -> None:
    refused = refusal(supercell=matrix)
    assert refused.startswith("host.supercell: ") and line in refused


def test_charge_of_an_ion_that_has_several_must_be_given(olivine: Host) -> None:
    copper = olivine.structure.copy()
    copper.replace_species({"Na": "Cu"})
    with pytest.raises(InputError) as caught:
        Host.build(HostSpec(**(SPEC | {"working_ion": "Cu"})), copper)
    assert str(caught.value) == (
        "host.working_ion_charge: the charge of Cu may be 1 or 2; give it, such as "
        "'working_ion_charge: 2'"
    )
    for charge, counts in ((1, (0, 1, 2, 3, 4)), (2, (0, 1, 2))):
        spec = HostSpec(**(SPEC | {"working_ion": "Cu", "working_ion_charge": charge}))
        assert Host.build(spec, copper).ion_counts == counts


def test_charge_of_a_divalent_ion_is_counted(olivine: Host) -> None:
    magnesium = olivine.structure.copy()
    magnesium.replace_species({"Na": "Mg"})
    host = Host.build(HostSpec(**(SPEC | {"working_ion": "Mg"})), magnesium)
    assert host.ion_counts == (0, 1, 2)
    assert "Mg2+" in host.species


def test_broken_formula_unit() -> None:
    assert "do not make whole formula units of 3" in refusal(redox_sites_per_formula=3)


@pytest.mark.parametrize("x", [Fraction(1, 3), Fraction(5, 4), Fraction(-1, 4)])
def test_no_such_composition(olivine: Host, x: Fraction) -> None:
    with pytest.raises(InputError, match=r"^composition: .*choose one of: 0, 1/4, 1/2, 3/4, 1$"):
        olivine.n_ions(x)


@pytest.mark.parametrize(
    "change",
    [
        {"workign_ion": "Na"},
        {"working_ion_charge": 0},
        {"supercell": (1, 1)},
        {"redox": {"Fe": 2}},
        {"supercell": ((1, 0, 0), (0, 1, 0))},
        {"supercell": (1, (0, 1, 0), 1)},
        {"supercell": ((1, 0, 0), (0, 1, 0), (0, 0, 101))},
    ],
)
def test_specification_is_strict(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        HostSpec(**(SPEC | change))
