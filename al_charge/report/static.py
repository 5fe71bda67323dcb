"""Plots as PNG files, by matplotlib without its global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from al_charge.report import style
from al_charge.report.experiment import Measured
from al_charge.report.names import host_formula, labeler_name, mathtext
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile, VoltageStep

SIZE = (7.2, 4.8)
"""Width and height of a plot, inches."""
RESOLUTION = 160
"""Dots per inch."""
CANDIDATE_OFFSET = 0.015
"""How far to the right of its x a candidate is drawn, as a fraction of the range of x."""


def hull_png(
    path: Path,
    hull: Hull,
    *,
    labeler: str,
    campaign: str = "",
    candidates: Sequence[Entry] = (),
    corrected: Mapping[Fraction, float] | None = None,
    band: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the hull as a PNG file.

    Parameters
    ----------
    path
        File to write; its folder is created.
    hull
        Labelled entries and vertices.
    labeler
        Kind of the labeler, such as ``born``.
    campaign
        Name of the campaign; empty to leave it out.
    candidates
        Predicted entries without a label, total energies per formula unit on the labeler's scale.
        They are drawn slightly to the right of their x, so that they do not hide the labels. Those
        above every label are left out and counted in the legend.
    corrected
        Formation energies of vertices in their lowest magnetic orders, eV per formula unit, by x.
    band
        Where the hull lies: ``band`` of `al_charge.report.documents.hull_document`.
    """
    figure, axes = _figure(hull, "hull", labeler, campaign)
    _draw_band(axes, [float(Fraction(one["x"])) for one in band], band, 1e3)
    if corrected:
        axes.plot(
            [float(x) for x in corrected],
            [1e3 * energy for energy in corrected.values()],
            linestyle=":",
            marker="D",
            markersize=5,
            markerfacecolor="none",
            color=style.HULL,
            label=style.CORRECTED,
        )
    if candidates:
        _draw_candidates(axes, hull, candidates)
    above = [entry for entry in hull.entries if entry not in hull.vertices]
    if above:
        axes.plot(
            [float(e.x) for e in above],
            [_meV(hull, e) for e in above],
            linestyle="none",
            marker="o",
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=style.LABELLED,
            markeredgewidth=0.9,
            alpha=0.75,
            label=f"labelled ({len(above)})",
            zorder=3,
        )
    _draw_vertices(axes, hull)
    axes.set_ylabel("Formation energy (meV per formula unit)")
    low, high = _hull_limits(hull)
    seen = [1e3 * energy for energy in (corrected or {}).values()]
    seen += [1e3 * one["lower_95"] for one in band]
    axes.set_ylim(min([low, *(1.1 * y for y in seen)]), max([high, *(1.1 * y for y in seen)]))
    _fraction_axis(axes, [e.x for e in hull.entries], hull.compositions, hull)
    _legend(figure, axes)
    _save(figure, path)


