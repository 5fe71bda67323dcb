"""Voltages by hand and against pymatgen's electrode."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from al_charge.errors import AlChargeError
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import step_voltages, voltage_profile


def hull_of(
    energies: dict[Fraction, float],
    *,
    ion: str = "Na",
    framework: str = "FePO4",
    metal: float,
    charge: int | None = None,
) -> Hull:
    entries = [Entry(f"k{x}", "h", x, energy) for x, energy in energies.items()]
    return build_hull(
        entries,
        framework=framework,
        working_ion=ion,
        metal_energy=metal,
        working_ion_charge=charge,
    )


@pytest.fixture
def hull() -> Hull:
    """A hull with three plateaus and one entry above it."""
    return hull_of(
        {
            Fraction(0): -170.0,
            Fraction(1, 4): -171.0,
            Fraction(2, 3): -172.90,
            Fraction(5, 6): -173.60,
            Fraction(1): -174.25,
        },
        metal=-1.3,
    )


def test_two_phase_pair_by_hand() -> None:
    # One plateau, as in olivine LixFePO4: V = -(E(LiFePO4) - E(FePO4) - E(Li)) / e
    #   = -(-191.34 + 185.97 + 1.90) V = 3.47 V
    hull = hull_of({Fraction(0): -185.97, Fraction(1): -191.34}, ion="Li", metal=-1.90)
    profile = voltage_profile(hull)
    assert [(str(s.x_from), str(s.x_to)) for s in profile.steps] == [("0", "1")]
    assert profile.steps[0].voltage == pytest.approx(3.47)
    assert profile.mean == pytest.approx(3.47)


def test_a_divalent_ion_moves_two_electrons() -> None:
    hull = hull_of(
        {Fraction(0): -80.0, Fraction(1, 2): -83.0}, ion="Mg", framework="MnO2", metal=-1.5
    )
    assert voltage_profile(hull).mean == pytest.approx((3.0 - 0.75) / 0.5 / 2)


@pytest.mark.parametrize(
    ("ion", "charge"),
    [
        *(("Li", None), ("Na", None), ("K", None), ("Ag", None), ("Ag", 1), ("Cu", 1), ("Cu", 2)),
        *(("Mg", None), ("Ca", None), ("Zn", None), ("Zn", 2), ("Mn", 2), ("Pb", 2), ("Al", None)),
    ],
)
def test_three_volts_are_three_volts(ion: str, charge: int | None) -> None:
    # One ion that brings z electrons at 3 V gains 3 z eV against the metal.
    z = charge or {"Mg": 2, "Ca": 2, "Zn": 2, "Al": 3}.get(ion, 1)
    energies = {Fraction(0): -50.0, Fraction(1): -50.0 - 1.9 - 3.0 * z}
    hull = hull_of(energies, ion=ion, framework="CrS2", metal=-1.9, charge=charge)
    assert voltage_profile(hull).mean == pytest.approx(3.0, abs=1e-12)


def test_an_ion_of_several_charges_needs_one() -> None:
    with pytest.raises(AlChargeError, match=r"^hull: the charge of Cu is not known"):
        hull_of({Fraction(0): -50.0, Fraction(1): -55.0}, ion="Cu", metal=-1.9)


def test_steps_follow_the_formula_and_fall(hull: Hull) -> None:
    profile = voltage_profile(hull)
    vertices = [(float(v.x), v.energy) for v in hull.vertices]
    expected = [-(b - a - (y - x) * -1.3) / (y - x) for (x, a), (y, b) in pairwise(vertices)]
    voltages = [step.voltage for step in profile.steps]
    assert [step.x_from for step in profile.steps] == [0, Fraction(2, 3), Fraction(5, 6)]
    assert voltages == pytest.approx(expected)
    assert all(left > right for left, right in pairwise(voltages))
    assert profile.mean == pytest.approx(4.25 - 1.3)
    assert (profile.framework, profile.working_ion) == ("FePO4", "Na")


def test_the_metal_only_shifts_voltages(hull: Hull) -> None:
    other = hull_of({e.x: e.energy for e in hull.entries}, metal=-1.0)
    assert other.compositions == hull.compositions
    shifts = [
        b.voltage - a.voltage
        for a, b in zip(voltage_profile(hull).steps, voltage_profile(other).steps, strict=True)
    ]
    assert shifts == pytest.approx([0.3] * 3)


def test_agrees_with_pymatgens_insertion_electrode(hull: Hull) -> None:
    from pymatgen.apps.battery.insertion_battery import InsertionElectrode
    from pymatgen.core.composition import Composition
    from pymatgen.entries.computed_entries import ComputedEntry

    # The electrode finds its own hull against elements at an artificial energy, which needs total
    # energies near those of DFT. Voltages do not change with the framework's zero of energy.
    framework, zero = Composition("FePO4"), 130.0
    entries = [
        ComputedEntry(framework + Composition({"Na": float(e.x)}), e.energy + zero)
        for e in hull.entries
    ]
    electrode = InsertionElectrode.from_entries(entries, ComputedEntry("Na", hull.metal_energy))
    profile = voltage_profile(hull)
    assert [pair.voltage for pair in electrode.voltage_pairs] == pytest.approx(
        [step.voltage for step in profile.steps]
    )
    mean = electrode.get_average_voltage()  # type: ignore[no-untyped-call]
    assert mean == pytest.approx(profile.mean)


@pytest.mark.parametrize("framework", ["V2(PO4)3", "(FePO4)2", "Fe1.72S3O12", "Fe0.5Mn0.5PO4"])
def test_voltage_is_per_ion_whatever_the_framework(framework: str) -> None:
    hull = hull_of({Fraction(1): -100.0, Fraction(3): -109.0}, framework=framework, metal=-1.3)
    assert voltage_profile(hull).mean == pytest.approx((9.0 - 2.6) / 2)
    assert hull.compositions == (1, 3)


def test_points_are_the_corners_of_the_plateaus(hull: Hull) -> None:
    x, voltage = voltage_profile(hull).points()
    assert x == pytest.approx([0, 2 / 3, 2 / 3, 5 / 6, 5 / 6, 1])
    assert voltage[0] == voltage[1] > voltage[2] == voltage[3] > voltage[4] == voltage[5]


def test_refuses_error_bars_that_do_not_fit(hull: Hull) -> None:
    with pytest.raises(AlChargeError, match=r"^voltage: 2 error bars for 3 voltage steps"):
        voltage_profile(hull, error_bars=[0.1, 0.2])


@pytest.mark.parametrize("energies", [[-170.0, -172.9, -173.6], [-170.0] * 5])
def test_every_vertex_needs_an_energy(hull: Hull, energies: list[float]) -> None:
    with pytest.raises(ValueError, match="zip"):
        step_voltages(hull, energies)


def test_error_bars_are_carried_by_the_profile(hull: Hull) -> None:
    profile = voltage_profile(hull, error_bars=[0.1, 0.2, 0.3], mean_error_bar=0.05)
    assert [step.error_bar for step in profile.steps] == [0.1, 0.2, 0.3]
    assert profile.mean_error_bar == 0.05
