"""What plots share: file types, colours that colour-blind readers can tell apart, the x axis."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from al_charge.errors import InputError

Draw = TypeVar("Draw")

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

BANDS = ((95, 0.13), (68, 0.2))
"""Probabilities of bands, in per cent, with the opacity of each."""

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
    """Refuse a plot that is neither a PNG nor an HTML file.

    Parameters
    ----------
    path
        File of the plot.

    Raises
    ------
    InputError
        If it ends in anything else.
    """
    if path.suffix not in (".png", ".html"):
        raise InputError(
            f"unknown ending '{path.suffix}'", where=str(path), remedy="use .png or .html"
        )


def by_ending(path: Path, png: Draw, html: Draw) -> Draw:
    """Choose between two ways to draw a plot by the ending of its file.

    Parameters
    ----------
    path
        File of the plot.
    png
        What draws it as a PNG file.
    html
        What draws it as an HTML file.

    Returns
    -------
    Draw
        One of the two.

    Raises
    ------
    InputError
        If it ends in anything else.
    """
    check_ending(path)
    return png if path.suffix == ".png" else html