def voltage_png(
    path: Path,
    profile: VoltageProfile,
    *,
    labeler: str,
    campaign: str = "",
    band: Sequence[Mapping[str, Any]] = (),
    measured: Measured | None = None,
) -> None:
    """Write the voltage profile as a PNG file: plateaus, bands and the mean.

    Parameters
    ----------
    path
        File to write; its folder is created.
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
    """
    figure, axes = _figure(profile, "voltage", labeler, campaign)
    x, voltage = profile.points()
    axes.plot(x, voltage, color=style.HULL, linewidth=2.2, solid_joinstyle="miter", zorder=3)
    ends = [float(Fraction(one[end])) for one in band for end in ("x_from", "x_to")]
    _draw_band(axes, ends, [one for one in band for _ in range(2)], 1.0)
    if measured is not None:
        axes.plot(
            *zip(*measured.points, strict=True),
            ".-",
            color=style.MEASURED,
            linewidth=1.2,
            markersize=4,
            label=f"measured ({measured.source})",
            zorder=2,
        )
    _legend(figure, axes)
    for step in profile.steps:
        _name_plateau(axes, step)
    axes.axhline(profile.mean, color=style.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        f"mean {profile.mean:.2f} V",
        (1.0, profile.mean),
        xycoords=("axes fraction", "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=style.FAINT,
    )
    axes.set_ylabel(f"Voltage against {profile.working_ion} metal (V)")
    axes.margins(y=0.14)
    corners = [end for step in profile.steps for end in (step.x_from, step.x_to)]
    _fraction_axis(axes, corners, corners, profile)
    _save(figure, path)


def _figure(
    of: Hull | VoltageProfile, what: str, labeler: str, campaign: str
) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    formula = mathtext(host_formula(of.framework, of.working_ion))
    axes.set_title(f"{formula} {what}", loc="left", fontsize=13, pad=22)
    source = f"Labeler: {labeler_name(labeler)}"
    text = f"{source}   Campaign: {campaign}" if campaign else source
    axes.text(0, 1.025, text, transform=axes.transAxes, fontsize=9, color=style.FAINT, va="bottom")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _draw_candidates(axes: Axes, hull: Hull, candidates: Sequence[Entry]) -> None:
    low, high = _hull_limits(hull)
    shown = [c for c in candidates if low <= _meV(hull, c) <= high]
    bars = [1e3 * (c.error_bar or 0.0) for c in shown]
    aside = CANDIDATE_OFFSET * float(hull.compositions[-1] - hull.compositions[0])
    off = len(candidates) - len(shown)
    axes.errorbar(
        [float(c.x) + aside for c in shown],
        [_meV(hull, c) for c in shown],
        yerr=bars if any(bars) else None,
        fmt="x",
        markersize=4.5,
        color=style.PREDICTED,
        elinewidth=0.8,
        alpha=0.45,
        label=f"predicted, not labelled ({len(shown)}{f', {off} off scale' if off else ''})",
        zorder=2,
    )


def _draw_vertices(axes: Axes, hull: Hull) -> None:
    energies = [_meV(hull, vertex) for vertex in hull.vertices]
    axes.plot(
        [float(vertex.x) for vertex in hull.vertices],
        energies,
        "o-",
        color=style.HULL,
        markersize=8,
        linewidth=1.8,
        label=f"hull, {len(hull.vertices)} vertices",
        zorder=4,
    )
    for vertex, energy in zip(hull.vertices[1:-1], energies[1:-1], strict=True):
        axes.annotate(
            f"x = {vertex.x}\n{energy:.0f} meV".replace("-", "\N{MINUS SIGN}"),
            (float(vertex.x), energy),
            xytext=(0, -8),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8.5,
            color=style.HULL,
        )


def _draw_band(
    axes: Axes, x: Sequence[float], band: Sequence[Mapping[str, Any]], factor: float
) -> None:
    """Shade where the truth lies with 95 and with 68 %."""
    for share, opacity in style.BANDS if band else ():
        axes.fill_between(
            x,
            [factor * one[f"lower_{share}"] for one in band],
            [factor * one[f"upper_{share}"] for one in band],
            color=style.HULL,
            alpha=opacity,
            linewidth=0,
            label=f"true with {share} %",
            zorder=1,
        )


def _name_plateau(axes: Axes, step: VoltageStep) -> None:
    axes.annotate(
        f"{step.voltage:.2f} V",
        (float(step.x_from + step.x_to) / 2, step.voltage),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=9,
        color=style.HULL,
    )


def _fraction_axis(
    axes: Axes,
    present: Sequence[Fraction],
    vertices: Sequence[Fraction],
    of: Hull | VoltageProfile,
) -> None:
    axes.set_xticks(*style.fraction_ticks(present, vertices))
    axes.set_xlabel(f"$x$ in {mathtext(host_formula(of.framework, of.working_ion))}")


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend, if there is anything to explain, below the axes, where it hides nothing."""
    handles, texts = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, texts, frameon=False, fontsize=9, ncols=3, loc="outside lower center"
        )


def _hull_limits(hull: Hull) -> tuple[float, float]:
    """Return limits of the y axis, meV, between which every label lies; candidates may not."""
    energies = np.array([_meV(hull, entry) for entry in hull.entries])
    room = max(np.ptp(energies), 10.0)
    return float(energies.min() - 0.22 * room), float(energies.max() + 0.12 * room)


def _meV(hull: Hull, entry: Entry) -> float:  # noqa: N802
    return 1e3 * hull.formation_energy(entry)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=RESOLUTION, facecolor="white")
