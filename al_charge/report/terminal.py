"""Print tables so that no word or number is cut, whatever the width."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.measure import Measurement
    from rich.text import Text

UNBOUNDED = 10_000
"""Columns of a pipe or a file, which nothing has to fit into."""
WIDEST_PANEL = 160
"""Columns of a panel at most."""
_QUANTITY = re.compile(r"[-+<]?\d.{0,19}")
"""What begins with a number and is short, such as ``100 %, 14.6``."""

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?( %)?")
"""What stands with others like it in a column that is aligned at the right."""
_TIED = re.compile(
    r"(?<=[\d%]) (?=[^\W\d])|(?<=[\d\]]) (?=[%(])| (?=\(\d)|(?<=[=±]) | (?=[=±])"
    r"| (?=in \d)|(?<= in) (?=\d)"
)
"""The spaces within a quantity, such as ``x = 1/4 (31 %)`` and ``3 s (4 runs)``."""
_TIE = "\ue000"
"""Stands for such a space while lines are broken; rich breaks them at every space of Unicode."""


class Unbroken:
    """A text that wraps between its quantities, and never within one.

    Parameters
    ----------
    text
        What to print.
    """

    def __init__(self, text: Text) -> None:
        self._tied = text.copy()
        self._tied.plain = _TIED.sub(_TIE, text.plain)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        for line in self._tied.wrap(console, options.max_width, justify=options.justify):
            line.plain = line.plain.replace(_TIE, " ")
            line.justify = "left" if options.justify else None  # it is where it belongs already
            yield line

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the width of the longest quantity or word, and that of the whole."""
        from rich.measure import Measurement

        return Measurement.get(console, options, self._tied)


def console_of_output() -> Console:
    """Return the console of standard output, on which nothing wraps if it is a pipe or a file.

    Returns
    -------
    Console
        As wide as the terminal, or as the variable ``COLUMNS`` says.
    """
    from rich.console import Console

    # Texts of a database or a file are printed as they are; their brackets are not markup.
    console = Console(markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNBOUNDED
    return console


def print_whole(console: Console, drawn: RenderableType) -> None:
    """Print what was drawn; tables wrap between words, and are wider than the console if need be.

    Parameters
    ----------
    console
        Where to.
    drawn
        A table, a group of tables and texts, or a panel.
    """
    from rich.panel import Panel

    if isinstance(drawn, Panel):  # which is as wide as it may be
        console.width = min(console.width, WIDEST_PANEL)
    console.width = max(console.width, _fit(console, drawn))
    console.print(drawn, crop=False)


def _fit(console: Console, drawn: RenderableType) -> int:
    """Make columns as wide as they may be, but no word or quantity wider; return what tables need.

    Left alone, rich cuts numbers before it wraps words.
    """
    from rich.console import Group
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    if isinstance(drawn, Group):
        return max((_fit(console, part) for part in drawn.renderables), default=0)
    if not isinstance(drawn, Table):
        return 0
    for place in ("title", "caption"):
        if isinstance(text := getattr(drawn, place), str):
            text = Text(text, style=f"table.{place}")
        if isinstance(text, Text):
            setattr(drawn, place, Unbroken(text))
    widths, least = [], []
    for column in drawn.columns:
        cells = (column.header, column.footer, *column.cells)
        told = [text for cell in column.cells if (text := str(cell))]
        if told and all(map(_NUMBER.fullmatch, told)):
            column.justify = "right"
        options = console.options.update(max_width=UNBOUNDED)
        found = [Measurement.get(console, options, cell) for cell in cells]
        whole = [column.no_wrap or _QUANTITY.fullmatch(str(cell)) for cell in cells]
        widths.append(max(one.maximum for one in found))
        least.append(
            max(
                one.maximum if kept else one.minimum for one, kept in zip(found, whole, strict=True)
            )
        )
    room = console.width - 3 * len(widths) - 1  # borders and padding
    while sum(widths) > room and widths != least:
        spare = [width - narrowest for width, narrowest in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    for column, width in zip(drawn.columns, widths, strict=True):
        column.width = width
    return sum(widths) + console.width - room
