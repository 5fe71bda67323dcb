"""One identity for one order: against counts, pymatgen and spglib, and across supercells."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import (
    Configuration,
    from_structure,
    ion_count,
    to_atoms,
    to_structure,
)
from al_charge.crystal.enumeration import count_distinct, count_primitive, distinct_occupations
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec, SupercellsSpec
from al_charge.crystal.identity import identities, identity, repetitions
from al_charge.crystal.parent import Matrix, Repeats
from al_charge.crystal.prepare import parent_structure
from al_charge.crystal.supercells import hosts_of
from al_charge.crystal.superlattices import as_matrix
from al_charge.crystal.symmetry import canonical, canonical_forms, permutations
from al_charge.search.random_occupation import random_occupation

CASES = Path(__file__).parents[1] / "cases" / "hosts"
OLIVINE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
FCC = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
ROCK_SALT = [("Na", place) for place in FCC] + [("O", [x + 0.5, y, z]) for x, y, z in FCC]
PUBLISHED = [2, 3, 12, 14, 50]
"""Binary structures of fcc with 2 to 6 atoms, elements exchangeable: Hart and Forcade 2008."""


def spec_of(name: str, folder: Path) -> HostSpec:
    """Return the specification of a host; the file of some holds several primitive cells."""
    path = folder / "POSCAR"
    layers = Lattice.tetragonal(4.0, 5.0)
    oxygen = [[0, 0.5, 0.5], [0.5, 0, 0.5]]
    if name == "olivine":
        return HostSpec(
            structure=OLIVINE, working_ion="Na", redox={"Fe": (2, 3)}, fixed={"P": 5, "O": -2}
        )
    if name == "layers with spins":  # three primitive cells
        return HostSpec(
            structure=CASES / "licoo2.cif",
            working_ion="Li",
            redox={"Co": ("3 low", "3 high", 4)},
            fixed={"O": -2},
        )
    if name == "sites that exclude each other":
        return HostSpec(
            structure=CASES / "nacoo2_p2_both_sites.cif",
            working_ion="Na",
            redox={"Co": (3, 4)},
            fixed={"O": -2},
        )
    if name == "ions and redox sites that stay":
        # A doubled cell of the tetragonal one in which an ion and a redox site keep their states.
        structure = Structure(layers, ["Na", "V", "O", "O"], [[0, 0, 0], [0.5] * 3, *oxygen])
        structure.make_supercell((2, 1, 1))
        structure.to(filename=str(path))
        sites = {"1": 1, "3": 3}
    else:
        structure = Structure(layers, ["Na", "V", "O", "O"], [[0, 0, 0], [0.5] * 3, *oxygen])
        structure.to(filename=str(path))
        sites = {}
    return HostSpec(
        structure=path, working_ion="Na", redox={"V": (3, 4)}, fixed={"O": -2}, sites=sites
    )


def cells(spec: HostSpec, up_to: int) -> tuple[Host, ...]:
    """Return a host for each distinct supercell."""
    several = spec.model_copy(update={"supercells": SupercellsSpec(up_to=up_to)})
    return hosts_of(several, parent_structure(several)).hosts


def with_cell(spec: HostSpec, supercell: Matrix | Repeats) -> Host:
    return Host.from_spec(spec.model_copy(update={"supercell": supercell}))


def everything(host: Host) -> NDArray[np.int8]:
    """Return every distinct configuration of a host."""
    return np.concatenate([distinct_occupations(host, n) for n in host.ion_counts])


@pytest.mark.parametrize(
    ("name", "up_to"),
    [
        ("olivine", 2),
        ("layers with spins", 3),
        ("sites that exclude each other", 2),
        ("ions and redox sites that stay", 3),
        ("tetragonal", 4),
    ],
)
def test_identities_of_all_cells_are_as_many_as_counted(
    name: str, up_to: int, tmp_path: Path
) -> None:
    seen: set[str] = set()
    for host in cells(spec_of(name, tmp_path), up_to):
        occupations = everything(host)
        assert len(occupations) == sum(count_distinct(host).values())
        found = identities(host, occupations)
        new = set(found) - seen
        own = repetitions(host, occupations) == 1
        # What no smaller cell holds is new, and all of it is distinct.
        assert {one for one, is_own in zip(found, own.tolist(), strict=True) if is_own} == new
        numbers = Counter(
            host.composition(ion_count(host, Configuration(tuple(row))))
            for row in occupations[own].tolist()
        )
        assert count_primitive(host) == {x: numbers[x] for x in count_distinct(host)}
        assert len(new) == own.sum()
        seen |= new


def test_fcc_has_the_published_binary_structures(tmp_path: Path) -> None:
    structure = Structure(Lattice.cubic(4.2), *zip(*ROCK_SALT, strict=True))
    structure.to(filename=str(tmp_path / "POSCAR"))
    spec = HostSpec(
        structure=tmp_path / "POSCAR", working_ion="Na", redox={"O": (-2, -1)}, fixed={}
    )
    found: dict[int, set[frozenset[str]]] = {}
    for host in cells(spec, 6):
        # Charges do not matter to an identity: the redox sites all stay in one state here.
        size = len(host.ion_sites)
        ions = np.array(list(product((VACANCY, 1), repeat=size)), dtype=np.int8)
        filled = np.hstack([ions, np.full_like(ions, -1)])
        exchanged = np.hstack([np.where(ions == 1, VACANCY, 1), np.full_like(ions, -1)])
        own = repetitions(host, filled) == 1
        pairs = zip(identities(host, filled[own]), identities(host, exchanged[own]), strict=True)
        found.setdefault(size, set()).update(map(frozenset, pairs))
    assert [len(found[size]) for size in range(2, 7)] == PUBLISHED


@pytest.mark.parametrize("name", ["olivine", "layers with spins", "ions and redox sites that stay"])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_one_order_has_one_identity_in_every_cell(name: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spec = spec_of(name, Path(folder))
        small = with_cell(spec, (1, 1, 1))
        entries = st.lists(st.integers(-2, 2), min_size=9, max_size=9).map(
            lambda numbers: np.reshape(numbers, (3, 3))
        )
        rows = data.draw(entries.filter(lambda rows: 1 <= np.linalg.det(rows) < 4.5))
        large = with_cell(spec, as_matrix(rows))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    config = random_occupation(small, int(rng.choice(small.ion_counts)), rng)
    # pymatgen repeats the small cell's atoms, and they are matched to the large one by position.
    crystal = to_structure(to_atoms(small, config))
    same = from_structure(large, crystal.make_supercell(rows, in_place=False))
    assert identity(large, same) == identity(small, config)
    assert repetitions(large, same.as_array()[None])[0] % round(np.linalg.det(rows)) == 0
    group = permutations(large)
    image = same.as_array()[group[rng.integers(len(group))]]
    assert identities(large, image[None]) == [identity(small, config)]


def test_structure_matcher_finds_the_same_orders_alike(tmp_path: Path) -> None:
    matcher = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.1, scale=False)
    groups: list[tuple[str, Structure]] = []
    hosts = cells(spec_of("tetragonal", tmp_path), 3)
    for host in hosts:
        for row in everything(host):
            config = Configuration(tuple(row.tolist()))
            structure = to_structure(to_atoms(host, config))
            alike = {name for name, other in groups if matcher.fit(structure, other)}
            own = identity(host, config)
            assert alike in ({own}, set())
            assert bool(alike) == (own in dict(groups))
            if not alike:
                groups.append((own, structure))
    assert len(groups) == sum(sum(count_primitive(host).values()) for host in hosts)


def test_spglib_finds_the_same_primitive_cells(tmp_path: Path) -> None:
    seen = set()
    for host in cells(spec_of("tetragonal", tmp_path), 4)[-3:]:
        occupations = everything(host)
        for row, times in zip(occupations, repetitions(host, occupations).tolist(), strict=True):
            kinds = np.array([100 * states[0] for states in host.states])
            kinds[host.variable_sites] = 1000 * np.arange(len(row)).clip(max=0) + row
            names = [f"{el} {kind}" for el, kind in zip(host.elements, kinds, strict=True)]
            numbers = np.unique(names, return_inverse=True)[1]
            cell = host.structure.lattice.matrix, host.structure.frac_coords, numbers
            found = spglib.find_primitive(cell, symprec=1e-3)
            assert len(host.elements) == times * len(found[2])
            seen.add(times)
    assert seen == {1, 2, 4}


def test_many_canonical_forms_are_those_of_each(any_host: Host) -> None:
    rng = np.random.default_rng(5)
    counts = rng.choice(any_host.ion_counts, 200)
    configs = [random_occupation(any_host, int(n), rng) for n in counts]
    found = canonical_forms(any_host, np.array([config.occupation for config in configs], "i1"))
    expected = [canonical(any_host, config).occupation for config in configs]
    assert list(map(tuple, found.tolist())) == expected


def test_keys_of_several_words_are_compared_in_order(tmp_path: Path) -> None:
    """In a cell with more sites than one key tells apart, orders differ in the last ones alone."""
    host = with_cell(spec_of("olivine", tmp_path), (1, 4, 2))
    group = permutations(host)
    rng = np.random.default_rng(2)
    n_sites = len(host.ion_sites)
    occupations = np.array([max(states) for states in host.allowed_states], "i1") * np.ones((9, 1))
    occupations[:, n_sites:] = 2
    for row in occupations:
        row[n_sites + rng.choice(n_sites, 2, replace=False)] = 3
    found = canonical_forms(host, occupations.astype(np.int8))
    for row, form in zip(occupations, found.tolist(), strict=True):
        assert tuple(form) == min(map(tuple, row[group].tolist()))


def test_other_parents_have_other_identities(olivine: Host, mixed: Host) -> None:
    rows = [
        np.array([host.allowed_states[i][-1] for i in range(8)], "i1") for host in (olivine, mixed)
    ]
    assert identities(olivine, rows[0][None]) != identities(mixed, rows[1][None])
