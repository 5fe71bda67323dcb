"""Hull and voltage of a report, as plotly's JSON.

They are plain dictionaries, made from the documents that ``--json`` prints, so that a plot cannot
tell anything else. Colours are variables of the style sheet (``var(--hull)``), which the page
resolves: they differ between light, dark and paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from html import escape
from typing import Any

from al_charge.report import plot_data, style
from al_charge.report.names import html

Trace = dict[str, Any]
Figure = dict[str, Any]

MOST_DRAWN = 25
"""Labelled and, apart from them, predicted configurations of a composition that are drawn, the
lowest ones."""


def hull_figures(documents: Sequence[dict[str, Any]], formula: str) -> Figure:
    """Return the hull as it was after each round.

    Parameters
    ----------
    documents
        ``al-charge hull --predicted --json`` of each assessed round, in order.
    formula
        Of the host, such as ``NaxFePO4``.

    Returns
    -------
    dict
        ``rounds``, the traces by the number of the round; ``layout``, the same for all of them, so
        that nothing jumps.
    """
    last = documents[-1]
    return {
        "rounds": {str(one["round"]): _hull_traces(one) for one in documents},
        "layout": {
            "xaxis": {
                "title": {"text": f"<i>x</i> in {html(escape(formula))}"},
                **_ticks(
                    (one["x"] for one in last["entries"]), (one["x"] for one in last["vertices"])
                ),
                "range": _range([float(Fraction(one["x"])) for one in last["entries"]], 0.03),
            },
            "yaxis": {
                "title": {"text": "formation energy (meV/f.u.)"},
                "range": _energy_range(documents),
            },
        },
    }


def _hull_traces(document: dict[str, Any]) -> list[Trace]:
    vertices = {one["label"] for one in document["vertices"]}
    above, hidden = _lowest(one for one in document["entries"] if one["label"] not in vertices)
    predicted, unseen = _lowest(document.get("predicted", []))
    corrected = [
        one for one in document["vertices"] if one["corrected_formation_energy"] is not None
    ]
    return [
        *_bands(plot_data.hull_bands(document["band"])),
        *(
            [
                _points(predicted, bars=True)
                | {
                    "name": _counted("predicted, no label", predicted, unseen),
                    "meta": "predicted",
                    "mode": "markers",
                    "marker": {
                        "symbol": "x-thin",
                        "size": 7,
                        "line": {"color": "var(--predicted)", "width": 1.5},
                    },
                }
            ]
            if predicted
            else []
        ),
        *(
            [
                {
                    "name": style.CORRECTED,
                    "mode": "lines+markers",
                    "x": [float(Fraction(one["x"])) for one in corrected],
                    "y": [1e3 * one["corrected_formation_energy"] for one in corrected],
                    "line": {"color": "var(--hull)", "width": 1, "dash": "dot"},
                    "marker": {"symbol": "diamond-open", "size": 8, "color": "var(--hull)"},
                }
            ]
            if corrected
            else []
        ),
        _points(above)
        | {
            "name": _counted("labelled, above the hull", above, hidden),
            "meta": "labelled",
            "mode": "markers",
            "marker": {"symbol": "circle-open", "size": 8, "color": "var(--labelled)"},
        },
        _points(document["vertices"])
        | {
            "name": f"hull, {len(document['vertices'])} vertices",
            "meta": "vertices",
            "mode": "lines+markers",
            "line": {"color": "var(--hull)", "width": 2.5},
            "marker": {"symbol": "circle", "size": 11, "color": "var(--hull)"},
        },
    ]


def voltage_figure(document: dict[str, Any], formula: str) -> Figure:
    """Return the voltage profile, against x and against capacity.

    Parameters
    ----------
    document
        ``al-charge voltage --json``.
    formula
        Of the host.

    Returns
    -------
    dict
        ``x`` and, where it is known, ``capacity``: traces and layout for each axis.
    """
    steps, stored = document["steps"], document["electrode"]
    first, last = (float(Fraction(steps[i][end])) for i, end in ((0, "x_from"), (-1, "x_to")))
    found = {"x": _voltage(document, lambda x: x, f"<i>x</i> in {html(escape(formula))}")}
    ends = [step[end] for step in steps for end in ("x_from", "x_to")]
    found["x"]["layout"]["xaxis"] |= _ticks(ends, ends)
    if stored is not None:
        per_x = stored["capacity"] / (last - first)
        found["capacity"] = _voltage(
            document, lambda x: (x - first) * per_x, "capacity (mAh per g of discharged electrode)"
        )
    return found


def _voltage(document: dict[str, Any], along: Any, title: str) -> Figure:
    shown, mean = plot_data.plateaus(document["steps"]), document["mean_voltage"]
    ends = [along(x) for x in shown["x"]]
    bands = plot_data.voltage_bands(document["band"])
    return {
        "traces": [
            *_bands([replace(band, x=[along(x) for x in band.x]) for band in bands]),
            {
                "name": f"mean, {mean:.3f} V",
                "meta": "mean",
                "mode": "lines",
                "x": [ends[0], ends[-1]],
                "y": [mean, mean],
                "line": {"color": "var(--faint)", "width": 1, "dash": "dash"},
                "hoverinfo": "skip",
            },
            {
                "name": "voltage",
                "meta": "voltage",
                "mode": "lines",
                **shown,
                "x": ends,
                "hovertemplate": "%{text}<extra></extra>",
                "line": {"color": "var(--hull)", "width": 3},
            },
        ],
        "layout": {
            "xaxis": {"title": {"text": title}, "range": _range(ends, 0.03)},
            "yaxis": {
                "title": {"text": f"voltage against {document['working_ion']} metal (V)"},
                "tickformat": ".2f",
            },
        },
    }


def _lowest(entries: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the lowest entries of each composition, and how many are left out."""
    seen: Counter[str] = Counter()
    kept, left_out = [], 0
    for one in entries:  # by x and energy
        seen[one["x"]] += 1
        if seen[one["x"]] <= MOST_DRAWN:
            kept.append(one)
        else:
            left_out += 1
    return kept, left_out


