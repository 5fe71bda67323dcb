"""What all plots of a hull and of voltages show, against the documents that it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest import approx

from al_charge.report import plot_data
from al_charge.report.campaign_report.figures import hull_figures
from al_charge.report.documents import (
    entry_document,
    hull_document,
    predicted_entries,
    step_documents,
    voltage_document,
)
from al_charge.report.interactive import hull_html
from al_charge.serve.figures import hull_figure
from al_charge.store.documents import Assessment
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile


def test_bands_are_those_of_the_assessment(
    hull: Hull, profile: VoltageProfile, assessment: Assessment
) -> None:
    told = hull_document(hull, campaign="", labeler="born", found=assessment)["band"]
    wide, narrow = plot_data.hull_bands(told)
    assert (wide.share, narrow.share) == (95, 68)
    assert wide.x == narrow.x == [0.0, 0.75, 1.0]
    assert (wide.lower, wide.upper) == (approx([0, -119, 0]), approx([0, -95, 0]))
    assert (narrow.lower, narrow.upper) == (approx([0, -107, 0]), approx([0, -95, 0]))
    steps = voltage_document(profile, campaign="", labeler="born", found=assessment)["band"]
    wide, narrow = plot_data.voltage_bands(steps)
    assert narrow.x == [0.0, 0.75, 0.75, 1.0]
    assert (narrow.lower, narrow.upper) == ([2.7, 2.7, 2.3, 2.3], [2.9, 2.9, 2.35, 2.35])
    assert wide.upper == [3.0, 3.0, 2.4, 2.4]
    x, heights = narrow.outline()
    assert x == [0.0, 0.75, 0.75, 1.0, 1.0, 0.75, 0.75, 0.0]
    assert heights == [2.7, 2.7, 2.3, 2.3, 2.35, 2.35, 2.9, 2.9]
    assert plot_data.hull_bands([]) == plot_data.voltage_bands([]) == []


def test_plateaus_are_the_corners_of_the_profile(profile: VoltageProfile) -> None:
    found = plot_data.plateaus(step_documents(profile))
    x, voltage = profile.points()
    assert (found["x"], found["y"]) == (x.tolist(), voltage.tolist())
    assert found["text"][2:] == ["x = 3/4 to 1<br>2.320 ± 0.050 V"] * 2


def test_a_configuration_says_the_same_wherever_it_is_drawn(
    hull: Hull, candidates: list[Entry], assessment: Assessment, tmp_path: Path
) -> None:
    (told,) = predicted_entries(hull, [replace(candidates[0], remark="<a>doubtful</a>")])
    assert plot_data.entry_lines(told)[1:] == [
        "x = 1/2", "formation energy -80.0 meV/f.u.", "16.7 meV below the hull",
        "error bar 11.0 meV/f.u.", "configuration hash-candidate", "<a>doubtful</a>",
    ]  # fmt: skip
    points = plot_data.entry_points([told])
    assert (points["x"], points["y"]) == ([0.5], approx([-80.0]))
    assert "<sub>1/2</sub>" in points["text"][0] and "&lt;a&gt;" in points["text"][0]

    entry = next(one for one in hull.entries if one not in hull.vertices)
    lines = plot_data.entry_lines(entry_document(hull, entry))
    assert lines[4] == f"label {entry.key[:8]}"
    assert plot_data.entry_lines(entry_document(hull, hull.vertices[1]))[3] == "on the hull"
    (mark,) = [
        one for one in hull_figure(hull, set(), assessment, 0).marks if lines[-1] in one.text
    ]
    assert mark.text.split("; ")[1:] == lines[1:]
    document = hull_document(hull, campaign="d", labeler="born", round=0, found=assessment)
    traces = hull_figures([document], "NaxFePO4")["rounds"]["0"]
    path = tmp_path / "hull.html"
    hull_html(path, hull, labeler="born")
    (text,) = [one for trace in traces for one in trace.get("text", []) if lines[-1] in one]
    assert text.split("<br>")[1:] == lines[1:]
    written = path.read_text().replace(r"\u002f", "/")
    assert r"\u003cbr\u003e".join(lines[1:]) in written
