"""Plots of trainings: for print by matplotlib, interactive HTML by plotly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from plotly.subplots import make_subplots

from al_charge.report import canvas, style
from al_charge.report.curves import Curve, Line, Panel, panels, round_starts
from al_charge.report.interactive import write_page

COLUMNS: dict[style.Width, int] = {"single": 2, "double": 3}
HEIGHT = 38.0
"""Of one row of panels, mm."""
LINES = ("-", "--", "-.", ":")
"""Of members, so that they differ without colours."""
PIXELS = 280
"""Height of one panel of a page."""


def plot_curves(
    curves: Sequence[Curve], path: Path, title: str, width: style.Width = "single"
) -> None:
    """Write the trainings' curves as an image or an interactive page.

    Parameters
    ----------
    curves
        The trainings.
    path
        File to write; it ends in ``.png``, ``.svg``, ``.pdf`` or ``.html``.
    title
        Heading of the plot.
    width
        Of one column, or of the page; of images.

    Raises
    ------
    InputError
        If the file ends in anything else.
    """
    style.check_ending(path)
    if path.suffix == style.PAGE:
        curves_html(path, curves, title=title)
    else:
        canvas.write_figure(curves_figure(curves, title=title, width=width), path)


def curves_figure(curves: Sequence[Curve], *, title: str, width: style.Width = "single") -> Figure:
    """Return the figure: one panel for each quantity, one line for each training.

    Parameters
    ----------
    curves
        The trainings.
    title
        Heading of the figure.
    width
        Of one column, or of the page.

    Returns
    -------
    Figure
        The best epoch of each line is marked; so are the starts of rounds.
    """
    drawn = panels(curves)
    columns = min(COLUMNS[width], len(drawn))
    rows = -(-len(drawn) // columns)
    with canvas.journal():
        figure = canvas.new_figure(width, HEIGHT * rows + 12)
        for place, panel in enumerate(drawn):
            axes = figure.add_subplot(rows, columns, place + 1)
            _draw(axes, panel)
            _mark_rounds(axes, curves)
        canvas.heading(figure, title)
        canvas.legend(figure, figure.axes[0])
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    named: set[int] = set()
    for line in panel.lines:
        member = line.curve.member
        axes.plot(
            line.x,
            line.y,
            color=_colour(member),
            linestyle=LINES[member % len(LINES)],
            linewidth=0.8,
            marker="." if len(line.x) == 1 else None,
            label=None if member in named else f"member {member + 1}",
        )
        named.add(member)
    axes.plot(
        [line.best[0] for line in panel.lines],
        [line.best[1] for line in panel.lines],
        linestyle="none",
        marker="o",
        markersize=3,
        markerfacecolor="white",
        markeredgecolor=style.LABELLED,
        label="best epoch, whose weights are kept",
        zorder=4,
    )
    if _logarithmic(panel):
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axes.yaxis.set_major_formatter(_plain)
        axes.yaxis.set_minor_formatter(_plain)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(panel.quantity.title, loc="left")
    axes.set_xlabel("epoch")
    axes.grid(axis="y")


def _mark_rounds(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw where each round begins, and its number."""
    for number, start in round_starts(curves).items():
        if number is None:
            continue
        if start:
            axes.axvline(start + 0.5, color=style.FAINT, linewidth=0.7, linestyle=(0, (4, 3)))
        axes.annotate(
            str(number),
            (start + 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            color=style.FAINT,
        )


def curves_html(path: Path, curves: Sequence[Curve], *, title: str) -> None:
    """Write the same panels as an interactive page.

    Parameters
    ----------
    path
        File to write; its folder is created.
    curves
        The trainings.
    title
        Heading of the page.
    """
    drawn = panels(curves)
    columns = COLUMNS["single"]
    rows = -(-len(drawn) // columns)
    figure = make_subplots(rows, columns, subplot_titles=[p.quantity.title for p in drawn])
    for place, panel in enumerate(drawn):
        row, column = divmod(place, columns)
        cell = {"row": row + 1, "col": column + 1}
        for line in panel.lines:
            figure.add_trace(_trace(line, panel), **cell)
        figure.add_trace(_best(panel, shown=place == 0), **cell)
        figure.update_yaxes(type="log" if _logarithmic(panel) else "linear", **cell)
        figure.update_xaxes(title="epoch", **cell)
        for start in round_starts(curves).values():
            if start:
                dashed = {"color": style.FAINT, "width": 1, "dash": "dash"}
                figure.add_vline(x=start + 0.5, line=dashed, **cell)
    figure.update_layout(template="simple_white", title=title, height=PIXELS * rows + 120)
    write_page(figure, path)


def _trace(line: Line, panel: Panel) -> go.Scatter:
    name = _name(line.curve)
    return go.Scatter(
        x=line.x,
        y=line.y,
        mode="lines" if len(line.x) > 1 else "markers",
        name=name,
        line={"color": _colour(line.curve.member), "width": 1.5},
        hovertemplate=f"{name}<br>epoch %{{x}}<br>%{{y:.4g}} {panel.quantity.unit}<extra></extra>",
        showlegend=False,
    )


def _best(panel: Panel, *, shown: bool) -> go.Scatter:
    return go.Scatter(
        x=[line.best[0] for line in panel.lines],
        y=[line.best[1] for line in panel.lines],
        text=[_name(line.curve) for line in panel.lines],
        mode="markers",
        name="best epoch, whose weights are kept",
        marker={"symbol": "circle-open", "size": 8, "color": style.LABELLED},
        hovertemplate="%{text}, best<br>epoch %{x}<br>%{y:.4g}<extra></extra>",
        showlegend=shown,
    )


def _name(curve: Curve) -> str:
    member = f"member {curve.member + 1}"
    return member if curve.round is None else f"round {curve.round}, {member}"


def _colour(member: int) -> str:
    return style.SERIES[member % len(style.SERIES)]


def _plain(value: float, _: float) -> str:
    return f"{value:g}"


def _logarithmic(panel: Panel) -> bool:
    return all(y > 0.0 for line in panel.lines for y in line.y)
