"""The files of ``examples/hosts/``: structures, counts, moments, and their table in the docs."""

from __future__ import annotations

import itertools
import re
import textwrap
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spglib
import yaml
from numpy.typing import NDArray
from pymatgen.core import Species, Structure

from al_charge.api.check import check
from al_charge.crystal.enumeration import count_distinct
from al_charge.crystal.formula import amounts_in
from al_charge.crystal.host import Host
from al_charge.crystal.prepare import parent_structure
from al_charge.loop.spec import load_spec

FOLDER = Path(__file__).parents[2] / "examples" / "hosts"
CASES = Path(__file__).parents[1] / "cases" / "hosts"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
GPAW = [f"gpaw/{path.stem}" for path in sorted((FOLDER / "gpaw").glob("*.yaml"))]
ORDERED = [name for name in NAMES if "cn6" not in name and name != "na25fe175so43"]
DOCS = Path(__file__).parents[2] / "docs" / "hosts.md"
ION_CHARGES = {"Mg": 2, "Ca": 2}  # others have 1
MIN_DISTANCE = 2.0  # A, the default of host.min_distance
pytestmark = pytest.mark.filterwarnings(
    "ignore:Issues encountered.*rounded:UserWarning",
    "ignore:Cannot determine chemical composition:UserWarning",
)

WARNING_OF_RUTHENIUM = [
    "labeler.hubbard_u: Ru without U in an oxide: PBE spreads charge over several sites, and "
    "voltages come out too low"
]
UNPAIRED: dict[str, tuple[float, float, str]] = {
    # Unpaired electrons per formula unit at the lowest and at the highest x, all parallel.
    "cav2o5": (0, 2, "V4+, S = 1/2: Onoda and Nishiguchi, J. Solid State Chem. 127, 359 (1996)"),
    "li2fesio4": (5, 4, "high spin: Nyten et al., J. Mater. Chem. 16, 2266 (2006), Moessbauer"),
    "li2ruo3": (3, 2, "Ru4+ 4d4, Ru5+ 4d3, low spin: Sathiya et al., Nat. Mater. 12, 827 (2013)"),
    "licoo2": (1, 0, "CoO2: de Vaulx et al., PRL 98, 246402 (2007); LiCoO2: van Elp, PRB 44, 6090"),
    "life05mn05po4": (4.5, 4.5, "Mn2+, Fe3+ 5; Mn3+, Fe2+ 4: Yamada, Chem. Mater. 18, 804 (2006)"),
    "lifepo4": (5, 4, "high spin: Rousse et al., Chem. Mater. 15, 4082 (2003), neutrons"),
    "lifeso4f": (5, 4, "high spin: Melot et al., Chem. Mater. 23, 2922 (2011), neutrons"),
    "limn2o4": (6, 7, "Mn4+ 3 each; Mn3+ 4, Mn4+ 3: Greedan et al., Chem. Mater. 10, 3058 (1998)"),
    "lini05mn15o4": (4.5, 5.5, "Ni4+ 0, Ni2+ 2, Mn4+ 3: Mukai, J. Electrochem. Soc. 157, A672"),
    "linio2": (0, 1, "Ni4+ 0, Ni3+ S = 1/2: Reynaud et al., PRL 86, 3638 (2001)"),
    "litis2": (0, 1, "Ti4+ d0, Ti3+ d1, formally: both are metals or semimetals without moments"),
    "mgmn2o4": (6, 8, "Mn4+ 3, Mn3+ 4: hausmannite, Jensen and Nielsen, J. Phys. C 7, 409 (1974)"),
    "na25fe175so43": (8.75, 7, "Fe3+ 5 and Fe2+ 4, as in Na2Fe2(SO4)3"),
    "na2fe2so43": (10, 8, "high spin: Barpanda et al., Nat. Commun. 5, 4358 (2014), Moessbauer"),
    "na2fefecn6": (6, 4, "at N 5 and 4, at C 1 and 0: Buser, Inorg. Chem. 16, 2704 (1977)"),
    "na2mnfecn6": (5, 5, "Mn3+ 4, Fe3+ 1; Mn2+ 5, Fe2+ 0: Song et al., JACS 137, 2658 (2015)"),
    "na3v2po43": (2, 4, "V4+ 1 and V3+ 2 each: Lim et al., J. Electrochem. Soc. 159, A1393 (2012)"),
    "nacoo2_p2": (1, 0, "CoO2 as above; Na1CoO2: Lang et al., PRB 72, 094404 (2005)"),
    "nacro2": (2.5, 3, "Cr3+, S = 3/2: Olariu et al., PRL 97, 167203 (2006); half of it Cr4+, 2"),
    "nafef3": (5, 4, "high spin: Bernal et al., Inorg. Chem. 53, 12205 (2014); FeF3, S = 5/2"),
    "nmc111": (4 / 3, 5 / 3, "Ni4+, Co4+; Ni2+, Co3+; Mn4+: Hwang, Chem. Mater. 15, 3676 (2003)"),
}


