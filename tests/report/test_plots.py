"""Plots: what is drawn, at the size of a journal's column or page; pages load nothing."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from pytest import approx

from al_charge.report.canvas import composition_axis, new_figure, write_figure
from al_charge.report.documents import hull_document, voltage_document
from al_charge.report.experiment import Measured
from al_charge.report.interactive import hull_html, voltage_html
from al_charge.report.static import hull_figure, voltage_figure
from al_charge.report.style import PREDICTED, fraction_ticks
from al_charge.store.documents import Assessment
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import VoltageProfile


def pixels(path: Path) -> np.ndarray:
    """Return a PNG as integers, shape (height, width, 3)."""
    assert path.read_bytes().startswith(b"\x89PNG")
    return np.asarray(np.round(255 * imread(path)[:, :, :3]), dtype=int)


def resolution(path: Path) -> tuple[int, int]:
    """Return the dots per inch that a PNG says."""
    content = path.read_bytes()
    place = content.index(b"pHYs") + 4
    x, y, _ = struct.unpack(">IIB", content[place : place + 9])
    return round(x * 0.0254), round(y * 0.0254)


def by_name(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """Return the points of lines by their names in the legend."""
    return {
        str(line.get_label()): (
            np.asarray(line.get_xdata()).tolist(),
            np.asarray(line.get_ydata()).tolist(),
        )
        for line in axes.lines
    }


def approx_pairs(pairs: list[tuple[float, float]]) -> list[Any]:
    return [approx(pair) for pair in sorted(pairs)]


BAND = [
    {"x": "0", "lower_95": 0.0, "lower_68": 0.0, "upper_68": 0.0, "upper_95": 0.0},
    {"x": "3/4", "lower_95": -0.119, "lower_68": -0.107, "upper_68": -0.095, "upper_95": -0.095},
    {"x": "1", "lower_95": 0.0, "lower_68": 0.0, "upper_68": 0.0, "upper_95": 0.0},
]
STEPS = [
    {
        "x_from": "0", "x_to": "3/4",
        "lower_95": 2.6, "lower_68": 2.7, "upper_68": 2.9, "upper_95": 3.0,
    },
    {
        "x_from": "3/4", "x_to": "1",
        "lower_95": 2.2, "lower_68": 2.3, "upper_68": 2.35, "upper_95": 2.4,
    },
]  # fmt: skip


class Page(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe"):
            self.loads += [value for name, value in attrs if name in ("src", "href") and value]


def traces(path: Path) -> list[dict[str, Any]]:
    """Return the data of a plotly page."""
    text = path.read_text()
    start = text.rindex("Plotly.newPlot(")
    begin = text.index("[", start)
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text[begin:])[0]
    return found


def texts(trace: dict[str, Any]) -> Iterator[str]:
    yield from trace.get("text", [])


@pytest.fixture(scope="module")
def hull_drawn(hull: Hull, candidates: list[Entry]) -> Figure:
    """The hull of a column's width, with everything that it can show."""
    corrected = {Fraction(0): 0.0, Fraction(3, 4): -0.12, Fraction(1): 0.0}
    return hull_figure(
        hull,
        labeler="born",
        campaign="a-campaign-with-a-name-that-is-far-too-long-for-a-column",
        candidates=[*candidates, Entry("c3", "hash-higher", Fraction(1, 2), -188.3 - 0.05, 0.02)],
        corrected=corrected,
        band=BAND,
    )


@pytest.fixture(scope="module")
def voltage_drawn(profile: VoltageProfile) -> Figure:
    """The voltage of a page's width, with everything that it can show."""
    measured = Measured("cell.csv", ((0.1, 2.9), (0.5, 2.8), (0.9, 2.2)))
    return voltage_figure(
        profile,
        labeler="born",
        campaign="demo",
        band=STEPS,
        measured=measured,
        capacity=150.0,
        width="double",
    )


@pytest.fixture(params=["hull_drawn", "voltage_drawn"])
def drawn(request: pytest.FixtureRequest) -> Figure:
    figure: Figure = request.getfixturevalue(request.param)
    return figure


