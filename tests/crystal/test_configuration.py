"""Configurations: neutrality, and conversion to Atoms and to pymatgen and back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core.periodic_table import Species
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import (
    MATCHING_TOLERANCE,
    Configuration,
    composition,
    configuration,
    from_atoms,
    from_structure,
    ion_count,
    set_species,
    species_of,
    to_atoms,
    to_structure,
    total_charge,
)
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.species import charge_of, element_of, token, unpaired_electrons
from al_charge.errors import InputError

V = VACANCY
seeds = st.integers(0, 2**32 - 1)


def all_of(host: Host) -> list[Configuration]:
    """Return one of each distinct configuration of a host, at every composition."""
    return [config for n in host.ion_counts for config in enumerate_distinct(host, n)]


def test_composition_and_charge(olivine: Host) -> None:
    config = configuration(olivine, [1, V, V, 1, 2, 3, 3, 2])
    assert ion_count(olivine, config) == 2
    assert composition(olivine, config) == Fraction(1, 2)
    assert total_charge(olivine, config) == 0
    assert config.as_array().tolist() == [1, V, V, 1, 2, 3, 3, 2]


@pytest.mark.parametrize(
    ("occupation", "message"),
    [
        ([1, 1, 1, 1, 2, 2, 2], "7 states for 8 variable sites"),
        ([1, 1, 1, 1, 2, 2, 2, 4], "may not be 4; allowed: 2, 3"),
        ([2, 1, 1, 1, 2, 2, 2, 2], "Na on site 0 may not be 2"),
        ([1, 1, 1, 1, 2, 2, 2, 3], r"the charges sum to \+1 e"),
        ([V, V, 1, 1, 2, 2, 2, 3], "the charges sum to -1 e"),
    ],
)
def test_refused_occupation(olivine: Host, occupation: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configuration(olivine, occupation)


def test_every_enumerated_configuration_is_neutral(any_host: Host) -> None:
    configs = all_of(any_host)
    assert {configuration(any_host, config.occupation) for config in configs} == set(configs)
    charges = [sum(map(charge_of, species_of(any_host, c).values())) for c in configs]
    assert set(charges) == {0}


def test_atoms_carry_elements_species_sites_and_moments(olivine: Host) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, V, V, 1, 2, 3, 3, 2]))
    assert atoms.get_chemical_formula() == "Fe4Na2O16P4"
    assert [element_of(t) for t in atoms.arrays["species"]] == atoms.get_chemical_symbols()
    iron = atoms.arrays["species"][atoms.symbols == "Fe"]
    assert iron.tolist() == ["Fe2+", "Fe3+", "Fe3+", "Fe2+"]
    assert atoms.get_initial_magnetic_moments()[atoms.symbols == "Fe"].tolist() == [4, 5, 5, 4]
    assert not atoms.get_initial_magnetic_moments()[~(atoms.symbols == "Fe")].any()
    kept = olivine.structure.cart_coords[atoms.arrays["host_site"]]
    assert np.allclose(atoms.positions, kept)
    assert atoms.pbc.all()


def test_atoms_and_structure_lead_back(any_host: Host) -> None:
    for config in all_of(any_host)[::7]:
        atoms = to_atoms(any_host, config)
        structure = to_structure(atoms)
        assert structure.charge == 0
        assert from_atoms(any_host, atoms) == config
        assert from_structure(any_host, structure) == config


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_sites_are_found_again_by_position(any_host: Host, seed: int) -> None:
    rng = np.random.default_rng(seed)
    configs = all_of(any_host)
    config = configs[rng.integers(len(configs))]
    atoms = to_atoms(any_host, config)
    del atoms.arrays["host_site"]
    atoms = atoms[rng.permutation(len(atoms))]
    atoms.positions += np.clip(rng.normal(0.0, 0.1, atoms.positions.shape), -0.25, 0.25)
    strain = np.eye(3) + rng.uniform(-0.04, 0.04, (3, 3))
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    atoms.set_scaled_positions(atoms.get_scaled_positions(wrap=False) + rng.integers(-1, 2, 3))
    assert from_atoms(any_host, atoms) == config


def test_host_sites_are_believed_however_far_atoms_moved(olivine: Host) -> None:
    config = configuration(olivine, [1, V, V, 1, 2, 3, 3, 2])
    atoms = to_atoms(olivine, config)
    atoms.positions += np.random.default_rng(0).normal(0.0, 2.0, atoms.positions.shape)
    assert from_atoms(olivine, atoms) == config


def test_structure_with_spin_leads_back(olivine: Host) -> None:
    config = configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2])
    structure = to_structure(to_atoms(olivine, config))
    structure.add_spin_by_element({"Fe2+": 4})
    assert from_structure(olivine, structure) == config


def test_refused_atoms(olivine: Host) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, V, V, 1, 2, 3, 3, 2]))
    bare = atoms.copy()
    del bare.arrays["species"]
    with pytest.raises(InputError, match="no species array"):
        from_atoms(olivine, bare)
    with pytest.raises(InputError, match="nothing where the host has O2-"):
        from_atoms(olivine, atoms[:-1])
    without_iron = atoms[[i for i in range(len(atoms)) if i != 2]]
    with pytest.raises(InputError, match="Fe on site 4 may not be"):
        from_atoms(olivine, without_iron)


def test_refused_positions(olivine: Host) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, V, V, 1, 2, 3, 3, 2]))
    del atoms.arrays["host_site"]
    lost = atoms.copy()
    lost.positions[0] += [0.0, 1.3, 0.0]
    with pytest.raises(InputError, match=r"^atoms\.positions: atom 0 \(Na\) lies on no site of"):
        from_atoms(olivine, lost)
    with pytest.raises(InputError, match=r"^atoms: more atoms than the host has sites"):
        from_atoms(olivine, atoms.repeat((2, 1, 1)))


@pytest.mark.parametrize("part", [0.99, 1.01])
def test_how_far_an_atom_may_lie_from_its_site(part: float, olivine: Host) -> None:
    config = configuration(olivine, [1, V, V, 1, 2, 3, 3, 2])
    atoms = to_atoms(olivine, config)
    del atoms.arrays["host_site"]
    spacing = (atoms.get_volume() / len(olivine.elements)) ** (1 / 3)
    atoms.positions[0, 1] += part * MATCHING_TOLERANCE * spacing
    if part < 1:
        assert from_atoms(olivine, atoms) == config
        return
    with pytest.raises(InputError, match="lies on no site"):
        from_atoms(olivine, atoms)


def test_wrong_fixed_charge_is_refused(olivine: Host) -> None:
    atoms = to_atoms(olivine, configuration(olivine, [1, 1, 1, 1, 2, 2, 2, 2]))
    tokens = atoms.arrays["species"].tolist()
    tokens[-1] = "O-"
    set_species(atoms, tokens)
    with pytest.raises(InputError, match="O- where the host has O2-"):
        from_atoms(olivine, atoms)


def test_structure_without_oxidation_states_is_refused(olivine: Host) -> None:
    with pytest.raises(InputError, match="without an oxidation state"):
        from_structure(olivine, olivine.structure)


def test_a_neutral_site_has_the_state_zero(olivine: Host) -> None:
    structure = to_structure(to_atoms(olivine, configuration(olivine, [1] * 4 + [2] * 4)))
    structure.replace(4, Species("Fe", 0))
    with pytest.raises(InputError, match=r"site 4: Fe0\+ where the host has Fe2\+, Fe3\+"):
        from_structure(olivine, structure)


def test_redox_anion_whose_charge_is_the_number_of_a_vacancy(tmp_path: Path) -> None:
    path = tmp_path / "POSCAR"
    structure = Structure(
        np.eye(3) * 4.0,
        ["Na", "Mn", "O", "O"],
        [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.5], [0.0, 0.5, 0.0]],
    )
    structure.to(filename=str(path))
    spec = HostSpec(structure=path, working_ion="Na", redox={"O": (-2, -1)}, fixed={"Mn": 3})
    host = Host.from_spec(spec)
    assert host.ion_counts == (0, 1)
    for config in all_of(host):
        assert total_charge(host, config) == 0
        assert from_atoms(host, to_atoms(host, config)) == config
    assert sorted(species_of(host, all_of(host)[0]).values()) == ["Mn3+", "O-", "O2-"]


@pytest.mark.parametrize(
    ("species", "moment"),
    [
        ("Fe3+", 5),
        ("Fe2+", 4),
        ("Mn2+", 5),
        ("Mn3+", 4),
        ("Mn4+", 3),
        ("Co2+", 3),
        ("Ni2+", 2),
        ("V3+", 2),
        ("V5+", 0),
        ("Cr3+", 3),
        ("Ti4+", 0),
        ("Cu2+", 1),
        ("Zn2+", 0),
        ("Na+", 0),
        ("P5+", 0),
        ("O2-", 0),
    ],
)
def test_start_moments(species: str, moment: float) -> None:
    assert unpaired_electrons(species) == moment


@pytest.mark.parametrize(
    ("element", "charge", "text"), [("Na", 1, "Na+"), ("Fe", 3, "Fe3+"), ("O", -2, "O2-")]
)
def test_tokens(element: str, charge: int, text: str) -> None:
    assert token(element, charge) == text
    assert (element_of(text), charge_of(text)) == (element, charge)
