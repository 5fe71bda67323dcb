"""Print results: a JSON document, or tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

plot_option = click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Also write the plot to this file: .png, or .html for an interactive one.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def print_json(document: Any) -> None:
    """Print a document as JSON on standard output.

    Parameters
    ----------
    document
        Whatever `json.dumps` takes.
    """
    click.echo(json.dumps(document, indent=2))


def show(document: Any, as_json: bool, table: Callable[[], Any]) -> None:
    """Print a document as JSON, or as a table.

    Parameters
    ----------
    document
        Whatever `json.dumps` takes.
    as_json
        Whether to print JSON.
    table
        Called without arguments to make what rich prints instead.
    """
    if as_json:
        print_json(document)
        return
    from rich.console import Console

    # Texts of a database or a file are printed as they are; their brackets are not markup.
    Console(markup=False).print(table())
