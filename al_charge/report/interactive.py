"""Interactive plots as HTML files that load nothing from elsewhere, by plotly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from al_charge.report import plot_data, style
from al_charge.report.documents import entry_document, predicted_entries, step_documents
from al_charge.report.experiment import Measured
from al_charge.report.names import host_formula, html, labeler_name
from al_charge.thermo.electrode import capacity_of
from al_charge.thermo.hull import Entry, Hull
from al_charge.thermo.voltage import VoltageProfile

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtonsToRemove": ["lasso2d", "select2d"],
}
"""Of plotly: no button that sends a plot anywhere, nor those for what cannot be selected."""


def hull_html(
    path: Path,
    hull: Hull,
    *,
    labeler: str,
    campaign: str = "",
    candidates: Sequence[Entry] = (),
    corrected: Mapping[Fraction, float] | None = None,
    band: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the hull as an interactive plot.

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
    corrected
        Formation energies of vertices in their lowest magnetic orders, eV per formula unit, by x.
    band
        Where the hull lies: ``band`` of `al_charge.report.documents.hull_document`.
    """
    figure = go.Figure()
    _shade(figure, plot_data.hull_bands(band), style.TRUE_HULL)
    if candidates:
        figure.add_trace(_candidates(hull, candidates))
    if corrected:
        figure.add_trace(
            go.Scatter(
                name=style.CORRECTED,
                mode="lines+markers",
                line={"color": style.HULL, "width": 1, "dash": "dot"},
                marker={"symbol": "diamond-open", "size": 8, "color": style.HULL},
                x=[float(x) for x in corrected],
                y=[1e3 * energy for energy in corrected.values()],
            )
        )
    above = [entry for entry in hull.entries if entry not in hull.vertices]
    figure.add_trace(
        go.Scatter(
            name=f"labelled ({len(above)})",
            mode="markers",
            marker={"symbol": "circle-open", "size": 8, "color": style.LABELLED},
            hovertemplate="%{text}<extra></extra>",
            **plot_data.entry_points([entry_document(hull, one) for one in above]),
        )
    )
    figure.add_trace(
        go.Scatter(
            name=f"hull, {len(hull.vertices)} vertices",
            mode="lines+markers",
            line={"color": style.HULL, "width": 2.5},
            marker={"size": 11, "color": style.HULL},
            hovertemplate="%{text}<extra></extra>",
            **plot_data.entry_points([entry_document(hull, one) for one in hull.vertices]),
        )
    )
    ticks = style.fraction_ticks([e.x for e in hull.entries], hull.compositions)
    _lay_out(figure, hull, "hull", labeler, campaign, ticks)
    _add_capacity(figure, hull.compositions[0], hull.compositions[-1], capacity_of(hull))
    figure.update_yaxes(title="Formation energy (meV per formula unit)")
    write_page(figure, path)


def voltage_html(
    path: Path,
    profile: VoltageProfile,
    *,
    labeler: str,
    campaign: str = "",
    band: Sequence[Mapping[str, Any]] = (),
    measured: Measured | None = None,
    capacity: float | None = None,
) -> None:
    """Write the voltage profile as an interactive plot.

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
    capacity
        Between the ends of x, mAh/g, for an axis on top; None for none.
    """
    figure = go.Figure()
    _shade(figure, plot_data.voltage_bands(band), style.TRUE_VOLTAGE)
    figure.add_trace(
        go.Scatter(
            mode="lines",
            line={"color": style.HULL, "width": 3},
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
            **plot_data.plateaus(step_documents(profile)),
        )
    )
    if measured is not None:
        x_measured, heights = zip(*measured.points, strict=True)
        figure.add_trace(
            go.Scatter(
                name=f"measured ({measured.source})",
                x=x_measured,
                y=heights,
                mode="lines+markers",
                line={"color": style.MEASURED, "width": 1.5},
                marker={"size": 4},
            )
        )
    figure.add_hline(
        y=profile.mean,
        line={"color": style.FAINT, "width": 1, "dash": "dash"},
        annotation_text=f"mean {profile.mean:.3f} V",
    )
    ends = [end for step in profile.steps for end in (step.x_from, step.x_to)]
    _lay_out(figure, profile, "voltage", labeler, campaign, style.fraction_ticks(ends, ends))
    if capacity is not None:
        _add_capacity(figure, ends[0], ends[-1], capacity)
    figure.update_yaxes(title=f"Voltage against {profile.working_ion} metal (V)")
    write_page(figure, path)


def _shade(figure: go.Figure, bands: Sequence[plot_data.Band], text: str) -> None:
    """Shade where the truth lies with 95 and with 68 %."""
    opacity = dict(style.BANDS)
    for band in bands:
        x, y = band.outline()
        figure.add_trace(
            go.Scatter(
                name=text.format(band.share),
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=f"rgba(0,114,178,{opacity[band.share]})",
                hoverinfo="skip",
                x=x,
                y=y,
            )
        )


def _candidates(hull: Hull, candidates: Sequence[Entry]) -> go.Scatter:
    return go.Scatter(
        name=f"predicted, not labelled ({len(candidates)})",
        mode="markers",
        opacity=0.5,
        marker={"symbol": "x-thin", "size": 7, "line": {"color": style.PREDICTED, "width": 1.5}},
        hovertemplate="%{text}<extra></extra>",
        error_y=_bars([c.error_bar for c in candidates], 1e3, color=style.PREDICTED),
        **plot_data.entry_points(predicted_entries(hull, candidates)),
    )


def _bars(bars: Sequence[float | None], factor: float, **options: Any) -> dict[str, Any]:
    known = any(bar is not None for bar in bars)
    array = [factor * (bar or 0.0) for bar in bars]
    return {"type": "data", "array": array, "visible": known, "thickness": 1, "width": 3, **options}


def _lay_out(
    figure: go.Figure,
    of: Hull | VoltageProfile,
    what: str,
    labeler: str,
    campaign: str,
    ticks: tuple[list[float], list[str]],
) -> None:
    formula = html(host_formula(of.framework, of.working_ion))
    source = f"Labeler: {labeler_name(labeler)}"
    if campaign:
        source = f"{source}, campaign: {campaign}"
    figure.update_layout(
        template="simple_white",
        title={"text": f"{formula} {what}<br><sup>{source}</sup>"},
        legend={"x": 0.01, "y": 0.99, "bgcolor": "rgba(255,255,255,0.7)"},
        hovermode="closest",
    )
    figure.update_xaxes(title=f"<i>x</i> in {formula}", tickvals=ticks[0], ticktext=ticks[1])
    figure.update_yaxes(showgrid=True, gridcolor="#E6E6E6")


def _add_capacity(figure: go.Figure, first: Fraction, last: Fraction, capacity: float) -> None:
    """Add an axis of capacity on top, counted from the charged end; it zooms with x."""
    places = [float(first) + part / 10 * float(last - first) for part in range(0, 11, 2)]
    figure.add_trace(
        go.Scatter(x=[places[0]], y=[None], xaxis="x2", hoverinfo="skip", showlegend=False)
    )
    figure.update_layout(
        margin={"t": 130},
        xaxis2={
            "title": "Discharge capacity (mAh/g)",
            "overlaying": "x",
            "matches": "x",
            "side": "top",
            "tickvals": places,
            "ticktext": [f"{part / 10 * capacity:.0f}" for part in range(0, 11, 2)],
        },
    )


def write_page(figure: go.Figure, path: Path) -> None:
    """Write a figure as an HTML file that loads nothing from elsewhere.

    Parameters
    ----------
    figure
        Figure to write.
    path
        File to write; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True, config=CONFIG)
