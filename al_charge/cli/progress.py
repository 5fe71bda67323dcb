"""What people see on standard error while something takes long; nothing where nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

TEXT = "{task.description}"


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show that something runs, and for how long."""
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _drawn(what, SpinnerColumn(), TextColumn(TEXT), TimeElapsedColumn()):
        yield


@contextmanager
def counting(what: str) -> Iterator[Callable[..., None]]:
    """Show a bar; call what is returned with done, total and a new text."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    with _drawn(what, TextColumn(TEXT), BarColumn(), TimeRemainingColumn()) as update:

        def report(done: int, total: int, text: str = what) -> None:
            update(completed=done, total=total, description=text)

        yield report


@contextmanager
def counting_documents() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with numbers; call what is returned with a collection, documents done and all."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

    with _drawn("", TextColumn(TEXT), BarColumn(), MofNCompleteColumn()) as update:

        def report(name: str, done: int, total: int) -> None:
            update(completed=done, total=max(done, total), description=name)

        yield report


@contextmanager
def _drawn(what: str, *columns: ProgressColumn) -> Iterator[Callable[..., Any]]:
    """Draw one task; call what is returned to update it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield partial(progress.update, progress.add_task(what, total=None))
