"""A figure of a campaign, as an object that prints, plots, and becomes JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from al_charge.api.results import Listing
from al_charge.errors import InputError, did_you_mean
from al_charge.loop import campaign as loop
from al_charge.report import style
from al_charge.report.charts import Chart

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class ChartResult(Listing):
    """What a figure of a campaign shows.

    Attributes
    ----------
    campaign
        The campaign's name.
    chart
        Panels of series, apart from how they are drawn.
    document
        What ``al-charge plot --json`` prints.
    """

    campaign: str
    chart: Chart = field(repr=False)
    document: dict[str, Any] = field(repr=False)

    def rows(self) -> list[dict[str, Any]]:
        """Return the numbers behind the figure.

        Returns
        -------
        list of dict
            One for each point, or for each that several panels share.
        """
        return list(self.chart.rows)

    def table(self) -> RenderableType:
        """Return the rows as a table.

        Returns
        -------
        rich renderable
            One line for each row.
        """
        from al_charge.report.tables import rows_table

        return rows_table(self.document)

    def plot(self, path: Path | str, width: style.Width = "single") -> None:
        """Write the figure.

        Parameters
        ----------
        path
            A file that ends in ``.png``, ``.svg`` or ``.pdf``, or in ``.html`` for an interactive
            plot.
        width
            Of a column of a journal (``single``, 86 mm) or of its page (``double``, 178 mm); an
            interactive plot is as wide as its window.

        Raises
        ------
        InputError
            If it ends in anything else.
        """
        path = Path(path)
        style.check_ending(path)
        if path.suffix == style.PAGE:
            from al_charge.report.chart_page import chart_html

            chart_html(self.chart, path)
        else:
            from al_charge.report.canvas import write_figure
            from al_charge.report.chart_image import chart_figure

            write_figure(chart_figure(self.chart, width), path)


def chart_result(campaign: loop.Campaign, kind: str) -> ChartResult:
    """Return a figure of a campaign.

    Parameters
    ----------
    campaign
        An open campaign.
    kind
        One of `al_charge.report.style.CHARTS`.

    Returns
    -------
    ChartResult
        With the numbers behind it.

    Raises
    ------
    InputError
        If there is no such figure.
    AlChargeError
        If the campaign has nothing to show in it.
    """
    from al_charge.report import round_charts, state_charts

    if kind not in style.CHARTS:
        raise InputError(f"there is no figure '{kind}'", remedy=did_you_mean(kind, style.CHARTS))
    makers = vars(round_charts) | vars(state_charts)
    chart: Chart = makers[kind](campaign)
    document = {
        "campaign": campaign.name,
        "state": campaign.store.campaigns.state(campaign.name).value,
        "chart": chart.kind,
        "title": chart.title,
        "source": chart.source,
        "rows": chart.rows,
        "units": chart.units,
    }
    return ChartResult(campaign.name, chart, document)
