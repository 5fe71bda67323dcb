"""The report of a campaign: its numbers are those of the objects, and nothing leaves the file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import al_charge as ac
from al_charge.api.report import report_facts
from al_charge.crystal.enumeration import count_distinct
from al_charge.loop.campaign import open_campaign
from al_charge.loop.submit import submit
from al_charge.report.campaign_report.answer import MEANING
from al_charge.report.campaign_report.facts import Facts
from al_charge.report.campaign_report.page import page
from al_charge.report.progress import core_time
from al_charge.report.references import bibtex, references_of
from al_charge.store.documents import CampaignState

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
HOSTILE = "<script>alert('1')</script><img src=x onerror=alert(2)>"
VOID = {"meta", "link", "input", "br", "img"}


class Parsed(HTMLParser):
    """A page: its texts by id, its tables by caption, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.by_id: dict[str, str] = defaultdict(str)
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[tuple[str, str | None]] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(text)
        assert [one for one in self._open if one[0] not in VOID] == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))
        if tag == "script":
            self.scripts.append("")
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        opened, _ = self._open.pop()
        assert opened == tag
        if tag == "table":
            self.tables[" ".join(self._caption.split())] = self._rows

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._open]
        if tags and tags[-1] == "script":
            self.scripts[-1] += data
            return
        for _, name in self._open:
            if name:
                self.by_id[name] += data
        if "caption" in tags:
            self._caption += data
        if "td" in tags or "th" in tags:
            self._rows[-1][-1] += data

    def table(self, beginning: str) -> list[list[str]]:
        (found,) = [rows for name, rows in self.tables.items() if name.startswith(beginning)]
        return found

    def text(self, name: str) -> str:
        return " ".join(self.by_id[name].split())


def plain(text: str) -> str:
    return text.replace("\N{MINUS SIGN}", "-")


@pytest.fixture(scope="module")
def facts(ended: str) -> Facts:
    """What the report of the campaign tells."""
    with ac.open(ended) as campaign:
        jobs = campaign.jobs(failed=True).rows()
        return report_facts(campaign._campaign, campaign.status().document, jobs)


@pytest.fixture(scope="module")
def report(facts: Facts) -> Parsed:
    """The report, parsed."""
    return Parsed(page(facts))


def test_the_answer_comes_first(campaign: ac.Campaign, report: Parsed) -> None:
    answer = plain(report.text("answer"))
    first = next(attrs for tag, attrs in report.elements if tag == "section")
    assert first["id"] == "answer"
    hull, voltage = campaign.hull(), campaign.voltage()
    assert "stable in NaxFePO4 from x = 0 to x = 1" in answer
    assert (
        MEANING[CampaignState.EXHAUSTED] in answer
        and campaign.status().document["reason"] in answer
    )
    for vertex in hull.vertices[1:-1]:
        energy = 1e3 * hull.hull.formation_energy(vertex)
        assert f"x = {vertex.x} ({energy:.1f} meV per formula unit)" in answer
    assert f"The mean voltage is {voltage.mean:.3f} V against Na metal" in answer
    assert f"{voltage.capacity:.1f} mAh/g" in answer
    assert f"{100 * voltage.electrode.volume_change:.1f} %" in answer
    assert "not known: nothing was predicted" in answer
    distinct = sum(count_distinct(campaign._campaign.host).values())
    assert f"7 of {distinct} distinct configurations" in answer


