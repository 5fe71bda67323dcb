"""What is drawn lies where its numbers say; the graph shows who waits for whom."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from al_charge.fw.jobs import Job
from al_charge.serve.figures import Figure, hull_figure, voltage_figure
from al_charge.serve.graph import NAMED, draw
from al_charge.store.documents import Assessment, Forecast, VoltageForecast
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import voltage_profile

ENERGIES = {
    "empty": (0, 0.0),
    "half": (2, -80.0),
    "above": (2, -30.0),
    "far": (1, 900.0),
    "full": (4, 0.0),
}
"""Ions out of four, and formation energy, meV per formula unit."""


@pytest.fixture
def hull() -> Hull:
    entries = [
        Entry(key, f"hash-{key}", Fraction(n, 4), -100.0 - 3.0 * n / 4 + 1e-3 * meV)
        for key, (n, meV) in ENERGIES.items()
    ]
    return build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=-1.3)


@pytest.fixture
def assessment() -> Assessment:
    compositions = [
        Forecast(
            x=x,
            lowest_labelled=low,
            lowest_predicted=None,
            p_lower=0.1,
            lower_by=0.01,
            band_95=(low - 0.04, low + 0.02),
            band_68=(low - 0.01, low),
        )
        for x, low in (("0", 0.0), ("1/2", -0.08), ("1", 0.0))
    ]
    voltages = VoltageForecast(
        errors=[0.1, 0.1],
        mean_error=0.1,
        band_95=[(1.0, 3.0), (1.0, 2.0)],
        band_68=[(1.5, 2.0), (1.4, 1.6)],
    )
    return Assessment(
        spread_scale=1.0,
        vertices=[],
        labels=5,
        criteria=[],
        compositions=compositions,
        voltages=voltages,
    )


def value(figure: Figure, y: float) -> float:
    """Return the value at a height, by the ticks that a reader sees."""
    (y0, low), (y1, high) = figure.y_ticks[0], figure.y_ticks[-1]
    return float(low) + (y - y0) * (float(high) - float(low)) / (y1 - y0)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]


def test_labels_lie_where_their_energies_say(hull: Hull) -> None:
    figure = hull_figure(hull, {"above"}, None, -1)
    kinds = {"empty": "vertex", "half": "vertex", "full": "vertex", "above": "new"}
    assert len(figure.marks) == len(kinds)
    for mark in figure.marks:
        (key,) = [key for key in ENERGIES if f"label {key}" in mark.text]
        n, energy = ENERGIES[key]
        assert mark.kind == kinds[key]
        assert value(figure, mark.y) == pytest.approx(energy, abs=0.6)
        assert (mark.x - figure.left) / (figure.right - figure.left) == pytest.approx(
            n / 4, abs=2e-3
        )
    assert figure.zero is not None and value(figure, figure.zero) == pytest.approx(0, abs=0.6)
    ((_, line),) = figure.lines
    assert [round(value(figure, y)) for _, y in points(line)] == [0, -80, 0]
    assert ("", "1 more above the plot") in figure.legend
    assert "1/2 at -80 meV" in figure.text
    (above,) = [mark for mark in figure.marks if mark.kind == "new"]
    assert "50.0 meV above the hull" in above.text


def test_bands_are_those_of_the_assessment(hull: Hull, assessment: Assessment) -> None:
    figure = hull_figure(hull, set(), assessment, 3)
    wide, narrow = (points(path) for _, path in figure.areas)
    assert [round(value(figure, y)) for _, y in wide] == [-40, -120, -40, 20, -60, 20]
    assert [round(value(figure, y)) for _, y in narrow] == [-10, -90, -10, 0, -80, 0]
    assert any("after round 3" in text for _, text in figure.legend)


def test_voltages_lie_where_they_should(hull: Hull, assessment: Assessment) -> None:
    profile = voltage_profile(hull)
    figure = voltage_figure(profile, assessment, 3)
    ((_, line),) = figure.lines
    # V = -(E(x2) - E(x1)) / (x2 - x1) + E(metal), of one electron each
    expected = [3.0 + 0.16 - 1.3, 3.0 - 0.16 - 1.3]
    heights = [value(figure, y) for _, y in points(line)]
    assert heights == pytest.approx([v for v in expected for _ in (0, 1)], abs=0.01)
    wide = [value(figure, y) for _, y in points(figure.areas[0][1])]
    assert wide == pytest.approx([1, 1, 1, 1, 2, 2, 3, 3], abs=0.02)


def job(fw_id: int, task: str, state: str = "WAITING") -> Job:
    return Job(f"2/{task}", fw_id, 2, state, "", "", (), ())


def test_jobs_that_wait_for_the_same_are_drawn_together() -> None:
    jobs = [job(n, f"propose x={n}", "COMPLETED") for n in range(3)]
    jobs += [job(3, "select", "RUNNING"), *(job(n, f"label {n}") for n in range(4, 30))]
    jobs += [job(30, "train 0"), job(31, "train 1"), job(32, "assess"), job(33, "metal")]
    links = {n: (3,) for n in range(3)} | {3: (33, *range(4, 30)), 33: (32,)}
    links |= dict.fromkeys(range(4, 30), (30, 31)) | {30: (32,), 31: (32,)}
    graph = draw(jobs, links)
    headings = [group.heading for group in graph.groups]
    assert headings == [
        "propose: 3 completed", "select: 1 running", "label: 26 waiting", "metal: 1 waiting",
        "train: 2 waiting", "assess: 1 waiting",
    ]  # fmt: skip
    assert len(graph.arrows) == 6
    lefts = [group.x for group in graph.groups]
    assert lefts == sorted(lefts) and len(set(lefts)) == 5  # the metal is below the labels
    drawn = [node for group in graph.groups for node in group.nodes]
    assert sorted(node.job.fw_id for node in drawn) == list(range(34))
    assert len({(node.x, node.y) for node in drawn}) == 34
    for group in graph.groups:
        assert bool(group.nodes[0].name) == (len(group.nodes) <= NAMED)
        for node in group.nodes:
            assert group.x < node.x and node.x + node.width < group.x + group.width
            assert group.y < node.y and node.y + 16 < group.y + group.height
        assert group.x + group.width < graph.width and group.y + group.height < graph.height


def test_nothing_and_circles_are_drawn() -> None:
    assert draw([], {}).groups == ()
    assert len(draw([job(1, "a"), job(2, "b")], {1: (2,), 2: (1,), 9: (1,)}).groups) == 2
