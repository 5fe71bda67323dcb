"""What the plots share: colours that colour-blind readers can tell apart, and the x axis."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

HULL = "#0072B2"
"""Blue: the hull, its vertices and the voltage."""
LABELLED = "#333333"
"""Dark grey: labelled configurations above the hull."""
PREDICTED = "#D55E00"
"""Vermilion: what a committee predicts and no labeler has confirmed."""
FAINT = "#8A8A8A"
"""Grey: axes, grid and secondary text."""
SERIES = (HULL, PREDICTED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Of things of one kind, such as charge states or members."""

MANY_TICKS = 13


def fraction_ticks(
    present: Iterable[Fraction], vertices: Iterable[Fraction]
) -> tuple[list[float], list[str]]:
    """Return positions and texts of the ticks: every composition, or the vertices if too many."""
    chosen = sorted(set(present))
    if len(chosen) > MANY_TICKS:
        chosen = sorted(set(vertices))
    return [float(x) for x in chosen], [str(x) for x in chosen]
