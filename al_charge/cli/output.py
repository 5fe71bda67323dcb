"""Printing: a document for machines, tables for people."""

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
    """Print a document as JSON on standard output."""
    click.echo(json.dumps(document, indent=2))


def show(document: Any, as_json: bool, table: Callable[[], Any]) -> None:
    """Print a document as JSON, or the table that stands for it."""
    if as_json:
        print_json(document)
        return
    from rich.console import Console

    # What a database or a file says is printed as it is; brackets in it are no markup.
    Console(markup=False).print(table())
