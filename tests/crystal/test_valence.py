"""Charge states from moments: certain where they are, ambiguous where they are not."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_charge.crystal.valence import GPAW_WINDOWS, Windows, calibrate, audit
from al_charge.errors import AlChargeError, InputError

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "vasp_Na1Fe24P24O96" / "OUTCAR.gz"


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
    assert found.describe() == "moments of atoms 1, 2 fit no charge state"


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
    with pytest.raises(InputError, match=r"Fe2\+ .* and Fe3\+ .* overlap"):
        Windows({"Fe2+": (3.5, 4.1), "Fe3+": (4.1, 4.4)})
    # Other elements may share a range.
    assert Windows({"Fe2+": (3.5, 4.0), "Mn3+": (3.5, 4.0)}).elements == {"Fe", "Mn"}


@pytest.mark.parametrize("window", [(4.0, 3.0), (-1.0, 2.0), (3.0, 3.0), (float("nan"), 4.0)])
def test_windows_that_are_none_are_refused(window: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"Fe2\+"):
        Windows({"Fe2+": window})


def test_a_magnetic_species_needs_a_window() -> None:
    GPAW_WINDOWS.check(neutral())
    GPAW_WINDOWS.check(("Zr4+", "O2-"))
    with pytest.raises(InputError, match=r"no moment window for Mn2\+"):
        GPAW_WINDOWS.check(("Mn2+", "O2-"))


def test_calibration_covers_its_moments_and_leaves_a_gap() -> None:
    windows = calibrate({"Fe3+": [4.20, -4.23], "Fe2+": [3.65, 3.69]}, half_width=0.1)
    assert windows.ranges["Fe3+"] == pytest.approx((4.10, 4.33))
    assert windows.ranges["Fe2+"] == pytest.approx((3.55, 3.79))
    assert windows.state("Fe", 3.96) is None


def test_calibration_refuses_states_that_look_alike() -> None:
    with pytest.raises(InputError, match="overlap"):
        calibrate({"Fe3+": [4.0], "Fe2+": [3.9]}, half_width=0.1)
    with pytest.raises(InputError, match=r"no moments to calibrate Fe2\+"):
        calibrate({"Fe3+": [4.0], "Fe2+": []})


@given(
    st.lists(st.floats(3.4, 3.9), min_size=1, max_size=8),
    st.lists(st.floats(4.3, 4.8), min_size=1, max_size=8),
)
def test_end_members_resolve_by_their_own_calibration(low: list[float], high: list[float]) -> None:
    windows = calibrate({"Fe2+": low, "Fe3+": high}, half_width=0.05)
    assert {windows.state("Fe", moment) for moment in low} == {"Fe2+"}
    assert {windows.state("Fe", -moment) for moment in high} == {"Fe3+"}


def published_moments() -> np.ndarray:
    """Return the total moments of the last ionic step in an OUTCAR, shape (145,)."""
    text = gzip.decompress(PUBLISHED.read_bytes()).decode()
    table = text.rsplit("magnetization (x)", 1)[1].split("tot", 1)[1]
    rows = re.findall(r"^\s*\d+((?:\s+-?\d+\.\d+){4,5})\s*$", table, re.MULTILINE)
    return np.array([float(row.split()[-1]) for row in rows[:145]])


@pytest.mark.skipif(not PUBLISHED.exists(), reason="published VASP results are not here")
def test_published_vasp_moments() -> None:
    moments = published_moments()
    windows = calibrate({"Fe3+": [4.33, 4.35], "Fe2+": [3.785]}, half_width=0.06)
    order = published_species()
    found = audit(moments, order, windows)
    assert found.ambiguous == ()
    assert found.charge == 0
    iron = [token for token in found.sites if token is not None and token.startswith("Fe")]
    assert (iron.count("Fe3+"), iron.count("Fe2+")) == (23, 1)
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
