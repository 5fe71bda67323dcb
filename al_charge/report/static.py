"""Hull and voltage profile as figures for print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from al_charge.report import canvas, style
from al_charge.report.experiment import Measured
from al_charge.report.names import host_formula, labeler_name, mathtext
from al_charge.report.plot_data import Band, hull_bands, voltage_bands
from al_charge.thermo.electrode import capacity_of
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile

HULL_HEIGHT, VOLTAGE_HEIGHT = 112.0, 72.0
"""mm."""
NEAR = 30.0
"""Up to how far above the hull the lower panel reaches, meV per formula unit."""
ASIDE = 0.22
"""How far to the right of its x a prediction is drawn, in parts of the smallest step of x."""


def hull_figure(
    hull: Hull,
    *,
    labeler: str,
    campaign: str = "",
    candidates: Sequence[Entry] = (),
    corrected: Mapping[Fraction, float] | None = None,
    band: Sequence[Mapping[str, Any]] = (),
    width: style.Width = "single",
) -> Figure:
    """Draw the hull: all labels above, and what lies near the hull, measured from it, below.

    Parameters
    ----------
    hull
        Labelled entries and vertices.
    labeler
        Kind of the labeler, such as ``born``.
    campaign
        Name of the campaign; empty to leave it out.
    candidates
        Predicted entries without a label, total energies per formula unit on the labeler's scale.
        They are drawn slightly to the right of their x, so that they do not hide the labels; of
        the lowest at each composition its error bar is shaded. Those above every label are left
        out and counted in the legend.
    corrected
        Formation energies of vertices in their lowest magnetic orders, eV per formula unit, by x.
    band
        Where the hull lies: ``band`` of `al_charge.report.documents.hull_document`.
    width
        Of one column, or of the page.

    Returns
    -------
    Figure
        Energies in meV per formula unit.
    """
    with canvas.journal():
        figure = canvas.new_figure(width, HULL_HEIGHT)
        whole, near = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for axes, zero in ((whole, hull.reference), (near, _on(hull))):
            _draw_hull_band(axes, hull, band, zero)
            _draw_candidates(axes, hull, candidates, zero)
            _draw_labels(axes, hull, zero)
            axes.grid(axis="y")
        if corrected:
            _draw_corrected(whole, corrected)
        _name_vertices(whole, hull)
        _limit(whole, near, hull, corrected or {}, band, candidates)
        whole.set_ylabel("Formation energy (meV/f.u.)")
        near.set_ylabel("Above the hull (meV/f.u.)")
        formula = mathtext(host_formula(hull.framework, hull.working_ion))
        present = [entry.x for entry in hull.entries]
        canvas.composition_axis(near, f"$x$ in {formula}", present, hull.compositions)
        ends = hull.compositions[0], hull.compositions[-1]
        canvas.capacity_axis(whole, ends, capacity_of(hull))
        canvas.heading(whole, _source(labeler, campaign))
        canvas.legend(figure, whole)
    return figure


def voltage_figure(
    profile: VoltageProfile,
    *,
    labeler: str,
    campaign: str = "",
    band: Sequence[Mapping[str, Any]] = (),
    measured: Measured | None = None,
    capacity: float | None = None,
    width: style.Width = "single",
) -> Figure:
    """Draw the voltage profile: plateaus, bands, the mean, and a measured curve.

    Parameters
    ----------
    profile
        Voltage profile.
    labeler
        Kind of the labeler, such as ``born``.
    campaign
        Name of the campaign; empty to leave it out.
    band
        Where the voltage lies: ``band`` of `al_charge.report.documents.voltage_document`.
    measured
        A measured curve to draw beside it.
    capacity
        Between the ends of x, mAh/g, for an axis on top; None for none.
    width
        Of one column, or of the page.

    Returns
    -------
    Figure
        Voltages against the working-ion metal, V.
    """
    with canvas.journal():
        figure = canvas.new_figure(width, VOLTAGE_HEIGHT)
        axes = figure.add_subplot()
        corners = [end for step in profile.steps for end in (step.x_from, step.x_to)]
        _draw_bands(axes, voltage_bands(band), style.TRUE_VOLTAGE)
        axes.plot(
            *profile.points(),
            color=style.HULL,
            linewidth=1.4,
            solid_joinstyle="miter",
            label="computed",
            zorder=4,
        )
        if measured is not None:
            axes.plot(
                *zip(*measured.points, strict=True),
                "s--",
                color=style.MEASURED,
                markersize=2.2,
                linewidth=0.8,
                label=f"measured ({measured.source})",
                zorder=3,
            )
        axes.axhline(
            profile.mean,
            color=style.FAINT,
            linewidth=0.8,
            linestyle=(0, (4, 3)),
            label=f"mean {profile.mean:.2f} V",
            zorder=1,
        )
        wide = canvas.width_of("0.00") / canvas.scale_of(figure, corners[0], corners[-1])
        for step in profile.steps:
            if step.x_to - step.x_from < wide:
                continue
            text = axes.annotate(
                f"{step.voltage:.2f}",
                (float(step.x_from + step.x_to) / 2, step.voltage),
                xytext=(0, 2.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                color=style.HULL,
                zorder=5,
            )
            text.set_path_effects([canvas.OUTLINE])
        axes.grid(axis="y")
        axes.margins(y=0.14)
        axes.set_ylabel(f"Voltage against {profile.working_ion} metal (V)")
        formula = mathtext(host_formula(profile.framework, profile.working_ion))
        canvas.composition_axis(axes, f"$x$ in {formula}", corners, corners)
        if capacity is not None:
            canvas.capacity_axis(axes, (corners[0], corners[-1]), capacity)
        canvas.heading(axes, _source(labeler, campaign))
        canvas.legend(figure, axes)
    return figure


def _source(labeler: str, campaign: str) -> str:
    name = labeler_name(labeler)
    return f"{name}, campaign {campaign}" if campaign else name


def _on(hull: Hull) -> Any:
    """Return the total energy on the hull at a composition."""
    return lambda x: hull.reference(x) + hull.lower(x)


def _heights(entries: Iterable[Entry], zero: Any) -> list[float]:
    """Return how far entries lie above something, meV per formula unit."""
    return [1e3 * (entry.energy - zero(entry.x)) for entry in entries]


def _draw_hull_band(axes: Axes, hull: Hull, band: Sequence[Mapping[str, Any]], zero: Any) -> None:
    """Shade where the true hull lies; its energies are formation energies."""
    compositions = [Fraction(one["x"]) for one in band]
    down = [1e3 * (zero(x) - hull.reference(x)) for x in compositions]
    moved = [
        replace(
            one,
            lower=[height - by for height, by in zip(one.lower, down, strict=True)],
            upper=[height - by for height, by in zip(one.upper, down, strict=True)],
        )
        for one in hull_bands(band)
    ]
    _draw_bands(axes, moved, style.TRUE_HULL)


def _draw_bands(axes: Axes, bands: Sequence[Band], text: str) -> None:
    """Shade where the truth lies with 95 and with 68 %."""
    opacity = dict(style.BANDS)
    for band in bands:
        axes.fill_between(
            band.x,
            band.lower,
            band.upper,
            color=style.HULL,
            alpha=opacity[band.share],
            linewidth=0,
            label=text.format(band.share),
            zorder=1,
        )


def _draw_labels(axes: Axes, hull: Hull, zero: Any) -> None:
    above = [entry for entry in hull.entries if entry not in hull.vertices]
    if above:
        axes.plot(
            [float(e.x) for e in above],
            _heights(above, zero),
            "o",
            markerfacecolor="none",
            markeredgecolor=style.LABELLED,
            markeredgewidth=0.6,
            label=f"labelled, above the hull ({len(above)})",
            zorder=3,
        )
    axes.plot(
        [float(vertex.x) for vertex in hull.vertices],
        _heights(hull.vertices, zero),
        "D-",
        color=style.HULL,
        label=f"hull of the labels, {len(hull.vertices)} vertices",
        zorder=4,
    )


def _draw_candidates(axes: Axes, hull: Hull, candidates: Sequence[Entry], zero: Any) -> None:
    """Draw predictions beside the labels, and shade the error bar of the lowest."""
    if not candidates:
        return
    highest = max(1e3 * hull.formation_energy(entry) for entry in hull.entries)
    room = highest + _room(hull)
    shown = [c for c in candidates if 1e3 * hull.formation_energy(c) <= room]
    off = len(candidates) - len(shown)
    step = _step([entry.x for entry in (*hull.entries, *candidates)])
    lowest = list({c.x: c for c in sorted(shown, key=lambda c: -c.energy)}.values())
    bars = np.array([1e3 * (c.error_bar or 0.0) for c in lowest])
    if bars.any():
        axes.bar(
            [float(c.x) + ASIDE * step for c in lowest],
            2 * bars,
            bottom=np.array(_heights(lowest, zero)) - bars,
            width=ASIDE * step,
            facecolor=style.PREDICTED + "40",
            edgecolor=style.PREDICTED,
            linewidth=0.4,
            hatch="/////",
            label=style.LOWEST_PREDICTED,
            zorder=2,
        )
    axes.plot(
        [float(c.x) + ASIDE * step for c in shown],
        _heights(shown, zero),
        "x",
        markersize=2.5,
        markeredgewidth=0.6,
        color=style.PREDICTED,
        label=f"predicted, no label ({len(shown)}{f'; {off} off scale' if off else ''})",
        zorder=2,
    )


def _draw_corrected(axes: Axes, corrected: Mapping[Fraction, float]) -> None:
    axes.plot(
        [float(x) for x in corrected],
        [1e3 * energy for energy in corrected.values()],
        "s:",
        markerfacecolor="none",
        markersize=5,
        color=style.HULL,
        label=style.CORRECTED,
        zorder=4,
    )


def _name_vertices(axes: Axes, hull: Hull) -> None:
    """Write their energies below vertices, on the side to which the hull falls."""
    heights = _heights(hull.vertices, hull.reference)
    for place, vertex in enumerate(hull.vertices[1:-1], start=1):
        rises = heights[place + 1] > heights[place - 1]
        text = axes.annotate(
            f"{heights[place]:.0f}".replace("-", "\N{MINUS SIGN}"),
            (float(vertex.x), heights[place]),
            xytext=(2 if rises else -2, -4),
            textcoords="offset points",
            ha="left" if rises else "right",
            va="top",
            color=style.HULL,
            zorder=5,
        )
        text.set_path_effects([canvas.OUTLINE])


def _limit(
    whole: Axes,
    near: Axes,
    hull: Hull,
    corrected: Mapping[Fraction, float],
    band: Sequence[Mapping[str, Any]],
    candidates: Sequence[Entry],
) -> None:
    """Show every label above, what lies near the hull below, and both bands whole."""
    energies = _heights(hull.entries, hull.reference)
    room = _room(hull)
    lower = [1e3 * one["lower_95"] for one in band]
    lower += [1e3 * (hull.formation_energy(c) - (c.error_bar or 0.0)) for c in candidates]
    low = min([*energies, *lower, *(1e3 * energy for energy in corrected.values())])
    whole.set_ylim(low - 1.2 * room, max(energies) + room)
    below = [hull.lower(Fraction(one["x"])) - one["lower_95"] for one in band]
    below += [(c.error_bar or 0.0) - hull.distance(c) for c in candidates]
    depth = 1e3 * max(below, default=0.0)
    near.set_ylim(-1.15 * max(depth, NEAR / 6), NEAR)


def _room(hull: Hull) -> float:
    """Return the space above the highest label, meV per formula unit."""
    energies = _heights(hull.entries, hull.reference)
    return 0.1 * max(float(np.ptp(energies)), 10.0)


def _step(compositions: Iterable[Fraction]) -> float:
    """Return the smallest distance of two compositions."""
    ordered = sorted(set(compositions))
    return min((float(b - a) for a, b in pairwise(ordered)), default=1.0)
