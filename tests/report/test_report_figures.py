"""The plots of a report have the numbers of its documents, worked out here once more."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from al_charge.report.campaign_report.figures import MOST_DRAWN, hull_figures, voltage_figure
from al_charge.report.campaign_report.round_figures import (
    calibration_figure,
    convergence_figures,
    cost_figure,
)
from al_charge.report.documents import hull_document, predicted_entries, voltage_document
from al_charge.store.documents import Assessment, PredictedLabel
from al_charge.thermo.electrode import electrode
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import VoltageProfile


def by_meta(traces: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {trace["meta"]: trace for trace in traces if "meta" in trace}


def of_round(hull: Hull, number: int, assessment: Assessment | None = None) -> dict[str, Any]:
    return hull_document(hull, campaign="demo", labeler="born", round=number, found=assessment)


@pytest.fixture
def first(hull: Hull) -> Hull:
    """The hull before x = 3/4 was found."""
    known = [entry for entry in hull.entries if entry.x != Fraction(3, 4)]
    return build_hull(known, framework="FePO4", working_ion="Na", metal_energy=-1.3)


def test_each_round_of_the_hull_has_its_own_labels(
    first: Hull, hull: Hull, assessment: Assessment, candidates: list[Entry]
) -> None:
    last = of_round(hull, 3, assessment) | {"predicted": predicted_entries(hull, candidates)}
    found = hull_figures([of_round(first, 1), last], "NaxFePO4")
    assert list(found["rounds"]) == ["1", "3"]
    early, late = (by_meta(found["rounds"][number]) for number in ("1", "3"))
    assert early["vertices"]["x"] == [0.0, 0.5, 1.0]
    assert early["vertices"]["y"] == pytest.approx([0, -25, 0])
    assert late["vertices"]["x"] == [0.0, 0.75, 1.0]
    assert late["vertices"]["y"] == pytest.approx([0, -95, 0])
    assert sorted(zip(late["labelled"]["x"], late["labelled"]["y"], strict=True)) == [
        (pytest.approx(x), pytest.approx(y))
        for x, y in ((0.25, 12), (0.25, 31), (0.5, -25), (0.5, 40), (0.75, -60), (0.75, -60))
    ]
    assert "predicted" not in early
    # Predictions are total energies: -188.38 at x = 1/2, where the ends' line is at -188.3.
    assert late["predicted"]["y"] == pytest.approx([-80, 2000])
    assert late["predicted"]["error_y"]["array"] == pytest.approx([11, 11])
    assert late["band 95"]["x"] == [0.0, 0.75, 1.0, 1.0, 0.75, 0.0]
    assert late["band 95"]["y"] == pytest.approx([0, -119, 0, 0, -95, 0])
    assert late["band 68"]["y"] == pytest.approx([0, -107, 0, 0, -95, 0])
    low, high = found["layout"]["yaxis"]["range"]
    assert low < -119 and 40 < high < 100  # all labels and bands, not what lies at 2 eV
    assert found["layout"]["xaxis"]["ticktext"] == ["0", "1/4", "1/2", "3/4", "1"]


def test_corrected_vertices_are_drawn_beside(hull: Hull) -> None:
    shift = {vertex.config_hash: -0.01 * n for n, vertex in enumerate(hull.vertices)}
    document = hull_document(
        hull, campaign="d", labeler="gpaw", round=0, corrections={k: -v for k, v in shift.items()}
    )
    traces = hull_figures([document], "NaxFePO4")["rounds"]["0"]
    (corrected,) = [one for one in traces if one["name"] == "in the lowest magnetic orders"]
    told = [one["corrected_formation_energy"] for one in document["vertices"]]
    assert corrected["y"] == pytest.approx([1e3 * one for one in told])


def test_only_the_lowest_of_many_labels_are_drawn() -> None:
    ends = [Entry(f"e{x}", f"e{x}", Fraction(x), 0.0) for x in (0, 1)]
    many = [Entry(f"k{n}", f"h{n}", Fraction(1, 2), 0.001 * n) for n in range(1, 101)]
    hull = build_hull([*ends, *many], framework="FePO4", working_ion="Na", metal_energy=0.0)
    traces = by_meta(hull_figures([of_round(hull, 0)], "NaxFePO4")["rounds"]["0"])
    assert traces["labelled"]["y"] == pytest.approx(range(1, MOST_DRAWN + 1))
    assert f"({MOST_DRAWN} of 100)" in traces["labelled"]["name"]


def test_texts_of_a_campaign_are_no_markup_in_plots(hull: Hull) -> None:
    document = of_round(hull, 0)
    document["entries"][1]["remark"] = "<a href='https://example.org'>x</a>"
    document["entries"][1]["formula"] = "<a href='https://example.org'>Na</a>"
    (text,) = [
        text
        for trace in hull_figures([document], "NaxFePO4")["rounds"]["0"]
        for text in trace.get("text", [])
        if "example.org" in text
    ]
    assert "<a" not in text and "&lt;a" in text


def test_the_voltage_has_two_axes(
    hull: Hull, profile: VoltageProfile, assessment: Assessment
) -> None:
    stored = electrode(hull, {vertex.key: 70.0 + float(vertex.x) for vertex in hull.vertices})
    document = voltage_document(
        profile, campaign="d", labeler="born", found=assessment, stored=stored
    )
    found = voltage_figure(document, "NaxFePO4")
    x, capacity = (by_meta(found[axis]["traces"]) for axis in ("x", "capacity"))
    assert x["voltage"]["x"] == [0.0, 0.75, 0.75, 1.0]
    assert x["voltage"]["y"] == pytest.approx([2.826667, 2.826667, 2.32, 2.32], abs=1e-6)
    # 96485.33 C/mol over 3.6 C/mAh and the mass of NaFePO4, 173.74 g/mol
    whole = 96485.33212 / 3.6 / (22.98976928 + 55.845 + 30.973762 + 4 * 15.9994)
    assert capacity["voltage"]["x"] == pytest.approx(
        [0, 0.75 * whole, 0.75 * whole, whole], rel=1e-5
    )
    assert capacity["voltage"]["y"] == x["voltage"]["y"]
    assert capacity["mean"]["y"] == pytest.approx([2.7, 2.7])
    assert x["band 68"]["x"][:4] == [0.0, 0.75, 0.75, 1.0]
    assert capacity["band 95"]["x"][:4] == pytest.approx(
        [0, 0.75 * whole, 0.75 * whole, whole], rel=1e-5
    )
    assert "capacity" not in voltage_figure(document | {"electrode": None}, "NaxFePO4")


def test_a_window_of_compositions_begins_with_no_capacity() -> None:
    entries = [Entry(str(x), str(x), Fraction(x), -2.0 * x) for x in (1, 3)]
    hull = build_hull(entries, framework="V2P3O12", working_ion="Na", metal_energy=0.0)
    from al_charge.thermo.voltage import voltage_profile

    stored = electrode(hull, {"1": 200.0, "3": 210.0})
    document = voltage_document(voltage_profile(hull), campaign="d", labeler="born", stored=stored)
    trace = by_meta(voltage_figure(document, "NaxV2P3O12")["capacity"]["traces"])["voltage"]
    assert trace["x"] == pytest.approx([0.0, stored.capacity])


def test_convergence_is_drawn_in_meV_and_per_cent() -> None:  # noqa: N802
    rounds = [
        {"round": 0, "hull_shift": None, "p_below_hull": None},
        {"round": 1, "hull_shift": 0.004, "p_below_hull": 0.5},
        {"round": 2, "hull_shift": 0.0, "p_below_hull": 0.01},
    ]
    found = convergence_figures(rounds, 0.002)
    shift, chance = by_meta(found["shift"]["traces"]), by_meta(found["chance"]["traces"])
    assert (shift["shift"]["x"], shift["shift"]["y"]) == ([1, 2], [4.0, 0.0])
    assert shift["limit"]["y"] == [2.0, 2.0]
    assert chance["chance"]["y"] == [50.0, 1.0]
    assert chance["limit"]["y"] == [5.0, 5.0]
    assert convergence_figures(rounds[:1], 0.002) == {}


def test_calibration_shows_errors_over_their_bars() -> None:
    some = [
        (1, PredictedLabel("1/2", 0.010, 0.002, 0.005, True)),
        (1, PredictedLabel("1/4", -0.003, 0.002, 0.006, False)),
        (2, PredictedLabel("1/4", 0.001, 0.002, 0.001, False, band_95=0.003)),
        (2, PredictedLabel("1", 0.001, 0.0, 0.0, False)),  # no bar to compare with
    ]
    figure = calibration_figure(some)
    assert figure is not None
    found = by_meta(figure["traces"])
    assert found["deciding"]["y"] == [2.0]
    assert found["other"]["y"] == [-0.5, 1.0]
    assert [round(x) for x in found["other"]["x"]] == [1, 2]
    assert found["band 68"]["y"] == [-1.0] * 4 + [1.0] * 4
    assert found["band 95"]["y"] == pytest.approx([-1.96] * 2 + [-3.0] * 2 + [3.0] * 2 + [1.96] * 2)
    assert found["band 95"]["x"] == [0.5, 1.5, 1.5, 2.5, 2.5, 1.5, 1.5, 0.5]
    assert calibration_figure(some[3:]) is None and calibration_figure([]) is None


def test_costs_are_stacked_by_kind() -> None:
    rounds = [
        {"round": 0, "core_hours_by_kind": {"label": 2.0, "assess": 0.1}},
        {"round": 1, "core_hours_by_kind": {"train": 0.5, "label": 1.0, "other": 0.2}},
    ]
    figure = cost_figure(rounds)
    assert figure is not None
    found = by_meta(figure["traces"])
    assert list(found) == ["label", "train", "assess", "other"]
    assert found["label"]["y"] == [2.0, 1.0] and found["train"]["y"] == [0.0, 0.5]
    assert figure["layout"]["yaxis"]["title"]["text"] == "core hours"
    minutes = cost_figure([{"round": 0, "core_hours_by_kind": {"label": 0.02, "assess": 0.01}}])
    assert minutes is not None and minutes["layout"]["yaxis"]["title"]["text"] == "core minutes"
    assert [one["y"] for one in minutes["traces"]] == [[pytest.approx(1.2)], [pytest.approx(0.6)]]
    assert len({one["marker"]["pattern"]["shape"] for one in figure["traces"]}) == 4
    assert cost_figure([]) is None