def test_tables_hold_the_numbers_of_the_objects(campaign: ac.Campaign, report: Parsed) -> None:
    hull, voltage = campaign.hull(), campaign.voltage()
    rows = report.table("The lowest label of each composition")[1:]
    assert [row[0] for row in rows] == [str(x) for x in sorted({e.x for e in hull.entries})]
    numbers = count_distinct(campaign._campaign.host)
    vertices = {vertex.x: vertex for vertex in hull.vertices}
    for row in rows:
        x = Fraction(row[0])
        lowest = min((e for e in hull.entries if e.x == x), key=lambda e: e.energy)
        assert plain(row[2]) == f"{1e3 * hull.hull.formation_energy(lowest):.1f}"
        assert (row[3] == "vertex") == (x in vertices)
        if x not in vertices:
            assert plain(row[3]) == f"{1e3 * hull.hull.distance(lowest):.1f}"
        assert row[4:6] == [str(numbers[x]), str(sum(e.x == x for e in hull.entries))]
        assert row[7] == lowest.key[:8]
    steps = report.table("Plateaus")[1:]
    for row, step in zip(steps, voltage.steps, strict=True):
        assert row[:2] == [str(step.x_from), str(step.x_to)]
        assert row[2] == f"{voltage.capacity * float(step.x_to):.1f}"
        assert row[3] == f"{step.voltage:.3f}"
    stored = dict(report.table("What the electrode stores"))
    assert stored["energy density"] == f"{voltage.electrode.energy_density:.1f} Wh/l"
    assert stored["specific energy"] == f"{voltage.electrode.specific_energy:.1f} Wh/kg"
    cost = campaign.cost().document
    kinds = {row[0]: row[1:] for row in report.table("By kind of task")[1:]}
    of_labels = cost["kinds"]["label"]
    runs, hours, core_hours = (of_labels[name] for name in ("runs", "hours", "core_hours"))
    assert kinds["label"] == [
        str(runs), f"{3600 * hours:.0f} s", f"{3600 * core_hours:.3g} core seconds"
    ]  # fmt: skip
    assert kinds["all"][2] == core_time(cost["total"]["core_hours"])
    labels = report.table("By x and energy")[1:]
    assert [row[1] for row in labels] == [one["label"][:8] for one in campaign.labels().rows()]


def test_charge_orders_are_those_of_the_structures(campaign: ac.Campaign, report: Parsed) -> None:
    rows = report.table("The lowest labelled configurations")[1:]
    assert len(rows) >= len(campaign.hull().vertices)
    for row in rows:
        structure = campaign.label(row[6]).structure
        iron = [site for site in structure if site.specie.symbol == "Fe"]
        expected = {
            state: sum(str(site.specie).startswith(state) for site in iron)
            for state in ("Fe2+", "Fe3+")
        }
        assert row[2] == ", ".join(f"{n} {state}" for state, n in expected.items() if n)
        told = dict(part.split() for part in row[4].split(", "))
        for state, distance in told.items():
            some = structure.copy()
            some.remove_sites(
                [i for i, site in enumerate(some) if not str(site.specie).startswith(state)]
            )
            nearest = min(n.nn_distance for of in some.get_all_neighbors(12.0) for n in of)
            assert float(distance) == pytest.approx(nearest, abs=0.006)


def test_the_data_of_the_plots_is_in_the_page(campaign: ac.Campaign, report: Parsed) -> None:
    data = json.loads(report.scripts[0])
    hull = campaign.hull()
    traces = {one["meta"]: one for one in data["plots"]["hull"]["rounds"]["0"] if "meta" in one}
    assert traces["vertices"]["y"] == pytest.approx(
        [1e3 * hull.hull.formation_energy(vertex) for vertex in hull.vertices]
    )
    assert len(data["structures"]) == len(hull.vertices)
    for vertex, drawn in zip(hull.vertices, data["structures"], strict=True):
        label = campaign.label(vertex)
        assert len(drawn["atoms"]) == len(label.species)
        kinds = [atom["kind"] for atom in drawn["atoms"]]
        assert kinds.count("Fe2+") == label.species.count("Fe2+")
        assert kinds.count("ion") == label.species.count("Na+")
    places = {attrs["id"] for _, attrs in report.elements if "canvas" in (attrs.get("class") or "")}
    assert places == {f"plot-{name}" for name in data["plots"]}


