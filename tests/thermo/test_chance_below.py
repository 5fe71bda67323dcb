"""The probability that something lies below the hull, against sampling and by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.uncertainty import chance_below

TOLERANCE = 0.001
X = Fraction(1, 4)


@pytest.fixture
def hull() -> Hull:
    """Formation energies 0, -150, 0 meV/f.u. at x = 0, 1/2, 1."""
    energies = {Fraction(0): -10.0, Fraction(1, 2): -9.15, Fraction(1): -8.0}
    entries = [Entry(str(x), str(x), x, energy) for x, energy in energies.items()]
    return build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=-1.0)


def predicted(hull: Hull, above: float, bar: float | None, key: str = "a") -> Entry:
    """Return an entry at x = 1/4 that lies above the hull, eV/f.u.; negative is below."""
    line = -10.0 + float(X) * 2.0
    return Entry(key, key, X, line + hull.lower(X) + above, bar)


@pytest.mark.parametrize("bar", [0.0, 0.002, 0.020, 0.040, 0.200, 10.0, None])
def test_two_candidates_below_the_hull_are_never_unlikely(hull: Hull, bar: float | None) -> None:
    two = [predicted(hull, -0.030, bar, key) for key in "ab"]
    assert chance_below(hull, two, TOLERANCE) >= 0.75


@pytest.mark.parametrize("above", [0.0, 0.003, 0.030, 0.200])
def test_what_lies_above_is_more_likely_below_the_less_is_known(hull: Hull, above: float) -> None:
    bars = [0.0, 0.0005, 0.002, 0.02, 0.2, 2.0]
    found = [chance_below(hull, [predicted(hull, above, bar)], TOLERANCE) for bar in bars]
    assert found[0] == 0.0
    assert found == sorted(found) and found[-1] < 0.5
    assert chance_below(hull, [predicted(hull, above, None)], TOLERANCE) == 0.5


def test_it_is_what_sampling_finds(hull: Hull) -> None:
    above, bars = np.array([0.002, 0.010, 0.050]), np.array([0.003, 0.020, 0.020])
    entries = [
        predicted(hull, a, b, str(i)) for i, (a, b) in enumerate(zip(above, bars, strict=True))
    ]
    drawn = np.random.default_rng(3).normal(above, bars, size=(400_000, 3))
    share = float((drawn < -TOLERANCE).any(axis=1).mean())
    assert chance_below(hull, entries, TOLERANCE) == pytest.approx(share, abs=0.003)


def test_errors_that_are_shared_make_it_smaller(hull: Hull) -> None:
    entries = [predicted(hull, 0.010, 0.010, key) for key in "abcd"]
    rng = np.random.default_rng(4)
    shared, own = rng.normal(size=(200_000, 1)), rng.normal(size=(200_000, 4))
    drawn = 0.010 + 0.010 * (np.sqrt(0.7) * shared + np.sqrt(0.3) * own)
    share = float((drawn < -TOLERANCE).any(axis=1).mean())
    assert share < chance_below(hull, entries, TOLERANCE)


def test_nothing_unlabelled_is_nothing_below(hull: Hull) -> None:
    assert chance_below(hull, [], TOLERANCE) == 0.0
