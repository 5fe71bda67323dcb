"""Print tables so that no word or number is cut, whatever the width."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def print_whole(console: Console, drawn: RenderableType) -> None:
    """Print what was drawn; tables wrap between words, and are wider than the console if need be.

    Parameters
    ----------
    console
        Where to.
    drawn
        A table, or a group of tables and texts.
    """
    console.width = max(console.width, _keep_words(console, drawn))
    console.print(drawn, crop=False)


def _keep_words(console: Console, drawn: RenderableType) -> int:
    """Give every column the width of its longest word; return what the widest table needs.

    Left alone, rich cuts numbers before it wraps words.
    """
    from rich.console import Group
    from rich.measure import Measurement
    from rich.table import Table

    if isinstance(drawn, Group):
        return max((_keep_words(console, part) for part in drawn.renderables), default=0)
    if not isinstance(drawn, Table):
        return 0
    for column in drawn.columns:
        cells = [column.header, column.footer, *column.cells]
        words = (Measurement.get(console, console.options, cell).minimum for cell in cells)
        column.min_width = max(words)
    return sum((column.min_width or 0) + 3 for column in drawn.columns) + 1