def test_nothing_is_loaded_and_no_other_script_may_run(report: Parsed) -> None:
    for tag, attrs in report.elements:
        assert "src" not in attrs and "srcset" not in attrs and "style" not in attrs, tag
        assert not any(name.startswith("on") for name in attrs)
        assert (attrs.get("href") or "#").startswith(("#", "data:"))
    (policy,) = [attrs["content"] for _, attrs in report.elements if attrs.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'; script-src 'sha256-")
    scripts = report.scripts[1:]
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    assert re.findall(r"sha256-([^']+)'", policy) == digests
    assert (
        sum("plotly.js v" in one for one in scripts)
        == 1
        == len([s for s in scripts if len(s) > 1e6])
    )


def test_settings_methods_and_citations_are_those_of_the_campaign(
    campaign: ac.Campaign, report: Parsed
) -> None:
    source = campaign._campaign
    assert source.settings_hash in report.text("settings")
    assert source.spec.convergence.hull_tolerance == 0.001
    assert re.search(r"hull_tolerance: '?0.001", report.text("settings"))
    assert "born 1" in report.text("settings")
    assert report.by_id["bibtex"] == bibtex(references_of(source))
    methods = report.text("methods-text")
    distinct = sum(count_distinct(source.host).values())
    assert f"{distinct} symmetry-distinct" in methods
    assert "a committee of 2 PaiNN potentials" in methods
    assert "7 labels were made by Born (analytic ionic model)" in methods
    assert "No density-functional theory is involved" in methods


@pytest.mark.parametrize("state", list(CampaignState))
def test_a_report_says_what_each_state_means(facts: Facts, state: CampaignState) -> None:
    told = Parsed(page(with_status(facts, state=state.value, reason="")))
    assert MEANING[state] in told.text("answer")


def with_status(facts: Facts, **changes: Any) -> Facts:
    from dataclasses import replace

    return replace(facts, status=facts.status | changes)


def test_texts_of_a_campaign_are_no_markup(facts: Facts) -> None:
    from dataclasses import replace

    failure = {"label": HOSTILE, "round": 0, "attempts": 3, "reason": HOSTILE}
    job = {"task": HOSTILE, "state": "FIZZLED", "label": "", "reason": HOSTILE}
    bad = replace(
        facts,
        status=facts.status | {"reason": HOSTILE, "labeler_remark": HOSTILE},
        labels=facts.labels | {"quarantined": [failure], "labeler": HOSTILE, "engines": [HOSTILE]},
        failed_jobs=[job],
        spec=facts.spec | {"path": f"/home/{HOSTILE}/a.cif"},
        settings={HOSTILE: HOSTILE},
        missing=[HOSTILE],
        methods=HOSTILE,
    )
    told = Parsed(page(bad))
    assert not any(tag == "img" for tag, _ in told.elements)
    assert len(told.scripts) == 4  # the data, plotly.js and our own two
    assert not any("alert(" in one for one in told.scripts if len(one) < 1e6)
    assert told.text("failures").count("<script>alert('1')</script>") == 3
    assert HOSTILE in told.text("methods-text") and HOSTILE in told.text("answer")


def test_a_rehearsal_is_called_one_wherever_results_are(facts: Facts) -> None:
    remark = "rehearsal: energies are those of the potential a.safetensors, not of DFT"
    told = Parsed(page(with_status(facts, labeler_remark=remark)))
    for place in ("answer", "hull", "voltage", "structures", "order", "labels"):
        assert remark[1:] in told.text(place), place
    assert f"R{remark[1:]}." in told.text("answer")


def test_more_labels_than_configurations_are_not_some_of_them(facts: Facts) -> None:
    told = Parsed(page(with_status(facts, labels_used=900)))
    assert "900 for" in (answer := plain(told.text("answer"))) and "900 of" not in answer


def test_before_an_assessment_the_report_says_what_is_missing(campaign: ac.Campaign) -> None:
    status = campaign.status().document
    rounds = [one | {"labels": None, "vertices": []} for one in status["rounds"]]
    changed = status | {"state": "running", "rounds": rounds, "criteria": []}
    told = Parsed(page(report_facts(campaign._campaign, changed, [])))
    assert "There is no hull and no voltage yet" in told.text("answer")
    assert "hull" not in told.by_id and "voltage" not in told.by_id
    assert "7 labels" in told.text("labels")


def test_a_campaign_without_labels_has_a_report(
    campaign: ac.Campaign, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    source = campaign._campaign
    host = source.spec.host.model_copy(update={"structure": HOST})
    submit(source.store, source.spec.model_copy(update={"name": "empty", "host": host}))
    with ac.open("empty") as empty:
        empty.report(tmp_path / "new" / "empty.html")
    told = Parsed((tmp_path / "new" / "empty.html").read_text())
    assert "There is no hull and no voltage yet" in told.text("answer")
    assert "There is no label yet" in told.text("labels")
    assert "Nothing has been run yet" in told.text("cost")
    assert open_campaign(source.store, "empty").name == "empty"
    path = tmp_path / "report.html"
    assert run("report", "empty", "-o", str(path))[0] == 0 and path.exists()
    code, _, err = run("report", "empty", "-o", str(path))
    assert code == 2 and "add --force" in err
    assert run("report", "empty", "-o", str(path), "--force")[0] == 0
    assert run("report", "empty", "-o", str(tmp_path / "report.pdf"))[0] == 2
