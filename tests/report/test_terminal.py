"""Tables keep every word and number, in narrow terminals and in pipes."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from al_charge.report.jobs import jobs_table
from al_charge.report.label import one_label_table
from al_charge.report.labels import labels_table
from al_charge.report.tables import hull_table, rows_table
from al_charge.report.terminal import console_of_output, print_whole


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_word_is_cut(width: int) -> None:
    table = Table("label", "a heading of several words", title="some title")
    table.add_column("not to wrap", no_wrap=True)
    words = [f"{n}abcdef{n}" for n in range(2)] + ["in one line"]
    words += [f"{n}abcdef{n}" for n in range(10)]
    for n in range(10):
        table.add_column(f"column{n}", footer=f"sum{n}")
    table.show_footer = True
    table.add_row(*(Text(word) for word in words))
    file = io.StringIO()
    print_whole(Console(file=file, width=width), Group(table, Text("below")))
    text = file.getvalue()
    for word in [*words, *(f"column{n}" for n in range(10)), *(f"sum{n}" for n in range(10))]:
        assert word in text
    assert "…" not in text
    for word in ("heading", "several", "below"):
        assert re.search(rf"\b{word}\b", text)


FRACTIONS = ("0", "1/8", "1/4", "3/8", "1/2", "5/8", "3/4", "7/8", "1")


def hull_document() -> dict[str, Any]:
    """A hull of nine compositions, below which lower states may lie."""
    entries = [
        {"x": x, "formula": f"Na{x}FePO4", "formation_energy": -0.1234, "distance_to_hull": 0.0142,
         "label": f"{x}{'a' * 24}"}
        for x in FRACTIONS
    ]  # fmt: skip
    forecasts = [{"x": x, "p_lower": 1.0, "lower_by": 0.0146} for x in FRACTIONS]
    return {
        "formula": "NaxFePO4", "labeler": "born", "verified": True, "band": forecasts,
        "entries": entries, "vertices": [entries[0], entries[-1]], "compositions": forecasts,
        "p_below_hull": 0.021, "exhaustive": False, "undecided": [],
    }  # fmt: skip


@pytest.mark.parametrize("width", [80, 200])
def test_a_hull_keeps_its_quantities_in_the_width_of_a_terminal(width: int) -> None:
    file = io.StringIO()
    print_whole(Console(file=file, width=width), hull_table(hull_document()))
    text = file.getvalue()
    assert text.count("100 %, 14.6") == 9
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", range(20, 44))
def test_no_caption_breaks_a_quantity(width: int) -> None:
    table = Table("a", caption="below the hull: 34.9 %. At x = 1/4 (31 %), or 2.5 ± 0.1 meV higher")
    table.add_column("what else there is to see here", no_wrap=True)
    file = io.StringIO()
    print_whole(Console(file=file, width=width), table)
    for whole in ("34.9 %", "x = 1/4 (31 %)", "2.5 ± 0.1 meV"):
        assert whole in file.getvalue()


def test_captions_stay_in_the_middle() -> None:
    table = Table("a", caption="two words")
    table.add_column("x" * 40, no_wrap=True)
    file = io.StringIO()
    print_whole(Console(file=file, width=80), table)
    first, *_, last = file.getvalue().splitlines()
    left = last.partition("two words")[0]
    assert 2 * len(left) in range(len(first) - 9 - 1, len(first) - 9 + 2)


def test_numbers_stand_at_the_right() -> None:
    table = Table("x", "loss", "share")
    for row in (("0", "9.2e-05", "100 %"), ("1/2", "0.00012", "5 %"), ("1", "-1", "")):
        table.add_row(*row)
    file = io.StringIO()
    print_whole(Console(file=file, width=80), table)
    _, _, _, first, second, third, _ = file.getvalue().splitlines()
    assert first == "│ 0   │ 9.2e-05 │ 100 % │"
    assert second == "│ 1/2 │ 0.00012 │   5 % │"
    assert third == "│ 1   │      -1 │       │"


def test_a_long_path_is_whole_on_a_line_of_its_own() -> None:
    path = f"/scratch/{'deep/' * 30}label-000"
    told: dict[str, Any] = {
        "formula": "FePO4", "label": "a" * 24, "x": "0", "atoms": 24, "hash": "b" * 24,
        "energy_per_formula": -109.4, "distance_to_hull": None, "species": {"Fe3+": 4},
        "as_requested": True, "ambiguous": False, "delocalised": False, "audit": "", "moments": {},
        "bader": {}, "volume": 72.3, "relax": "cell", "engine": "born 1", "settings_hash": "c" * 16,
        "refused": "", "why": None, "attempts": [], "wall_time": 3.0, "cores": 1, "sites": [],
        "directory": path, "machines": ["node7"], "imported": None,
    }  # fmt: skip
    file = io.StringIO()
    print_whole(Console(file=file, width=80), one_label_table(told))
    *rest, last = file.getvalue().splitlines()
    assert last == path
    assert rest[-1].strip() == "files on node7:"
    assert max(map(len, rest)) <= 80


def test_jobs_are_listed_in_the_order_of_the_work() -> None:
    """FireWorks numbers the tasks of each round from its end."""
    bare = {"state": "READY", "label": "", "host": None, "seconds": None, "number_of_runs": 0,
            "reason": ""}  # fmt: skip
    names = [("0/assess", 0), ("0/select", 0), ("1/assess", 1), ("1/select", 1)]
    jobs = [bare | {"task": task, "round": number} for task, number in names]
    shown = [str(cell) for cell in jobs_table({"jobs": jobs}).columns[0].cells]
    assert shown == ["0/select", "0/assess", "1/select", "1/assess"]


def test_nothing_wraps_in_a_pipe_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table("word")
    table.add_row(Text("of many words " * 30 + "the end"))

    def printed() -> str:
        print_whole(console_of_output(), Group(table, Text("below and much longer " * 20 + "end")))
        return capsys.readouterr().out

    monkeypatch.delenv("COLUMNS", raising=False)
    assert "words the end" in printed() and "longer end\n" in printed()
    print_whole(console_of_output(), Panel("as wide as it may be"))
    assert max(map(len, capsys.readouterr().out.splitlines())) == 160
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, printed().splitlines())) == 80


def test_rows_are_told_without_exponents() -> None:
    row = {"round": 0, "core_hours": 3.22e-5, "rmse": 1.25e-5, "shift": -1e-17, "share": 0.12345678}
    table = rows_table({"title": "cost", "source": "", "rows": [row, row | {"core_hours": 1e-6}]})
    headings = [str(column.header) for column in table.columns]
    assert headings == ["round", "core seconds", "rmse", "shift", "share"]
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert [one[0] for one in cells] == ["0", "0.11592", "0.000013", "0", "0.12346"]
    assert cells[1][1] == "0.0036"


def test_columns_that_no_label_fills_take_no_room() -> None:
    bare: dict[str, Any] = {
        "x": "1/2", "label": "a" * 24, "relax": "cell", "ambiguous": False, "delocalised": False,
        "as_requested": True, "atoms": 52, "supercell": [1, 2, 1], "energy_per_formula": -109.4327,
        "moments": {}, "bader": {}, "attempts": [{}], "wall_time": 1.0, "imported": None,
        "refused": "",
    }  # fmt: skip
    counts = {"labels": 1, "as_requested": 1, "fraction": 1.0, "ambiguous": 0, "delocalised": 0,
              "unusable": 0}  # fmt: skip
    told: dict[str, Any] = {
        "formula": "NaxFePO4", "labeler": "Born", "engines": ["born 1"], "labels": [bare],
        "compositions": [{"x": "1/2", **counts}], "mixed": counts, "quarantined": [],
    }  # fmt: skip

    def headings(labels: list[dict[str, Any]]) -> list[str]:
        table = labels_table(told | {"labels": labels}).renderables[0]
        assert isinstance(table, Table) and table.row_count == len(labels)
        return [str(column.header) for column in table.columns]

    plain = ["x", "label", "relaxed", "order", "energy", "starts", "time"]
    assert headings([bare]) == plain
    moments = bare | {"moments": {"Fe3+": [4.1, 4.2]}}
    assert headings([bare, moments]) == [*plain[:5], "moments", *plain[5:]]
    refused = bare | {"refused": "ambiguous", "supercell": [1, 1, 1]}
    assert headings([bare, refused]) == [*plain[:4], "atoms", *plain[4:], "why it is on no hull"]
    assert headings([])[:2] == plain[:2]
