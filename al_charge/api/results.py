"""What a campaign has found, as objects that print as tables, plot, and become JSON."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import RenderableType

WIDTH = 100
"""Columns of a table that is printed as text."""
_COLUMNS = (
    "x",
    "label",
    "hash",
    "round",
    "atoms",
    "energy_per_formula",
    "relax",
    "as_requested",
    "ambiguous",
    "delocalised",
    "converged",
    "refused",
    "engine",
    "wall_time",
    "cores",
    "directory",
)
"""What a row of labels has of each."""


class Result(ABC):
    """Something that prints as a table; ``document`` is what ``--json`` prints."""

    document: dict[str, Any]

    @abstractmethod
    def table(self) -> RenderableType:
        """Return the table for a terminal.

        Returns
        -------
        rich renderable
            To print with a `rich.console.Console`.
        """

    def __str__(self) -> str:
        """Return the table as plain text."""
        from rich.console import Console

        from al_charge.report.terminal import print_whole

        console = Console(file=io.StringIO(), width=WIDTH, markup=False, color_system=None)
        with console.capture() as captured:
            print_whole(console, self.table())
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def _repr_html_(self) -> str:
        """Return the table as HTML, for notebooks."""
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


class Listing(Result):
    """A result that is a list of things, one row each."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each of them.

        Returns
        -------
        list of dict
            All with the same keys; units are in ``document["units"]``.
        """

    def to_frame(self) -> DataFrame:
        """Return the rows as a table of pandas.

        Returns
        -------
        pandas.DataFrame
            One line for each row; ``attrs["units"]`` says what the numbers are.
        """
        from pandas import DataFrame

        frame = DataFrame(self.rows())
        frame.attrs["units"] = dict(self.document["units"])
        return frame

    def to_csv(self) -> str:
        """Return the rows as comma-separated values.

        Returns
        -------
        str
            A line of headings, then one line for each row.
        """
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


@dataclass(frozen=True)
class LabelsResult(Listing):
    """The labels of a campaign, one by one.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge labels --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        """Return how many labels there are."""
        return len(self.document["labels"])

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each label.

        Returns
        -------
        list of dict
            Ordered by x and energy, with a column for the number of ions in each charge state.
        """
        labels = self.document["labels"]
        species = sorted({state for one in labels for state in one["species"]})
        return [
            {name: one[name] for name in _COLUMNS}
            | {state: one["species"].get(state, 0) for state in species}
            for one in labels
        ]

    def table(self) -> RenderableType:
        """Return the tables of `al-charge labels`.

        Returns
        -------
        rich renderable
            One line for each label, then one for each composition.
        """
        from al_charge.report.labels import labels_table

        return labels_table(self.document)


@dataclass(frozen=True)
class StatusResult(Result):
    """How a campaign stands.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge campaign status --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)

    @property
    def state(self) -> str:
        """State of the campaign, such as ``running`` or ``converged``."""
        return str(self.document["state"])

    def table(self) -> RenderableType:
        """Return the panel of `al-charge campaign status`.

        Returns
        -------
        rich renderable
            Rounds, tasks and criteria.
        """
        from al_charge.report.progress import status_panel

        return status_panel(self.document)


@dataclass(frozen=True)
class JobsResult(Listing):
    """The jobs of a campaign.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge campaign jobs --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each job.

        Returns
        -------
        list of dict
            In the order in which they were added.
        """
        return list(self.document["jobs"])

    def table(self) -> RenderableType:
        """Return the table of `al-charge campaign jobs`.

        Returns
        -------
        rich renderable
            One line for each job.
        """
        from al_charge.report.jobs import jobs_table

        return jobs_table(self.document)


@dataclass(frozen=True)
class CostResult(Listing):
    """What a campaign has cost.

    Attributes
    ----------
    campaign
        The campaign's name.
    document
        What ``al-charge campaign cost --json`` prints.
    """

    campaign: str
    document: dict[str, Any] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each round.

        Returns
        -------
        list of dict
            With the core hours of each kind of task.
        """
        kinds = list(self.document["kinds"])
        return [
            {name: one[name] for name in ("round", "runs", "hours", "core_hours")}
            | {kind: one["core_hours_by_kind"].get(kind, 0.0) for kind in kinds}
            for one in self.document["rounds"]
        ]

    def table(self) -> RenderableType:
        """Return the tables of `al-charge campaign cost --forecast`.

        Returns
        -------
        rich renderable
            By kind of task and by round.
        """
        from al_charge.report.cost import cost_table

        return cost_table(self.document, forecast=True)


def title(name: str, verified: bool) -> str:
    """Return the title of a plot of a campaign.

    Parameters
    ----------
    name
        The campaign's name.
    verified
        Whether its hull is verified.

    Returns
    -------
    str
        The name, and whether the hull is verified.
    """
    return f"{name} (hull verified)" if verified else name
