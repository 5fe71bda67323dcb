"""Tables keep every word and number, in narrow terminals and in pipes."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

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
