"""What plots share: file types, sizes, colours and shapes that all readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal

from al_charge.errors import InputError

Width = Literal["single", "double"]

WIDTHS: dict[Width, float] = {"single": 86.0, "double": 178.0}
"""mm of one column of a journal, and of its whole page."""
IMAGES = (".png", ".svg", ".pdf")
"""Endings of plots for print."""
PAGE = ".html"
"""Ending of interactive plots."""

CHARTS = ("parity", "error", "evolution", "volume", "lattice", "moments", "charges", "cost")
"""What `al-charge plot` draws of a campaign, beside hull, voltage and curves of training."""

HULL = "#0072B2"
"""Blue: the hull, its vertices and the voltage."""
LABELLED = "#333333"
"""Dark grey: labelled configurations above the hull."""
CORRECTED = "in the lowest magnetic orders"
"""What the legend of a hull calls vertices that are corrected for their magnetic order."""
PREDICTED = "#D55E00"
"""Vermilion: what a committee predicts and no labeler has confirmed."""
MEASURED = "#009E73"
"""Green: what was measured."""
FAINT = "#8A8A8A"
"""Grey: axes, grid and secondary text."""
SERIES = (HULL, PREDICTED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours of things of one kind, such as charge states or members."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""Their shapes, in matplotlib's words."""
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
"""The same in plotly's."""

BANDS = ((95, 0.13), (68, 0.3))
"""Probabilities of bands, in per cent, with the opacity of each."""

TRUE_HULL = "true hull, {} % (sampled hulls)"
"""What the legend of a hull calls its bands: where sampled hulls of all configurations lie."""
TRUE_VOLTAGE = "true voltage, {} % (sampled hulls)"
"""The same of a voltage profile."""
LOWEST_PREDICTED = "lowest predicted, no label, \u00b1 1 s.d."
"""What the legend calls the committee's lowest prediction of each composition."""

MANY_TICKS = 13
"""With more ticks their texts overlap."""


def fraction_ticks(
    present: Iterable[Fraction], vertices: Iterable[Fraction]
) -> tuple[list[float], list[str]]:
    """Return the ticks of the x axis: every composition, or only the vertices if too many.

    Parameters
    ----------
    present
        All compositions in the plot.
    vertices
        Those of the vertices of the hull.

    Returns
    -------
    list of float
        Positions.
    list of str
        Texts, exact fractions.
    """
    chosen = sorted(set(present))
    if len(chosen) > MANY_TICKS:
        chosen = sorted(set(vertices))
    return [float(x) for x in chosen], [str(x) for x in chosen]


def check_ending(path: Path) -> None:
    """Refuse a plot whose file has an unknown ending.

    Parameters
    ----------
    path
        File of the plot.

    Raises
    ------
    InputError
        If it ends neither as an image nor as an interactive page.
    """
    if path.suffix not in (*IMAGES, PAGE):
        raise InputError(
            f"unknown ending '{path.suffix}'",
            where=str(path),
            remedy=f"use {', '.join(IMAGES)} or {PAGE}",
        )


def check_image(path: Path) -> None:
    """Refuse a plot for print whose file has an unknown ending.

    Parameters
    ----------
    path
        File of the plot.

    Raises
    ------
    InputError
        If it does not end as an image.
    """
    if path.suffix not in IMAGES:
        raise InputError(
            f"unknown ending '{path.suffix}'",
            where=str(path),
            remedy=f"use {', '.join(IMAGES[:-1])} or {IMAGES[-1]}",
        )
