"""The hull of several campaigns, as an object that prints, plots, and becomes JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.api.campaign import Campaign
from al_charge.api.chart import ChartResult
from al_charge.api.results import Listing
from al_charge.report import common_hull as report
from al_charge.report import style
from al_charge.thermo.hull import Entry, Hull

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class CommonHullResult(Listing):
    """The hull of several campaigns of one composition.

    Attributes
    ----------
    campaigns
        Their names.
    hull
        The hull itself: energies in eV per formula unit of the first campaign.
    of
        The campaign that an entry is of, by the entry's key.
    document
        What ``al-charge hull A B --json`` prints.
    """

    campaigns: tuple[str, ...]
    hull: Hull
    of: dict[str, str] = field(repr=False)
    document: dict[str, Any] = field(repr=False)

    @property
    def vertices(self) -> tuple[Entry, ...]:
        """The stable configurations, ordered by x; the first and the last are the end members."""
        return self.hull.vertices

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The lowest label of every configuration of every campaign, ordered by x and energy."""
        return self.hull.entries

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each labelled configuration.

        Returns
        -------
        list of dict
            Ordered by x and energy, each with its ``campaign``; ``x`` is an exact fraction.
        """
        return list(report.common_hull_chart(self.document).rows)

    def table(self) -> RenderableType:
        """Return the tables of `al-charge hull A B`.

        Returns
        -------
        rich renderable
            One line for each composition of each campaign, then one for each plateau.
        """
        return report.common_hull_table(self.document)

    def plot(self, path: Path | str, width: style.Width = "single") -> None:
        """Write the hull, with the labels of each campaign in a colour and a shape.

        Parameters
        ----------
        path
            A file that ends in ``.png``, ``.svg`` or ``.pdf``, or in ``.html`` for an interactive
            plot.
        width
            Of a column of a journal (``single``, 86 mm) or of its page (``double``, 178 mm).

        Raises
        ------
        InputError
            If it ends in anything else.
        """
        chart = report.common_hull_chart(self.document)
        ChartResult(", ".join(self.campaigns), chart, self.document).plot(path, width)


def hull(campaigns: Sequence[Campaign]) -> CommonHullResult:
    """Put the labels of several campaigns, such as those of polymorphs, on one hull.

    Parameters
    ----------
    campaigns
        Two or more, opened; of the same composition, working ion and settings. Energies are per
        formula unit of the first.

    Returns
    -------
    CommonHullResult
        With every usable label that they have now, whatever the round.

    Raises
    ------
    InputError
        If they cannot stand together; the message says what differs.
    AlChargeError
        If the metal or, in every campaign, an end member has no label yet.

    Examples
    --------
    >>> import al_charge as ac
    >>> with ac.open("demo-1") as olivine, ac.open("maricite") as maricite:
    ...     common = ac.hull([olivine, maricite])
    >>> print(common.hull.vertices[0].x, common.hull.vertices[-1].x)
    0 1
    """
    sources = [campaign._campaign for campaign in campaigns]
    found = report.common_hull(sources)
    document = report.common_hull_document(sources, found)
    return CommonHullResult(tuple(found.units), found.hull, found.of, document)
