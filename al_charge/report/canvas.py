"""Figures for print by matplotlib, without its global state: sizes, fonts, axes and files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullFormatter
from numpy.typing import NDArray

from al_charge.report import style

POINTS = 7.0
"""Size of every text, in points: what journals ask for at the printed size."""
RESOLUTION = 300
"""Dots per inch of PNG files."""
INCH = 25.4
"""mm."""
OUTLINE = withStroke(linewidth=1.2, foreground="white")
"""For texts that lie on lines."""
_LETTER = 1.5
"""mm that a letter of that size takes on average."""
_INSIDE = 0.78
"""Part of a figure's width that its axes have."""
_RC: dict[Any, Any] = {
    "font.size": POINTS,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that texts fit wherever it runs
    "mathtext.fontset": "dejavusans",
    **{
        f"{name}size": POINTS
        for name in ("axes.title", "axes.label", "xtick.label", "ytick.label", "legend.font")
    },
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    **{f"{axis}tick.major.width": 0.6 for axis in "xy"},
    **{f"{axis}tick.major.size": 2.5 for axis in "xy"},
    **{f"{axis}tick.minor.size": 1.5 for axis in "xy"},
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.2,
    "legend.labelspacing": 0.3,
    "pdf.fonttype": 42,  # texts stay texts
    "svg.hashsalt": "al-charge",
}


@contextmanager
def journal() -> Iterator[None]:
    """Draw within this context as journals ask for it.

    Yields
    ------
    None
        Afterwards matplotlib's settings are as before.
    """
    with matplotlib.rc_context(_RC):
        yield


def new_figure(width: style.Width, height: float) -> Figure:
    """Return an empty figure.

    Parameters
    ----------
    width
        Of one column, or of the page.
    height
        mm.

    Returns
    -------
    Figure
        With a layout that keeps its texts apart.
    """
    figure = Figure(figsize=(style.WIDTHS[width] / INCH, height / INCH), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as the file's ending says; the same figure gives the same file.

    Parameters
    ----------
    figure
        The figure.
    path
        ``.png``, ``.svg`` or ``.pdf``; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    undated: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with journal():
        figure.savefig(path, dpi=RESOLUTION, facecolor="white", metadata=undated.get(path.suffix))


def heading(of: Figure | Axes, text: str) -> None:
    """Write in grey on top what is shown, in as many lines as it takes.

    Parameters
    ----------
    of
        A figure, or its uppermost axes.
    text
        Engine and campaign, such as ``Born, demo-1``.
    """
    figure = of.get_figure(root=True)
    assert figure is not None
    part = 1.0 if isinstance(of, Figure) else _INSIDE
    letters = int(part * figure.get_size_inches()[0] * INCH / _LETTER)
    wrapped = "\n".join(
        part
        for line in text.splitlines()
        for part in ([line] if "$" in line else textwrap.wrap(line, letters))
    )
    if isinstance(of, Figure):
        of.suptitle(wrapped, x=0.01, ha="left", color=style.FAINT, size=POINTS)
    else:
        of.set_title(wrapped, loc="left", color=style.FAINT, pad=4.0)


def legend(figure: Figure, *axes: Axes) -> None:
    """Put a legend below the figure, where it hides nothing, in as few lines as fit.

    Parameters
    ----------
    figure
        The figure.
    *axes
        Axes that hold what is to be explained; the first of those of one name is.
    """
    found: dict[str, Any] = {}
    for one in axes:
        for handle, text in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    for columns in range(min(6, len(found)), 0, -1):
        drawn = figure.legend(
            list(found.values()), list(found), ncols=columns, loc="outside lower center"
        )
        width = drawn.get_window_extent(figure.canvas.get_renderer()).width  # type: ignore[attr-defined]
        if columns == 1 or width <= 0.98 * figure.bbox.width:
            return
        drawn.remove()


def width_of(text: str) -> float:
    """Return about how wide a text is.

    Parameters
    ----------
    text
        Of one line.

    Returns
    -------
    float
        mm.
    """
    return _LETTER * len(text)


def scale_of(figure: Figure, first: Fraction, last: Fraction) -> float:
    """Return about how far apart compositions are drawn that differ by one.

    Parameters
    ----------
    figure
        A figure with one column of axes.
    first
        Smallest composition.
    last
        Largest composition.

    Returns
    -------
    float
        mm.
    """
    return float(_INSIDE * figure.get_size_inches()[0] * INCH / (float(last - first) or 1.0))


def composition_axis(
    axes: Axes, label: str, present: Sequence[Fraction], vertices: Sequence[Fraction]
) -> None:
    """Write exact fractions on the x axis: end members first, then vertices, then what fits.

    Parameters
    ----------
    axes
        The axes.
    label
        What x is.
    present
        Compositions that have something.
    vertices
        Those of the hull.
    """
    ends = sorted(set(vertices) | set(present))
    figure = axes.get_figure(root=True)
    assert figure is not None
    place = axes.get_subplotspec()
    columns = 1 if place is None else place.get_gridspec().ncols
    scale = scale_of(figure, ends[0], ends[-1]) / columns
    chosen: list[Fraction] = []
    for x in [ends[0], ends[-1], *sorted(set(vertices)), *sorted(set(present))]:
        apart = [
            abs(float(x - one)) * scale - 0.5 * (width_of(str(x)) + width_of(str(one)) + _LETTER)
            for one in chosen
        ]
        if x not in chosen and min(apart, default=1.0) > 0.0:
            chosen.append(x)
    chosen.sort()
    axes.set_xticks([float(x) for x in chosen], [str(x) for x in chosen])
    axes.xaxis.set_minor_locator(FixedLocator([float(x) for x in ends]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(label)


def capacity_axis(axes: Axes, ends: tuple[Fraction, Fraction], capacity: float) -> None:
    """Add an axis of capacity on top, counted from the charged end.

    Parameters
    ----------
    axes
        Axes whose x is the composition.
    ends
        Smallest and largest x.
    capacity
        mAh/g between them.
    """
    first, width = float(ends[0]), float(ends[1] - ends[0])

    def charge(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return (x - first) / width * capacity

    def composition(charge: NDArray[np.float64]) -> NDArray[np.float64]:
        return first + charge / capacity * width

    top = axes.secondary_xaxis("top", functions=(charge, composition))  # type: ignore[arg-type]
    top.set_xlabel("Discharge capacity (mAh/g)")
