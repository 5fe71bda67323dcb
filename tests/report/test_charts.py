"""Charts as they are drawn: what the series say, at the size of a column and a page."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text
from pytest import approx

from al_charge.report.chart_image import chart_figure
from al_charge.report.chart_page import chart_html
from al_charge.report.charts import Chart, Panel, Series
from al_charge.report.names import MAGNETON, html, ion, mathtext
from al_charge.report.style import MARKERS, SERIES

HALF = (Fraction(0), Fraction(1, 2), Fraction(1))
POINTS = Series("round 1", [1.0, 5.0], [2.0, 3.0], error=[0.5, 0.25], style=0)
LINE = Series("hull vertices", [0.0, 1.0], [66.0, 76.0], "line", style=1)
OTHERS = Series("other labels", [0.5], [70.0], style=2)
BARS = (
    Series("label", [0.0, 1.0], [3.0, 1.0], "bars", style=0),
    Series("train", [0.0, 1.0], [1.0, 4.0], "bars", style=1),
)
CHART = Chart(
    kind="all",
    title="NaxFePO4 in all ways",
    source="Born (analytic ionic model), campaign demo-1\nand a remark that is long enough to wrap",
    panels=(
        Panel("Labelled (meV/f.u.)", "Predicted (meV/f.u.)", (POINTS,), diagonal=True),
        Panel("NaxFePO4", "Volume (Å³/f.u.)", (LINE, OTHERS), compositions=HALF),
        Panel("Round", "Core hours", BARS, whole=True, levels=((2.5, "enough"),)),
    ),
    rows=[{"x": "1/2"}],
    units={"x": "working ions per formula unit"},
)


@pytest.fixture(scope="module", params=["single", "double"])
def figure(request: pytest.FixtureRequest) -> Figure:
    return chart_figure(CHART, request.param)


def named(axes: Axes, name: str) -> Any:
    (found,) = [one for one in axes.containers if one.get_label() == name]
    return found


def test_series_are_drawn_as_they_are(figure: Figure) -> None:
    parity, volume, cost = figure.axes
    points = named(parity, "round 1")
    assert isinstance(points, ErrorbarContainer)
    line, _, (bars,) = points.lines
    assert line.get_xydata().tolist() == [[1, 2], [5, 3]]
    assert [one.tolist() for one in bars.get_segments()] == [
        [[1, 1.5], [1, 2.5]],
        [[5, 2.75], [5, 3.25]],
    ]
    (diagonal,) = [one for one in parity.lines if len(one.get_xydata()) == 2 and one is not line]
    assert (diagonal.get_xdata() == diagonal.get_ydata()).all()
    assert parity.get_xlim() == parity.get_ylim() and parity.get_aspect() == 1

    vertices = named(volume, "hull vertices").lines[0]
    assert vertices.get_xydata().tolist() == [[0, 66], [1, 76]] and vertices.get_linestyle() == "-"
    others = named(volume, "other labels").lines[0]
    assert others.get_xydata().tolist() == [[0.5, 70]] and others.get_linestyle() == "None"
    assert [one.get_text() for one in volume.get_xticklabels()] == ["0", "1/2", "1"]
    assert volume.get_xlabel() == "$x$ in Na$_{x}$FePO$_{\\mathrm{4}}$"

    train = named(cost, "train")
    assert isinstance(train, BarContainer)
    assert [(one.get_y(), one.get_height()) for one in train] == [(3, 1), (1, 4)]
    (level,) = [one for one in cost.lines if np.unique(one.get_ydata()).tolist() == [2.5]]
    assert level.get_linestyle() == "--"
    assert all(float(x).is_integer() for x in cost.get_xticks())


def test_things_differ_in_shape_as_well_as_in_colour(figure: Figure) -> None:
    _, volume, cost = figure.axes
    looks = {(one.lines[0].get_marker(), one.lines[0].get_color()) for one in volume.containers}
    assert looks == {(MARKERS[1], SERIES[1]), (MARKERS[2], SERIES[2])}
    assert len({one.patches[0].get_hatch() for one in cost.containers}) == 2  # type: ignore[union-attr]
    assert len(set(MARKERS)) == len(set(SERIES)) == 6


def test_charts_have_the_size_of_a_journal_and_no_text_is_cut(figure: Figure) -> None:
    figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    assert 25.4 * width in (approx(86), approx(178))
    box = figure.get_tightbbox()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert {one.get_fontsize() for one in figure.findobj(Text)} == {7.0}
    (legend,) = figure.legends
    assert [one.get_text() for one in legend.get_texts()] == [
        "round 1", "hull vertices", "other labels", "label", "train",
    ]  # fmt: skip
    frame = legend.get_window_extent()
    assert not any(frame.overlaps(axes.get_tightbbox()) for axes in figure.axes)  # type: ignore[arg-type]


def test_a_page_draws_the_same(tmp_path: Path) -> None:
    chart_html(CHART, tmp_path / "all.html")
    text = (tmp_path / "all.html").read_text()
    start = text.index("[", text.rindex("Plotly.newPlot("))
    traces = json.JSONDecoder().raw_decode(text[start:])[0]
    found = {one.get("name"): one for one in traces}
    assert found["round 1"]["error_y"]["array"] == [0.5, 0.25]
    assert (found["train"]["type"], found["train"]["y"]) == ("bar", [1.0, 4.0])
    assert found["hull vertices"]["mode"] == "lines+markers"
    assert found["other labels"]["mode"] == "markers"
    (diagonal,) = [one for one in traces if one.get("x") == one.get("y")]
    assert diagonal["x"] == [1.0, 5.0]
    assert "<i>x</i> in Na<sub>x</sub>FePO<sub>4</sub>" in text.replace("\\u003c", "<").replace(
        "\\u003e", ">"
    ).replace("\\u002f", "/")


def test_species_and_units_are_written_as_the_field_does() -> None:
    assert [ion(one) for one in ("Fe2+", "O2-", "Na+", "Fe?", "Fe3+,spin=5")] == [
        "Fe²⁺", "O²⁻", "Na⁺", "Fe, uncertain", "Fe³⁺ high spin",
    ]  # fmt: skip
    assert ion("Co3+,spin=0") == "Co³⁺ low spin"
    assert mathtext(f"moment ({MAGNETON})") == "moment (\u03bc$_\\mathrm{B}$)"
    assert html(f"moment ({MAGNETON})") == "moment (\u03bc<sub>B</sub>)"
