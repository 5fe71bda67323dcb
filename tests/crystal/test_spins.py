"""Spin states of ions: tokens, what is usual, and hosts and configurations that have several."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core.lattice import Lattice
from pymatgen.core.periodic_table import Element, Species
from pymatgen.core.structure import Structure

from al_charge.crystal.charge_balance import end_member_species, total_moments
from al_charge.crystal.configuration import (
    Configuration,
    configuration,
    from_atoms,
    from_structure,
    set_species,
    to_atoms,
    to_structure,
    total_charge,
)
from al_charge.crystal.enumeration import count_distinct, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.species import (
    charge_of,
    element_of,
    parse,
    spin_name,
    spin_states,
    token,
    unpaired_electrons,
    unpaired_of,
    usual_token,
)
from al_charge.crystal.states import SPIN_STEP, charge_of_state
from al_charge.crystal.structure_file import load_structure
from al_charge.crystal.structure_output import write_structure
from al_charge.crystal.symmetry import canonical
from al_charge.crystal.valence import spin_state_shown
from al_charge.errors import InputError
from al_charge.search.operators import electron_transfer, spin_change
from al_charge.search.random_occupation import random_occupation

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
OXIDE = ("Li", "Co", "O")


def cobalt(supercell: tuple[int, int, int] = (1, 1, 1), **fields: Any) -> Host:
    """LixCoO2, three formula units on the hexagonal cell."""
    spec = {
        "structure": HOSTS / "licoo2.cif",
        "working_ion": "Li",
        "redox": {"Co": [3, 4]},
        "fixed": {"O": -2},
        "supercell": supercell,
    }
    return Host.from_spec(HostSpec.model_validate(spec | fields))


def test_tokens_are_those_of_pymatgen_and_name_the_spin_only_where_it_is_not_high() -> None:
    assert token("Co", 3) == token("Co", 3, 4) == "Co3+"
    low = token("Co", 3, 0)
    assert low == str(Species("Co", 3, spin=0)) == "Co3+,spin=0"
    assert (element_of(low), charge_of(low), unpaired_electrons(low)) == ("Co", 3, 0)
    assert token("Ni", 2, 2) == "Ni2+"


@pytest.mark.parametrize("ion", ["Cr2+", "Mn3+", "Fe2+", "Fe3+", "Co2+", "Co3+", "Co4+", "Ni3+"])
@pytest.mark.parametrize("spin", ["high", "low"])
def test_unpaired_electrons_are_those_of_a_crystal_field(ion: str, spin: str) -> None:
    expected = Species.from_str(ion).get_crystal_field_spin("oct", spin)
    found = parse(f"{ion} {spin}")
    assert unpaired_electrons(found) == expected
    assert spin_name(found) == spin


@pytest.mark.parametrize(
    ("text", "species"),
    [
        ("Co3+ low", "Co3+,spin=0"),
        ("Co3+,spin=0", "Co3+,spin=0"),
        ("Co3+ high", "Co3+"),
        ("Co3+", "Co3+"),
        ("Co3+ intermediate", "Co3+,spin=2"),
        ("Fe3+ intermediate", "Fe3+,spin=3"),
        ("Fe3+ spin=1", "Fe3+,spin=1"),
        ("Mn4+ low", "Mn4+"),
        ("O2-", "O2-"),
    ],
)
def test_spin_states_are_parsed(text: str, species: str) -> None:
    assert parse(text) == species
    assert parse(species) == species


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Co3+ lo", r"Co3\+ has no spin state 'lo'; did you mean 'low'"),
        ("Mn3+ intermediate", "no spin state 'intermediate'"),
        ("Co3+ spin=1", r"Co3\+ cannot have 1 unpaired electrons; it can have 0, 2, 4"),
        ("Co3+ spin=6", "it can have 0, 2, 4"),
        ("Na+ spin=1", r"Na\+ cannot have 1"),
        ("Co3", "not a charge state"),
        ("Co3+ low spin", "not a charge state"),
    ],
)
def test_spin_states_that_an_ion_cannot_have_are_refused(text: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        parse(text)


@pytest.mark.parametrize(
    ("element", "charge", "compound", "unpaired"),
    [
        ("Co", 3, OXIDE, 0),
        ("Co", 4, OXIDE, 1),
        ("Co", 2, OXIDE, 3),
        ("Ni", 2, ("Li", "Ni", "O"), 2),
        ("Ni", 3, ("Li", "Ni", "O"), 1),
        ("Ni", 4, ("Li", "Ni", "O"), 0),
        ("Fe", 2, ("Na", "Fe", "O"), 4),
        ("Fe", 3, ("Na", "Fe", "O"), 5),
        ("Mn", 3, ("Li", "Mn", "O"), 4),
        ("Mn", 4, ("Li", "Mn", "O"), 3),
        ("Co", 3, ("Li", "Co", "P", "O"), 4),
        ("Co", 3, ("Li", "Co", "F"), 4),
        ("Co", 3, ("Li", "Co", "S"), 0),
        ("Ru", 4, ("Li", "Ru", "O"), 2),
        ("Mo", 3, ("Mo", "S"), 3),
        ("Ir", 4, ("Li", "Ir", "O"), 1),
        ("Pt", 4, ("Li", "Pt", "O"), 0),
        ("Re", 5, ("Na", "Re", "O"), 2),
        ("W", 5, ("Na", "W", "O"), 1),
        ("Pd", 4, ("Li", "Pd", "O"), 0),
    ],
)
def test_usual_spin_states(
    element: str, charge: int, compound: tuple[str, ...], unpaired: int
) -> None:
    assert unpaired_electrons(usual_token(element, charge, compound)) == unpaired


@pytest.mark.parametrize(
    ("redox", "discharged", "charged"),
    [
        (["3", "4"], 0, 3),
        (["3 low", "4 low"], 0, 3),
        (["3 high", "4 high"], 12, 15),
        (["3 spin=2", "4 spin=3"], 6, 9),
    ],
)
def test_the_total_moment_is_that_of_the_spin_states(
    redox: list[str], discharged: int, charged: int
) -> None:
    host = cobalt(redox={"Co": redox})
    moments = [
        to_atoms(host, enumerate_distinct(host, n)[0]).get_initial_magnetic_moments().sum()
        for n in (3, 0)
    ]
    assert moments == [discharged, charged]


def test_working_ions_with_moments_count_in_the_total() -> None:
    """Mn2+ has five unpaired electrons, which VASP's NUPDOWN and GPAW hold."""
    lattice = Lattice.tetragonal(4.0, 3.0)
    places = [[0.5, 0.5, 0.5], [0, 0, 0], [0.3, 0.3, 0], [0.7, 0.7, 0]]
    structure = Structure(lattice, ["Mn", "V", "O", "O"], places)
    spec = {
        "structure": "cell.cif",
        "working_ion": "Mn",
        "redox": {"V": [2, 3, 4]},
        "fixed": {"O": -2},
    }
    host = Host.build(HostSpec.model_validate(spec), structure)
    assert host.ion_counts == (0, 1)
    for n_ions, moment in ((0, 1), (1, 5 + 3)):
        atoms = to_atoms(host, enumerate_distinct(host, n_ions)[0])
        assert atoms.get_initial_magnetic_moments().sum() == moment
        assert total_moments(host, n_ions) == (moment, moment)


