"""The documents that scripts read, the tables drawn from them, and names."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from rich.console import Console
from rich.table import Table

from al_charge.report.documents import hull_document, voltage_document
from al_charge.report.names import html, labeler_name, mathtext
from al_charge.report.tables import hull_table, voltage_table
from al_charge.store.documents import Assessment
from al_charge.thermo.hull import Hull
from al_charge.thermo.voltage import VoltageProfile, voltage_profile


def text_of(table: Table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_hull_document_survives_json_and_holds_every_label(hull: Hull) -> None:
    document = hull_document(hull, campaign="demo", labeler="born")
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["campaign"] == "demo"
    assert document["labeler"] == "Born (analytic ionic model)"
    assert (document["working_ion"], document["formula"]) == ("Na", "NaxFePO4")
    assert [vertex["x"] for vertex in document["vertices"]] == ["0", "3/4", "1"]
    assert len(document["entries"]) == 9
    assert set(document["vertices"][1]) == {
        "x",
        "formula",
        "energy_per_formula",
        "formation_energy",
        "distance_to_hull",
        "hash",
        "label",
        "magnetic_correction",
        "corrected_formation_energy",
    }
    assert document["undecided"] == []
    told = {*document, *document["vertices"][1], *document["compositions"][0]}
    assert set(document["units"]) < told


def test_hull_document_values(hull: Hull) -> None:
    document = hull_document(hull, campaign="demo", labeler="gpaw")
    vertex = document["vertices"][1]
    assert vertex["energy_per_formula"] == pytest.approx(-189.395)
    assert vertex["formation_energy"] == pytest.approx(-0.095)
    assert vertex["distance_to_hull"] == 0.0
    assert (vertex["hash"], vertex["label"]) == ("hash-3-0", "label-3-0")
    assert vertex["formula"] == "Na3/4FePO4"
    entry = next(e for e in document["entries"] if e["label"] == "label-2-0")
    # The line from 0 to -95 meV at x = 3/4 passes -63.33 meV at x = 1/2.
    assert entry["distance_to_hull"] == pytest.approx(-0.025 + 0.095 * 2 / 3)
    assert [Fraction(e["x"]) for e in document["entries"]] == sorted(
        Fraction(e["x"]) for e in document["entries"]
    )


def test_what_is_not_known_is_null(hull: Hull) -> None:
    document = hull_document(hull, campaign="demo", labeler="born")
    assert not any("error_bar" in entry for entry in document["entries"])
    assert document["band"] == [] and document["p_below_hull"] is None
    assert [one["lowest_labelled"] for one in document["compositions"]] == pytest.approx(
        [0, 0.012, -0.025, -0.095, 0]
    )
    assert {one["p_lower"] for one in document["compositions"]} == {None}
    profile = voltage_document(voltage_profile(hull), campaign="demo", labeler="born")
    assert profile["mean_error_bar"] is None
    assert json.loads(json.dumps(profile, allow_nan=False)) == profile


def test_documents_say_what_may_lie_below(
    hull: Hull, profile: VoltageProfile, assessment: Assessment
) -> None:
    document = hull_document(
        hull, campaign="demo", labeler="born", state="sampled", found=assessment
    )
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["state"], document["p_below_hull"]) == ("sampled", 0.034)
    assert document["compositions"][1] == {
        "x": "3/4",
        "lowest_labelled": -0.095,
        "lowest_predicted": pytest.approx(-0.091),
        "p_lower": 0.31,
        "lower_by": 0.012,
    }
    assert document["band"][1] == {
        "x": "3/4",
        "lower_95": pytest.approx(-0.119),
        "lower_68": pytest.approx(-0.107),
        "upper_68": -0.095,
        "upper_95": -0.095,
    }
    document = voltage_document(profile, campaign="demo", labeler="born", found=assessment)
    assert document["band"][0] == {
        "x_from": "0",
        "x_to": "3/4",
        "lower_95": 2.6,
        "lower_68": 2.7,
        "upper_68": 2.9,
        "upper_95": 3.0,
    }


def test_the_hull_table_says_where_a_lower_state_is_likely(
    hull: Hull, assessment: Assessment
) -> None:
    text = text_of(hull_table(hull_document(hull, campaign="d", labeler="born", found=assessment)))
    row = next(line for line in text.splitlines() if "Na3/4FePO4" in line)
    assert "31 %, 12.0" in row
    row = next(line for line in text.splitlines() if " NaFePO4 " in line)
    assert "0 %" in row and "0 %," not in row
    assert "Probability that an unlabelled configuration lies below the hull: 3.4 %" in " ".join(
        text.split()
    )
    assert "sample" not in text
    sampled = assessment.model_copy(update={"exhaustive": False})
    text = text_of(hull_table(hull_document(hull, campaign="d", labeler="born", found=sampled)))
    assert "sample" in text


def test_voltage_document(profile: VoltageProfile) -> None:
    document = voltage_document(profile, campaign="demo", labeler="born")
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["labeler"] == "Born (analytic ionic model)"
    assert [(step["x_from"], step["x_to"]) for step in document["steps"]] == [
        ("0", "3/4"),
        ("3/4", "1"),
    ]
    voltages = [step["voltage"] for step in document["steps"]]
    assert voltages == pytest.approx([3.095 / 0.75 - 1.3, 0.905 / 0.25 - 1.3])
    assert [step["error_bar"] for step in document["steps"]] == [0.02, 0.05]
    assert document["mean_voltage"] == pytest.approx(2.7)
    assert document["mean_error_bar"] == 0.01


def test_hull_table_has_a_row_for_every_composition(hull: Hull) -> None:
    table = hull_table(hull_document(hull, campaign="demo", labeler="born"))
    assert table.row_count == 5
    text = text_of(table)
    assert "Born (analytic ionic model)" in text
    assert text.count("vertex") == 3
    row = next(line for line in text.splitlines() if "Na3/4FePO4" in line)
    assert "-95.0" in row
    assert "vertex" in row
    assert "label-3-" in row
    row = next(line for line in text.splitlines() if "Na1/2FePO4" in line)
    assert "-25.0" in row
    assert "38.3" in row
    assert "9 labelled configurations" in text


def test_tables_without_error_bars(hull: Hull) -> None:
    hull_text = text_of(hull_table(hull_document(hull, campaign="demo", labeler="born")))
    profile = voltage_profile(hull)
    voltage_text = text_of(
        voltage_table(voltage_document(profile, campaign="demo", labeler="born"))
    )
    assert "±" not in hull_text + voltage_text
    assert "-95.0" in hull_text
    assert "2.827" in voltage_text


def test_voltage_table(profile: VoltageProfile) -> None:
    table = voltage_table(voltage_document(profile, campaign="demo", labeler="born"))
    text = text_of(table)
    assert table.row_count == 2
    assert "2.827 ± 0.020" in text
    assert "2.320 ± 0.050" in text
    assert "2.700 ± 0.010" in next(line for line in text.splitlines() if "mean" in line)


def test_the_analytic_labeler_is_called_that() -> None:
    assert labeler_name("born") == "Born (analytic ionic model)"
    assert labeler_name("gpaw") == "GPAW"
    assert labeler_name("siesta") == "siesta", "a plug-in that is not installed here"


@pytest.mark.parametrize(
    ("formula", "in_html", "in_mathtext"),
    [
        ("NaxFePO4", "Na<sub>x</sub>FePO<sub>4</sub>", r"Na$_{x}$FePO$_{\mathrm{4}}$"),
        ("Na5/8FePO4", "Na<sub>5/8</sub>FePO<sub>4</sub>", None),
        ("NaxV2(PO4)3", "Na<sub>x</sub>V<sub>2</sub>(PO<sub>4</sub>)<sub>3</sub>", None),
        ("NaxFe1.72S3O12", "Na<sub>x</sub>Fe<sub>1.72</sub>S<sub>3</sub>O<sub>12</sub>", None),
        ("CoO2", "CoO<sub>2</sub>", r"CoO$_{\mathrm{2}}$"),
    ],
)
def test_amounts_become_subscripts(formula: str, in_html: str, in_mathtext: str | None) -> None:
    assert html(formula) == in_html
    assert in_mathtext is None or mathtext(formula) == in_mathtext
