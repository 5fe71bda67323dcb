"""Draw a chart for print."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from al_charge.report import canvas, style
from al_charge.report.charts import Chart, Panel, Series
from al_charge.report.names import mathtext

HEIGHT = 50.0
"""Of a panel, mm; a panel of equal axes is twice as high."""
COLUMNS: dict[style.Width, int] = {"single": 1, "double": 3}
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "++++")


def chart_figure(chart: Chart, width: style.Width = "single") -> Figure:
    """Draw a chart: panels below each other in a column, side by side on a page.

    Parameters
    ----------
    chart
        The chart.
    width
        Of one column, or of the page.

    Returns
    -------
    Figure
        For print.
    """
    columns = min(COLUMNS[width], len(chart.panels))
    rows = -(-len(chart.panels) // columns)
    tall = 1.5 if any(panel.diagonal for panel in chart.panels) else 1.0
    with canvas.journal():
        figure = canvas.new_figure(width, HEIGHT * tall * rows + 14)
        for place, panel in enumerate(chart.panels):
            _draw(figure.add_subplot(rows, columns, place + 1), panel)
        canvas.heading(figure, chart.source)
        canvas.legend(figure, *figure.axes)
        figure.align_ylabels()
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    heights: dict[float, float] = defaultdict(float)
    for series in panel.series:
        if series.kind == "bars":
            _draw_bars(axes, series, heights)
        else:
            _draw_points(axes, series)
    for value, name in panel.levels:
        axes.axhline(value, color=style.FAINT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            name,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 1),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color=style.FAINT,
        )
    if panel.diagonal:
        _equal(axes)
    if panel.compositions:
        label = f"$x$ in {mathtext(panel.x_label)}"
        canvas.composition_axis(axes, label, panel.compositions, ())
    else:
        axes.set_xlabel(panel.x_label)
    if panel.whole:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0.0)  # errors, shares and costs
    axes.set_ylabel(mathtext(panel.y_label))
    axes.grid(axis="y")


def _draw_points(axes: Axes, series: Series) -> None:
    number = series.style
    line = LINES[number // len(style.MARKERS) % len(LINES)] if series.kind == "line" else ""
    axes.errorbar(
        series.x,
        series.y,
        yerr=series.error,
        linestyle=line or "none",
        marker=style.MARKERS[number % len(style.MARKERS)],
        markersize=3.0,
        markerfacecolor="none" if series.kind == "points" else None,
        markeredgewidth=0.6,
        color=style.SERIES[number % len(style.SERIES)],
        elinewidth=0.5,
        linewidth=0.9,
        label=series.name or None,
        zorder=3,
    )


def _draw_bars(axes: Axes, series: Series, heights: dict[float, float]) -> None:
    number = series.style
    axes.bar(
        series.x,
        series.y,
        bottom=[heights[x] for x in series.x],
        width=0.7,
        facecolor=style.SERIES[number % len(style.SERIES)] + "A0",
        edgecolor="white",
        linewidth=0.3,
        hatch=HATCHES[number % len(HATCHES)],
        label=series.name,
        zorder=2,
    )
    for x, y in zip(series.x, series.y, strict=True):
        heights[x] += y


def _equal(axes: Axes) -> None:
    """Give both axes the same limits, and draw where they agree."""
    limits = np.array([axes.get_xlim(), axes.get_ylim()])
    low, high = float(limits.min()), float(limits.max())
    axes.plot([low, high], [low, high], color=style.FAINT, linewidth=0.8, zorder=1)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.grid(axis="x")