@cache
def document(name: str) -> dict[str, Any]:
    """Return what ``al-charge check --json`` prints."""
    return check(FOLDER / f"{name}.yaml").document


def host(file: Path) -> dict[str, Any]:
    """Return the section of the host as it is written."""
    return dict(yaml.safe_load(file.read_text())["host"])


@cache
def supercell(file: Path) -> Structure:
    """Return the supercell by pymatgen alone; its sites know their labels."""
    if "order" in host(file):  # which sites are empty follows from energies, tested elsewhere
        cell = parent_structure(load_spec(file).host)
        return cell.add_site_property("label", cell.labels)
    parent = Structure.from_file(file.parent / host(file)["structure"])
    parent.add_site_property("label", parent.labels)
    return parent.make_supercell(host(file).get("supercell", 1), in_place=False)


def formula_units(file: Path) -> Fraction:
    """Return the formula units in the supercell, by an element that stays."""
    spec, cell = host(file), supercell(file).composition.get_el_amt_dict()
    if "formula" not in spec:
        return Fraction(round(sum(cell[element] for element in spec["redox"])))
    formula = amounts_in(spec["formula"])
    stays = next(element for element in formula if element != spec["working_ion"])
    return Fraction(round(cell[stays])) / formula[stays]


def permutations(cell: Structure, kinds: list[int]) -> NDArray[np.int64]:
    """Return where every operation that spglib finds moves every site, shape (n_ops, n_sites)."""
    points = cell.frac_coords
    found = spglib.get_symmetry((cell.lattice.matrix, points, kinds), symprec=0.01)
    moved = []
    for rotation, shift in zip(found["rotations"], found["translations"], strict=True):
        off = (points @ rotation.T + shift)[:, None] - points[None]
        moved.append(np.linalg.norm((off - np.round(off)) @ cell.lattice.matrix, axis=2))
    assert np.array(moved).min(axis=2).max() < 0.05
    return np.array(moved).argmin(axis=2)


def distinct(file: Path) -> dict[str, int]:
    """Count configurations by listing every neutral one and looking for its smallest image."""
    spec, cell = host(file), supercell(file)
    elements = [site.specie.symbol for site in cell]
    ion, redox, stays = spec["working_ion"], spec["redox"], spec.get("sites", {})
    kept = [label in stays for label in cell.site_properties["label"]]
    ions = [n for n, el in enumerate(elements) if el == ion and not kept[n]]
    metals = [n for n, el in enumerate(elements) if el in redox]
    charge = ION_CHARGES.get(ion, 1)
    other = {ion: charge, **spec["fixed"]}
    rest = sum(other[el] for n, el in enumerate(elements) if n not in ions and el not in redox)

    near = cell.distance_matrix[np.ix_(ions, ions)] < MIN_DISTANCE
    np.fill_diagonal(near, False)
    filled = np.array(list(itertools.product((0, 1), repeat=len(ions))))
    filled = filled[~((filled @ near) * filled).any(axis=1)]
    states = np.array(list(itertools.product(*(range(len(redox[elements[n]])) for n in metals))))
    charges = sum(np.array(redox[elements[n]])[states[:, i]] for i, n in enumerate(metals))

    kinds = [(el, stay) for el, stay in zip(elements, kept, strict=True)]
    images = permutations(cell, [sorted(set(kinds)).index(kind) for kind in kinds])
    base = max(map(len, [(0, 1), *redox.values()]))
    weight = np.zeros(len(elements), dtype=np.int64)
    weight[ions + metals] = base ** np.arange(len(ions) + len(metals), dtype=np.int64)

    inert = sum(el == ion for el in elements) - len(ions)
    window = spec.get("compositions", {"from": 0, "to": 99})
    found: dict[str, int] = {}
    for number in range(len(ions) + 1):
        x = (number + inert) / formula_units(file)
        left = filled[filled.sum(axis=1) == number]
        right = states[charges == -rest - charge * number]
        if not (len(left) and len(right) and Fraction(window["from"]) <= x <= window["to"]):
            continue
        smallest = np.full((len(left), len(right)), np.iinfo(np.int64).max)
        for image in images:
            weights = weight[image]
            keys = (left @ weights[ions])[:, None] + (right @ weights[metals])[None]
            np.minimum(smallest, keys, out=smallest)
        found[str(x)] = len(np.unique(smallest))
    return found


