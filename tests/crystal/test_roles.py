"""Roles of sites: who is named, what it may be, and hosts that are told apart by nothing else."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from pymatgen.core.periodic_table import Species
from pymatgen.core.structure import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.symmetry.groups import SpaceGroup

from al_charge.crystal.charge_balance import total_moments
from al_charge.crystal.configuration import (
    configuration,
    from_atoms,
    from_structure,
    ion_count,
    to_atoms,
    to_structure,
    total_charge,
)
from al_charge.crystal.correlations import all_pair_correlations
from al_charge.crystal.enumeration import count_distinct, enumerate_distinct
from al_charge.crystal.geometry import bound_to_carbon
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.roles import mobile_sites, wyckoff_positions
from al_charge.crystal.structure_file import load_structure
from al_charge.crystal.symmetry import canonical, permutations
from al_charge.errors import InputError
from al_charge.search.operators import OPERATORS
from al_charge.search.random_occupation import random_occupation
from al_charge.search.seeds import ewald_energies, seeds

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
CYANIDE: dict[str, Any] = {
    "structure": HOSTS / "prussian_white.cif",
    "working_ion": "Na",
    "redox": {"Fe": [2, 3]},
    "fixed": {"C": 2, "N": -3},
}


@pytest.fixture(scope="module", autouse=True)
def operations_of_the_cyanide() -> Iterator[SpaceGroup]:
    """Its CIF names a space group, whose operations pymatgen finds again once nobody has them."""
    yield SpaceGroup("Fm-3m")


def host_of(fields: dict[str, Any], **changes: Any) -> Host:
    """Return a host, some of its fields changed."""
    return Host.from_spec(HostSpec.model_validate(fields | changes))


def refusal(fields: dict[str, Any], **changes: Any) -> str:
    """Return the one line with which a host is refused."""
    with pytest.raises(InputError) as caught:
        host_of(fields, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def on_carbon(structure: Structure) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell which sites of a structure are bound to carbon."""
    symbols = [site.specie.symbol for site in structure]
    return bound_to_carbon(symbols, structure.lattice.matrix, structure.frac_coords)


