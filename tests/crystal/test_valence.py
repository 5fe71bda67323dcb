"""Charge states from moments: certain where they are, ambiguous where they are not."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from al_charge.crystal.valence import (
    BADER_MARGIN,
    GPAW_LCAO_WINDOWS,
    GPAW_PW_WINDOWS,
    GPAW_WINDOWS,
    VASP_WINDOWS,
    Windows,
    audit,
    calibrate,
)
from al_charge.errors import AlChargeError, InputError

DATA = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = DATA / "vasp_Na1Fe24P24O96" / "OUTCAR.gz"
OLIVINES = DATA / "cathodes_bader_moments.xyz"


def neutral() -> tuple[str, ...]:
    """Return a neutral set of species with one Fe2+ and one Fe3+."""
    return ("Na+", "Fe2+", "Fe3+", "O2-", "O2-", "O2-")


def test_moments_that_fit_give_the_species() -> None:
    found = audit([0.0, 3.66, 4.22, 0.1, 0.1, 0.1], neutral(), GPAW_WINDOWS)
    assert found.species == neutral()
    assert found.ambiguous == ()
    assert found.describe() == "every moment fits a charge state"


def test_an_exchanged_order_is_resolved_as_it_is() -> None:
    found = audit([0.0, 4.22, 3.66, 0.1, 0.1, 0.1], neutral(), GPAW_WINDOWS)
    assert found.species == ("Na+", "Fe3+", "Fe2+", "O2-", "O2-", "O2-")


def test_a_shared_hole_is_ambiguous() -> None:
    found = audit([0.0, 3.96, 3.96, 0.1, 0.1, 0.1], neutral(), GPAW_WINDOWS)
    assert found.species is None
    assert found.ambiguous == (1, 2)
    assert found.sites == ("Na+", None, None, "O2-", "O2-", "O2-")
    assert found.describe() == "moments of atoms 1, 2 lie between two charge states"


def test_charges_that_do_not_sum_to_zero_are_refused() -> None:
    found = audit([0.0, 3.66, 3.66, 0.1, 0.1, 0.1], neutral(), GPAW_WINDOWS)
    assert found.species is None
    assert (found.ambiguous, found.charge) == ((), -1)
    assert found.describe() == "the resolved charges sum to -1 e"


def test_antiferromagnetic_order_counts_the_same() -> None:
    found = audit([0.0, -3.66, 4.22, 0.1, -0.1, 0.1], neutral(), GPAW_WINDOWS)
    assert found.species == neutral()


def test_wrong_number_of_moments() -> None:
    with pytest.raises(AlChargeError, match="2 moments for 6 atoms"):
        audit([3.66, 4.22], neutral(), GPAW_WINDOWS)


def test_windows_that_overlap_are_refused() -> None:
    with pytest.raises(InputError, match=r"Fe2\+ .* and Fe3\+ .* overlap; narrow") as caught:
        Windows({"Fe2+": (3.5, 4.1), "Fe3+": (4.1, 4.4)})
    assert caught.value.where == "moment_windows"
    # Other elements may share a range.
    assert Windows({"Fe2+": (3.5, 4.0), "Mn3+": (3.5, 4.0)}).elements == {"Fe", "Mn"}


@pytest.mark.parametrize("window", [(4.0, 3.0), (-1.0, 2.0), (3.0, 3.0), (float("nan"), 4.0)])
def test_windows_that_are_none_are_refused(window: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"Fe2\+") as caught:
        Windows({"Fe2+": window})
    assert caught.value.where == "moment_windows"


def test_every_state_needs_a_window() -> None:
    GPAW_WINDOWS.check(["Fe2+", "Fe3+"])
    with pytest.raises(InputError, match=r"no moment window for Fe4\+.*; give one for Fe4\+$"):
        GPAW_WINDOWS.check(["Fe2+", "Fe4+"])
    with pytest.raises(InputError, match=r"no moment window for Mn2\+,spin=1"):
        VASP_WINDOWS.check(["Mn2+", "Mn2+,spin=1"])


def test_calibration_covers_its_moments_and_leaves_a_gap() -> None:
    windows = calibrate({"Fe3+": [4.20, -4.23], "Fe2+": [3.65, 3.70]})
    assert windows.ranges["Fe2+"] == pytest.approx((3.59, 3.76))
    assert windows.ranges["Fe3+"] == pytest.approx((4.14, 4.29))
    assert windows.state("Fe", 3.96) is None


def test_end_members_of_vasp_tell_a_shared_hole() -> None:
    windows = calibrate({"Fe2+": [3.762, 3.770], "Fe3+": [4.342, 4.349]})
    assert {windows.state("Fe", m) for m in (4.32, 4.335, 4.35)} == {"Fe3+"}
    assert windows.state("Fe", 3.785) == "Fe2+"
    assert [windows.state("Fe", m) for m in (3.85, 3.90, 3.97)] == [None] * 3


@pytest.mark.parametrize(
    ("low", "high", "mixed_low", "mixed_high"),
    [
        (3.643, 4.218, (3.626, 3.668), (4.185, 4.229)),  # atomic orbitals
        (3.662, 4.315, (3.655, 3.684), (4.284, 4.307)),  # plane waves
    ],
)
def test_end_members_of_gpaw_resolve_mixed_compositions(
    low: float, high: float, mixed_low: tuple[float, ...], mixed_high: tuple[float, ...]
) -> None:
    windows = calibrate({"Fe2+": [low] * 4, "Fe3+": [high] * 4}, GPAW_WINDOWS)
    assert {windows.state("Fe", m) for m in mixed_low} == {"Fe2+"}
    assert {windows.state("Fe", m) for m in mixed_high} == {"Fe3+"}
    assert windows.state("Fe", 3.96) is None


def test_states_that_no_end_member_shows_keep_their_default() -> None:
    windows = calibrate({"Mn2+": [4.65], "Mn4+": [3.10]}, VASP_WINDOWS)
    assert windows.ranges["Mn3+"] == VASP_WINDOWS.ranges["Mn3+"]
    # The gap holds two steps of charge, so that a tenth of an electron is half of what it looks.
    assert windows.ranges["Mn2+"] == pytest.approx((4.557, 4.743))
    assert windows.ranges["Fe2+"] == VASP_WINDOWS.ranges["Fe2+"]


def test_defaults_make_way_for_calibrated_windows() -> None:
    defaults = Windows({"Mn3+": (3.6, 4.1), "Mn4+": (2.7, 3.4)})
    windows = calibrate({"Mn3+": [3.50]}, defaults)
    assert windows.ranges["Mn3+"] == pytest.approx((3.42, 3.58))
    assert windows.ranges["Mn4+"] == pytest.approx((2.7, 3.40))
    assert calibrate({"Mn4+": [3.35]}, defaults).ranges["Mn3+"] == pytest.approx((3.6, 4.1))
    assert "Mn4+" not in calibrate({"Mn3+": [3.10]}, defaults).ranges
    narrowed = calibrate({"Mn3+": [3.45]}, defaults).ranges
    assert narrowed["Mn4+"] == pytest.approx((2.7, 3.35))


def test_calibration_refuses_states_that_look_alike() -> None:
    with pytest.raises(InputError, match=r"Fe2\+ and Fe3\+ .* too close to tell them apart") as no:
        calibrate({"Fe3+": [4.0], "Fe2+": [3.9]})
    assert no.value.where == "moment_windows"
    with pytest.raises(InputError, match="too close"):
        calibrate({"Fe3+": [4.0, 4.1], "Fe2+": [4.05]})


@pytest.mark.parametrize("none", [[], [float("nan")]])
def test_calibration_needs_moments(none: list[float]) -> None:
    with pytest.raises(InputError, match=r"^moments: no moments to calibrate Fe2\+"):
        calibrate({"Fe3+": [4.0], "Fe2+": none})


def test_calibration_refuses_end_members_that_are_not_what_they_should_be() -> None:
    with pytest.raises(
        InputError, match=r"range from 3\.96 to 4\.31, so not all .* are Fe3\+"
    ) as no:
        calibrate({"Fe3+": [4.31, 4.31, 4.31, 3.96]})
    assert no.value.where == "moment_windows"
    with pytest.raises(InputError, match=r"^moment_windows: .* 0\.98 is far below .* moment of 5"):
        calibrate({"Fe3+": [0.98, 1.01]})
    with pytest.raises(InputError, match=r"4\.65 is more than its 3 unpaired electrons"):
        calibrate({"Mn4+": [4.65]})
    with pytest.raises(InputError, match=r"1\.90 is more than its 0 unpaired electrons"):
        calibrate({"V5+": [1.9]})
    assert calibrate({"V5+": [0.02], "V4+": [1.05]}).state("V", 0.1) == "V5+"


@settings(deadline=None)
@given(
    st.lists(st.floats(3.4, 3.5), min_size=1, max_size=8),
    st.lists(st.floats(4.3, 4.4), min_size=1, max_size=8),
    st.tuples(st.floats(2.0, 5.0), st.floats(0.05, 2.0)),
)
def test_end_members_resolve_by_their_own_calibration(
    low: list[float], high: list[float], default: tuple[float, float]
) -> None:
    other = Windows({"Fe4+": (default[0], default[0] + default[1])})
    windows = calibrate({"Fe2+": low, "Fe3+": high}, other)
    assert {windows.state("Fe", moment) for moment in low} == {"Fe2+"}
    assert {windows.state("Fe", -moment) for moment in high} == {"Fe3+"}
    assert windows.state("Fe", (max(low) + min(high)) / 2) != "Fe2+"


CHARGES = [0.86, 1.50, 1.82, -1.40, -1.39, -1.39]
"""Net Bader charges that go with `neutral`."""


def test_bader_charges_that_agree() -> None:
    found = audit([0.0, 3.66, 4.22, 0.1, 0.1, 0.1], neutral(), GPAW_WINDOWS, CHARGES)
    assert found.species == neutral()
    assert list(found.count(frozenset({"Fe"})).items()) == [("Fe3+", 1), ("Fe2+", 1)]


@pytest.mark.parametrize("iron", [(1.82, 1.50), (1.66, 1.66), (1.66, 1.66 + BADER_MARGIN / 2)])
def test_bader_charges_that_contradict_the_moments(iron: tuple[float, float]) -> None:
    charges = [0.86, *iron, -1.40, -1.39, -1.39]
    found = audit([0.0, 3.66, 4.22, 0.1, 0.1, 0.1], neutral(), GPAW_WINDOWS, charges)
    assert found.species is None
    assert found.contradicted == (1, 2)
    assert found.describe() == "Bader charges of atoms 1, 2 contradict their moments"


def test_one_site_of_many_with_the_charge_of_another_state() -> None:
    species = ("Fe3+",) * 3 + ("Fe2+",) + ("O2-",) * 5 + ("F-",)
    moments = [4.22, 4.21, 4.20, 3.66, *[0.0] * 6]
    charges = np.array([1.82, 1.81, 1.51, 1.50, *[-1.1] * 6])
    assert audit(moments, species, GPAW_WINDOWS, charges).contradicted == (2,)
    charges[:3] = 1.50
    assert audit(moments, species, GPAW_WINDOWS, charges).contradicted == (3,)


def test_known_charges_check_a_cell_in_one_state() -> None:
    windows = calibrate(
        {"Fe2+": [3.64] * 2, "Fe3+": [4.22]}, charges={"Fe2+": [1.50, 1.49], "Fe3+": [1.84]}
    )
    assert windows.charges == pytest.approx({"Fe2+": 1.495, "Fe3+": 1.84})
    species = ("Fe3+", "Fe3+", "O2-", "O2-", "O2-")
    moments = [4.22, 4.22, 0.0, 0.0, 0.0]
    assert audit(moments, species, windows, [1.8, 1.8, -1.2, -1.2, -1.2]).species == species
    assert audit(moments, species, windows, [1.8, 1.5, -1.1, -1.1, -1.1]).contradicted == (1,)


@pytest.mark.parametrize(
    ("lower", "upper", "contradicted"),
    [(1.62, 1.68, ()), (1.63, 1.68, (0,)), (1.62, 1.67, (1,)), (1.66, 1.64, (0, 1))],
)
def test_charges_near_the_border_of_two_states_are_uncertain(
    lower: float, upper: float, contradicted: tuple[int, ...]
) -> None:
    # Midway between 1.50 and 1.80 e, and half of the margin of 0.05 e to each side.
    windows = Windows(GPAW_WINDOWS.ranges, {"Fe2+": 1.50, "Fe3+": 1.80})
    species = ("Fe2+", "Fe3+", "O2-", "O2-", "F-")
    found = audit([3.64, 4.22, 0, 0, 0], species, windows, [lower, upper, -1.2, -1.2, -0.9])
    assert found.contradicted == contradicted


def test_charges_that_end_members_share_tell_nothing() -> None:
    windows = calibrate(
        {"Fe2+": [3.64], "Fe3+": [4.22]}, charges={"Fe2+": [1.50], "Fe3+": [1.52], "Na+": []}
    )
    charges = [0.86, 1.52, 1.50, -1.30, -1.29, -1.29]
    assert audit([0, 3.64, 4.22, 0, 0, 0], neutral(), windows, charges).species == neutral()


@pytest.mark.parametrize(
    ("upper", "lower", "contradicted"),
    [
        ((1.66, 1.68), (1.57, 1.59), ()),  # as GPAW gives them
        ((1.63, 1.64), (1.60, 1.62), ()),  # one of them across the border of the end members
        ((1.57, 1.59), (1.66, 1.68), (0, 1, 2, 3)),
        ((1.68, 1.68), (1.68, 1.68), (0, 1, 2, 3)),
        ((1.57, 1.59), (), ()),
    ],
)
def test_states_with_similar_charges_are_told_by_their_order(
    upper: tuple[float, ...], lower: tuple[float, ...], contradicted: tuple[int, ...]
) -> None:
    """Mn4+ and Mn3+ of MgxMn2O4 differ by 0.08 e in the end members, and both shift with x."""
    windows = Windows(
        {"Mn4+": (2.6, 3.5), "Mn3+": (3.6, 4.2)}, charges={"Mn4+": 1.69, "Mn3+": 1.61}
    )
    species = ["Mn4+"] * len(upper) + ["Mn3+"] * len(lower) + ["O2-"]
    moments = [3.37] * len(upper) + [3.82] * len(lower) + [0.0]
    net = [*upper, *lower]
    found = audit(moments, species, windows, [*net, -sum(net)])
    assert found.contradicted == contradicted


def test_bader_charges_of_the_wrong_sign_or_number() -> None:
    moments = [0.0, 3.66, 4.22, 0.1, 0.1, 0.1]
    with pytest.raises(AlChargeError, match=r"^bader: .*cations negative; net charges are"):
        audit(moments, neutral(), GPAW_WINDOWS, -np.array(CHARGES))
    with pytest.raises(AlChargeError, match=r"^bader: 5 Bader charges for 6 atoms"):
        audit(moments, neutral(), GPAW_WINDOWS, CHARGES[:-1])
    weak = np.array(CHARGES) / 100
    assert audit(moments, neutral(), Windows({}), weak).species == neutral()


def test_default_windows_of_gpaw_hold_those_of_its_modes() -> None:
    for windows in (GPAW_LCAO_WINDOWS, GPAW_PW_WINDOWS):
        for species, (low, high) in windows.ranges.items():
            assert GPAW_WINDOWS.ranges[species][0] <= low
            assert high <= GPAW_WINDOWS.ranges[species][1]


def olivine_species(atoms: Atoms, cobalt: str) -> list[str]:
    """Return the species that the authors' compositions leave no choice about."""
    token = {"Na": "Na+", "P": "P5+", "O": "O2-", "Co": cobalt}
    return [token.get(symbol, f"{symbol}2+") for symbol in atoms.get_chemical_symbols()]


