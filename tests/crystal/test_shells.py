"""Coordination shells: what bond lengths show, and how a geometry is steered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.configuration import (
    Configuration,
    from_atoms,
    set_site_kinds,
    set_species,
    to_atoms,
)
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.shells import (
    KIND,
    charge_order_contrast,
    distort_shells,
    mixed_sites,
    shell_lengths,
    shells,
)
from al_charge.crystal.states import charge_of_state
from al_charge.loop.propose import _start
from al_charge.loop.spec import load_spec

EXAMPLES = Path(__file__).parents[2] / "examples" / "hosts"


def half_sodiated(olivine: Host) -> Atoms:
    """Return one charge order of olivine at x = 1/2."""
    return to_atoms(olivine, enumerate_distinct(olivine, 2)[0])


def chain(species: list[str]) -> Atoms:
    """Return Fe-O-Fe-O... on a line, 2 angstrom apart, periodic along it."""
    tokens = [token for iron in species for token in (iron, "O2-")]
    atoms = Atoms(
        ["Fe", "O"] * len(species),
        positions=[(2.0 * i, 0, 0) for i in range(len(tokens))],
        cell=(2.0 * len(tokens), 12, 12),
        pbc=True,
    )
    set_species(atoms, tokens)
    return atoms


def test_olivine_iron_has_six_oxygens(olivine: Host) -> None:
    atoms = half_sodiated(olivine)
    found = shells(atoms, list(mixed_sites(atoms)["Fe", 0]))
    assert len(found) == 4
    for anions, vectors in found.values():
        assert len(anions) == 6
        assert set(atoms.symbols[anions]) == {"O"}
        assert np.linalg.norm(vectors, axis=1).max() < 2.6


def test_shells_tell_the_states_apart_after_distortion(olivine: Host) -> None:
    atoms = half_sodiated(olivine)
    assert abs(charge_order_contrast(atoms)) < 1e-9  # ideal sites: all Fe alike
    assert charge_order_contrast(distort_shells(atoms, 0.06)) > 0.06


def test_sites_of_different_kinds_are_not_compared(olivine: Host) -> None:
    atoms = half_sodiated(olivine)
    iron = list(mixed_sites(atoms)["Fe", 0])
    higher = [i for i in iron if atoms.arrays["species"][i] == "Fe3+"]
    kinds = np.zeros(len(atoms), dtype=int)
    kinds[higher] = 1
    atoms.set_array(KIND, kinds)
    assert mixed_sites(atoms) == {} and charge_order_contrast(atoms) == np.inf
    kinds[iron] = 1
    atoms.set_array(KIND, kinds)
    assert list(mixed_sites(atoms)) == [("Fe", 1)]


@pytest.mark.parametrize("n_ions", [0, 4])
def test_one_state_is_left_alone(olivine: Host, n_ions: int) -> None:
    atoms = to_atoms(olivine, enumerate_distinct(olivine, n_ions)[0])
    assert mixed_sites(atoms) == {}
    assert charge_order_contrast(atoms) == np.inf
    assert np.array_equal(distort_shells(atoms, 0.06).positions, atoms.positions)


def test_distortion_goes_with_the_charges_exchanged(olivine: Host) -> None:
    config = enumerate_distinct(olivine, 2)[0]
    ions, states = config.occupation[:4], config.occupation[4:]
    swapped = Configuration(ions + tuple(5 - state for state in states))
    first, second = to_atoms(olivine, config), to_atoms(olivine, swapped)
    moved = distort_shells(first, 0.05).positions - first.positions
    opposite = distort_shells(second, 0.05).positions - second.positions
    assert np.abs(moved).max() > 0.01
    np.testing.assert_allclose(moved, -opposite, atol=1e-12)


def test_only_anions_of_mixed_sites_move_and_nothing_else_changes(olivine: Host) -> None:
    atoms = half_sodiated(olivine)
    before = atoms.positions.copy()
    distorted = distort_shells(atoms, 0.06)
    assert np.array_equal(atoms.positions, before)
    moved = np.linalg.norm(distorted.positions - before, axis=1) > 1e-12
    assert moved.any()
    assert set(atoms.symbols[moved]) == {"O"}
    assert np.array_equal(distorted.arrays["species"], atoms.arrays["species"])


def test_displacements_of_a_shared_anion_add_up() -> None:
    atoms = chain(["Fe2+", "Fe3+"])
    moved = distort_shells(atoms, 0.05).positions - atoms.positions
    # Pushed by Fe2+ and pulled by Fe3+, 0.05 each; the other oxygen the opposite way.
    np.testing.assert_allclose(moved[:, 0], [0, 0.10, 0, -0.10], atol=1e-12)


def test_opposite_displacements_of_a_shared_anion_cancel() -> None:
    atoms = chain(["Fe2+", "Fe3+", "Fe3+"])
    moved = distort_shells(atoms, 0.06).positions - atoms.positions
    # Oxygen 3 lies between the two Fe3+.
    np.testing.assert_allclose(moved[:, 0], [0, 0.12, 0, 0, 0, -0.12], atol=1e-12)


def test_a_shared_anion_changes_both_of_its_bonds() -> None:
    atoms = chain(["Fe2+", "Fe3+"])
    atoms.positions[3] += (0, 6, 0)  # one oxygen of the two taken out of reach
    lengths = shell_lengths(distort_shells(atoms, 0.01), [0, 2])
    assert lengths[0] - lengths[1] == pytest.approx(2 * 2 * 0.01)


def test_contrast_is_the_least_over_pairs_of_neighbouring_states() -> None:
    atoms = chain(["Fe2+", "Fe3+", "Fe4+"])
    assert charge_order_contrast(atoms) == pytest.approx(0.0)
    wrong = distort_shells(atoms, -0.03)
    assert charge_order_contrast(wrong) < 0 < charge_order_contrast(distort_shells(atoms, 0.03))


def test_a_site_without_anions_shows_no_order() -> None:
    atoms = chain(["Fe2+", "Fe3+"])
    atoms.positions[[1, 3]] += (0, 6, 0)
    assert np.isnan(shell_lengths(atoms, [0, 2])).all()
    assert charge_order_contrast(atoms) == -np.inf


def prussian_white() -> tuple[Host, list[int], list[int]]:
    """Return the host, and its iron sites bound to carbon and to nitrogen."""
    host = Host.from_spec(load_spec(EXAMPLES / "na2fefecn6.yaml").host)
    near = host.structure.distance_matrix
    carbon = [i for i, element in enumerate(host.elements) if element == "C"]
    iron = [i for i, element in enumerate(host.elements) if element == "Fe"]
    inner = [i for i in iron if near[i, carbon].min() < 2.0]
    return host, inner, [i for i in iron if i not in inner]


def with_charges(host: Host, charges: dict[int, int]) -> Atoms:
    """Return a cell in which sites of iron have the given charges, with sodium for them."""
    states = [
        next(state for state in host.states[site] if charge_of_state(state) == charges[site])
        for site in host.redox_sites.tolist()
    ]
    sodium = -host.fixed_charge - sum(charges.values())
    ions = (1,) * sodium + (VACANCY,) * (len(host.ion_sites) - sodium)
    return to_atoms(host, Configuration(ions + tuple(states)))


def test_iron_at_carbon_is_not_compared_with_iron_at_nitrogen() -> None:
    host, inner, outer = prussian_white()
    atoms = with_charges(host, dict.fromkeys(inner, 2) | dict.fromkeys(outer, 3))
    assert np.abs(distort_shells(atoms, 0.06).positions - atoms.positions).max() > 0.1
    set_site_kinds(host, atoms)
    assert np.array_equal(distort_shells(atoms, 0.06).positions, atoms.positions)
    campaign = SimpleNamespace(start_host=lambda one, _: one, static_labels=True)
    start = _start(campaign, host, from_atoms(host, atoms))  # type: ignore[arg-type]
    assert np.array_equal(start.positions, atoms.positions)


def test_hosts_of_one_kind_for_each_element_need_no_array(olivine: Host) -> None:
    atoms = half_sodiated(olivine)
    set_site_kinds(olivine, atoms)
    assert KIND not in atoms.arrays


@pytest.mark.parametrize("inside", [False, True])
def test_cyanide_moves_as_a_whole(inside: bool) -> None:
    host, inner, outer = prussian_white()
    changing, other = (inner, outer) if inside else (outer, inner)
    charges = dict.fromkeys(other, 3) | dict.fromkeys(changing, 3) | {changing[0]: 2}
    atoms = with_charges(host, charges)
    set_site_kinds(host, atoms)
    moved = distort_shells(atoms, 0.06)
    carbon, nitrogen = (np.flatnonzero(atoms.symbols == element) for element in "CN")
    bonds = [
        one.get_all_distances(mic=True)[carbon][:, nitrogen].min(axis=1) for one in (atoms, moved)
    ]
    assert bonds[1] == pytest.approx(bonds[0], abs=1e-9)
    assert charge_order_contrast(moved) == pytest.approx(0.12, abs=0.005)