@pytest.mark.parametrize("name", [*NAMES, *GPAW])
def test_configurations_are_counted_as_by_listing_them(name: str) -> None:
    assert document(name)["compositions"] == distinct(FOLDER / f"{name}.yaml")


@pytest.mark.parametrize(
    ("name", "number", "some"),
    [
        ("mgmn2o4", 10514, {}),
        ("licoo2", 20729, {}),
        ("limn2o4_average_state", 4222, {}),
        ("lini05mn15o4", 183, {}),
        ("nmc333", 3388, {}),
        ("nacoo2_p2_both_sites", 1042, {"1": 3, "3/4": 89}),
    ],
)
def test_cases_that_were_counted_wrong(name: str, number: int, some: dict[str, int]) -> None:
    found = distinct(CASES / f"{name}.yaml")
    assert sum(found.values()) == number and some.items() <= found.items()
    counted = count_distinct(Host.from_spec(load_spec(CASES / f"{name}.yaml").host))
    assert {str(x): n for x, n in counted.items()} == found


@pytest.mark.parametrize("name", NAMES)
def test_moments_are_those_of_the_literature(name: str) -> None:
    low, high, _ = UNPAIRED[name]
    about, units = document(name), float(formula_units(FOLDER / f"{name}.yaml"))
    totals = [about["total_moment"][about["x"][end]] for end in ("from", "to")]
    assert totals == [round(low * units), round(high * units)]


def filled_parent(name: str) -> Structure:
    """Return the cell of the file; metals have the lowest of their states."""
    spec = host(FOLDER / f"{name}.yaml")
    structure = Structure.from_file(FOLDER / spec["structure"])
    lowest = {element: min(states) for element, states in spec["redox"].items()}
    ion = {spec["working_ion"]: ION_CHARGES.get(spec["working_ion"], 1)}
    structure.add_oxidation_state_by_element(spec["fixed"] | lowest | ion)
    return structure


ANION_RADII = {"O": 1.40, "F": 1.33, "S": 1.84}
"""Shannon's, six-coordinate, in A; pymatgen lacks the one of fluorine at this coordination."""


def radius(ion: Species, coordination: int) -> float:
    """Return Shannon's radius, high spin, at the coordination number nearest to a given one."""
    roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
    radii = ion.data["Shannon radii"][f"{ion.oxi_state:.0f}"]
    known = [one for one in radii if one in roman]
    by_spin = radii[min(known, key=lambda one: abs(roman.index(one) + 1 - coordination))]
    return float(by_spin.get("High Spin", next(iter(by_spin.values())))["ionic_radius"])


@pytest.mark.parametrize("name", ORDERED)
def test_bonds_are_as_long_as_radii_and_bond_valences_ask_for(name: str) -> None:
    from pymatgen.analysis.bond_valence import calculate_bv_sum

    structure = filled_parent(name)
    for site in structure:
        if site.specie.oxi_state < 0:
            continue
        near = [one for one in structure.get_neighbors(site, 4.0) if one.specie.oxi_state < 0]
        longest = 1.25 * min(one.nn_distance for one in near)
        shell = [one for one in near if one.nn_distance < longest]
        of_anions = np.mean([ANION_RADII[one.specie.symbol] for one in shell])
        length = np.mean([one.nn_distance for one in shell])
        assert length == pytest.approx(radius(site.specie, len(shell)) + of_anions, rel=0.15)
        assert calculate_bv_sum(site, shell) == pytest.approx(site.specie.oxi_state, rel=0.4)


