"""Print results: a JSON document, or tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

if TYPE_CHECKING:
    from al_charge.api.results import Listing

JSON_VERSION = 1
"""Of every document; it rises when a key vanishes or means something else."""

plot_option = click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Also write the plot to this file: .png, .svg, .pdf, or .html for an interactive one.",
)
width_option = click.option(
    "--width",
    type=click.Choice(["single", "double"]),
    default="single",
    show_default=True,
    help="Width of the plot for print: single (86 mm) or double (178 mm).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
csv_option = click.option(
    "--csv", "as_csv", is_flag=True, help="Print comma-separated values, a line for each row."
)
round_option = click.option(
    "--round",
    "number",
    type=click.IntRange(0),
    metavar="N",
    help="After round N; by default the last assessed round.",
)


class Group(click.Group):
    """A group whose help has the whole first sentence of each command, which click cuts."""

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        found = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(1000)) for name, one in found])


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document as JSON on standard output, with its schema and the time.

    Parameters
    ----------
    document
        Whatever `json.dumps` takes; the page on JSON says what its keys mean.
    """
    words: list[str] = []
    context = click.get_current_context()
    while context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    schema = f"al-charge/{'-'.join(words)}/{JSON_VERSION}"
    time = datetime.now(UTC).isoformat(timespec="seconds")
    click.echo(json.dumps({"schema": schema, "time": time, **document}, indent=2))


def show_listing(found: Listing, *, as_json: bool, as_csv: bool) -> None:
    """Print a listing as JSON, as comma-separated values or as a table.

    Parameters
    ----------
    found
        What was found.
    as_json
        Whether to print its document.
    as_csv
        Whether to print its rows.

    Raises
    ------
    InputError
        If both are wanted.
    """
    from al_charge.errors import InputError

    if as_json and as_csv:
        raise InputError("--json and --csv exclude each other", remedy="give one")
    if as_csv:
        click.echo(found.to_csv(), nl=False)
    else:
        show(found.document, as_json, found.table)


def show(document: Mapping[str, Any], as_json: bool, table: Callable[[], Any]) -> None:
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
    from al_charge.report.terminal import console_of_output, print_whole

    print_whole(console_of_output(), table())
