"""The hull against an exact one, its conventions and its errors."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from al_charge.errors import AlChargeError
from al_charge.thermo.hull import (
    Entry,
    Hull,
    build_hull,
    max_hull_shift,
    pretty_formula,
    same_vertices,
)

BASE, SLOPE = -186.3, -4.1
BOTH_ENDS = "label the smallest and the largest x of the host first"


def hull_of(energies: dict[Fraction, list[float]], **options: object) -> Hull:
    """Build the hull of formation energies in meV, on a realistic scale of total energies."""
    entries = [
        Entry(f"{x}/{i}", f"hash{i}", x, BASE + SLOPE * float(x) + 1e-3 * meV)
        for x, group in energies.items()
        for i, meV in enumerate(group)
    ]
    return build_hull(
        entries,
        framework="FePO4",
        working_ion="Na",
        metal_energy=-1.31,
        **options,  # type: ignore[arg-type]
    )


def exact_hull(lowest: dict[Fraction, int]) -> list[Fraction]:
    """Return the compositions below every line between two others, by exact arithmetic."""
    points = sorted(lowest.items())
    return [
        x
        for x, energy in points
        if all(
            energy < left + (right - left) * (x - a) / (b - a)
            for a, left in points
            for b, right in points
            if a < x < b
        )
    ]


compositions = st.integers(1, 12).flatmap(
    lambda n: st.sets(st.integers(1, n), max_size=n).map(
        lambda chosen: sorted({Fraction(0), Fraction(1), *(Fraction(k, n) for k in chosen)})
    )
)
landscapes = compositions.flatmap(
    lambda xs: st.fixed_dictionaries(
        {x: st.lists(st.integers(-120, 120), min_size=1, max_size=4) for x in xs}
    )
)


@settings(max_examples=150, deadline=None)
@given(landscapes)
def test_vertices_are_those_of_exact_arithmetic(energies: dict[Fraction, list[int]]) -> None:
    hull = hull_of({x: [float(e) for e in group] for x, group in energies.items()})
    lowest = {x: min(group) for x, group in energies.items()}
    expected = exact_hull(lowest)
    assert list(hull.compositions) == expected
    for vertex in hull.vertices:
        assert vertex.energy == min(e.energy for e in hull.entries if e.x == vertex.x)
        assert hull.distance(vertex) == 0.0


@settings(max_examples=50, deadline=None)
@given(landscapes)
def test_hull_lies_below_every_entry_and_is_convex(energies: dict[Fraction, list[int]]) -> None:
    hull = hull_of({x: [float(e) for e in group] for x, group in energies.items()})
    assert min(hull.distance(entry) for entry in hull.entries) > -1e-9
    grid = np.linspace(0.0, 1.0, 37)
    lower = np.array([hull.lower(x) for x in grid])
    assert np.diff(lower, 2).min() > -1e-9


def test_agrees_with_the_compound_phase_diagram_of_real_formulas() -> None:
    from pymatgen.analysis.phase_diagram import CompoundPhaseDiagram, PDEntry
    from pymatgen.core.composition import Composition

    rng = np.random.default_rng(3)
    energies = {Fraction(k, 8): list(rng.normal(-60, 50, size=3)) for k in range(9)}
    hull = hull_of(energies)
    entries = [
        PDEntry(Composition({"Na": float(e.x), "Fe": 1, "P": 1, "O": 4}), e.energy)
        for e in hull.entries
    ]
    terminals = [Composition("FePO4"), Composition("NaFePO4")]
    diagram = CompoundPhaseDiagram(entries, terminals, normalize_terminal_compositions=False)
    stable_entries: list[Any] = list(diagram.stable_entries)
    all_entries: list[Any] = list(diagram.all_entries)
    stable = {round(e.original_entry.composition["Na"] * 8) for e in stable_entries}
    assert stable == {int(x * 8) for x in hull.compositions}
    for entry in all_entries:
        ours = next(e for e in hull.entries if e.energy == entry.original_entry.energy)
        assert hull.distance(ours) == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-9)


def test_formation_energies_are_taken_against_the_lowest_end_members() -> None:
    hull = hull_of({Fraction(0): [5.0, 0.0], Fraction(1, 4): [-30.0], Fraction(1): [0.0, 9.0]})
    by_key = {e.key: hull.formation_energy(e) for e in hull.entries}
    assert by_key["0/1"] == by_key["1/0"] == 0.0
    assert by_key["0/0"] == pytest.approx(0.005)
    assert by_key["1/4/0"] == pytest.approx(-0.030)
    assert hull.lower(Fraction(1, 8)) == pytest.approx(-0.015)
    assert hull.lower(0.625) == pytest.approx(-0.015)


def test_end_members_need_not_be_zero_and_one() -> None:
    hull = hull_of({Fraction(1, 3): [0.0], Fraction(1): [-20.0], Fraction(5, 3): [0.0]})
    assert hull.compositions == (Fraction(1, 3), Fraction(1), Fraction(5, 3))
    assert hull.formation_energy(hull.vertices[1]) == pytest.approx(-0.020)


def test_without_stable_intermediates_only_the_end_members_are_vertices() -> None:
    hull = hull_of({Fraction(0): [0.0], Fraction(1, 2): [40.0], Fraction(1): [0.0]})
    assert list(map(str, hull.compositions)) == ["0", "1"]
    assert hull.distance(hull.entries[1]) == pytest.approx(0.040)


def test_a_point_on_the_line_is_no_vertex() -> None:
    hull = hull_of(
        {Fraction(k, 8): [-10.0 * min(k, 8 - k)] for k in range(9)}  # two straight flanks
    )
    assert list(map(str, hull.compositions)) == ["0", "1/2", "1"]


def test_a_tie_goes_to_the_first_key_whatever_the_order() -> None:
    twins = [Entry(key, "h", Fraction(1, 2), -103.0) for key in ("c", "a", "b")]
    ends = [Entry("x", "h", Fraction(0), -100.0), Entry("y", "h", Fraction(1), -104.0)]
    for shift in range(5):
        entries = [*twins, *ends]
        entries = entries[shift:] + entries[:shift]
        hull = build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=0.0)
        assert [vertex.key for vertex in hull.vertices] == ["x", "a", "y"]
        assert [hull.distance(twin) for twin in twins] == [0.0, 0.0, 0.0]


def test_a_candidate_below_the_hull_has_a_negative_distance() -> None:
    hull = hull_of({Fraction(0): [0.0], Fraction(1): [0.0]})
    candidate = Entry("new", "h", Fraction(1, 2), BASE + SLOPE / 2 - 0.025)
    assert hull.distance(candidate) == pytest.approx(-0.025)


@pytest.mark.parametrize(
    ("present", "ends", "what", "remedy"),
    [
        ([], None, "a hull needs two end members, and nothing has a label", BOTH_ENDS),
        (
            [Fraction(1, 2)],
            None,
            "a hull needs two end members, and only x = 1/2 has a label",
            BOTH_ENDS,
        ),
        (
            [Fraction(0), Fraction(1, 2)],
            (Fraction(0), Fraction(1)),
            "the end member x = 1 has no label",
            "label x = 1 first",
        ),
        (
            [Fraction(1, 2), Fraction(1)],
            (Fraction(0), Fraction(1)),
            "the end member x = 0 has no label",
            "label x = 0 first",
        ),
        (
            [],
            (Fraction(1, 3), Fraction(1)),
            "the end member x = 1/3 and x = 1 has no label",
            "label x = 1/3 first",
        ),
    ],
)
def test_missing_end_members_are_named(
    present: list[Fraction], ends: tuple[Fraction, Fraction] | None, what: str, remedy: str
) -> None:
    with pytest.raises(AlChargeError) as caught:
        hull_of({x: [0.0] for x in present}, ends=ends)
    error = caught.value
    assert (error.what, error.where, error.remedy) == (what, "hull", remedy)


@pytest.mark.parametrize("outside", [Fraction(1, 8), Fraction(9, 8)])
def test_refuses_entries_outside_the_hosts_range(outside: Fraction) -> None:
    ends = (Fraction(1, 4), Fraction(1))
    within = {Fraction(1, 4): [0.0], Fraction(1, 2): [-9.0], Fraction(1): [0.0]}
    assert hull_of(within, ends=ends).compositions == tuple(within)
    with pytest.raises(
        AlChargeError, match=r"^hull: an entry lies outside the host's range, x = 1/4 to 1"
    ):
        hull_of(within | {outside: [0.0]}, ends=ends)


def test_refuses_energies_that_are_not_finite_and_compositions_outside_the_hull() -> None:
    with pytest.raises(AlChargeError, match="entry 1/0: the energy is not a finite number"):
        hull_of({Fraction(0): [0.0], Fraction(1): [float("nan")]})
    hull = hull_of({Fraction(0): [0.0], Fraction(1): [0.0]})
    with pytest.raises(AlChargeError, match=r"^hull: x = 3/2 lies outside the hull, 0 to 1"):
        hull.lower(Fraction(3, 2))


def test_shift_is_the_largest_difference_over_all_compositions() -> None:
    old = hull_of({Fraction(0): [0.0], Fraction(1, 2): [-40.0], Fraction(1): [0.0]})
    new = hull_of({Fraction(0): [0.0], Fraction(1, 4): [-50.0], Fraction(1): [0.0]})
    grid = np.linspace(0, 1, 401)
    brute = max(abs(new.lower(x) - old.lower(x)) for x in grid)
    assert max_hull_shift(old, new) == pytest.approx(brute) == pytest.approx(0.030)
    assert max_hull_shift(new, old) == max_hull_shift(old, new)
    assert max_hull_shift(old, old) == 0.0
    assert same_vertices(old, old)
    assert not same_vertices(old, new)


def test_a_lower_end_member_counts_as_a_shift() -> None:
    old = hull_of({Fraction(0): [0.0], Fraction(1): [0.0]})
    new = hull_of({Fraction(0): [0.0], Fraction(1): [0.0, -12.0]})
    assert max_hull_shift(old, new) == pytest.approx(0.012)


def test_hulls_of_different_ranges_or_hosts_cannot_be_compared() -> None:
    whole = hull_of({Fraction(0): [0.0], Fraction(1): [0.0]})
    half = hull_of({Fraction(0): [0.0], Fraction(1, 2): [0.0]})
    with pytest.raises(AlChargeError, match=r"^hull: hulls between different end compositions"):
        max_hull_shift(whole, half)
    other = build_hull(whole.entries, framework="MnPO4", working_ion="Na", metal_energy=0.0)
    with pytest.raises(AlChargeError, match=r"^hull: hulls of different hosts"):
        max_hull_shift(whole, other)


@pytest.mark.parametrize(
    ("given_formula", "pretty"),
    [
        ("Fe1P1O4", "FePO4"),
        ("CoO2", "CoO2"),
        ("V2P3O12", "V2(PO4)3"),
        ("Mn2O4", "Mn2O4"),
        ("O12Mn6", "Mn6O12"),
        ("Fe0.5Mn0.5P1O4", "Mn0.5Fe0.5PO4"),
        ("Fe1.72S3O12", "Fe1.72S3O12"),
        ("Fe1Mn1.5P1O4", "Mn1.5FePO4"),
        ("Fe2P2O8", "(FePO4)2"),
    ],
)
def test_formulas_keep_their_amounts(given_formula: str, pretty: str) -> None:
    from pymatgen.core.composition import Composition

    assert pretty_formula(given_formula, "Na") == pretty
    assert Composition(pretty).almost_equals(Composition(given_formula))


def test_formulas_at_a_composition() -> None:
    hull = hull_of({Fraction(0): [0.0], Fraction(1): [0.0]})
    formulas = [hull.formula(x) for x in (Fraction(0), Fraction(5, 8), Fraction(1), Fraction(2))]
    assert formulas == ["FePO4", "Na5/8FePO4", "NaFePO4", "Na2FePO4"]


@pytest.mark.parametrize("framework", ["NaFePO4", "nonsense!", ""])
def test_refuses_a_framework_that_is_none(framework: str) -> None:
    with pytest.raises(AlChargeError, match=r"^framework: "):
        pretty_formula(framework, "Na")


def test_vertices_are_strictly_ordered() -> None:
    hull = hull_of({Fraction(k, 8): [float((k - 4) ** 2)] for k in range(9)})
    assert len(hull.vertices) == 9
    assert all(left.x < right.x for left, right in pairwise(hull.vertices))