@pytest.mark.parametrize(
    ("name", "bonds"),
    # Buser et al., Inorg. Chem. 16, 2704 (1977); Song et al., J. Am. Chem. Soc. 137, 2658 (2015)
    [
        ("na2fefecn6", {"FeC-C": 1.92, "FeN-N": 2.03, "C-N": 1.13}),
        ("na2mnfecn6", {"Fe1-C": 1.91, "Mn1-N": 2.20, "C-N": 1.16}),
    ],
)
def test_cyanides_bind_metals_on_both_sides(name: str, bonds: dict[str, float]) -> None:
    structure = filled_parent(name)
    for bond, length in bonds.items():
        first, second = bond.split("-")
        ends = [n for n, label in enumerate(structure.labels) if label in (first, f"{first}1")]
        for end in ends:
            near = structure.get_neighbors(structure[end], 2.5)
            found = [one.nn_distance for one in near if one.specie.symbol == second]
            assert found == pytest.approx([length] * (1 if first == "C" else 6), abs=0.01)


ROW = re.compile(r"^\| \[([^\]]+)\]\(\.\./examples/hosts/(\w+)\.yaml\) \| (.*) \|$", re.M)


def test_the_table_in_the_docs_says_what_check_says() -> None:
    rows = {
        name: (title, *cells.split(" | ")) for title, name, cells in ROW.findall(DOCS.read_text())
    }
    assert sorted(rows) == NAMES
    assert len(NAMES) >= 16 and len({cells[1] for cells in rows.values()}) >= 8
    assert (
        len({element for name in NAMES for element in host(FOLDER / f"{name}.yaml")["redox"]}) >= 6
    )
    for name, (title, _, group, x, number, states, moments, source) in rows.items():
        about = document(name)
        ends = about["x"]["from"], about["x"]["to"]
        assert amounts_in(title) == amounts_in(host(FOLDER / f"{name}.yaml")["formula"])
        assert about["warnings"] == (WARNING_OF_RUTHENIUM if name == "li2ruo3" else [])
        assert group == about["space_group"]
        assert x == f"{ends[0]} to {ends[1]}"
        assert number == str(about["distinct"])
        of_states = (
            f"{one['species']} {one['spin']}".strip() + f" {one['unpaired']}"
            for one in about["states"]
        )
        assert states == ", ".join(of_states)
        assert moments == ", ".join(str(about["total_moment"][end]) for end in ends)
        assert source.split()[0] in (FOLDER / f"{name}.cif").read_text().split("data_")[0]


def test_the_sections_show_what_is_in_the_files() -> None:
    section = DOCS.read_text().split("\n## A host like yours\n")[1].split("\n## ")[0]
    blocks = [
        textwrap.dedent(one) for one in re.findall(r"^ {4}host:.*\n(?: {4}.*\n)*", section, re.M)
    ]
    shown = [yaml.safe_load(block)["host"] for block in blocks]
    assert len(shown) == len(re.findall(r"^### ", section, re.M)) == 7
    for written in shown:
        written.pop("...", None)
        file = host(FOLDER / f"{Path(written['structure']).stem}.yaml")
        assert written.items() <= file.items()


@pytest.mark.parametrize(
    ("name", "redox", "ends"),
    [
        ("li2fesio4", {"Fe": (2, 3, 4)}, (0, 2)),
        ("na3v2po43", {"V": (2, 3, 4)}, (1, 4)),
        ("na2fe2so43", {"Fe": (2, 3)}, (0, 2)),
    ],
)
def test_states_set_the_range(
    name: str, redox: dict[str, tuple[int, ...]], ends: tuple[int, int]
) -> None:
    spec = load_spec(FOLDER / f"{name}.yaml").host.model_copy(update={"redox": redox})
    found = Host.from_spec(spec)
    assert (found.composition(found.ion_counts[0]), found.composition(found.ion_counts[-1])) == ends


def test_a_spinel_with_its_octahedra_goes_to_two(tmp_path: Path) -> None:
    text = (FOLDER / "limn2o4.cif").read_text().replace("Li8 Mn16", "Li24 Mn16")
    (tmp_path / "limn2o4.cif").write_text(text.replace("\nMn1 ", "\nLi2 Li 0 0 0 1\nMn1 "))
    (tmp_path / "limn2o4.yaml").write_text((FOLDER / "limn2o4.yaml").read_text())
    found = Host.from_spec(load_spec(tmp_path / "limn2o4.yaml").host)
    assert (len(found.ion_sites), len(found.exclusions)) == (24, 32)
    assert found.composition(found.ion_counts[-1]) == 2