def test_ions_that_never_change_have_their_usual_spin_too() -> None:
    spec = {
        "structure": HOSTS / "POSCAR_nmc333",
        "working_ion": "Li",
        "redox": {"Ni": [2, 3, 4], "Co": [3, 4]},
        "fixed": {"Mn": 4, "O": -2},
    }
    host = Host.from_spec(HostSpec.model_validate(spec))
    (first, *_) = enumerate_distinct(host, 9)
    atoms = to_atoms(host, first)
    counts = Counter(map(str, atoms.arrays["species"]))
    assert counts == {"Li+": 9, "Ni2+": 3, "Co3+,spin=0": 3, "Mn4+": 3, "O2-": 18}
    assert atoms.get_initial_magnetic_moments().sum() == 3 * (2 + 3 + 0)


def test_hosts_of_high_spin_ions_are_what_they_were(olivine: Host) -> None:
    assert olivine.unpaired == {}
    assert olivine.fingerprint == "15fb57e5def3c79a"
    high = cobalt(redox={"Co": ["3 high", "4 high"]})
    assert cobalt(spins="high").fingerprint == high.fingerprint
    assert cobalt().fingerprint == cobalt(redox={"Co": ["4 low", "3 low"]}).fingerprint
    assert cobalt().fingerprint != high.fingerprint


