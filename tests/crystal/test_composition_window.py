"""A window of compositions: what is in it, against brute force, and geometries between its ends."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from al_charge.crystal.charge_balance import end_member_species
from al_charge.crystal.enumeration import count_distinct, enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.crystal.prepare import parent_structure
from al_charge.errors import InputError
from al_charge.loop.spec import load_spec

CASES = Path(__file__).parents[1] / "cases" / "hosts"


def nasicon(**changes: Any) -> HostSpec:
    """Return Na3V2(PO4)3 with four sodium sites per formula unit, from x = 1 to 3."""
    spec = load_spec(CASES / "na3v2po43.yaml").host
    return HostSpec(**(spec.model_dump(exclude_unset=True) | changes))


@pytest.fixture(scope="module")
def host() -> Host:
    return Host.from_spec(nasicon())


@pytest.fixture(scope="module")
def full() -> Structure:
    return parent_structure(nasicon())


@pytest.fixture(scope="module")
def empty() -> Structure:
    return read_structure(CASES / "POSCAR_nav2po43")


def images_of(structure: Structure) -> NDArray[np.int64]:
    """Return where pymatgen's operations bring the sites, shape (n_operations, n_sites)."""
    images = []
    for operation in SpacegroupAnalyzer(structure).get_symmetry_operations():
        moved = operation.operate_multi(structure.frac_coords)
        offsets = moved[:, None] - structure.frac_coords[None]
        images.append(np.abs(offsets - np.round(offsets)).sum(axis=-1).argmin(axis=1))
    return np.array(images)


def brute_force(structure: Structure, ions: int) -> int:
    """Count distinct occupations by sodium and V2+ to V5+ with so many ions in the cell."""
    sodium = [i for i, site in enumerate(structure) if site.specie.symbol == "Na"]
    vanadium = [i for i, site in enumerate(structure) if site.specie.symbol == "V"]
    charge = 6 * 5 - 24 * 2  # of P and O
    rows = [
        filled + states
        for filled in product((0, 1), repeat=len(sodium))
        if sum(filled) == ions
        for states in product((2, 3, 4, 5), repeat=len(vanadium))
        if sum(states) + ions + charge == 0
    ]
    occupied = np.zeros((len(rows), len(structure)), dtype=np.int64)
    occupied[:, sodium + vanadium] = rows
    weights = 6 ** np.arange(len(sodium) + len(vanadium))
    codes = [occupied[:, image][:, sodium + vanadium] @ weights for image in images_of(structure)]
    return len(np.unique(np.min(codes, axis=0)))


def test_counts_in_the_window_are_those_of_brute_force(host: Host, full: Structure) -> None:
    assert host.formula_units == 2
    assert host.ion_counts == (2, 3, 4, 5, 6)
    counted = count_distinct(host)
    assert counted == {Fraction(n, 2): brute_force(full, n) for n in range(2, 7)}
    assert {x: len(enumerate_distinct(host, int(2 * x))) for x in counted} == counted
    assert enumerate_distinct(host, 7) == []


def test_a_window_restricts_and_changes_nothing_else(host: Host) -> None:
    whole = Host.from_spec(nasicon(compositions=None))
    assert whole.ion_counts == tuple(range(9))
    assert whole.fingerprint == host.fingerprint
    counted = count_distinct(whole)
    assert count_distinct(host) == {x: n for x, n in counted.items() if 1 <= x <= 3}
    with pytest.raises(InputError, match=r"no composition x = 0; choose one of: 1, 3/2, 2, 5/2, 3"):
        host.n_ions(Fraction(0))
    half = Host.from_spec(nasicon(compositions={"from": "5/2", "to": 3.0}))
    assert half.ion_counts == (5, 6)
    # Without V5+, x = 1 is V4+ alone; x = 3 may be V3+ alone, or V2+ and V4+ beside it.
    assert end_member_species(Host.from_spec(nasicon(redox={"V": (2, 3, 4)}))) == {"V4+"}


def test_a_window_of_sites_that_exclude_each_other() -> None:
    spec = load_spec(CASES / "nacoo2_p2_both_sites.yaml").host
    given = spec.model_dump(exclude_unset=True) | {"compositions": {"from": 0.5, "to": "3/4"}}
    window, whole = Host.from_spec(HostSpec(**given)), Host.from_spec(spec)
    counted = count_distinct(whole)
    assert count_distinct(window) == {
        x: number for x, number in counted.items() if Fraction(1, 2) <= x <= Fraction(3, 4)
    }
    assert count_distinct(window)[Fraction(3, 4)] == 89


POSSIBLE = "choose two of: 0, 1/2, 1, 3/2, 2, 5/2, 3, 7/2, 4"


@pytest.mark.parametrize(
    ("lowest", "highest", "line"),
    [
        (0, 5, "the supercell has no composition x = 5"),
        ("1/3", 3, "the supercell has no composition x = 1/3"),
        (3, 1, "from 3 to 1 there is no composition"),
        (2, "4/2", "from 2 to 2 there is a single composition"),
    ],
)
def test_bad_windows_name_the_possible_compositions(lowest: Any, highest: Any, line: str) -> None:
    with pytest.raises(InputError) as caught:
        Host.from_spec(nasicon(compositions={"from": lowest, "to": highest}))
    assert str(caught.value) == f"host.compositions: {line}; {POSSIBLE}"


