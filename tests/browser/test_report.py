"""The report in a browser: every plot drawn, nothing loaded, usable by all and everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure as Crystal

from al_charge.report.campaign_report.charge_order import charge_order
from al_charge.report.campaign_report.facts import Facts, Found, Structure
from al_charge.report.campaign_report.page import page, plots
from al_charge.report.campaign_report.random_choice import random_choice
from al_charge.report.campaign_report.structures import drawing
from al_charge.report.documents import hull_document, predicted_entries, voltage_document
from al_charge.store.documents import Assessment, Forecast, PredictedLabel, VoltageForecast
from al_charge.thermo.electrode import electrode
from al_charge.thermo.hull import Entry, build_hull
from al_charge.thermo.voltage import voltage_profile

HOSTILE = "<script>document.title='broken'</script><img src='https://example.org/a.png'>"
ROWS = {0: [0], 1: [-10], 2: [-40, 10], 3: [-20], 4: [0]}
"""meV per formula unit of every label, by number of ions of four."""


def label(ions: int) -> Any:
    """Return a label of a cell with four Fe sites, as many of them Fe2+ as there are ions."""
    half = [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    crystal = Crystal(Lattice.cubic(4.2), ["Fe", "O", "O", "O"], half)
    crystal.make_supercell([2, 2, 1])
    iron = [site.coords.tolist() for site in crystal if site.specie.symbol == "Fe"]
    oxygen = [site.coords.tolist() for site in crystal if site.specie.symbol == "O"]
    places = [[x + 1.0, y + 2.0, z + 1.0] for x, y, z in iron[:ions]]
    tokens = ["Na+"] * ions + ["Fe2+"] * ions + ["Fe3+"] * (4 - ions) + ["O2-"] * 12
    frame = SimpleNamespace(positions=[*places, *iron, *oxygen], cell=crystal.lattice.matrix)
    return SimpleNamespace(frames=[frame], requested=tokens, states_found=tokens)


def assessed(make: Callable[..., Assessment], chance: float) -> Assessment:
    compositions = [
        Forecast(
            x=str(Fraction(k, 4)),
            lowest_labelled=1e-3 * rows[0],
            lowest_predicted=None,
            p_lower=0.1,
            lower_by=0.01,
            band_95=(1e-3 * rows[0] - 0.02, 1e-3 * rows[0]),
            band_68=(1e-3 * rows[0] - 0.01, 1e-3 * rows[0]),
        )
        for k, rows in ROWS.items()
    ]
    voltages = VoltageForecast(
        errors=[0.02, 0.05],
        mean_error=0.01,
        band_95=[(2.6, 3.0)] * 4,
        band_68=[(2.7, 2.9)] * 4,
    )
    return make(compositions=compositions, voltages=voltages, p_below_hull=chance, exhaustive=True)


@pytest.fixture(scope="module")
def facts(make_assessment: Callable[..., Assessment]) -> Facts:
    """A campaign of three rounds."""
    entries = [
        Entry(
            f"label{k}{n}-" + 16 * "0", f"hash{k}{n}", Fraction(k, 4), -5.0 - 3.0 * k / 4 + 1e-3 * e
        )
        for k, rows in ROWS.items()
        for n, e in enumerate(rows)
    ]
    hulls, documents = [], []
    for number in range(3):
        some = [one for one in entries if number or one.x.denominator < 4]
        hulls.append(build_hull(some, framework="FeO", working_ion="Na", metal_energy=-0.3))
        found = assessed(make_assessment, 0.4 / 10**number) if number else None
        predicted = [Entry("p", "p", Fraction(3, 4), -7.26, 0.004)] if number < 2 else []
        documents.append(
            hull_document(
                hulls[-1],
                campaign="c",
                labeler="born",
                state="converged",
                round=number,
                found=found,
            )
            | {"predicted": predicted_entries(hulls[-1], predicted)}
        )
    last = hulls[-1]
    stored = electrode(last, {vertex.key: 40.0 + float(vertex.x) for vertex in last.vertices})
    voltage = voltage_document(
        voltage_profile(last, error_bars=[0.02, 0.05], mean_error_bar=0.01),
        campaign="c",
        labeler="born",
        found=assessed(make_assessment, 0.004),
        stored=stored,
    )
    told = {one["label"]: one for one in documents[-1]["entries"]}
    counts = {Fraction(k, 4): number for k, number in enumerate((1, 2, 7, 2, 1))}
    rounds: list[dict[str, Any]] = [
        {
            "round": number,
            "labels": 4 + number,
            "vertices": ["0", "1/2", "1"],
            "hull_shift": 0.004 / number if number else None,
            "p_below_hull": 0.4 / 10**number if number else None,
            "criteria_met": 2 + number,
            "verification": False,
            "stage_seconds": {"label": 12.0, "train": 100.0},
            "coverage": {
                "labels": 3, "within_68": 2 / 3, "within_95": 1.0,
                "deciding": {"labels": 1, "within_68": 1.0, "within_95": 1.0},
            } if number else None,
            "prospective": {"rmse": 0.003},
        }
        for number in range(3)
    ]  # fmt: skip
    used = {"runs": 4, "hours": 0.5, "core_hours": 2.0}
    return Facts(
        status={
            "campaign": "c", "state": "converged", "reason": HOSTILE, "labeler_remark": "",
            "verification": None, "labels_used": 6, "max_labels": 20, "rounds": rounds,
            "criteria": [{"name": "the hull moved little", "met": True, "value": "2 meV"}],
            "rounds_held": 2, "rounds_needed": 2,
        },
        labels={
            "formula": "NaxFeO", "labeler": "Born", "engines": ["born 1"], "labels": [],
            "mixed": {"labels": 0, "as_requested": 0},
            "quarantined": [{"label": "f" * 24, "round": 1, "attempts": 3, "reason": HOSTILE}],
        },
        cost={
            "core_hours_per_label": 0.3, "kinds": {"label": used, "train": used}, "total": used,
            "rounds": [
                {"round": n, "core_hours_by_kind": {"label": 1.0, "train": 0.5}} for n in range(3)
            ],
        },
        failed_jobs=[],
        found=Found(documents, last, voltage),
        missing=[],
        space="x = 0 to 1 Na+ per FeO",
        counts=counts,
        labelled={str(Fraction(k, 4)): len(rows) for k, rows in ROWS.items()},
        structures=[
            Structure(
                x=str(vertex.x),
                entry=told[vertex.key],
                vertex=True,
                order=charge_order(label(int(4 * vertex.x)), {"Fe"}, "Na"),
                as_requested=True,
                delocalised=False,
                atoms=16 + int(4 * vertex.x),
                drawing=drawing(label(int(4 * vertex.x)), {"Fe"}, "Na"),
            )
            for vertex in last.vertices
        ],
        predictions=[
            (number, PredictedLabel("1/2", 0.003 * n, 0.002, 0.002, n == 0))
            for number in (1, 2)
            for n in range(3)
        ],
        random=random_choice(counts, last.compositions),
        tolerance=0.001,
        spec={"name": "c", "host": {"working_ion": "Na", "structure": f"/home/{HOSTILE}"}},
        settings={"engine": "born"},
        settings_hash="0" * 24,
        versions={"al-charge": "0"},
        methods="Methods.",
        references=[],
        made=datetime(2026, 11, 30, tzinfo=UTC),
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(facts: Facts, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report as a file."""
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(facts), encoding="utf-8")
    return path.as_uri()


