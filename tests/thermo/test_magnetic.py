"""Corrections for magnetic order beside a hull, against numbers worked out by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest

from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.magnetic import corrected_formation_energy, undecided

MEV = 1e-3


def hull(*points: tuple[str, float]) -> Hull:
    """Return the hull of points (x, meV per formula unit), each of which is its own hash."""
    entries = [
        Entry(key=x, config_hash=x, x=Fraction(x), energy=-50 - 3 * float(Fraction(x)) + MEV * e)
        for x, e in points
    ]
    return build_hull(
        entries, framework="FePO4", working_ion="Na", metal_energy=-1.3, working_ion_charge=1
    )


def of(**corrections: float) -> dict[str, float]:
    """Return corrections by hash; ``half`` is x = 1/2."""
    names = {"empty": "0", "half": "1/2", "full": "1", "quarter": "1/4"}
    return {names[name]: MEV * value for name, value in corrections.items()}


OURS = hull(("0", 0), ("1/2", -13.5), ("1", 0))
"""Like our hull by GPAW: 13.5 meV deep, where orders differ by 46 meV."""


def test_a_depth_smaller_than_a_change_of_order_is_not_decided() -> None:
    (one,) = undecided(OURS, of(empty=-46, half=0, full=-46))
    assert one.x == Fraction(1, 2)
    assert one.depth == pytest.approx(13.5 * MEV)
    assert one.change == pytest.approx(46 * MEV)
    assert undecided(OURS, of(empty=-46, half=-46, full=-46)) == []
    assert undecided(OURS, of(empty=-46, half=-20, full=0)) == []
    (one,) = undecided(OURS, of(empty=-20, half=-36, full=-20))
    assert one.change == pytest.approx(-16 * MEV), "deeper with the corrections"


def test_what_was_not_run_may_change_by_as_much_as_the_rest() -> None:
    (one,) = undecided(OURS, of(empty=-46, full=-46))
    assert one.change is None
    assert one.largest == pytest.approx(46 * MEV)
    assert undecided(OURS, of(empty=-10, full=-12)) == []
    assert undecided(OURS, {}) == []


def test_corrected_formation_energies_are_against_corrected_end_members() -> None:
    found = hull(("0", 0), ("1/4", -30), ("1/2", -40), ("1", 0))
    known = of(empty=-40, half=-10, full=-20)
    values = {str(v.x): corrected_formation_energy(found, v, known) for v in found.vertices}
    assert values.pop("1/4") is None
    # -40 - 10 against the mean of -40 and -20
    assert values == {
        "0": pytest.approx(0),
        "1/2": pytest.approx(-20 * MEV),
        "1": pytest.approx(0),
    }
    assert corrected_formation_energy(found, found.vertices[2], of(half=-10, full=-20)) is None
