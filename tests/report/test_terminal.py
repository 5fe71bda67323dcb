"""Tables keep every word and number, in narrow terminals and in pipes."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from al_charge.report.labels import labels_table
from al_charge.report.terminal import print_whole


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_word_is_cut(width: int) -> None:
    table = Table("label", "a heading of several words", title="some title")
    words = [f"{n}abcdef{n}" for n in range(12)]
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