@pytest.mark.parametrize(
    ("redox", "match"),
    [
        ({"Co": ["3 lo", 4]}, r"host.redox.Co: Co3\+ has no spin state 'lo'"),
        ({"Co": ["3 low", 3]}, "Co needs at least two states"),
    ],
)
def test_states_that_are_none_are_refused(redox: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        cobalt(redox=redox)


@pytest.mark.parametrize("written", ["low", "3 low 4", "3.5", "x high", "12"])
def test_malformed_states_are_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not an oxidation state"):
        cobalt(redox={"Co": [written, 4]})


@pytest.fixture(scope="module")
def three_spins() -> Host:
    """LixCoO2 in which Co3+ may have any of its spin states."""
    return cobalt(redox={"Co": ["3 low", "3 high", "3 intermediate", "4"]})


def test_states_of_one_charge_are_numbered_by_their_spin(three_spins: Host) -> None:
    assert three_spins.allowed_states[-1] == (3, 4, 3 + SPIN_STEP, 3 + 2 * SPIN_STEP)
    tokens = [three_spins.token("Co", state) for state in three_spins.allowed_states[-1]]
    assert tokens == ["Co3+", "Co4+,spin=1", "Co3+,spin=2", "Co3+,spin=0"]
    assert [charge_of_state(state) for state in three_spins.allowed_states[-1]] == [3, 4, 3, 3]
    assert charge_of_state(-1) == -1
    assert three_spins.redox_species == set(tokens)
    assert end_member_species(three_spins) == {"Co4+,spin=1"}
    assert three_spins.has_spin_states and not cobalt().has_spin_states


def test_spin_states_are_counted_and_enumerated(three_spins: Host) -> None:
    """Against a brute force over all occupations, reduced by their canonical forms."""
    states = three_spins.allowed_states[-1]
    for n_ions in three_spins.ion_counts:
        forms = set()
        for ions in product((-1, 1), repeat=3):
            for redox in product(states, repeat=3):
                config = Configuration(ions + redox)
                if ions.count(1) == n_ions and total_charge(three_spins, config) == 0:
                    forms.add(canonical(three_spins, config))
        assert set(enumerate_distinct(three_spins, n_ions)) == forms
        assert count_distinct(three_spins)[three_spins.composition(n_ions)] == len(forms)


def test_the_search_moves_spin_states(three_spins: Host) -> None:
    rng = np.random.default_rng(1)
    parent = configuration(three_spins, [1, 1, -1, 3, 3, 4])
    changed = {spin_change(three_spins, [parent], rng) for _ in range(60)}
    assert None not in changed
    assert len(changed) == 4  # two sites with two other spin states each
    for child in changed:
        assert child is not None
        assert total_charge(three_spins, child) == 0
        assert sum(a != b for a, b in zip(child.occupation, parent.occupation, strict=True)) == 1
    assert spin_change(cobalt(), [configuration(cobalt(), [1, 1, -1, 3, 3, 4])], rng) is None
    moved = {electron_transfer(three_spins, [parent], rng) for _ in range(200)}
    for child in moved - {None}:
        assert child is not None
        assert total_charge(three_spins, child) == 0
    found = Counter(
        random_occupation(three_spins, 3, rng).occupation[3:].count(3) for _ in range(600)
    )
    # Three sites with three equally likely spin states: a binomial with p = 1/3.
    assert found[0] / 600 == pytest.approx(8 / 27, abs=0.06)


def test_configurations_with_spins_survive_conversion(three_spins: Host) -> None:
    config = configuration(three_spins, [1, 1, -1, 3 + SPIN_STEP, 3 + 2 * SPIN_STEP, 4])
    atoms = to_atoms(three_spins, config)
    assert from_atoms(three_spins, atoms) == config
    structure = to_structure(atoms)
    assert from_structure(three_spins, structure) == config
    assert [str(site.specie) for site in structure] == list(atoms.arrays["species"])


def test_a_structure_without_spins_takes_those_of_the_host() -> None:
    host = cobalt()
    config = configuration(host, [1, 1, -1, 3, 3, 4])
    structure = to_structure(to_atoms(host, config))
    plain = Structure(
        structure.lattice,
        [Species(s.element.symbol, s.oxi_state) for s in structure.species],
        structure.frac_coords,
    )
    assert from_structure(host, plain) == config


def test_a_structure_with_another_spin_than_the_hosts_is_refused() -> None:
    host = cobalt()
    structure = to_structure(to_atoms(host, configuration(host, [1, 1, -1, 3, 3, 4])))
    # A moment that covalence has changed is that of the low-spin ion all the same.
    structure.replace(2, Species("Co", 3, spin=0.3))
    assert from_structure(host, structure).occupation == (1, 1, -1, 3, 3, 4)
    structure.replace(2, Species("Co", 3, spin=-4))
    with pytest.raises(InputError, match=r"4 unpaired electrons; the host has Co3\+,spin=0"):
        from_structure(host, structure)


def test_files_without_spins_have_usual_ones(tmp_path: Path) -> None:
    atoms, _ = load_structure(HOSTS / "licoo2.cif")
    assert set(atoms.arrays["species"]) == {"Li+", "Co3+,spin=0", "O2-"}
    assert not atoms.get_initial_magnetic_moments().any()
    high, _ = load_structure(HOSTS / "licoo2.cif", ["Co3+ high"])
    assert high.get_initial_magnetic_moments().sum() == 12


def test_every_ion_has_a_usual_spin_state() -> None:
    for element in Element:
        for charge in range(-3, 9):
            for spin in ("high", "low"):
                unpaired = unpaired_of(element.symbol, charge, spin, "x")
                text = token(element.symbol, charge, unpaired)
                assert charge_of(text) == charge
                assert parse(text) == text
            assert charge_of(usual_token(element.symbol, charge, ("O",))) == charge


@pytest.mark.parametrize("kind", ["cif", "extxyz"])
@pytest.mark.parametrize(
    "states", [("Co3+", "Co3+"), ("Co3+", "Co3+,spin=0"), ("Co3+,spin=0", "Co3+,spin=2")]
)
def test_files_keep_spin_states_that_are_not_usual(
    tmp_path: Path, kind: str, states: tuple[str, str]
) -> None:
    places = [[0, 0, 0], [0, 0.5, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5]]
    places += [[0.5, 0.1, 0.1], [0.5, 0.6, 0.1], [0, 0.3, 0.6], [0, 0.8, 0.6]]
    atoms = Atoms("Li2Co2O4", scaled_positions=places, cell=[3.0, 6.0, 5.0], pbc=True)
    set_species(atoms, ["Li+", "Li+", *states, *["O2-"] * 4])
    path = tmp_path / f"a.{kind}"
    write_structure(path, atoms, kind)
    found, _ = load_structure(path)
    assert found.arrays["species"].tolist() == atoms.arrays["species"].tolist()
    assert found.get_initial_magnetic_moments() == pytest.approx(
        atoms.get_initial_magnetic_moments()
    )


def test_a_cif_with_a_spin_that_an_ion_cannot_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cif"
    atoms = Atoms("CoN", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[4] * 3, pbc=True)
    set_species(atoms, ["Co3+,spin=2", "N3-"])
    write_structure(path, atoms, "cif")
    assert load_structure(path)[0].arrays["species"].tolist() == ["Co3+,spin=2", "N3-"]
    path.write_text(path.read_text().replace("Co0  2", "Co0  3"))
    with pytest.raises(InputError, match=r"Co3\+ cannot have 3 unpaired electrons"):
        load_structure(path)


@pytest.mark.parametrize(
    ("element", "charge"),
    [
        (element, charge)
        for element in ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Ru", "Mo")
        for charge in range(1, 6)
        if (element, charge) != ("Ti", 5)
    ],
)
def test_spin_states_are_between_those_of_pymatgens_crystal_field(
    element: str, charge: int
) -> None:
    ion = Species(element, charge)
    high, low = (int(ion.get_crystal_field_spin("oct", config)) for config in ("high", "low"))
    found = [unpaired_electrons(state) for state in spin_states(str(ion))]
    assert found == list(range(high, low - 1, -2))


@pytest.mark.parametrize(
    ("species", "moment", "state"),
    [
        ("Co3+", 3.09, "Co3+"),  # GPAW, the moment held at 4
        ("Co3+", 1.9, "Co3+,spin=2"),
        ("Co3+,spin=0", -3.09, "Co3+"),
        ("Co3+", 0.02, "Co3+,spin=0"),
        ("Co3+", 0.9, None),
        ("Fe3+", 4.3, "Fe3+"),
        ("Fe2+", 3.66, "Fe2+"),
        ("Ni3+,spin=1", 1.1, "Ni3+,spin=1"),
        ("Mn4+", 3.2, "Mn4+"),
        ("Mn4+", 3.9, None),
        ("V5+", 0.1, "V5+"),
    ],
)
def test_moments_show_spin_states(species: str, moment: float, state: str | None) -> None:
    assert spin_state_shown(species, moment) == state


def test_a_host_in_other_spins_has_the_same_states() -> None:
    host = cobalt(redox={"Co": ["3 low", "4 low"]})
    high = host.with_spins({"Co3+,spin=0": "Co3+", "Co4+,spin=1": "Co4+"})
    assert high.states == host.states
    assert high.species == ("Co3+", "Co4+", "Li+", "O2-")
    written = cobalt(redox={"Co": ["3 high", "4 high"]})
    assert high.fingerprint == written.fingerprint != host.fingerprint
    back = high.with_spins({"Co3+": "Co3+,spin=0", "Co4+": "Co4+,spin=1"})
    assert back.fingerprint == host.fingerprint
