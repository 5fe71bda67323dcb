"""Which uncertain moments are a charge that sites share, and which remain a doubt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from al_charge.crystal.valence import VASP_WINDOWS, Audit, Windows, audit, audit_run

IRON = Windows({"Fe2+": (3.65, 3.85), "Fe3+": (4.25, 4.45)}, {"Fe2+": 1.40, "Fe3+": 1.80})
COBALT = Windows({"Co3+,spin=0": (0.0, 0.2), "Co4+,spin=1": (0.9, 1.1)})


def found(
    moments: Sequence[float],
    requested: Sequence[str],
    windows: Windows = IRON,
    bader: Sequence[float] | None = None,
) -> Audit:
    """Audit redox sites beside as many O2- as make the cell neutral, and Na+ where that is odd."""
    charge = sum(int(token[2]) for token in requested)
    others = ["O2-"] * ((charge + 1) // 2) + ["Na+"] * (charge % 2)
    species, values = [*requested, *others], [*moments, *[0.01] * len(others)]
    net = None
    if bader is not None:
        spread = -sum(bader) / len(others)
        net = [*bader, *[spread] * len(others)]
    return audit(values, species, windows, net)


def test_a_hole_that_several_sites_share() -> None:
    """As in published Na23Fe24P24O96, where moments between 3.85 and 3.97 were seen.

    A mean of 3.75 for Fe2+ and 4.35 for Fe3+ make 0.25 of the way 3.90.
    """
    requested = ["Fe3+", *["Fe2+"] * 7]
    shared = found([3.90] * 4 + [3.75] * 4, requested)
    assert shared.delocalised
    assert shared.species is None
    assert shared.ambiguous == (0, 1, 2, 3)
    assert shared.describe() == "moments of atoms 0, 1, 2, 3 lie between two charge states"
    # Uneven parts of the same whole.
    assert found([3.97, 3.97, 3.88, 3.86] + [3.75] * 4, requested).delocalised
    assert not found([3.75] * 7 + [4.35], requested).delocalised


def test_an_electron_that_all_sites_share() -> None:
    """LixCoO2 near x = 1/2: half a hole on every cobalt."""
    requested = ["Co3+,spin=0", "Co4+,spin=1"] * 2
    assert found([0.5] * 4, requested, COBALT).delocalised
    assert found([-0.55, -0.45] * 2, requested, COBALT).delocalised


@pytest.mark.parametrize(
    ("moments", "requested"),
    [
        ([3.90] + [3.75] * 3, ["Fe3+"] + ["Fe2+"] * 3),  # one site shares with nobody
        ([3.90] * 2 + [3.75] * 2, ["Fe3+"] + ["Fe2+"] * 3),  # half a hole in all
        ([4.15] * 4, ["Fe3+"] + ["Fe2+"] * 3),  # three holes where one is
        ([4.05, -4.05], ["Fe3+", "Fe2+"]),  # spins of both signs
        ([3.2, 4.05], ["Fe3+", "Fe2+"]),  # one below all states
        ([4.05, 4.9], ["Fe3+", "Fe2+"]),  # one above
        ([float("nan"), 4.05], ["Fe3+", "Fe2+"]),
    ],
)
def test_what_remains_a_doubt(moments: list[float], requested: list[str]) -> None:
    result = found(moments, requested)
    assert result.species is None
    assert not result.delocalised


@pytest.mark.parametrize(
    ("bader", "shared"),
    [([1.60, 1.60], True), ([1.37, 1.83], True), ([1.30, 1.60], False), ([1.60, 1.90], False)],
)
def test_bader_charges_lie_between_too(bader: list[float], shared: bool) -> None:
    assert found([4.05, 4.05], ["Fe3+", "Fe2+"], bader=bader).delocalised is shared
    unknown = Windows(IRON.ranges)
    assert found([4.05, 4.05], ["Fe3+", "Fe2+"], unknown, bader).delocalised


def test_other_spins_are_not_shared_charge() -> None:
    """High-spin Co2+ has three electrons more unpaired than low-spin Co3+: no mean of them."""
    windows = Windows({"Co2+": (2.6, 2.9), "Co3+,spin=0": (0.0, 0.3)})
    assert not found([1.4, 1.4], ["Co2+", "Co3+,spin=0"], windows).delocalised


def test_a_charge_that_is_shared_in_other_spin_states_than_requested_is_a_doubt() -> None:
    """Half a hole on low-spin iron, whose windows VASP is known by; olivines are high spin."""
    moments, low = [0.6, 0.6], ["Fe3+,spin=1", "Fe2+,spin=0"]
    assert found(moments, low, VASP_WINDOWS).delocalised
    assert not found(moments, ["Fe3+", "Fe2+"], VASP_WINDOWS).delocalised
    # Mn3+ is not requested in any spin state.
    assert found([3.45, 3.45, 3.85], ["Mn4+", "Mn4+", "Mn2+"], VASP_WINDOWS).delocalised


def test_states_two_charges_apart_share_nothing() -> None:
    windows = Windows({"Mn2+": (4.4, 4.8), "Mn4+": (2.7, 3.3)})
    assert not found([3.8, 3.8], ["Mn2+", "Mn4+"], windows).delocalised
    three = Windows({**windows.ranges, "Mn3+": (3.6, 4.0)})
    assert found([3.45, 3.45], ["Mn3+", "Mn4+"], three).delocalised


def test_runs_are_judged_in_the_same_way() -> None:
    species = ["Fe3+", "Fe2+", "Na+", "O2-", "O2-", "O2-"]
    moments = [4.0, 4.0, 0.0, 0.1, 0.1, 0.1]
    assert audit_run(moments, species, VASP_WINDOWS).delocalised
    assert not audit_run([4.32, 3.76, 0.0, 0.1, 0.1, 0.1], species, VASP_WINDOWS).delocalised