@pytest.mark.skipif(not OLIVINES.exists(), reason="published VASP results are not here")
def test_published_mixed_olivines() -> None:
    """Three cells with four elements; the file's charges have cations negative."""
    cells = read(OLIVINES, ":")
    moments = [cell.get_magnetic_moments() for cell in cells]
    charges = [-cell.arrays["bader_charge"] for cell in cells]
    for cell, found, net, cobalt in zip(
        cells, moments, charges, ("Co2+", "Co2+", "Co3+"), strict=True
    ):
        species = olivine_species(cell, cobalt)
        # As asked for with the other state of cobalt, it is resolved all the same.
        asked = olivine_species(cell, "Co3+" if cobalt == "Co2+" else "Co2+")
        assert audit(found, asked, VASP_WINDOWS, net).species == tuple(species)
        with pytest.raises(AlChargeError, match="cations negative"):
            audit(found, species, VASP_WINDOWS, -net)

    def of(values: list[np.ndarray], cell: int, element: str) -> np.ndarray:
        return values[cell][cells[cell].symbols == element]

    # Two of them calibrate cobalt; then charges of the other state contradict the moments.
    windows = calibrate(
        {"Co2+": of(moments, 0, "Co"), "Co3+": of(moments, 2, "Co")},
        VASP_WINDOWS,
        charges={"Co2+": of(charges, 0, "Co"), "Co3+": of(charges, 2, "Co")},
    )
    assert windows.charges["Co3+"] - windows.charges["Co2+"] == pytest.approx(0.29, abs=0.01)
    for cell, cobalt in ((0, "Co2+"), (2, "Co3+")):
        species = olivine_species(cells[cell], cobalt)
        assert audit(moments[cell], species, windows, charges[cell]).species == tuple(species)
    sites = np.flatnonzero(cells[2].symbols == "Co")
    swapped = charges[2].copy()
    swapped[sites[3]] = of(charges, 0, "Co")[0]
    species = olivine_species(cells[2], "Co3+")
    assert audit(moments[2], species, windows, swapped).contradicted == (sites[3],)


