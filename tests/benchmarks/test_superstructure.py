"""The known superstructure of Na2/3FePO4 is what its description says."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from al_charge.crystal.configuration import (
    Configuration,
    composition,
    to_atoms,
    to_structure,
    total_charge,
)
from al_charge.crystal.enumeration import count_distinct, distinct_occupations
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.identity import identity, repetitions, written_in
from al_charge.crystal.symmetry import canonical, permutations
from al_charge.errors import InputError
from al_charge.search.seeds import ewald_energies

ROOT = Path(__file__).parents[2]
CAMPAIGN = ROOT / "workflows" / "nafepo4_gpaw.yaml"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import superstructure  # type: ignore[import-not-found, unused-ignore]

    return superstructure


@pytest.fixture
def spec(module: ModuleType) -> HostSpec:
    return module.open_campaign(CAMPAIGN).spec.host


def sites(host: Host, config: Configuration) -> tuple[np.ndarray, np.ndarray]:
    """Return vacant sodium sites and Fe3+."""
    state = np.array(config.occupation)
    number = len(host.ion_sites)
    return host.ion_sites[state[:number] == VACANCY], host.redox_sites[state[number:] == 3]


def test_it_is_neutral_has_two_thirds_of_its_sodium_and_evenly_spaced_vacancies(
    module: ModuleType, spec: HostSpec
) -> None:
    host = module.host_of(spec)
    config = module.superstructure(host)
    vacant, oxidised = sites(host, config)
    assert composition(host, config) == Fraction(2, 3)
    assert total_charge(host, config) == 0
    assert (len(vacant), len(oxidised)) == (4, 4)
    far = host.structure.distance_matrix
    apart = far[np.ix_(vacant, vacant)][np.triu_indices(4, 1)]
    a, b, c = host.parent.lattice.abc
    assert apart.min() == pytest.approx(np.linalg.norm([a / 2, b / 2, c / 2]))
    assert apart.min() > 2 * b / 2  # next neighbours of a chain are never both vacant
    nearest = far[np.ix_(host.ion_sites, host.redox_sites)].min()
    assert (far[np.ix_(vacant, oxidised)].min(axis=1) < 1.1 * nearest).all()
    # From each vacancy, [110] leads from vacancy to vacancy in steps of half a lattice vector.
    places = host.structure.cart_coords[vacant]
    step = np.array([a / 2, b / 2, c / 2])
    for place in places:
        others = host.structure.lattice.get_all_distances(
            host.structure.lattice.get_fractional_coords(place + step),
            host.structure.lattice.get_fractional_coords(places),
        )
        assert others.min() == pytest.approx(0.0, abs=1e-6)


def test_it_keeps_the_monoclinic_group_of_its_sodium(module: ModuleType, spec: HostSpec) -> None:
    host = module.host_of(spec)
    config = module.superstructure(host)
    structure = to_structure(to_atoms(host, config))
    assert SpacegroupAnalyzer(structure, symprec=1e-2).get_space_group_symbol() == "P2_1/c"
    state, group = config.as_array(), permutations(host)
    kept = state[group] == state
    assert kept[:, : len(host.ion_sites)].all(axis=1).sum() == kept.all(axis=1).sum() == 4
    assert repetitions(host, state[None]).tolist() == [1]


def test_it_is_one_configuration_of_its_oblique_cell_and_none_of_1x3x1(
    module: ModuleType, spec: HostSpec
) -> None:
    host = module.host_of(spec)
    config = module.superstructure(host)
    rows = distinct_occupations(host, 8)
    assert len(rows) == count_distinct(host)[Fraction(2, 3)] == 20610
    assert (rows == canonical(host, config).as_array()).all(axis=1).sum() == 1
    # Of all charge orders on these ions it has the lowest Ewald energy.
    same = rows[(rows[:, :12] == canonical(host, config).as_array()[:12]).all(axis=1)]
    energies = ewald_energies(host, [Configuration(tuple(row)) for row in same.tolist()])
    assert ewald_energies(host, [config])[0] == pytest.approx(energies.min())
    assert np.sum(energies < energies.min() + 1e-6) == 1
    straight = module.host_of(spec, ((1, 0, 0), (0, 3, 0), (0, 0, 1)))
    assert count_distinct(straight)[Fraction(2, 3)] == 10410
    assert written_in(straight, host, config) is None
    with pytest.raises(InputError, match="does not hold"):
        module.superstructure(straight)


@pytest.mark.parametrize(
    "cell", [((1, 1, 0), (0, 3, 0), (0, 0, 2)), ((2, -1, 0), (1, 1, 0), (0, 0, 1))]
)
def test_it_is_the_same_from_two_supercells(
    module: ModuleType, spec: HostSpec, cell: tuple[tuple[int, ...], ...]
) -> None:
    own, other = module.host_of(spec), module.host_of(spec, cell)
    found = module.superstructure(other)
    assert identity(other, found) == identity(own, module.superstructure(own))


def test_its_start_has_long_bonds_around_fe2_and_can_be_labelled(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["superstructure", str(CAMPAIGN), str(tmp_path)])
    module.main()
    atoms = ase.io.read(tmp_path / "superstructure.extxyz")
    assert len(ase.io.read(tmp_path / "zigzag.extxyz")) == len(atoms)
    assert atoms.symbols.formula.count() == {"Na": 8, "Fe": 12, "P": 12, "O": 48}
    tokens = atoms.arrays["requested_species"].tolist()
    assert (tokens.count("Fe2+"), tokens.count("Fe3+")) == (8, 4)
    iron = np.flatnonzero(atoms.numbers == 26)
    oxygen = np.flatnonzero(atoms.numbers == 8)
    far = np.sort(atoms.get_all_distances(mic=True)[np.ix_(iron, oxygen)], axis=1)[:, :6].mean(
        axis=1
    )
    oxidised = np.array(tokens)[iron] == "Fe3+"
    assert far[oxidised].max() < far[~oxidised].min()


def test_the_zigzag_is_the_nearest_that_1x3x1_holds(module: ModuleType, spec: HostSpec) -> None:
    host = module.host_of(spec, module.STRAIGHT)
    config = module.zigzag(host)
    vacant, oxidised = sites(host, config)
    assert composition(host, config) == Fraction(2, 3)
    assert (len(vacant), len(oxidised)) == (4, 4)
    # As in the superstructure: every third site of a chain, and a line to the next chain.
    apart = np.sort(host.structure.distance_matrix[np.ix_(vacant, vacant)], axis=1)[:, 1]
    a, b, c = host.parent.lattice.abc
    assert apart == pytest.approx(np.linalg.norm([a / 2, b / 2, c / 2]))
    structure = to_structure(to_atoms(host, config))
    assert SpacegroupAnalyzer(structure, symprec=1e-2).get_space_group_symbol() == "P2_12_12_1"
    own = module.host_of(spec)
    energies = [
        ewald_energies(cell, [one])[0] / cell.formula_units
        for cell, one in ((host, config), (own, module.superstructure(own)))
    ]
    assert energies[0] - energies[1] == pytest.approx(0.049, abs=0.001)
