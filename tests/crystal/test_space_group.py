"""Symmetry within tolerances, and structures whose noise is removed, against the ideal ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from al_charge.crystal.enumeration import count_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.parent import read_structure
from al_charge.crystal.space_group import almost, space_group, symmetrized
from al_charge.loop.spec import load_spec

CASES = Path(__file__).parents[1] / "cases" / "hosts"


def case(name: str, **changes: object) -> Host:
    spec = load_spec(CASES / f"{name}.yaml").host
    return Host.from_spec(HostSpec(**(spec.model_dump(exclude_unset=True) | changes)))


def noisy(structure: Structure, noise: float, seed: int = 0) -> Structure:
    """Return it with a normally distributed displacement of every coordinate and cell vector."""
    rng = np.random.default_rng(seed)
    strain = rng.normal(0.0, noise / 10, size=(3, 3))
    moved = structure.copy()
    moved.lattice = Lattice(structure.lattice.matrix + strain)
    for site in moved:
        site.coords = site.coords + rng.normal(0.0, noise, size=3)
    return moved


def test_symbols_are_those_of_pymatgen(any_host: Host) -> None:
    analyzer = SpacegroupAnalyzer(any_host.structure, symprec=0.01)
    found = space_group(any_host.structure)
    assert found.symbol == analyzer.get_space_group_symbol()
    assert found.operations == len(analyzer.get_space_group_operations())


@pytest.mark.parametrize(
    ("name", "symbol", "operations", "before", "after"),
    [
        ("licoo2_rounded_thirds", "R-3m", 144, 61208, 20729),
        ("lifepo4_noise", "Pnma", 8, 70, 16),
    ],
)
def test_noise_of_the_cases_is_found_and_removed(
    name: str, symbol: str, operations: int, before: int, after: int
) -> None:
    host = case(name)
    assert sum(count_distinct(host).values()) == before
    looser = almost(host.structure)
    assert looser is not None
    assert (looser[0].symbol, looser[0].operations) == (symbol, operations)
    assert looser[0].tolerance > 0.01
    mended = case(name, symmetrize=f"{looser[1]} A")
    assert sum(count_distinct(mended).values()) == after
    assert space_group(mended.structure, 1e-5).operations == operations
    assert almost(mended.structure) is None
    assert mended.elements == host.elements


def test_rounded_thirds_become_thirds() -> None:
    mended = symmetrized(read_structure(CASES / "licoo2_rounded_thirds.cif"), 0.01)
    exact = read_structure(CASES / "licoo2.cif")
    moved = mended.frac_coords - exact.frac_coords
    moved -= np.round(moved)
    assert np.abs(moved[:, :2] - moved[:, :2].mean(axis=0)).max() < 1e-6
    # O at 0.333 - 0.26 and 0.333 + 0.26 and so on: z of O is a free parameter.
    assert np.abs(moved[:, 2] - moved[:, 2].mean()).max() < 5e-4
    np.testing.assert_allclose(mended.lattice.matrix, exact.lattice.matrix, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("supercell", [(1, 1, 1), (1, 2, 1), ((1, 1, 0), (-1, 1, 0), (0, 0, 1))])
def test_noise_is_removed_in_any_cell(olivine: Host, supercell: object, seed: int) -> None:
    ideal = olivine.structure.make_supercell(supercell, in_place=False)
    given = noisy(ideal, 0.008, seed)
    assert space_group(given).operations == 1
    mended = symmetrized(given, 0.015)
    assert space_group(mended, 1e-5).operations == space_group(ideal).operations
    # Sites keep their order and stay close to where they were.
    assert mended.species == given.species
    distances = mended.lattice.get_all_distances(mended.frac_coords, given.frac_coords)
    assert np.diag(distances).max() < 0.04
    assert np.abs(mended.lattice.matrix - given.lattice.matrix).max() < 0.01
    # A hundredth of the noise is no excuse for it.
    assert symmetrized(given, 1e-4) == given


def test_a_cell_without_noise_stays_as_it_is(any_host: Host) -> None:
    assert almost(any_host.structure) is None
    mended = symmetrized(any_host.structure, 0.01)
    distances = mended.lattice.get_all_distances(mended.frac_coords, any_host.structure.frac_coords)
    assert np.diag(distances).max() < 1e-4


def test_a_distortion_larger_than_the_noise_stays(olivine: Host) -> None:
    distorted = olivine.structure.copy()
    distorted.translate_sites([0], [0.0, 0.01, 0.0])  # one Na by 0.06 A
    assert space_group(distorted).operations < 8
    assert symmetrized(distorted, 0.01) == distorted
    assert space_group(symmetrized(distorted, 0.05), 1e-5).operations == 8


def test_sites_keep_their_oxidation_states(olivine: Host) -> None:
    ions = olivine.structure.copy()
    ions.add_oxidation_state_by_element({"Na": 1, "Fe": 2, "P": 5, "O": -2})
    mended = symmetrized(noisy(ions, 0.005), 0.01)
    assert mended.species == ions.species
    assert space_group(mended, 1e-5).symbol == "Pnma"