def test_what_was_predicted_is_in_the_tables(facts: Facts) -> None:
    """Of the rounds after the first; these need no browser."""
    written, _, rest = page(facts).partition('<script type="application/json" id="data">')
    assert "<" not in rest.partition("</script>")[0], "which no text can end"
    text = " ".join(re.sub(r"<[^>]*>", " ", written).split())
    # Errors are 0, 1.5 and 3 bars, in each of two rounds.
    assert "33 % lie within the band that should hold 68 %, and 67 % within that of 95 %" in text
    assert "2 3 67 % 100 % 1 100 % 3.9" in text  # the root of (0 + 9 + 36) / 3
    assert "1/2 Na 1/2 FeO \N{MINUS SIGN}40.0 vertex 7 2 10 %, 10.0 label20-" in text
    assert "1/4 Na 1/4 FeO \N{MINUS SIGN}10.0 10.0 2 1 10 %, 10.0 label10-" in text
    assert "chance of a lower hull 0.4 % every configuration was ranked" in text
    assert "Random choice would have needed 8 labels on average until the vertex has one" in text


DRAWN = "body[data-drawn]"


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_everything_is_drawn_and_nothing_loaded(
    phone: bool, dark: bool, facts: Facts, address: str, opened: Any, serious: Any
) -> None:
    with opened(address, phone=phone, dark=dark) as tab:
        tab.wait_for_selector(DRAWN)
        assert tab.complaints == [] and tab.title() != "broken"
        assert [one for one in tab.requests if not one.startswith("data:")] == [address]
        for name in plots(facts):
            assert tab.locator(f"#plot-{name} .main-svg").first.is_visible(), name
            marks = f"#plot-{name} :is(.scatterlayer .trace, .barlayer .trace)"
            assert tab.locator(marks).count() > 0, name
        for stage in tab.locator(".stage").all():
            assert stage.locator("polygon.face").count() > 0
        width = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]
        assert serious(tab) == []