def test_the_hull_draws_the_energies_of_labels_and_predictions(hull_drawn: Figure) -> None:
    """Formation energies by hand: end members at zero, so energy + 186.3 + 4 x eV."""
    whole, near = hull_drawn.axes[:2]
    shown = by_name(whole)
    assert shown["hull of the labels, 3 vertices"] == ([0, 0.75, 1], approx([0, -95, 0]))
    x, y = shown["labelled, above the hull (6)"]
    assert sorted(zip(x, y, strict=True)) == approx_pairs(
        [(0.25, 12), (0.25, 31), (0.5, -25), (0.5, 40), (0.75, -60), (0.75, -60)]
    )
    # 0.22 of the smallest step of x, 1/4, to the right.
    x, y = shown["predicted, no label (2; 1 off scale)"]
    assert (x, y) == (approx([0.555, 0.555]), approx([-80, -50]))
    x, y = shown["in the lowest magnetic orders"]
    assert (x, y) == ([0, 0.75, 1], approx([0, -120, 0]))
    # Below: less the hull, which falls by 95 meV over 3/4 and rises over 1/4.
    lower = by_name(near)
    assert lower["hull of the labels, 3 vertices"] == ([0, 0.75, 1], approx([0, 0, 0]))
    x, y = lower["labelled, above the hull (6)"]
    assert sorted(zip(x, y, strict=True)) == approx_pairs(
        [
            (0.25, 12 + 95 / 3), (0.25, 31 + 95 / 3), (0.5, -25 + 190 / 3), (0.5, 40 + 190 / 3),
            (0.75, 35), (0.75, 35),
        ]
    )  # fmt: skip


def test_the_lowest_prediction_has_its_error_bar_as_a_band(hull_drawn: Figure) -> None:
    for axes, zero in zip(hull_drawn.axes[:2], (0.0, -190 / 3), strict=True):
        (box,) = [one for one in axes.patches if isinstance(one, Rectangle) and one.get_hatch()]
        assert box.get_y() == approx(-80 - 11 - zero)
        assert box.get_height() == approx(22)
        assert box.get_x() + box.get_width() / 2 == approx(0.555)


def test_bands_are_those_of_the_document(hull_drawn: Figure, voltage_drawn: Figure) -> None:
    names = ["true hull, 95 % (sampled hulls)", "true hull, 68 % (sampled hulls)"]
    for axes, on_hull in zip(hull_drawn.axes[:2], ((0, 0, 0), (0, -95, 0)), strict=True):
        wide, narrow = axes.collections[:2]
        assert [wide.get_label(), narrow.get_label()] == names
        for band, share in ((wide, "95"), (narrow, "68")):
            corners = {tuple(map(float, one)) for one in band.get_paths()[0].vertices.round(6)}  # type: ignore[union-attr]
            for one, zero in zip(BAND, on_hull, strict=True):
                x = float(Fraction(one["x"]))
                for end in ("lower", "upper"):
                    assert (x, round(1e3 * one[f"{end}_{share}"] - zero, 6)) in corners
    wide, narrow = voltage_drawn.axes[0].collections[:2]
    assert wide.get_label() == "true voltage, 95 % (sampled hulls)"
    corners = {tuple(map(float, one)) for one in wide.get_paths()[0].vertices.round(6)}  # type: ignore[union-attr]
    assert {(0.0, 2.6), (0.75, 2.6), (0.75, 2.2), (1.0, 2.2), (1.0, 2.4), (0.0, 3.0)} <= corners


def test_the_voltage_draws_plateaus_mean_and_experiment(voltage_drawn: Figure) -> None:
    axes = voltage_drawn.axes[0]
    shown = by_name(axes)
    # -(E(3/4) - E(0)) / (3/4) + E(Na), and the same from 3/4 to 1.
    assert shown["computed"][0] == [0, 0.75, 0.75, 1]
    first, last = (3.0 + 0.095) / 0.75 - 1.3, (1.0 - 0.095) / 0.25 - 1.3
    assert shown["computed"][1] == approx([first, first, last, last])
    assert shown["measured (cell.csv)"] == ([0.1, 0.5, 0.9], [2.9, 2.8, 2.2])
    mean = 0.75 * first + 0.25 * last
    assert shown[f"mean {mean:.2f} V"][1] == approx([mean, mean])


