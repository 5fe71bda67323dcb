"""Draw a chart as an interactive page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from al_charge.report import style
from al_charge.report.charts import Chart, Panel, Series
from al_charge.report.interactive import write_page
from al_charge.report.names import html

HEIGHT = 420
"""Of a panel, pixels."""
PATTERNS = ("", "/", ".", "\\", "x", "+")


def chart_page(chart: Chart) -> go.Figure:
    """Return a chart as a figure of plotly, panels below each other.

    Parameters
    ----------
    chart
        The chart.

    Returns
    -------
    plotly.graph_objects.Figure
        For a page.
    """
    figure = make_subplots(len(chart.panels), 1, vertical_spacing=0.35 / len(chart.panels))
    seen: set[str] = set()
    source = ", ".join(chart.source.splitlines())
    for row, panel in enumerate(chart.panels, start=1):
        for series in panel.series:
            figure.add_trace(_trace(series, shown=series.name not in seen | {""}), row=row, col=1)
            seen.add(series.name)
        for value, name in panel.levels:
            dashed = {"color": style.FAINT, "width": 1, "dash": "dash"}
            figure.add_hline(y=value, line=dashed, annotation_text=name, row=row, col=1)
        if panel.diagonal:
            figure.add_trace(_diagonal(panel), row=row, col=1)
        figure.update_xaxes(**_x_axis(panel), row=row, col=1)
        figure.update_yaxes(
            title=html(panel.y_label), showgrid=True, gridcolor="#E6E6E6", row=row, col=1
        )
    figure.update_yaxes(showgrid=True, gridcolor="#E6E6E6")
    figure.update_layout(
        template="simple_white",
        title={"text": f"{html(chart.title)}<br><sup>{source}</sup>"},
        barmode="stack",
        hovermode="closest",
        height=HEIGHT * len(chart.panels) + 80,
    )
    return figure


def chart_html(chart: Chart, path: Path) -> None:
    """Write a chart as an HTML file that loads nothing from elsewhere.

    Parameters
    ----------
    chart
        The chart.
    path
        File to write; its folder is created.
    """
    write_page(chart_page(chart), path)


def _trace(series: Series, *, shown: bool) -> go.Scatter | go.Bar:
    colour = style.SERIES[series.style % len(style.SERIES)]
    told: dict[str, Any] = {
        "name": series.name,
        "legendgroup": series.name,
        "showlegend": shown,
        "x": list(series.x),
        "y": list(series.y),
    }
    if series.texts is not None:
        told |= {"text": list(series.texts), "hovertemplate": "%{text}<extra></extra>"}
    if series.kind == "bars":
        pattern = {"shape": PATTERNS[series.style % len(PATTERNS)]}
        return go.Bar(marker={"color": colour, "pattern": pattern}, **told)
    return go.Scatter(
        mode="markers" if series.kind == "points" else "lines+markers",
        line={"color": colour, "width": 1.5},
        marker={
            "color": colour,
            "size": 7,
            "symbol": style.SYMBOLS[series.style % len(style.SYMBOLS)],
        },
        error_y=None if series.error is None else {"array": list(series.error), "thickness": 1},
        **told,
    )


def _diagonal(panel: Panel) -> go.Scatter:
    values = [value for one in panel.series for value in (*one.x, *one.y)]
    ends = [min(values), max(values)]
    return go.Scatter(
        x=ends, y=ends, mode="lines", line={"color": style.FAINT}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip


def _x_axis(panel: Panel) -> dict[str, Any]:
    if panel.compositions:
        ticks = style.fraction_ticks(panel.compositions, panel.compositions)
        title = f"<i>x</i> in {html(panel.x_label)}"
        return {"title": title, "tickvals": ticks[0], "ticktext": ticks[1]}
    return {"title": panel.x_label} | ({"dtick": 1} if panel.whole else {})
