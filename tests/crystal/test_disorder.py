"""Structures with partly occupied and shared sites: filled, merged, ordered or refused."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations as arrangements
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.charge_balance import total_moments
from al_charge.crystal.enumeration import count_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.prepare import parent_structure, prepared
from al_charge.errors import InputError
from al_charge.loop.spec import load_spec

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
HEADER = """data_test
_cell_length_a 2.867
_cell_length_b 2.867
_cell_length_c 14.245
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
_symmetry_space_group_name_H-M 'R -3 m'
_symmetry_Int_Tables_number 166
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
LAYERS = "Li1 Li 0 0 0 {}\nCo1 Co 0 0 0.5 {}\nO1 O 0 0 0.2411 {}\n"


def spec_of(name: str, **changes: Any) -> HostSpec:
    """Return the host of a campaign file of the cases, with some fields changed."""
    spec = load_spec(HOSTS / f"{name}.yaml").host
    return HostSpec.model_validate(spec.model_dump(exclude_unset=True) | changes)


def layered(folder: Path, rows: str, **changes: Any) -> HostSpec:
    """Return a host with the cell of a layered oxide and the given rows of atoms."""
    (folder / "test.cif").write_text(HEADER + rows)
    fields: dict[str, Any] = {
        "structure": folder / "test.cif",
        "working_ion": "Li",
        "redox": {"Co": [3, 4]},
        "fixed": {"O": -2},
    }
    return HostSpec.model_validate(fields | changes)


def test_oxidation_states_that_share_a_site_are_one_element() -> None:
    split, average = (
        Host.from_spec(spec_of(name)) for name in ("limn2o4_split_site", "limn2o4_average_state")
    )
    assert split.fingerprint == average.fingerprint
    assert sum(count_distinct(split).values()) == 4222


@pytest.mark.parametrize("value", [".", "1.0", "1.000(2)"])
def test_an_occupancy_that_is_left_open_is_one(tmp_path: Path, value: str) -> None:
    structure, changes = prepared(layered(tmp_path, LAYERS.format("1", value, value)))
    assert (structure.composition.formula, changes) == ("Li3 Co3 O6", [])
    plain = prepared(layered(tmp_path, LAYERS.format("1", "1", "1")))[0]
    assert np.allclose(structure.frac_coords, plain.frac_coords)


def test_an_occupancy_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'\?' is not a valid value"):
        prepared(layered(tmp_path, LAYERS.format("1", "?", "1")))


@pytest.mark.parametrize(("share", "whole"), [("0.333", True), ("0.32", False)])
def test_shares_of_one_element_may_be_rounded(tmp_path: Path, share: str, whole: bool) -> None:
    rows = "".join(f"Co{n} Co{n}+ 0 0 0.5 {share}\n" for n in (2, 3, 4))
    spec = layered(tmp_path, "Li1 Li1+ 0 0 0 1\n" + rows + "O1 O2- 0 0 0.2411 1\n")
    if whole:
        assert prepared(spec)[0].composition.formula == "Li3 Co3 O6"
    else:
        with pytest.raises(InputError, match="occupy them in part"):
            prepared(spec)


def test_partly_occupied_sites_of_the_working_ion_are_filled(tmp_path: Path) -> None:
    spec = layered(tmp_path, LAYERS.format("0.62(3)", "1", "."))
    structure, changes = prepared(spec)
    assert structure.is_ordered and structure.composition.formula == "Li3 Co3 O6"
    assert changes == ["partly occupied Li sites are filled in the parent: 3 Li1 (0.62)"]
    full = Host.from_spec(layered(tmp_path, LAYERS.format("1", "1", "1")))
    assert Host.from_spec(spec).fingerprint == full.fingerprint


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (
            "Li1 Li 0 0 0 0.9\nNi1 Co 0 0 0 0.1\nCo1 Co 0 0 0.5 1\nO1 O 0 0 0.2411 1\n",
            "host.structure: test.cif: Li shares site Li1/Ni1 with Co; give it a site of its own",
        ),
        (
            LAYERS.format("1", "0.9", "1"),
            "host.structure: test.cif: elements share sites, or occupy them in part: Co1 (Co0.9); "
            "write 'order: ewald' under 'host'",
        ),
        (
            LAYERS.format("1", "0.999(2)", "1"),
            "host.structure: test.cif: elements share sites, or occupy them in part: Co1 (Co0.999)",
        ),
    ],
)
def test_what_is_disordered_is_refused(tmp_path: Path, rows: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        prepared(layered(tmp_path, rows))
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_no_whole_numbers_are_refused_with_those_near(tmp_path: Path) -> None:
    spec = layered(tmp_path, LAYERS.format("1", "0.87", "1"), order="ewald")
    with pytest.raises(InputError) as caught:
        prepared(spec)
    assert str(caught.value) == (
        "host.supercell: the supercell does not hold whole numbers of atoms on Co1 (Co0.87); "
        "choose a larger supercell, or in the file the occupancies Co 3/3 on Co1"
    )
    water = "Li1 Li 0 0 0 1\nCo1 Co 0 0 0.5 1\nO1 O 0 0 0.2411 1\nH1 H 0 0 0.3 0.5\n"
    fields = {"order": "ewald", "fixed": {"O": -2, "H": 1}}
    with pytest.raises(InputError, match="water cannot be ordered"):
        prepared(layered(tmp_path, water, **fields))


def charged(structure: Structure) -> float:
    """Return the Ewald energy of the ordered metals in NMC, in eV."""
    charges = {"Li": 1, "Ni": 2, "Mn": 4, "Co": 3, "O": -2}
    structure = structure.copy()
    structure.add_oxidation_state_by_element(charges)
    return float(EwaldSummation(structure).total_energy)


def test_the_lowest_of_all_arrangements_is_found() -> None:
    spec = spec_of("nmc333_mixed")
    structure, (line,) = prepared(spec)
    assert line.startswith(
        "ordered in the supercell by Ewald energy: Ni1/Mn1/Co1 (Co0.3333 Mn0.3333 Ni0.3333); the "
        "lowest of 1680 arrangements"
    )
    assert structure.composition.formula == "Li9 Mn3 Co3 Ni3 O18"
    metals = [i for i, site in enumerate(structure) if site.specie.symbol in ("Ni", "Mn", "Co")]
    charges = np.array([1.0] * 9 + [0.0] * 9 + [-2.0] * 18)
    assert metals == list(range(9, 18))
    unit = Structure(structure.lattice, ["H+"] * 36, structure.frac_coords, charge=36)
    pairs = EwaldSummation(unit).total_energy_matrix
    energies = []
    for twos in arrangements(range(9), 3):
        if list(twos) == sorted(twos):
            rest = [i for i in range(9) if i not in twos]
            for fours in arrangements(rest, 3):
                if list(fours) == sorted(fours):
                    tried = charges.copy()
                    tried[9:18] = 3.0
                    tried[[9 + i for i in twos]] = 2.0
                    tried[[9 + i for i in fours]] = 4.0
                    energies.append(float(tried @ pairs @ tried))
    assert len(energies) == 1680
    assert charged(structure) == pytest.approx(min(energies), abs=1e-5)


def test_pymatgen_finds_no_lower_one() -> None:
    # Here, since this import is slow, and each process that runs tests collects them all.
    from pymatgen.transformations.standard_transformations import (
        OrderDisorderedStructureTransformation,
    )

    mixed = Structure.from_spacegroup(
        "R-3m",
        Lattice.hexagonal(2.867, 14.245),
        ["Li+", {"Ni2+": 1 / 3, "Mn4+": 1 / 3, "Co3+": 1 / 3}, "O2-"],
        [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.2411]],
    )
    mixed.make_supercell([[1, 1, 0], [-1, 2, 0], [0, 0, 1]])
    theirs = OrderDisorderedStructureTransformation().apply_transformation(mixed)
    ours = parent_structure(spec_of("nmc333_mixed"))
    assert charged(ours) <= EwaldSummation(theirs).total_energy + 1e-5