def other_origin(structure: Structure) -> Structure:
    moved = Structure.from_sites(list(reversed(structure)))
    moved.translate_sites(list(range(len(moved))), [0.13, 0.05, 0.27])
    return moved


def turned(structure: Structure) -> Structure:
    """Return it with other lattice vectors and axes."""
    lattice = Lattice(
        structure.lattice.matrix[[1, 2, 0]] @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    )
    return Structure(lattice, structure.species, structure.frac_coords[:, [1, 2, 0]])


@pytest.mark.parametrize("change", [lambda s: s, other_origin, turned])
def test_ions_that_stay_are_matched_to_their_sites(
    host: Host, full: Structure, empty: Structure, change: Any
) -> None:
    matched = match_empty(full, change(empty), "Na", kept=2)
    assert [site.specie.symbol for site in matched] == [site.specie.symbol for site in full]
    moved = full.lattice.get_cartesian_coords(matched.frac_coords - full.frac_coords)
    assert np.linalg.norm(moved, axis=1).max() < 0.5
    # Sodium on 6b is on the inversion centre of either structure; the others keep their places.
    sodium = [i for i, site in enumerate(full) if site.specie.symbol == "Na"]
    assert np.linalg.norm(moved[sodium], axis=1) == pytest.approx(0.0, abs=1e-4)
    assert sorted(matched.lattice.abc) == pytest.approx(sorted(empty.lattice.abc))
    assert matched.volume == pytest.approx(empty.volume)


def test_geometries_lie_between_the_ends_of_the_window(
    host: Host, full: Structure, empty: Structure
) -> None:
    matched = match_empty(full, empty, "Na", kept=2)
    volumes = [
        interpolated_host(host, full, matched, n, kept=2).structure.volume for n in host.ion_counts
    ]
    assert volumes[0] == pytest.approx(empty.volume)
    assert volumes[-1] == pytest.approx(full.volume)
    assert volumes == sorted(volumes)
    middle = interpolated_host(host, full, matched, 4, kept=2).structure
    expected = (np.array(matched.lattice.matrix) + full.lattice.matrix) / 2
    assert middle.lattice.matrix == pytest.approx(expected)
    assert middle.frac_coords == pytest.approx((matched.frac_coords + full.frac_coords) / 2)
    # In a supercell, by its number of ions.
    double = Host.from_spec(nasicon(supercell=(1, 1, 2)))
    low, high = (
        interpolated_host(double, full, matched, n, kept=2).structure.volume / 2 for n in (4, 12)
    )
    assert (low, high) == (pytest.approx(empty.volume), pytest.approx(full.volume))
    # A structure without ions stands for x = 0, whatever the window is.
    bare = match_empty(full, empty.copy().remove_species(["Na"]), "Na", kept=2)
    lowest = interpolated_host(host, full, bare, 2).structure.lattice.matrix
    assert lowest == pytest.approx((2 * bare.lattice.matrix + full.lattice.matrix) / 3)


def test_another_number_of_ions_is_refused(full: Structure, empty: Structure) -> None:
    with pytest.raises(InputError) as caught:
        match_empty(full, empty, "Na", kept=3)
    assert str(caught.value) == (
        "host.empty_structure: it contains 2 Na; give the host without Na, or with 3, those of its "
        "lowest composition"
    )
    elsewhere = empty.copy()
    elsewhere.translate_sites([0], [0.15, 0.1, 0.0])
    with pytest.raises(InputError, match="its sites do not match those of the host"):
        match_empty(full, elsewhere, "Na", kept=2)


def test_ions_that_never_leave_and_ions_that_stay(full: Structure, empty: Structure) -> None:
    """Of six sodium sites on 18e three belong to the framework; those on 6b stay at x = 1."""
    sodium = [i for i, site in enumerate(full) if site.specie.symbol == "Na"]
    inert = [i for i in sodium if np.abs(full.frac_coords[i] * 2 % 1.0).max() > 0.01][:3]
    mobile = np.array([i in sodium and i not in inert for i in range(len(full))])
    emptied = empty.copy()
    for i in inert:
        emptied.append("Na", full.frac_coords[i])
    matched = match_empty(full, emptied, "Na", mobile, kept=2)
    moved = matched.frac_coords - full.frac_coords
    assert np.abs(moved[sodium]).max() < 1e-4 and np.abs(moved).max() < 0.05
    bare = Structure.from_sites([site for i, site in enumerate(full) if not mobile[i]])
    again = match_empty(full, bare, "Na", mobile, kept=2)
    assert again.frac_coords == pytest.approx(full.frac_coords)
    with pytest.raises(InputError, match=r"it contains 5 Na; give the host with 3 Na$"):
        match_empty(full, emptied, "Na", mobile)
    with pytest.raises(InputError, match="its cell holds Na2 V4 P6 O24, the host without Na Na3 "):
        match_empty(full, empty, "Na", mobile, kept=2)
