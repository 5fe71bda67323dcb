"""What a plot shows, apart from how it is drawn: panels of series, and the rows behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from al_charge.loop.campaign import Campaign
from al_charge.report.names import labeler_name


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes
    ----------
    name
        For the legend; empty where the axes say it.
    x, y
        Of the points.
    kind
        ``points``, ``line`` (with points) or ``bars``; bars at one x stand on each other.
    error
        Half width of the error bar of each y; None for none.
    style
        Number of its colour and shape, which things of one kind share in all panels.
    texts
        What an interactive plot tells of each point; None for its x and y.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Literal["points", "line", "bars"] = "points"
    error: Sequence[float] | None = None
    style: int = 0
    texts: Sequence[str] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes
    ----------
    x_label, y_label
        With units.
    series
        What is drawn.
    compositions
        Exact x of what is drawn, where x is the composition; then ``x_label`` is the formula of the
        host. Empty where x is something else.
    whole
        Whether x counts something, such as rounds.
    diagonal
        Whether both axes are the same, and a line shows where they agree.
    levels
        Values of y that are to be met, with their names.
    """

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    compositions: tuple[Fraction, ...] = ()
    whole: bool = False
    diagonal: bool = False
    levels: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Chart:
    """A figure of one or more panels.

    Attributes
    ----------
    kind
        Such as ``parity``.
    title
        What it shows, for readers of a page.
    source
        Engine and campaign, and what else must be known.
    panels
        In order.
    rows
        The numbers behind it, all with the same keys.
    units
        What these numbers are, by key.
    """

    kind: str
    title: str
    source: str
    panels: tuple[Panel, ...]
    rows: list[dict[str, Any]] = field(repr=False)
    units: dict[str, str] = field(repr=False)


def source_of(campaign: Campaign, *remarks: str) -> str:
    """Return what is written above a chart.

    Parameters
    ----------
    campaign
        The campaign.
    *remarks
        What else must be known.

    Returns
    -------
    str
        Engine and campaign, and a line for each remark.
    """
    name = labeler_name(campaign.spec.labeler.kind)
    return "\n".join([f"{name}, campaign {campaign.name}", *remarks])