def published_moments() -> np.ndarray:
    """Return the total moments of the last ionic step in an OUTCAR, shape (145,)."""
    text = gzip.decompress(PUBLISHED.read_bytes()).decode()
    table = text.rsplit("magnetization (x)", 1)[1].split("tot", 1)[1]
    rows = re.findall(r"^\s*\d+((?:\s+-?\d+\.\d+){4,5})\s*$", table, re.MULTILINE)
    return np.array([float(row.split()[-1]) for row in rows[:145]])


@pytest.mark.skipif(not PUBLISHED.exists(), reason="published VASP results are not here")
def test_published_vasp_moments() -> None:
    moments = published_moments()
    calibrated = calibrate({"Fe3+": [4.33, 4.35], "Fe2+": [3.762, 3.770]})
    for windows in (VASP_WINDOWS, calibrated):
        found = audit(moments, published_species(), windows)
        assert found.species is not None
        assert found.count(windows.elements) == {"Fe3+": 23, "Fe2+": 1}
        assert [windows.state("Fe", moment) for moment in (3.85, 3.90, 3.97)] == [None] * 3


def published_species() -> list[str]:
    """Return the species of the published cell, all iron as Fe3+, in the file's order."""
    text = gzip.decompress(PUBLISHED.read_bytes()).decode(errors="replace")
    elements = re.findall(r"VRHFIN =(\w+) *:", text)
    counts = re.search(r"ions per type =((?:\s+\d+)+)", text)
    assert counts is not None
    token = {"Na": "Na+", "Fe": "Fe3+", "P": "P5+", "O": "O2-"}
    return [
        token[element]
        for element, count in zip(elements, counts.group(1).split(), strict=True)
        for _ in range(int(count))
    ]
