"""Start geometries between an emptied and a filled host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.interpolation import FARTHEST, interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.errors import InputError

HOSTS = Path(__file__).parents[2] / "workflows" / "hosts"


@pytest.fixture(scope="module")
def full() -> Structure:
    return read_structure(HOSTS / "NaFePO4.cif")


@pytest.fixture(scope="module")
def empty() -> Structure:
    return read_structure(HOSTS / "FePO4.cif")


def shuffled(empty: Structure) -> Structure:
    order = np.random.default_rng(0).permutation(len(empty))
    return Structure.from_sites([empty[int(i)] for i in order])


def shifted(empty: Structure) -> Structure:
    other = shuffled(empty)
    other.translate_sites(list(range(len(other))), [0.1, 0.0, 0.2])
    return other


def in_other_cells(empty: Structure) -> Structure:
    """Return it with every site moved by whole lattice vectors."""
    cells = np.random.default_rng(2).integers(-2, 3, size=(len(empty), 3))
    return Structure(empty.lattice, empty.species, empty.frac_coords + cells)


def turned(empty: Structure) -> Structure:
    """Return it with the axes b, c, a, in the setting Pbnm."""
    axes = [1, 2, 0]
    lattice = Lattice.orthorhombic(*(empty.lattice.abc[i] for i in axes))
    return Structure(lattice, empty.species, empty.frac_coords[:, axes])


def tilted(empty: Structure) -> Structure:
    """Return it with its lattice vectors turned in space."""
    turn = Lattice.from_parameters(5, 6, 7, 80, 75, 95).matrix
    rotation, _ = np.linalg.qr(turn)
    rotation *= np.sign(np.linalg.det(rotation))
    return Structure(Lattice(empty.lattice.matrix @ rotation), empty.species, empty.frac_coords)


@pytest.mark.parametrize("change", [shuffled, shifted, in_other_cells, turned, tilted])
def test_order_origin_setting_and_direction_do_not_matter(
    full: Structure, empty: Structure, change: object
) -> None:
    expected = match_empty(full, empty, "Na")
    found = match_empty(full, change(empty), "Na")  # type: ignore[operator]
    assert found.lattice.matrix == pytest.approx(expected.lattice.matrix, abs=1e-8)
    assert found.frac_coords == pytest.approx(expected.frac_coords, abs=1e-8)
    assert [s.symbol for s in found.species] == [s.symbol for s in full.species]


def test_every_site_goes_to_its_own_neighbour(full: Structure, empty: Structure) -> None:
    found = match_empty(full, empty, "Na")
    moved = full.lattice.get_cartesian_coords(found.frac_coords - full.frac_coords)
    lengths = np.linalg.norm(moved, axis=1)
    symbols = np.array([s.symbol for s in full.species])
    assert lengths[symbols == "Na"] == pytest.approx(0.0, abs=1e-9)
    assert lengths.max() < 0.35
    assert {round(float(x), 6) for x in lengths[symbols == "Fe"]} == {
        round(float(lengths[symbols == "Fe"][0]), 6)
    }


@pytest.mark.parametrize("supercell", [(1, 1, 1), (1, 2, 1)])
def test_ends_are_the_two_structures_and_the_middle_their_mean(
    full: Structure, empty: Structure, supercell: tuple[int, int, int]
) -> None:
    spec = HostSpec(
        structure=HOSTS / "NaFePO4.cif",
        working_ion="Na",
        redox={"Fe": (2, 3)},
        fixed={"P": 5, "O": -2},
        supercell=supercell,
    )
    host = Host.build(spec, full)
    matched = match_empty(full, empty, "Na")
    n = len(host.ion_sites)
    first, middle, last = (interpolated_host(host, full, matched, k) for k in (0, n // 2, n))
    repeats = np.array(supercell)
    assert first.structure.lattice.abc == pytest.approx(np.array(empty.lattice.abc) * repeats)
    assert last.structure.lattice.abc == pytest.approx(host.structure.lattice.abc)
    mean = (np.array(first.structure.lattice.abc) + last.structure.lattice.abc) / 2
    assert middle.structure.lattice.abc == pytest.approx(mean)
    assert last.structure.frac_coords == pytest.approx(host.structure.frac_coords)
    assert first.elements == middle.elements == host.elements
    assert middle.structure.get_space_group_info()[0] == (host.structure.get_space_group_info()[0])
    step = middle.structure.frac_coords - last.structure.frac_coords
    whole = first.structure.frac_coords - last.structure.frac_coords
    assert (whole - 2 * step) - np.round(whole - 2 * step) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("distance", [FARTHEST - 0.05, FARTHEST + 0.05])
def test_how_far_a_site_may_move_when_the_host_is_emptied(full: Structure, distance: float) -> None:
    empty = full.copy()
    empty.remove_species(["Na"])
    oxygen = next(i for i, site in enumerate(empty) if site.specie.symbol == "O")
    empty.translate_sites([oxygen], [distance, 0.0, 0.0], frac_coords=False)
    if distance < FARTHEST:
        found = match_empty(full, empty, "Na")
        moved = full.lattice.get_cartesian_coords(found.frac_coords - full.frac_coords)
        assert np.linalg.norm(moved, axis=1).max() == pytest.approx(distance)
        return
    with pytest.raises(InputError, match="do not match"):
        match_empty(full, empty, "Na")


def test_what_is_another_crystal_is_refused(full: Structure, empty: Structure) -> None:
    with pytest.raises(InputError, match=r"host\.empty_structure.*contains Na"):
        match_empty(full, full, "Na")
    smaller = empty.copy()
    smaller.remove_sites([0])
    with pytest.raises(InputError, match="its cell holds Fe3 P4 O16"):
        match_empty(full, smaller, "Na")
    rng = np.random.default_rng(1)
    other = Structure(empty.lattice, empty.species, rng.random((len(empty), 3)))
    with pytest.raises(InputError, match="do not match"):
        match_empty(full, other, "Na")


def test_supercell_of_a_matrix_keeps_its_sites(full: Structure, empty: Structure) -> None:
    spec = HostSpec(
        structure=HOSTS / "NaFePO4.cif",
        working_ion="Na",
        redox={"Fe": (2, 3)},
        fixed={"P": 5, "O": -2},
        supercell=((1, 1, 0), (-1, 1, 0), (0, 0, 1)),
    )
    host = Host.build(spec, full)
    matched = match_empty(full, empty, "Na")
    filled = interpolated_host(host, full, matched, len(host.ion_sites))
    assert filled.fingerprint == host.fingerprint
    between = interpolated_host(host, full, matched, 3)
    assert between.elements == host.elements
    moved = between.structure.frac_coords - host.structure.frac_coords
    assert np.abs(moved - np.round(moved)).max() < 0.05
