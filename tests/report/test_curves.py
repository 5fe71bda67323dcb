"""Curves of trainings: what is drawn, against the histories themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from al_charge.errors import InputError
from al_charge.report.curve_plots import curves_figure, curves_html, plot_curves
from al_charge.report.curves import (
    Curve,
    best_entry,
    curves_document,
    curves_table,
    panels,
    round_starts,
)
from al_charge.report.style import SERIES


def history(losses: list[float], **more: float) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(epoch + 1),
            "loss": 2.0 * loss,
            "energy": 0.001 * loss,
            "force": 0.01 * loss,
            "stress": 0.0001 * loss,
            "moment": 0.0,
            "charge": 0.0,
            "held_out_loss": loss,
        }
        | more
        for epoch, loss in enumerate(losses)
    ]


@pytest.fixture
def curves() -> list[Curve]:
    """Two members, two rounds; the best epochs are 3, 2, 1 and 2."""
    return [
        Curve(0, history([5.0, 3.0, 2.0, 4.0]), 0),
        Curve(1, history([4.0, 1.0, 2.0], charge=0.02), 0),
        Curve(0, history([0.5, 0.7]), 1),
        Curve(1, history([0.9, 0.4]), 1),
    ]


def test_the_best_epoch_is_that_of_the_held_out_loss() -> None:
    assert best_entry(history([3.0, 1.0, 2.0]))["epoch"] == 2
    assert best_entry([{"epoch": 1.0, "loss": 1.0}, {"epoch": 2.0, "loss": 9.0}])["epoch"] == 2


def test_epochs_are_counted_on_from_the_longest_training_of_each_round(
    curves: list[Curve],
) -> None:
    assert round_starts(curves) == {0: 0, 1: 4}
    assert round_starts(curves[::-1]) == {0: 0, 1: 4}
    assert round_starts([Curve(0, history([1.0]))]) == {None: 0}


def test_panels_have_units_and_leave_out_what_no_head_predicts(curves: list[Curve]) -> None:
    found = {panel.quantity.key: panel for panel in panels(curves)}
    assert set(found) == {"loss", "held_out_loss", "energy", "force", "stress", "charge"}
    titles = [found[key].quantity.title for key in ("energy", "force", "stress", "charge")]
    assert titles == ["energy (meV/atom)", "forces (meV/A)", "stress (meV/A^3)", "charges (e)"]
    assert found["energy"].lines[0].y == pytest.approx([5.0, 3.0, 2.0, 4.0])
    assert found["force"].lines[0].best == pytest.approx((3, 20.0))
    assert found["stress"].lines[3].y == pytest.approx([0.09, 0.04])
    assert found["energy"].lines[2].x == [5, 6]
    alone = panels([Curve(0, [{"epoch": 1.0, "loss": 0.5}])])
    assert [panel.quantity.key for panel in alone] == ["loss"]


def test_the_image_draws_the_histories(curves: list[Curve]) -> None:
    figure = curves_figure(curves, title="painn, by round")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        panel.quantity.title for panel in panels(curves)
    ]
    for axes, panel in zip(figure.axes, panels(curves), strict=True):
        *lines, best = axes.lines[:5]
        for drawn, line in zip(lines, panel.lines, strict=True):
            assert drawn.get_xdata().tolist() == line.x  # type: ignore[union-attr]
            assert drawn.get_ydata().tolist() == pytest.approx(line.y)  # type: ignore[union-attr]
            assert drawn.get_color() == SERIES[line.curve.member]
        assert best.get_xdata().tolist() == [3, 2, 5, 6]  # type: ignore[union-attr]
        assert best.get_ydata().tolist() == [line.best[1] for line in panel.lines]  # type: ignore[union-attr]
        assert axes.get_yscale() == ("linear" if panel.quantity.key == "charge" else "log")
        assert axes.get_xlabel() == "epoch"
        # Where round 1 begins.
        assert any(line.get_xdata()[0] == 4.5 for line in axes.lines)  # type: ignore[index]
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    assert {one.get_fontsize() for one in figure.findobj(Text)} == {7.0}
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["member 1", "member 2", "best epoch, whose weights are kept"]


def test_the_page_holds_the_histories(curves: list[Curve], tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.html"
    curves_html(path, curves, title="painn")
    text = path.read_text()
    start = text.index("[", text.rindex("Plotly.newPlot("))
    traces: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text[start:])[0]
    assert len(traces) == 6 * 5
    energies = [t for t in traces if t["xaxis"] == "x3" and t["mode"] == "lines"]
    assert [trace["name"] for trace in energies] == [
        "round 0, member 1", "round 0, member 2", "round 1, member 1", "round 1, member 2",
    ]  # fmt: skip
    assert energies[1]["y"] == pytest.approx([4.0, 1.0, 2.0])
    assert energies[3]["x"] == [5, 6]
    (best,) = (t for t in traces if t["xaxis"] == "x3" and t["mode"] == "markers")
    assert (best["x"], best["y"]) == ([3, 2, 5, 6], pytest.approx([2.0, 1.0, 0.5, 0.4]))


def test_plots_are_chosen_by_their_ending(curves: list[Curve], tmp_path: Path) -> None:
    short = [Curve(0, [{"epoch": 1.0, "loss": 0.5}])]
    plot_curves(short, tmp_path / "a.png", "painn")
    assert imread(tmp_path / "a.png").shape[1] == int(86 / 25.4 * 300)
    plot_curves(short, tmp_path / "a.pdf", "painn", "double")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    plot_curves(short, tmp_path / "a.html", "painn")
    assert "Plotly.newPlot" in (tmp_path / "a.html").read_text()
    remedy = r"use \.png, \.svg, \.pdf or \.html"
    with pytest.raises(InputError, match=rf"unknown ending '\.gif'; {remedy}"):
        plot_curves(curves, tmp_path / "a.gif", "painn")


def test_table_and_document_tell_the_best_epoch(curves: list[Curve]) -> None:
    document = curves_document("demo-1", curves)
    assert [t["best_epoch"] for t in document["trainings"]] == [3, 2, 1, 2]
    assert [t["epochs"] for t in document["trainings"]] == [4, 3, 2, 2]
    assert document["trainings"][1]["history"] == curves[1].history
    assert json.loads(json.dumps(document)) == document
    table = curves_table(curves)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["best"] == ["3 of 4", "2 of 3", "1 of 2", "2 of 2"]
    assert columns["energy\n(meV/atom)"] == ["2.00", "1.00", "0.50", "0.40"]
    assert columns["round"] == ["0", "0", "1", "1"]
    assert "round" not in {str(c.header) for c in curves_table([Curve(0, history([1.0]))]).columns}