def test_capacity_stands_on_top(hull_drawn: Figure, voltage_drawn: Figure) -> None:
    """NaFePO4 has 154.2 mAh/g (26801.5 mAh over 173.81 g)."""
    for figure, whole in ((hull_drawn, 26801.5 / 173.81), (voltage_drawn, 150.0)):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        (top,) = axes.child_axes
        assert top.get_xlabel() == "Discharge capacity (mAh/g)"
        left, right = axes.get_xlim()
        assert top.get_xlim() == approx((left * whole, right * whole), rel=1e-4)


def test_figures_are_what_journals_ask_for(drawn: Figure, tmp_path: Path) -> None:
    mm = tuple(25.4 * drawn.get_size_inches())
    assert mm[0] in (approx(86), approx(178))
    drawn.draw_without_rendering()
    texts = [one for one in drawn.findobj(Text) if one.get_text().strip() and one.get_visible()]
    assert len(texts) > 15
    assert {one.get_fontsize() for one in texts} == {7.0}
    box, (width, height) = drawn.get_tightbbox(), drawn.get_size_inches()  # all texts, inches
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    path = tmp_path / "new folder" / "plot.png"
    write_figure(drawn, path)
    assert pixels(path).shape[:2] == (int(mm[1] / 25.4 * 300), int(mm[0] / 25.4 * 300))
    assert resolution(path) == (300, 300)


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    for ending, begin in ((".svg", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        for name in "ab":
            figure = new_figure("single", 30)
            figure.add_subplot().fill_between([0, 1], [1, 2], hatch="//", label="a")
            write_figure(figure, tmp_path / f"{name}{ending}")
        content = (tmp_path / f"a{ending}").read_bytes()
        assert content.startswith(begin)
        assert content == (tmp_path / f"b{ending}").read_bytes()
    assert b"/Type3" not in (tmp_path / "a.pdf").read_bytes()  # fonts are embedded as such


def test_a_hull_of_end_members_alone_is_drawn(hull: Hull) -> None:
    ends = [hull.vertices[0], hull.vertices[-1]]
    pair = build_hull(ends, framework="FePO4", working_ion="Na", metal_energy=0.0)
    figure = hull_figure(pair, labeler="gpaw")
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [0, 1]  # type: ignore[union-attr]
    assert figure.axes[0].collections[:] == []


def test_plots_leave_pyplot_alone(tmp_path: Path) -> None:
    from matplotlib import pyplot, rcParams

    before = dict(rcParams)
    write_figure(new_figure("single", 30), tmp_path / "plot.png")
    assert pyplot.get_fignums() == []
    assert dict(rcParams) == before


def test_ticks_are_fractions_that_do_not_overlap() -> None:
    figure = new_figure("single", 40)
    axes = figure.add_subplot()
    many = [Fraction(k, 24) for k in range(25)]
    axes.set_xlim(0, 1)
    composition_axis(axes, "x", many, [Fraction(0), Fraction(2, 3), Fraction(1)])
    figure.draw_without_rendering()
    labels = axes.get_xticklabels()
    shown = [one.get_text() for one in labels]
    assert {"0", "2/3", "1"} < set(shown) and len(shown) < 25
    assert [Fraction(one) for one in shown] == approx(axes.get_xticks().tolist())
    boxes = sorted((one.get_window_extent() for one in labels), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    ticks = {*axes.get_xticks(), *axes.xaxis.get_minorticklocs()}
    assert sorted(ticks) == approx([float(x) for x in many])


@pytest.mark.parametrize("known", [True, False])
def test_pages_shade_bands(
    tmp_path: Path, hull: Hull, profile: VoltageProfile, assessment: Assessment, known: bool
) -> None:
    found = assessment if known else None
    bands = [
        hull_document(hull, campaign="demo", labeler="born", found=found)["band"],
        voltage_document(profile, campaign="demo", labeler="born", found=found)["band"],
    ]
    html = tmp_path / "plot.html"
    hull_html(html, hull, labeler="born", band=bands[0])
    shown = [{trace.get("name"): trace for trace in traces(html)}]
    voltage_html(html, profile, labeler="born", band=bands[1])
    shown.append({trace.get("name"): trace for trace in traces(html)})
    for one, what in zip(shown, ("hull", "voltage"), strict=True):
        names = {f"true {what}, {share} % (sampled hulls)" for share in (95, 68)}
        assert (names <= set(one)) == known
    if known:
        wide = shown[0]["true hull, 95 % (sampled hulls)"]
        assert wide["x"] == [0.0, 0.75, 1.0, 1.0, 0.75, 0.0]
        assert wide["y"] == approx([0, -119, 0, 0, -95, 0])
        step = shown[1]["true voltage, 68 % (sampled hulls)"]
        assert step["x"][:4] == [0.0, 0.75, 0.75, 1.0]
        assert step["y"] == approx([2.7, 2.7, 2.3, 2.3, 2.35, 2.35, 2.9, 2.9])


def test_pages_load_nothing_and_bring_plotly_along(
    tmp_path: Path, hull: Hull, profile: VoltageProfile
) -> None:
    hull_html(tmp_path / "hull.html", hull, labeler="born", campaign="demo")
    voltage_html(tmp_path / "voltage.html", profile, labeler="born", campaign="demo")
    for name in ("hull.html", "voltage.html"):
        text = (tmp_path / name).read_text()
        page = Page()
        page.feed(text)
        assert page.loads == []
        assert len(text) > 1_000_000
        assert "Born (analytic ionic model)" in text
        assert "campaign: demo" in text
        # plotly's own button to share a plot uploads it
        config = text[text.rindex("Plotly.newPlot(") :]
        assert '"showSendToCloud": false' in config


def test_hull_page_holds_every_label(tmp_path: Path, hull: Hull, candidates: list[Entry]) -> None:
    path = tmp_path / "hull.html"
    doubted = replace(candidates[0], remark="its own potentials disagree with it")
    hull_html(path, hull, labeler="born", candidates=[doubted, *candidates[1:]])
    shown = {trace["name"].split(" (")[0]: trace for trace in traces(path) if "name" in trace}
    assert set(shown) == {"predicted, not labelled", "labelled", "hull, 3 vertices"}
    vertices = shown["hull, 3 vertices"]
    assert vertices["x"] == [0.0, 0.75, 1.0]
    assert vertices["y"] == approx([0.0, -95.0, 0.0])
    hashes = {re.search(r"configuration (\S+?)(<br>|$)", t)[1] for t in texts(shown["labelled"])}  # type: ignore[index]
    assert hashes == {e.config_hash for e in hull.entries} - {v.config_hash for v in hull.vertices}
    predicted = shown["predicted, not labelled"]
    assert predicted["y"] == approx([-80.0, 2000.0])
    assert [doubted.remark in text for text in predicted["text"]] == [True, False]
    assert predicted["marker"]["line"]["color"] == PREDICTED


def test_voltage_page_holds_the_steps(tmp_path: Path, profile: VoltageProfile) -> None:
    path = tmp_path / "voltage.html"
    voltage_html(path, profile, labeler="born")
    (trace,) = traces(path)
    assert trace["x"] == [0.0, 0.75, 0.75, 1.0]
    assert trace["y"] == approx([2.8267, 2.8267, 2.32, 2.32], abs=1e-4)
    assert trace["text"][0] == "x = 0 to 3/4<br>2.827 ± 0.020 V"


def test_ticks_are_fractions_and_not_too_many() -> None:
    eighths = [Fraction(k, 8) for k in range(9)]
    positions, labels = fraction_ticks(eighths, [Fraction(0), Fraction(1)])
    assert positions == [k / 8 for k in range(9)]
    assert labels == ["0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1"]
    many = [Fraction(k, 24) for k in range(25)]
    assert fraction_ticks(many, [Fraction(0), Fraction(2, 3), Fraction(1)])[1] == ["0", "2/3", "1"]
