"""Progress on standard error: bars on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from al_charge.logs import details

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

LINES = 10
"""Lines in a log instead of one bar on a terminal."""

_TEXT = "{task.description}"
_log = logging.getLogger("al_charge.cli.progress")


def on_terminal() -> bool:
    """Tell whether standard error is a terminal, where progress can be drawn.

    Returns
    -------
    bool
        False where it is a file or a pipe.
    """
    return sys.stderr.isatty()


@contextmanager
def busy(what: str, *, quiet_below: float = 0.0) -> Iterator[None]:
    """Show that something runs, and for how long; a log has one line when it is done.

    Parameters
    ----------
    what
        What runs, such as ``reading labels.extxyz``.
    quiet_below
        What takes less time than this, in seconds, has no line in a log.

    Yields
    ------
    None
        While it runs.
    """
    if on_terminal():
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        with _bar(what, SpinnerColumn(), TextColumn(_TEXT), TimeElapsedColumn()):
            yield
        return
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    if seconds >= quiet_below:
        extra = details(event="progress", what=what, seconds=seconds)
        _log.info("%s: done after %.1f s", what, seconds, extra=extra)


@contextmanager
def counting(what: str, unit: str) -> Iterator[Callable[..., None]]:
    """Show how much of something is done; a log has a line for each tenth of it.

    Parameters
    ----------
    what
        What runs, such as ``relaxing``.
    unit
        What is counted, such as ``structures``.

    Yields
    ------
    callable
        To be called with how much is done, how much there is, and perhaps a remark.
    """
    if on_terminal():
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

        with _bar(what, TextColumn(_TEXT), BarColumn(), TimeRemainingColumn()) as update:

            def draw(done: int, total: int, remark: str = "") -> None:
                update(completed=done, total=total, description=remark or what)

            yield draw
        return
    logged = 0

    def log(done: int, total: int, remark: str = "") -> None:
        nonlocal logged
        part = LINES * done // max(total, 1)
        if part > logged:
            logged = part
            line = f"{what}: {done} of {total} {unit}" + (f"; {remark}" if remark else "")
            extra = details(event="progress", what=what, done=done, total=total, unit=unit)
            _log.info("%s", line, extra=extra)

    yield log


@contextmanager
def counting_documents() -> Iterator[Callable[[str, int, int], None]]:
    """Show how many documents of a collection are done; a log has a line for each collection.

    Yields
    ------
    callable
        To be called with the collection's name, the documents done, and about how many there are.
    """
    if on_terminal():
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        with _bar("", TextColumn(_TEXT), BarColumn(), MofNCompleteColumn()) as update:

            def draw(name: str, done: int, total: int) -> None:
                update(completed=done, total=max(done, total), description=name)

            yield draw
        return
    counts: dict[str, int] = {}

    def log_last() -> None:
        name, done = counts.popitem()
        if done:
            extra = details(event="progress", what=name, done=done, unit="documents")
            unit = "document" if done == 1 else "documents"
            _log.info("%s: %d %s", name, done, unit, extra=extra)

    def count(name: str, done: int, total: int) -> None:
        if counts and name not in counts:
            log_last()
        counts[name] = done

    yield count
    if counts:
        log_last()


@contextmanager
def _bar(what: str, *columns: ProgressColumn) -> Iterator[Callable[..., Any]]:
    """Draw one task; call what is returned to update it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield partial(progress.update, progress.add_task(what, total=None))