def test_the_order_is_the_same_each_time_and_in_the_supercell() -> None:
    spec = spec_of("nmc333_mixed")
    first, second = Host.from_spec(spec), Host.from_spec(spec)
    assert first.fingerprint == second.fingerprint
    assert (len(first.elements), first.supercell) == (36, (1, 1, 1))
    # Three Ni2+, Mn4+ and low-spin Co3+ each: 3 x (2 + 3 + 0).
    assert total_moments(first, 9) == (15, 15)
    large = prepared(spec_of("nmc333_mixed", supercell=(3, 3, 1)))[0]
    assert large.composition.formula == "Li27 Mn9 Co9 Ni9 O54"


def test_alluaudite_has_as_many_configurations_as_are_counted_by_hand() -> None:
    structure, (filled, ordered) = prepared(spec_of("alluaudite"))
    assert filled == (
        "partly occupied Na sites are filled in the parent: 4 Na2 (0.75), 4 Na3 (0.75)"
    )
    assert "Fe1 (Fe0.875); the lowest of 8 arrangements" in ordered
    host = Host.build(spec_of("alluaudite"), structure)
    assert host.structure.composition.formula == "Na12 Fe7 S12 O48"
    # One of eight equivalent iron sites is empty, which leaves no symmetry: any of 12 sodium sites,
    # and Fe3+ on any of 7 iron sites to balance the sodium that is missing of 10.
    assert count_distinct(host) == {
        Fraction(n, 4): comb(12, n) * comb(7, 10 - n) for n in range(3, 11)
    }
    assert total_moments(host, 10) == (28, 28) and total_moments(host, 3) == (35, 35)


def test_roles_are_those_of_elements_on_shared_sites(tmp_path: Path) -> None:
    rows = "Li1 Li 0 0 0 0.8\nLi2 Li 0 0 0.5 0.3333\nM1 Co 0 0 0.5 0.6667\nO1 O 0 0 0.2411 1\n"
    fields = {"order": "ewald", "redox": {"Co": [3, 4, 5]}, "supercell": (2, 1, 1)}
    named = {key: layered(tmp_path, rows, sites={key: 1}, **fields) for key in ("Li2", "Li 3b")}
    hosts = [Host.from_spec(spec) for spec in named.values()]
    assert {host.inert_ions for host in hosts} == {2} and hosts[0].elements.count("Co") == 4
    assert hosts[0].fingerprint == hosts[1].fingerprint
    assert all(host.structure[i].label == "Li2" for host in hosts for i in host.fixed if i < 8)
    with pytest.raises(InputError, match="Li shares site Li2/M1 with Co"):
        prepared(layered(tmp_path, rows, **fields))
    with pytest.raises(InputError, match="Co and Li share site 3"):
        prepared(layered(tmp_path, rows, sites={3: 1}, **fields))


@pytest.mark.parametrize("name", ["nmc333_mixed", "alluaudite", "prussian_white"])
def test_a_stored_structure_is_the_same_host(name: str) -> None:
    spec = spec_of(name)
    structure = parent_structure(spec)
    expected = Host.build(spec, structure).fingerprint
    for verbosity in (1, 0):  # campaigns, and exports
        stored = Structure.from_dict(structure.as_dict(verbosity=verbosity))
        assert Host.build(spec, stored).fingerprint == expected