def test_the_round_the_axis_and_the_view_are_chosen(address: str, opened: Any) -> None:
    with opened(address) as tab:
        tab.wait_for_selector(DRAWN)
        names = "#plot-hull .legendtext"
        assert "hull, 3 vertices" in tab.locator(names).all_text_contents()
        assert any("95 % band" in one for one in tab.locator(names).all_text_contents())
        tab.locator("#round").focus()
        tab.keyboard.press("Home")
        assert "after round 0" in tab.locator("#round-told").inner_text()
        assert not any("% band" in one for one in tab.locator(names).all_text_contents())
        tab.keyboard.press("End")
        tab.get_by_label("bands").uncheck()
        assert not any("% band" in one for one in tab.locator(names).all_text_contents())
        tab.get_by_label("capacity (mAh/g)").check()
        assert "capacity" in (tab.locator("#plot-voltage .xtitle").text_content() or "")
        stages = tab.locator(".stage")
        before = [one.inner_html() for one in stages.all()]
        stages.first.focus()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_function(
            "before => document.querySelector('.stage').innerHTML !== before", arg=before[0]
        )
        assert all(one.inner_html() != old for one, old in zip(stages.all(), before, strict=True))
        tab.get_by_role("button", name="reset").click()
        tab.wait_for_function(
            "before => document.querySelector('.stage').innerHTML === before", arg=before[0]
        )
        assert tab.complaints == []


def test_colours_follow_the_reader_and_paper_is_light(address: str, opened: Any) -> None:
    line = "getComputedStyle(document.querySelector('#plot-voltage .scatterlayer .js-line')).stroke"
    text = "document.querySelector('#plot-hull .xtitle').style.fill"
    with opened(address, dark=True) as tab:
        tab.wait_for_selector(DRAWN)
        dark = tab.evaluate(text)
        assert tab.evaluate(line)
        tab.emulate_media(color_scheme="light")
        tab.wait_for_function(f"dark => {text} !== dark", arg=dark)
        light = tab.evaluate(text)
        tab.emulate_media(color_scheme="dark")
        tab.wait_for_function(f"dark => {text} === dark", arg=dark)
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        tab.wait_for_function(f"light => {text} === light", arg=light)
        assert tab.complaints == []
