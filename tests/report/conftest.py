"""A hull and a profile to report."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import VoltageProfile, voltage_profile

FORMATION = {0: [0], 1: [31, 12], 2: [-25, 40], 3: [-95, -60, -60], 4: [0]}
"""meV per formula unit by number of ions out of four."""


@pytest.fixture
def hull() -> Hull:
    """Vertices at 0, 3/4 and 1; seven further or tied labels."""
    entries = [
        Entry(f"label-{k}-{i}", f"hash-{k}-{i}", Fraction(k, 4), -186.3 - 1.0 * k + 1e-3 * meV)
        for k, group in FORMATION.items()
        for i, meV in enumerate(group)
    ]
    return build_hull(entries, framework="Fe1P1O4", working_ion="Na", metal_energy=-1.3)


@pytest.fixture
def hull_with_bars(hull: Hull) -> Hull:
    """The same with an error bar of 7 meV on everything but the end members."""

    def barred(entry: Entry) -> Entry:
        return replace(entry, error_bar=0.007 if 0 < entry.x < 1 else 0.0)

    return replace(
        hull,
        entries=tuple(barred(entry) for entry in hull.entries),
        vertices=tuple(barred(vertex) for vertex in hull.vertices),
    )


@pytest.fixture
def candidates() -> list[Entry]:
    """Two predictions: one below the hull, one far above every label."""
    return [
        Entry("c1", "hash-candidate", Fraction(1, 2), -188.3 - 0.080, 0.011),
        Entry("c2", "hash-far", Fraction(1, 2), -188.3 + 2.0, 0.011),
    ]


@pytest.fixture
def profile(hull: Hull) -> VoltageProfile:
    """The voltage profile of the hull, with error bars."""
    return voltage_profile(hull, error_bars=[0.02, 0.05], mean_error_bar=0.01)