@pytest.fixture
def layered(tmp_path: Path) -> dict[str, Any]:
    """LiCoO2 on 2x1x1 hexagonal cells, with lithium on one cobalt site."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = Structure.from_file(HOSTS / "licoo2.cif")
    cell.make_supercell((2, 1, 1))
    cell.replace(6, "Li")
    cell.to(filename=str(tmp_path / "POSCAR"), fmt="poscar")
    return {
        "structure": tmp_path / "POSCAR",
        "working_ion": "Li",
        "redox": {"Co": [3, 4]},
        "fixed": {"O": -2},
        "redox_sites_per_formula": 5,
    }


def poscar_with(fields: dict[str, Any], index: int, element: str) -> dict[str, Any]:
    """Return the same host with another element on one of its sites."""
    structure = Structure.from_file(fields["structure"])
    structure.replace(index, element)
    path = fields["structure"].parent / f"POSCAR_{element}"
    structure.to(filename=str(path), fmt="poscar")
    return fields | {"structure": path, "fixed": fields["fixed"] | {element: 1}}


def test_lithium_that_stays_counts_as_an_element_of_its_own(layered: dict[str, Any]) -> None:
    fields = layered | {"redox": {"Co": [3, 4, 5]}}
    some = host_of(fields, sites={6: 1})
    others = host_of(poscar_with(fields, 6, "K"))
    assert (len(some.ion_sites), some.inert_ions) == (6, 1)
    assert len(permutations(some)) == len(permutations(others))
    # The lithium that stays is part of x.
    expected = {x + Fraction(1): n for x, n in count_distinct(others).items()}
    assert count_distinct(some) == expected
    for n_ions in some.ion_counts:
        listed = enumerate_distinct(some, n_ions)
        assert [c.occupation for c in listed] == [
            c.occupation for c in enumerate_distinct(others, n_ions - 1)
        ]
        assert len(listed) == expected[some.composition(n_ions)]
        assert {ion_count(some, c) for c in listed} <= {n_ions}
        assert not any(total_charge(some, c) for c in listed)


def test_sites_with_roles_are_counted_as_brute_force_counts_them(layered: dict[str, Any]) -> None:
    host = host_of(layered, sites={6: 1, 7: 3, 8: [3, 4]}, redox_sites_per_formula=2)
    group = permutations(host)
    for row in group:
        assert [host.allowed_states[i] for i in row] == list(host.allowed_states)
    forms: dict[int, set[tuple[int, ...]]] = {}
    for occupation in product(*host.allowed_states):
        ions = sum(state != -1 for state in occupation[:6])
        if ions + 1 - 12 * 2 * 1 + sum(occupation[6:]) + 3 == 0:
            images = np.array(occupation)[group]
            forms.setdefault(ions + 1, set()).add(min(map(tuple, images.tolist())))
    assert {host.composition(n): len(found) for n, found in forms.items()} == count_distinct(host)


def test_operations_map_roles_onto_roles(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Structure.from_file(HOSTS / "licoo2.cif").to(filename=str(tmp_path / "POSCAR"))
    fields = {"working_ion": "Li", "redox": {"Co": [3, 4]}, "fixed": {"O": -2}}
    fields |= {"structure": tmp_path / "POSCAR", "supercell": (2, 1, 1)}
    alike, some = host_of(fields), host_of(fields, sites={0: 1})
    others = host_of(poscar_with(fields, 0, "K"))
    assert len(permutations(others)) == len(permutations(some)) < len(permutations(alike))
    assert list(count_distinct(some).values()) == list(count_distinct(others).values())


def test_searches_keep_to_the_roles(layered: dict[str, Any]) -> None:
    sites = {6: 1, 7: 3, 8: [3, 4]}
    host = host_of(layered, redox={"Co": [2, 3, 4]}, sites=sites, redox_sites_per_formula=2)
    rng = np.random.default_rng(3)
    for n_ions in host.ion_counts[1:-1]:
        pool = [random_occupation(host, n_ions, rng) for _ in range(6)]
        made = [
            child
            for _ in range(20)
            for operator in OPERATORS
            if (child := operator.make(host, [pool[i] for i in rng.choice(6, 2)], rng))
        ]
        for config in [*pool, *made, *seeds(host, n_ions, 8, rng)]:
            assert configuration(host, config.occupation) == config  # allowed, and neutral
            assert ion_count(host, config) == n_ions
            atoms = to_atoms(host, config)
            del atoms.arrays["host_site"]
            assert from_atoms(host, atoms) == config
            assert from_structure(host, to_structure(atoms)) == config


def test_energies_and_correlations_are_those_of_the_host_with_another_element(
    layered: dict[str, Any],
) -> None:
    some, others = host_of(layered, sites={6: 1}), host_of(poscar_with(layered, 6, "K"))
    configs = enumerate_distinct(some, some.ion_counts[2])
    assert ewald_energies(some, configs) == pytest.approx(ewald_energies(others, configs))
    features = all_pair_correlations(some, configs)
    assert features == pytest.approx(all_pair_correlations(others, configs))
    for config, row in zip(configs[:5], features, strict=False):
        images = [config.as_array()[g] for g in permutations(some)[::7]]
        for image in all_pair_correlations(some, [configuration(some, i) for i in images]):
            assert image == pytest.approx(row)


def test_a_structure_without_the_ions_keeps_those_that_stay(layered: dict[str, Any]) -> None:
    spec = HostSpec.model_validate(layered | {"sites": {"6": 1}})
    full = parent_structure(spec)
    empty = full.copy()
    empty.remove_sites([site for site in range(6)])
    empty.lattice = empty.lattice.scale(empty.volume * 1.03)
    host, mobile = Host.build(spec, full), mobile_sites(spec, full)
    assert np.flatnonzero(mobile).tolist() == host.ion_sites.tolist()
    matched = match_empty(full, empty, "Li", mobile)
    ends = [interpolated_host(host, full, matched, n) for n in (1, 7)]
    assert [end.structure.volume for end in ends] == pytest.approx([empty.volume, full.volume])
    assert ends[0].states == host.states


def test_the_working_ion_may_be_named_instead(layered: dict[str, Any]) -> None:
    named = host_of(
        layered,
        fixed={"O": -2, "Li": 1},
        sites={str(site): "working ion" for site in range(6)},
    )
    assert named.fingerprint == host_of(layered, sites={6: 1}).fingerprint
    assert named.fingerprint != host_of(layered).fingerprint


@pytest.mark.parametrize("key", ["FeC", "Fe 4a", "8"])
def test_a_site_has_a_label_a_wyckoff_position_and_an_index(key: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        structure = Structure.from_file(CYANIDE["structure"])
    host = host_of(CYANIDE, sites={key: 2})
    inert = [site for site in host.fixed if host.elements[site] == "Fe"]
    expected = [8] if key == "8" else [i for i, site in enumerate(structure) if site.label == "FeC"]
    assert inert == expected and structure[8].label == "FeC"


def test_wyckoff_positions_are_those_of_pymatgen() -> None:
    for name in ("prussian_white", "licoo2", "mgmn2o4"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cell = Structure.from_file(HOSTS / f"{name}.cif")
            conventional = SpacegroupAnalyzer(cell).get_conventional_standard_structure()
            symmetric = SpacegroupAnalyzer(conventional).get_symmetrized_structure()
        expected = {
            f"{sites[0].specie.symbol} {symbol}"
            for sites, symbol in zip(
                symmetric.equivalent_sites, symmetric.wyckoff_symbols, strict=True
            )
        }
        # They do not depend on the cell.
        for structure in (conventional, conventional.get_primitive_structure()):
            positions = wyckoff_positions(structure)
            found = zip(structure, positions, strict=True)
            assert {f"{site.specie.symbol} {position}" for site, position in found} == expected


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_of_all_atoms_tells_what_is_bound_to_carbon(seed: int) -> None:
    """In skewed cells, some smaller than a bond; against all distances of all pairs."""
    random = np.random.default_rng(seed)
    cell = np.diag([2.5, 4.0, 6.0]) + random.uniform(-1.0, 1.0, (3, 3))
    structure = Structure(cell, ["C", "Fe", "O", "C", "N", "Fe"], random.random((6, 3)))
    distances = structure.distance_matrix + np.diag([np.inf] * 6)
    nearest = distances.argmin(axis=1)
    assert distances.min(axis=1).max() < 3.0
    expected = [structure[int(one)].specie.symbol == "C" for one in nearest]
    assert on_carbon(structure).tolist() == expected
    alone = Structure(np.diag([9.0] * 3), ["C", "Fe"], [[0.0] * 3, [0.5] * 3])
    assert not on_carbon(alone).any()


def test_iron_bound_to_carbon_is_low_spin() -> None:
    from pymatgen.analysis.local_env import CrystalNN

    spec = HostSpec.model_validate(CYANIDE | {"redox_sites_per_formula": 2})
    host, structure = Host.from_spec(spec), parent_structure(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        neighbours = [
            {n["site"].specie.symbol for n in CrystalNN().get_nn_info(structure, i)}
            for i in range(8, 16)
        ]
    expected = [found == {"C"} for found in neighbours]
    assert on_carbon(structure)[8:16].tolist() == expected == [True] * 4 + [False] * 4
    # Four formula units: high-spin Fe2+ on nitrogen has 4 unpaired electrons, Fe3+ 5; low-spin
    # Fe2+ on carbon has none, Fe3+ has 1.
    assert total_moments(host, host.n_ions(Fraction(2))) == (16, 16)
    assert total_moments(host, host.n_ions(Fraction(0))) == (24, 24)
    assert host.species == ("C2+", "Fe2+", "Fe2+,spin=0", "Fe3+", "Fe3+,spin=1", "N3-", "Na+")
    # Half of the electrons gone: from nitrogen's iron, from carbon's, or from some of both.
    assert total_moments(host, host.n_ions(Fraction(1))) == (20, 20)


def test_carbon_of_other_anions_is_no_ligand() -> None:
    # Siderite, FeCO3: Effenberger et al., Z. Kristallogr. 156, 233 (1981).
    siderite = Structure.from_spacegroup(
        "R-3c",
        [[4.6916, 0, 0], [-2.3458, 4.06304, 0], [0, 0, 15.3796]],
        ["Fe", "C", "O"],
        [[0, 0, 0], [0, 0, 0.25], [0.2743, 0, 0.25]],
    )
    iron = [i for i, site in enumerate(siderite) if site.specie.symbol == "Fe"]
    assert not on_carbon(siderite)[iron].any()


def test_spins_that_are_written_win() -> None:
    inert = host_of(CYANIDE, sites={"FeC": "2 low", "FeN": [2, "3 high"]})
    assert inert.species == ("C2+", "Fe2+", "Fe2+,spin=0", "Fe3+", "N3-", "Na+")
    assert inert.formula_units == 4
    assert [inert.composition(n) for n in (inert.ion_counts[0], inert.ion_counts[-1])] == [1, 2]
    assert total_moments(inert, 8) == (16, 16)
    assert inert.fingerprint == host_of(CYANIDE, sites={"FeC": 2}).fingerprint
    high = host_of(CYANIDE, spins="high", redox_sites_per_formula=2)
    assert total_moments(high, 8) == (32, 32)


def test_a_cyanide_in_a_file_of_its_own_is_low_spin_on_carbon(tmp_path: Path) -> None:
    host = host_of(CYANIDE, redox_sites_per_formula=2)
    atoms = to_atoms(host, enumerate_distinct(host, 8)[0])
    expected = atoms.arrays["species"].tolist()
    assert sorted(expected)[24:32] == ["Fe2+"] * 4 + ["Fe2+,spin=0"] * 4
    bare = to_structure(atoms).remove_oxidation_states()
    bare.to(filename=str(tmp_path / "POSCAR"), fmt="poscar")
    charges = ["Na+", "C2+", "N3-"]
    for iron, alike in (("Fe2+", True), ("Fe2+ high", False)):
        found, _ = load_structure(tmp_path / "POSCAR", [*charges, iron])
        assert (found.arrays["species"].tolist() == expected) == alike
    charged = to_structure(atoms)
    for site in charged:
        site.species = Species(site.specie.symbol, site.specie.oxi_state)
    charged.to(filename=str(tmp_path / "cyanide.cif"), fmt="cif")
    found, how = load_structure(tmp_path / "cyanide.cif")
    assert how == "given in the file"
    assert sorted(found.arrays["species"].tolist()) == sorted(expected)


def test_electrons_move_between_unlike_sites() -> None:
    host = host_of(CYANIDE, redox_sites_per_formula=2)
    listed = enumerate_distinct(host, 7)
    found = {tuple(to_atoms(host, c).arrays["species"][7:15].tolist()) for c in listed}
    assert {sum(t == "Fe3+" for t in tokens) for tokens in found} == {0, 1}
    rng = np.random.default_rng(1)
    (transfer,) = [one for one in OPERATORS if one.name == "electron_transfer"]
    children = {canonical(host, transfer.make(host, [c], rng) or c) for c in listed}
    assert children <= set(listed) and len(children) > 1


def test_cyanide_is_counted_as_brute_force_counts_it() -> None:
    host = host_of(CYANIDE, sites={"FeC": 2})
    marked = host.structure.copy()
    for site in host.fixed:
        if host.elements[site] == "Fe":
            marked.replace(site, "Ru")
    places = marked.frac_coords[host.variable_sites]
    group = []
    for operation in SpacegroupAnalyzer(marked).get_symmetry_operations():
        moves = operation.operate_multi(places)[:, None] - places[None]
        group.append(np.abs(moves - np.round(moves)).max(axis=2).argmin(axis=1))
    forms: Counter[Fraction] = Counter()
    every = {
        state
        for state in product(*host.allowed_states)
        if sum(s for s in state[:8] if s > 0) + sum(state[8:]) == 4 * 4
    }
    while every:
        state = np.array(every.pop())
        every -= {tuple(row) for row in state[np.array(group)].tolist()}
        forms[Fraction(int((state[:8] > 0).sum()), 4)] += 1
    assert dict(sorted(forms.items())) == count_distinct(host)


def test_sites_beside_an_ion_that_stays_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cell = Structure.from_file(HOSTS / "licoo2.cif")
    cell.append("Li", [0.0, 0.0, 0.12])
    cell.to(filename=str(tmp_path / "POSCAR"), fmt="poscar")
    fields = {"structure": tmp_path / "POSCAR", "working_ion": "Li", "fixed": {"O": -2}}
    line = refusal(fields | {"redox": {"Co": [3, 4]}}, sites={"0": 1})
    assert line.startswith("host.sites: an ion site is 1.69 A from an ion that stays; ")


@pytest.mark.parametrize(
    ("sites", "line"),
    [
        ({"FeCC": 2}, "host.sites: no site is called 'FeCC'; did you mean 'FeC'?"),
        ({"Fe 8c": 2}, "host.sites: no site is called 'Fe 8c'; "),
        ({"64": 2}, "host.sites: there is no site number 64; they run from 0 to 63"),
        ({"FeC": 2, "Fe 4a": 3}, "host.sites: 'FeC' and 'Fe 4a' name the same site; "),
        ({"FeC": "2 lo"}, "host.sites.FeC: Fe2+ has no spin state 'lo'; did you mean 'low'?"),
        ({"Na1": 1}, "host.sites: every Na is inert; "),
        ({"FeC": 2, "FeN": 2}, "host.sites: every redox ion is inert; "),
        ({"FeC": "working ion"}, "host.sites.FeC: it is Fe, not Na; give its states"),
        (
            {"Na1": [1, 2]},
            "host.sites.Na1: Na that stays must have the charge of Na that moves",
        ),
    ],
)
def test_sites_that_cannot_be_are_refused(sites: dict[str, Any], line: str) -> None:
    assert refusal(CYANIDE, sites=sites).startswith(line)


@pytest.mark.parametrize(
    ("sites", "line"),
    [
        ({8: 2, "8": 3}, "'8' is given twice; keep one"),
        ({"Fe.1": 2}, "'Fe.1' cannot be stored; give the index of the site instead"),
        ({"FeC": []}, "give its states, or 'working ion'"),
        ({"FeC": [2, 30]}, "30 is not an oxidation state"),
        ({"FeC": "low"}, "'low' is not an oxidation state; "),
    ],
)
def test_roles_that_are_none_are_refused(sites: dict[Any, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(line)):
        HostSpec.model_validate(CYANIDE | {"sites": sites})
