"""The plots of a report that follow a campaign from round to round, as plotly's JSON.

As in `figures`, colours are variables of the style sheet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from al_charge.loop.convergence import LARGEST_CHANCE
from al_charge.report.progress import core_unit
from al_charge.store.documents import PredictedLabel

Trace = dict[str, Any]
Figure = dict[str, Any]

KINDS = ("label", "train", "propose", "select", "assess")
"""Kinds of tasks in the order in which costs are drawn; others follow."""


def convergence_figures(rounds: Sequence[dict[str, Any]], tolerance: float) -> dict[str, Figure]:
    """Return how hull and certainty changed from round to round.

    Parameters
    ----------
    rounds
        Assessed rounds, as ``al-charge campaign status --json`` lists them.
    tolerance
        Of the hull, eV per formula unit.

    Returns
    -------
    dict
        ``shift``, by how much the hull moved, and ``chance``, the probability that something lies
        below it; those without a single number are left out.
    """
    found = {}
    for name, key, factor, limit, title in (
        ("shift", "hull_shift", 1e3, 1e3 * tolerance, "hull moved by (meV/f.u.)"),
        ("chance", "p_below_hull", 1e2, 1e2 * LARGEST_CHANCE, "chance of a lower hull (%)"),
    ):
        known = [(one["round"], factor * one[key]) for one in rounds if one[key] is not None]
        if not known:
            continue
        x, y = (list(some) for some in zip(*known, strict=True))
        found[name] = {
            "traces": [
                {
                    "name": "limit",
                    "meta": "limit",
                    "mode": "lines",
                    "x": [min(x) - 0.3, max(x) + 0.3],
                    "y": [limit, limit],
                    "line": {"color": "var(--predicted)", "width": 1, "dash": "dash"},
                },
                {
                    "name": title.partition(" (")[0],
                    "meta": name,
                    "mode": "lines+markers",
                    "x": x,
                    "y": y,
                    "line": {"color": "var(--hull)", "width": 2},
                    "marker": {"size": 8, "color": "var(--hull)"},
                    "hovertemplate": "round %{x}: %{y:.3g}<extra></extra>",
                },
            ],
            "layout": {
                "xaxis": _round_axis(x),
                "yaxis": {"title": {"text": title}, "rangemode": "tozero"},
            },
        }
    return found


def calibration_figure(predictions: Sequence[tuple[int, PredictedLabel]]) -> Figure | None:
    """Return the errors of predictions that were made before the label, over their error bars.

    Parameters
    ----------
    predictions
        Round and prediction of each label that could be compared.

    Returns
    -------
    dict or None
        One point for each with an error bar, labels that decide the hull as diamonds, and the
        bands that should hold 68 and 95 %; None without any.
    """
    known = [(number, one) for number, one in predictions if one.bar > 0]
    if not known:
        return None
    rounds = [number for number, _ in known]
    # The labels of a round have one calibration, so that their bands are as many bars wide.
    widths = {number: [width / one.bar for width in one.bands] for number, one in known}
    edges = [number + side for number in sorted(widths) for side in (-0.5, 0.5)]
    traces: list[Trace] = [
        {
            "name": f"{share} % should lie here",
            "meta": f"band {share}",
            "mode": "lines",
            "x": [*edges, *reversed(edges)],
            "y": [*(-width for width in upper), *reversed(upper)],
            "line": {"width": 0},
            "fill": "toself",
            "fillcolor": f"var(--band{share})",
            "hoverinfo": "skip",
        }
        for place, share in ((1, 95), (0, 68))
        for upper in [[widths[number][place] for number in sorted(widths) for _ in range(2)]]
    ]
    places = _spread(rounds)
    for deciding, symbol, name in (
        (False, "circle-open", "label"),
        (True, "diamond", "label on or near the hull"),
    ):
        some = [
            (place, one)
            for place, (_, one) in zip(places, known, strict=True)
            if one.deciding == deciding
        ]
        if some:
            traces.append(
                {
                    "name": f"{name} ({len(some)})",
                    "meta": "deciding" if deciding else "other",
                    "mode": "markers",
                    "x": [place for place, _ in some],
                    "y": [one.error / one.bar for _, one in some],
                    "text": [
                        f"x = {one.x}: {1e3 * one.error:+.1f} meV, bar {1e3 * one.bar:.1f}"
                        for _, one in some
                    ],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {
                        "symbol": symbol,
                        "size": 8,
                        "color": "var(--predicted)" if deciding else "var(--labelled)",
                    },
                }
            )
    return {
        "traces": traces,
        "layout": {
            "xaxis": _round_axis(rounds),
            "yaxis": {"title": {"text": "error / error bar"}, "zeroline": True},
        },
    }


def cost_figure(rounds: Sequence[dict[str, Any]]) -> Figure | None:
    """Return core hours by round and kind of task.

    Parameters
    ----------
    rounds
        Those of ``al-charge campaign cost --json``.

    Returns
    -------
    dict or None
        Stacked bars; None if nothing was used.
    """
    present = {kind for one in rounds for kind in one["core_hours_by_kind"]}
    kinds = [kind for kind in KINDS if kind in present] + sorted(present - set(KINDS))
    if not kinds:
        return None
    unit, factor = core_unit(max(sum(one["core_hours_by_kind"].values()) for one in rounds))
    return {
        "traces": [
            {
                "type": "bar",
                "name": escape(kind),
                "meta": kind,
                "x": [one["round"] for one in rounds],
                "y": [factor * one["core_hours_by_kind"].get(kind, 0.0) for one in rounds],
                "marker": {
                    "color": f"var(--s{n % 6})",
                    "pattern": {
                        "shape": ("", "/", "x", ".", "-", "+")[n % 6],
                        "fillmode": "overlay",
                        "fgcolor": "var(--page)",
                        "fgopacity": 0.7,
                    },
                },
                "hovertemplate": f"{escape(kind)}, round %{{x}}: %{{y:.3g}} {unit}<extra></extra>",
            }
            for n, kind in enumerate(kinds)
        ],
        "layout": {
            "barmode": "stack",
            "legend": {"traceorder": "normal"},
            "xaxis": _round_axis([one["round"] for one in rounds]),
            "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
        },
    }


def _round_axis(rounds: Sequence[int]) -> dict[str, Any]:
    every = max(1, len(set(rounds)) // 12)
    shown = sorted(set(rounds))[::every]
    return {"title": {"text": "round"}, "tickvals": shown, "ticktext": [str(n) for n in shown]}


def _spread(rounds: Sequence[int]) -> list[float]:
    """Return places side by side within each round."""
    total = Counter(rounds)
    seen: Counter[int] = Counter()
    places = []
    for number in rounds:
        seen[number] += 1
        places.append(number + 0.7 * (seen[number] / (total[number] + 1) - 0.5))
    return places
