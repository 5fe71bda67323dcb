"""Plots: files with something in them, and nothing loaded from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from al_charge.report.documents import hull_document, voltage_document
from al_charge.report.interactive import hull_html, voltage_html
from al_charge.report.static import RESOLUTION, SIZE, hull_png, voltage_png
from al_charge.report.style import HULL, PREDICTED, fraction_ticks
from al_charge.store.documents import Assessment
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile


def pixels(path: Path) -> np.ndarray:
    """Return a PNG as integers, shape (height, width, 3)."""
    assert path.read_bytes().startswith(b"\x89PNG")
    return np.asarray(np.round(255 * imread(path)[:, :, :3]), dtype=int)


def share_of(image: np.ndarray, colour: str, tolerance: int = 6) -> float:
    """Return the share of pixels that have a colour such as ``#0072B2``."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return float((np.abs(image - wanted).max(axis=2) <= tolerance).mean())


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


def test_hull_image_shows_hull_and_candidates(
    tmp_path: Path, hull: Hull, candidates: list[Entry]
) -> None:
    path = tmp_path / "new folder" / "hull.png"
    hull_png(path, hull, labeler="born", campaign="demo", candidates=candidates)
    image = pixels(path)
    assert image.shape == (round(SIZE[1] * RESOLUTION), round(SIZE[0] * RESOLUTION), 3)
    assert share_of(image, HULL) > 0.005
    assert share_of(image, "#FFFFFF") > 0.7
    plain = tmp_path / "plain.png"
    hull_png(plain, hull, labeler="born", campaign="demo")
    assert (pixels(plain) != image).any()


def test_corrected_vertices_are_drawn_beside_the_hull(tmp_path: Path, hull: Hull) -> None:
    corrected = {Fraction(0): 0.0, Fraction(3, 4): -0.5, Fraction(1): 0.0}
    png, plain, html = tmp_path / "hull.png", tmp_path / "plain.png", tmp_path / "hull.html"
    hull_png(png, hull, labeler="gpaw", corrected=corrected)
    hull_png(plain, hull, labeler="gpaw")
    assert (pixels(png) != pixels(plain)).any()
    hull_html(html, hull, labeler="gpaw", corrected=corrected)
    (trace,) = [one for one in traces(html) if one["name"] == "in the lowest magnetic orders"]
    assert (trace["x"], trace["y"]) == ([0.0, 0.75, 1.0], [0.0, -500.0, 0.0])


def test_hull_image_of_end_members_alone(tmp_path: Path, hull: Hull) -> None:
    from al_charge.thermo.hull import build_hull

    ends = [hull.vertices[0], hull.vertices[-1]]
    pair = build_hull(ends, framework="FePO4", working_ion="Na", metal_energy=0.0)
    path = tmp_path / "hull.png"
    hull_png(path, pair, labeler="gpaw")
    assert share_of(pixels(path), HULL) > 0.002


def test_plots_are_the_same_each_time(tmp_path: Path, hull: Hull) -> None:
    for name in ("a.png", "b.png"):
        hull_png(tmp_path / name, hull, labeler="born")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_plots_leave_pyplot_alone(tmp_path: Path, hull: Hull, profile: VoltageProfile) -> None:
    from matplotlib import pyplot

    hull_png(tmp_path / "hull.png", hull, labeler="born")
    voltage_png(tmp_path / "voltage.png", profile, labeler="born")
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("known", [True, False])
def test_bands_are_shaded(
    tmp_path: Path, hull: Hull, profile: VoltageProfile, assessment: Assessment, known: bool
) -> None:
    found = assessment if known else None
    bands = [
        hull_document(hull, campaign="demo", labeler="born", found=found)["band"],
        voltage_document(profile, campaign="demo", labeler="born", found=found)["band"],
    ]
    png, html = tmp_path / "plot.png", tmp_path / "plot.html"
    hull_png(png, hull, labeler="born", band=bands[0])
    hull_html(html, hull, labeler="born", band=bands[0])
    shares = [share_of(pixels(png), "#DEECF5", tolerance=4)]
    shown = [{trace.get("name"): trace for trace in traces(html)}]
    voltage_png(png, profile, labeler="born", band=bands[1])
    voltage_html(html, profile, labeler="born", band=bands[1])
    image = pixels(png)
    assert share_of(image, HULL) > 0.004
    shares.append(share_of(image, "#DEECF5", tolerance=4))
    shown.append({trace.get("name"): trace for trace in traces(html)})
    assert [share > 0.002 for share in shares] == [known] * 2
    assert [{"true with 95 %", "true with 68 %"} <= set(one) for one in shown] == [known] * 2
    if known:
        wide = shown[0]["true with 95 %"]
        assert wide["x"] == [0.0, 0.75, 1.0, 1.0, 0.75, 0.0]
        assert wide["y"] == pytest.approx([0, -119, 0, 0, -95, 0])
        step = shown[1]["true with 68 %"]
        assert step["x"][:4] == [0.0, 0.75, 0.75, 1.0]
        assert step["y"] == pytest.approx([2.7, 2.7, 2.3, 2.3, 2.35, 2.35, 2.9, 2.9])


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


def test_hull_page_holds_every_label(tmp_path: Path, hull: Hull, candidates: list[Entry]) -> None:
    path = tmp_path / "hull.html"
    doubted = replace(candidates[0], remark="its own potentials disagree with it")
    hull_html(path, hull, labeler="born", candidates=[doubted, *candidates[1:]])
    shown = {trace["name"].split(" (")[0]: trace for trace in traces(path)}
    assert set(shown) == {"predicted, not labelled", "labelled", "hull, 3 vertices"}
    vertices = shown["hull, 3 vertices"]
    assert vertices["x"] == [0.0, 0.75, 1.0]
    assert vertices["y"] == pytest.approx([0.0, -95.0, 0.0])
    hashes = {re.search(r"configuration (\S+?)(<br>|$)", t)[1] for t in texts(shown["labelled"])}  # type: ignore[index]
    assert hashes == {e.config_hash for e in hull.entries} - {v.config_hash for v in hull.vertices}
    predicted = shown["predicted, not labelled"]
    assert predicted["y"] == pytest.approx([-80.0, 2000.0])
    assert [doubted.remark in text for text in predicted["text"]] == [True, False]
    assert predicted["marker"]["line"]["color"] == PREDICTED


def test_voltage_page_holds_the_steps(tmp_path: Path, profile: VoltageProfile) -> None:
    path = tmp_path / "voltage.html"
    voltage_html(path, profile, labeler="born")
    (trace,) = traces(path)
    assert trace["x"] == [0.0, 0.75, 0.75, 1.0]
    assert trace["y"] == pytest.approx([2.8267, 2.8267, 2.32, 2.32], abs=1e-4)
    assert trace["text"][0] == "x = 0 to 3/4<br>2.827 ± 0.020 V"


def test_ticks_are_fractions_and_not_too_many() -> None:
    eighths = [Fraction(k, 8) for k in range(9)]
    positions, labels = fraction_ticks(eighths, [Fraction(0), Fraction(1)])
    assert positions == [k / 8 for k in range(9)]
    assert labels == ["0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1"]
    many = [Fraction(k, 24) for k in range(25)]
    assert fraction_ticks(many, [Fraction(0), Fraction(2, 3), Fraction(1)])[1] == ["0", "2/3", "1"]
