"""Distances and drawings of structures, against pymatgen's neighbours."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.report.campaign_report.charge_order import (
    charge_order,
    distances_text,
    lowest_entries,
    nearest,
    states_text,
)
from al_charge.report.campaign_report.structures import drawing, state_name
from al_charge.thermo.hull import Hull

SKEWED = np.array([[5.0, 0.0, 0.0], [13.0, 4.0, 0.5], [-7.0, 9.0, 6.0]])
"""A cell whose vectors are long and oblique."""


def rock_salt(found: list[str], cell: Any = None) -> Any:
    """Return a label of a rock salt of Na, two Fe and O, in a cell that may be another one."""
    cubic = Structure(
        Lattice.cubic(4.2),
        ["Na", "Fe", "Fe", "Fe", *["O"] * 4],
        [
            [0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0],
            [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5],
        ],
    )  # fmt: skip
    tokens = ["Na+", *found, *["O2-"] * 4]
    frame = SimpleNamespace(
        positions=cubic.cart_coords.tolist(),
        cell=(cubic.lattice.matrix if cell is None else np.array(cell) @ cubic.lattice.matrix),
    )
    asked = [token.replace("?", "2+") for token in tokens]
    return SimpleNamespace(frames=[frame], requested=asked, states_found=tokens)


@pytest.mark.parametrize("seed", range(6))
def test_nearest_distances_are_those_of_pymatgen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fractions = rng.random((5, 3)) * 4 - 2
    structure = Structure(Lattice(SKEWED), ["Fe"] * 3 + ["Na"] * 2, fractions)
    places = structure.cart_coords
    neighbours = structure.get_all_neighbors(9.0)
    like = min(n.nn_distance for i in range(3) for n in neighbours[i] if n.specie.symbol == "Fe")
    other = min(n.nn_distance for i in range(3) for n in neighbours[i] if n.specie.symbol == "Na")
    assert nearest(SKEWED, places[:3], places[:3]) == pytest.approx(like)
    assert nearest(SKEWED, places[:3], places[3:]) == pytest.approx(other)


def test_a_single_site_is_near_its_own_images() -> None:
    site = [[0.3, 0.2, 0.1]]
    alone = Structure(Lattice(SKEWED), ["Fe"], [[0, 0, 0]]).get_all_neighbors(9.0)[0]
    assert nearest(SKEWED, site, site) == pytest.approx(min(n.nn_distance for n in alone))


def test_an_order_has_its_states_and_their_distances() -> None:
    found = charge_order(rock_salt(["Fe2+", "Fe3+", "Fe?"]), {"Fe"}, "Na")
    assert found.states == {"Fe2+": 1, "Fe3+": 1, "Fe?": 1}
    assert found.like == pytest.approx(dict.fromkeys(found.states, 4.2))
    assert found.to_ion == pytest.approx(dict.fromkeys(found.states, 4.2 / np.sqrt(2)))
    pair = charge_order(rock_salt(["Fe2+", "Fe2+", "Fe3+"]), {"Fe"}, "Na")
    assert pair.like == pytest.approx({"Fe2+": 4.2 / np.sqrt(2), "Fe3+": 4.2})
    assert distances_text(pair.like) == "Fe2+ 2.97, Fe3+ 4.20"
    assert states_text(pair.states) == "2 Fe2+, 1 Fe3+"
    assert charge_order(rock_salt(["Fe2+"] * 3), {"Fe"}, "Li").to_ion == {}


def test_the_lowest_of_each_composition_are_listed(hull: Hull) -> None:
    found = lowest_entries(hull, 2)
    assert Counter(str(one.x) for one in found) == {"0": 1, "1/4": 2, "1/2": 2, "3/4": 2, "1": 1}
    for one in found:
        lower = [other for other in hull.entries if other.x == one.x and other.energy < one.energy]
        assert len(lower) < 2


@pytest.mark.parametrize("cell", [None, [[1, 0, 0], [3, 1, 0], [-2, 4, 1]]])
def test_polyhedra_have_the_nearest_anions_whatever_the_cell(cell: Any) -> None:
    label = rock_salt(["Fe2+", "Fe3+", "Fe?"], cell)
    frame = label.frames[0]
    away = np.array([3.0, -2.0, 1.0]) @ np.array(frame.cell)  # the same crystal, drawn elsewhere
    frame.positions = [(np.array(place) + away).tolist() for place in frame.positions]
    drawn = drawing(label, {"Fe"}, "Na")
    kinds = Counter(atom["kind"] for atom in drawn["atoms"])
    assert kinds == {"ion": 1, "Fe2+": 1, "Fe3+": 1, "Fe, uncertain": 1, "anion": 4}
    assert Counter(face["kind"] for face in drawn["faces"]) == dict.fromkeys(
        ("Fe2+", "Fe3+", "Fe, uncertain"), 8
    )
    for kind in ("Fe2+", "Fe3+"):
        (centre,) = [np.array(a["at"]) for a in drawn["atoms"] if a["kind"] == kind]
        corners = [np.array(p) for f in drawn["faces"] if f["kind"] == kind for p in f["at"]]
        apart = np.linalg.norm(np.array(corners) - centre, axis=1)
        assert apart == pytest.approx(np.full(24, 2.1), abs=2e-3)
        assert np.mean(corners, axis=0) == pytest.approx(centre, abs=2e-3)
    matrix = np.array(label.frames[0].cell)
    assert np.array(drawn["cell"]) == pytest.approx(matrix, abs=1e-3)
    first = np.array(label.frames[0].positions[0]) - matrix.sum(axis=0) / 2
    assert np.array(drawn["atoms"][0]["at"]) == pytest.approx(first, abs=1e-3)


def test_flat_neighbourhoods_have_no_polyhedron() -> None:
    label = rock_salt(["Fe2+", "Fe3+", "Fe3+"])
    flat = [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [-2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, -2.0, 0.0]]
    label.frames[0].positions = flat
    label.frames[0].cell = 20.0 * np.eye(3)
    label.requested = label.states_found = ["Fe2+", *["O2-"] * 4]
    assert drawing(label, {"Fe"}, "Na")["faces"] == []


def test_states_are_named_for_people() -> None:
    assert state_name("Fe3+") == "Fe3+"
    assert state_name("Co3+,spin=0") == "Co3+ low"
    assert state_name("Fe?") == "Fe, uncertain"
