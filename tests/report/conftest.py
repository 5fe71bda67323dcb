"""A hull and a profile to report."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest

from al_charge.store.documents import Assessment, Forecast, VoltageForecast
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import VoltageProfile, voltage_profile

FORMATION = {0: [0], 1: [31, 12], 2: [-25, 40], 3: [-95, -60, -60], 4: [0]}
"""meV per formula unit by number of ions out of four."""


@pytest.fixture(scope="session")
def hull() -> Hull:
    """Vertices at 0, 3/4 and 1; seven further or tied labels."""
    entries = [
        Entry(f"label-{k}-{i}", f"hash-{k}-{i}", Fraction(k, 4), -186.3 - 1.0 * k + 1e-3 * meV)
        for k, group in FORMATION.items()
        for i, meV in enumerate(group)
    ]
    return build_hull(entries, framework="Fe1P1O4", working_ion="Na", metal_energy=-1.3)


@pytest.fixture(scope="session")
def assessment(make_assessment: Callable[..., Assessment]) -> Assessment:
    """What an assessment of that hull says of three of its compositions."""
    compositions = [
        Forecast(
            x=x,
            lowest_labelled=low,
            lowest_predicted=None if low == 0 else low + 0.004,
            p_lower=p,
            lower_by=by,
            band_95=(low - 2 * by, low),
            band_68=(low - by, low),
        )
        for x, low, p, by in (("0", 0.0, 0.0, 0.0), ("3/4", -0.095, 0.31, 0.012), ("1", 0, 0, 0))
    ]
    voltages = VoltageForecast(
        errors=[0.02, 0.05],
        mean_error=0.01,
        band_95=[(2.6, 3.0), (2.2, 2.4)],
        band_68=[(2.7, 2.9), (2.3, 2.35)],
    )
    return make_assessment(
        compositions=compositions, voltages=voltages, p_below_hull=0.034, exhaustive=True
    )


@pytest.fixture(scope="session")
def candidates() -> list[Entry]:
    """Two predictions: one below the hull, one far above every label."""
    return [
        Entry("c1", "hash-candidate", Fraction(1, 2), -188.3 - 0.080, 0.011),
        Entry("c2", "hash-far", Fraction(1, 2), -188.3 + 2.0, 0.011),
    ]


@pytest.fixture(scope="session")
def profile(hull: Hull) -> VoltageProfile:
    """The voltage profile of the hull, with error bars."""
    return voltage_profile(hull, error_bars=[0.02, 0.05], mean_error_bar=0.01)
