"""Pictures of a hull and of voltages, drawn here as SVG: a browser needs no library for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from al_charge.report.documents import entry_document, hull_document, voltage_document
from al_charge.report.names import host_formula, unicode_formula
from al_charge.report.plot_data import Band, entry_lines, hull_bands, voltage_bands
from al_charge.report.style import fraction_ticks
from al_charge.store.documents import Assessment
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile

WIDTH, HEIGHT = 460, 330
"""Of a picture, in pixels; it is drawn as wide as its place."""
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 12, 50
"""Margins."""
ABOVE = 3.0
"""Depths of the hull up to which labels above it are drawn; farther ones are counted."""
LEAST_ABOVE = 0.05
"""eV per formula unit that are drawn above a hull at least."""


@dataclass(frozen=True)
class Mark:
    """A point.

    Attributes
    ----------
    kind
        ``vertex``, ``label`` or ``new``: each has a shape and a colour.
    x, y
        Pixels.
    text
        What it says when it is pointed at.
    """

    kind: str
    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Figure:
    """A plot of lines and points.

    Attributes
    ----------
    name
        ``hull`` or ``voltage``.
    title, text
        What it shows, and the same in words for those who do not see it.
    x_label, y_label
        Names of the axes, with units.
    x_ticks, y_ticks
        Position, in pixels, and text of each.
    zero
        Height of zero energy, pixels; None without one.
    areas, lines
        Kind and SVG path of each; later ones are above.
    marks
        The points.
    legend
        Kind and text.
    width, height
        Pixels.
    """

    name: str
    title: str
    text: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    zero: float | None
    areas: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, str], ...]
    marks: tuple[Mark, ...]
    legend: tuple[tuple[str, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


class _Axes:
    """Turns compositions and heights into pixels."""

    def __init__(self, x: Iterable[Fraction], heights: Iterable[float]) -> None:
        from matplotlib.ticker import MaxNLocator

        some, values = sorted(x), sorted(heights)
        self._x0, self._x1 = float(some[0]), float(some[-1])
        room = 0.06 * (values[-1] - values[0] or 1.0)
        self._low, self._high = values[0] - room, values[-1] + room
        ticks = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(self._low, self._high)
        inside = [float(one) for one in ticks if self._low <= one <= self._high]
        digits = next(
            (n for n in range(6) if all(abs(round(one, n) - one) < 1e-9 for one in inside)), 6
        )
        self.y_ticks = tuple((self.y(one), f"{one + 0.0:.{digits}f}") for one in inside)

    def x(self, x: Fraction | float) -> float:
        share = (float(x) - self._x0) / (self._x1 - self._x0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, height: float) -> float:
        share = (height - self._low) / (self._high - self._low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, points: Iterable[tuple[Fraction | float, float]]) -> str:
        """Return the path through points of the plot."""
        return "M" + "L".join(f"{self.x(x)} {self.y(height)}" for x, height in points)

    def x_ticks(self, present: Iterable[Fraction], vertices: Iterable[Fraction]) -> Any:
        """Return the ticks of the x axis; of two that would overlap the first."""
        kept: list[tuple[float, str]] = []
        for place, text in zip(*fraction_ticks(present, vertices), strict=True):
            if not kept or self.x(place) - kept[-1][0] > 7 * len(text):
                kept.append((self.x(place), text))
        return tuple(kept)


def hull_figure(
    hull: Hull, new: Collection[str], assessment: Assessment | None, after: int
) -> Figure:
    """Draw a hull with its labels.

    Parameters
    ----------
    hull
        The hull, of those labels that are drawn.
    new
        Keys of labels that came after the last assessment.
    assessment
        The last assessment, which says where the hull lies; None before the first.
    after
        Its round.

    Returns
    -------
    Figure
        Formation energies in meV per formula unit.
    """
    document = hull_document(hull, campaign="", labeler="", found=assessment)
    depth = max(-hull.lower(vertex.x) for vertex in hull.vertices)
    highest = max(LEAST_ABOVE, ABOVE * depth)
    drawn = [one for one in hull.entries if hull.distance(one) <= highest]
    band = document["band"]
    edges = [1e3 * one[end] for one in band for end in ("lower_95", "upper_95")]
    heights = [1e3 * hull.formation_energy(one) for one in drawn]
    axes = _Axes([one.x for one in hull.entries], [*edges, *heights])
    marks = [_mark(axes, hull, one, new) for one in drawn]
    order = ("label", "new", "vertex")
    marks.sort(key=lambda one: order.index(one.kind))
    corners = [(vertex.x, 1e3 * hull.lower(vertex.x)) for vertex in hull.vertices]
    vertices = ", ".join(f"{x} at {height:.0f} meV" for x, height in corners)
    formula = unicode_formula(host_formula(hull.framework, hull.working_ion))
    counted = Counter(one.kind for one in marks)
    legend = [("vertex", "on the hull")]
    legend += [("label", "labelled")] if counted["label"] else []
    since = f" since round {after}" if assessment is not None else ""
    legend += [("new", f"new{since}")] if counted["new"] else []
    legend += _band_legend(band, after)
    if far := len(hull.entries) - len(drawn):
        legend.append(("", f"{far} more above the plot"))
    return Figure(
        name="hull",
        title="Convex hull",
        text=f"Formation energy of {formula} against x. Vertices of the hull: x = {vertices}.",
        x_label=f"x in {formula}",
        y_label="Formation energy (meV per formula unit)",
        x_ticks=axes.x_ticks([one.x for one in hull.entries], hull.compositions),
        y_ticks=axes.y_ticks,
        zero=axes.y(0.0),
        areas=_areas(axes, hull_bands(band)),
        lines=(("hull", axes.path(corners)),),
        marks=tuple(marks),
        legend=tuple(legend),
    )


def voltage_figure(profile: VoltageProfile, assessment: Assessment | None, after: int) -> Figure:
    """Draw the voltages that follow from a hull.

    Parameters
    ----------
    profile
        The plateaus.
    assessment
        The last assessment, which says where the voltages lie; None before the first.
    after
        Its round.

    Returns
    -------
    Figure
        V against the working-ion metal.
    """
    band = voltage_document(profile, campaign="", labeler="", found=assessment)["band"]
    ends = [end for step in profile.steps for end in (step.x_from, step.x_to)]
    edges = [one[end] for one in band for end in ("lower_95", "upper_95")]
    axes = _Axes(ends, [*edges, *(step.voltage for step in profile.steps)])
    corners = zip(*(some.tolist() for some in profile.points()), strict=True)
    formula = unicode_formula(host_formula(profile.framework, profile.working_ion))
    steps = ", ".join(
        f"{step.voltage:.2f} V from x = {step.x_from} to {step.x_to}" for step in profile.steps
    )
    return Figure(
        name="voltage",
        title="Voltage",
        text=f"Voltage of {formula} against x: {steps}. Mean {profile.mean:.2f} V.",
        x_label=f"x in {formula}",
        y_label=f"Voltage against {profile.working_ion} metal (V)",
        x_ticks=axes.x_ticks(ends, ends),
        y_ticks=axes.y_ticks,
        zero=None,
        areas=_areas(axes, voltage_bands(band)),
        lines=(("voltage", axes.path(corners)),),
        marks=(),
        legend=(
            ("voltage", f"of all labels, mean {profile.mean:.2f} V"),
            *_band_legend(band, after),
        ),
    )


def _mark(axes: _Axes, hull: Hull, entry: Entry, new: Collection[str]) -> Mark:
    kind = "vertex" if entry in hull.vertices else "new" if entry.key in new else "label"
    formula, *others = entry_lines(entry_document(hull, entry))
    told = "; ".join([unicode_formula(formula), *others])
    return Mark(kind, axes.x(entry.x), axes.y(1e3 * hull.formation_energy(entry)), told)


def _areas(axes: _Axes, bands: Sequence[Band]) -> tuple[tuple[str, str], ...]:
    """Return where the truth lies with 95 and with 68 %."""
    return tuple(
        (f"band-{band.share}", f"{axes.path(zip(*band.outline(), strict=True))}Z") for band in bands
    )


def _band_legend(band: Sequence[Any], after: int) -> list[tuple[str, str]]:
    if not band:
        return []
    return [(f"band-{share}", f"{share} % band, after round {after}") for share in (95, 68)]