def _counted(name: str, drawn: Sequence[Any], left_out: int) -> str:
    total = f" of {len(drawn) + left_out}" if left_out else ""
    return f"{name} ({len(drawn)}{total})"


def _points(entries: Sequence[dict[str, Any]], *, bars: bool = False) -> Trace:
    found: Trace = {**plot_data.entry_points(entries), "hovertemplate": "%{text}<extra></extra>"}
    if bars and any(one["error_bar"] for one in entries):
        found["error_y"] = {
            "type": "data",
            "array": [1e3 * (one["error_bar"] or 0.0) for one in entries],
            "color": "var(--predicted)",
            "thickness": 1,
            "width": 3,
        }
    return found


def _bands(bands: Sequence[plot_data.Band]) -> list[Trace]:
    """Return where the truth lies with 95 and with 68 %."""
    traces = []
    for band in bands:
        x, y = band.outline()
        traces.append(
            {
                "name": f"{band.share} % band",
                "meta": f"band {band.share}",
                "mode": "lines",
                "x": x,
                "y": y,
                "line": {"width": 0},
                "fill": "toself",
                "fillcolor": f"var(--band{band.share})",
                "hoverinfo": "skip",
            }
        )
    return traces


def _ticks(present: Iterable[str], vertices: Iterable[str]) -> dict[str, Any]:
    values, texts = style.fraction_ticks(map(Fraction, present), map(Fraction, vertices))
    return {"tickvals": values, "ticktext": texts}


def _range(values: Sequence[float], room: float) -> list[float]:
    low, high = min(values), max(values)
    margin = room * ((high - low) or 1.0)
    return [low - margin, high + margin]


def _energy_range(documents: Sequence[dict[str, Any]]) -> list[float]:
    """Return limits, meV, between which every label and every band of all rounds lies."""
    labelled = [one["formation_energy"] for of in documents for one in of["entries"]]
    bands = [one["lower_95"] for of in documents[-1:] for one in of["band"]]
    low, high = _range([1e3 * energy for energy in [*labelled, *bands]], 0.08)
    return [low, high]
