"""The page itself: what was gathered, in a template, with everything that it needs inside.

A policy in the page's head forbids browsers to load anything, and to run any script but those that
belong to it: their checksums stand there. Texts of a campaign are escaped by the template; in
plots, whose texts plotly reads as markup of its own, by `figures`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import defaultdict
from fractions import Fraction
from importlib.resources import files
from statistics import fmean
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from al_charge.loop.calibration import coverage
from al_charge.report.campaign_report import answer
from al_charge.report.campaign_report.charge_order import distances_text, states_text
from al_charge.report.campaign_report.facts import MOST_LABELS, Facts
from al_charge.report.campaign_report.figures import MOST_DRAWN, hull_figures, voltage_figure
from al_charge.report.campaign_report.round_figures import (
    calibration_figure,
    convergence_figures,
    cost_figure,
)
from al_charge.report.names import html
from al_charge.report.progress import core_time, duration
from al_charge.report.references import bibtex

PACKAGE = "al_charge.report.campaign_report"
SHAPES = ("circle", "square", "triangle", "diamond", "hexagon", "star")
"""How charge states are drawn, beside their colours."""


def page(facts: Facts) -> str:
    """Return the report of a campaign as an HTML page.

    Parameters
    ----------
    facts
        What it tells.

    Returns
    -------
    str
        Opens without a network.
    """
    scripts = [get_plotlyjs(), _text("structures.js"), _text("report.js")]
    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "core_time": core_time,
        "duration": duration,
        "formula": _formula,
        "mev": _mev,
        "number": lambda value, digits: (
            "" if value is None else answer.minus(f"{value:.{digits}f}")
        ),
        "percent": lambda value: "" if value is None else answer.percent(value),
    }
    drawn = plots(facts)
    return environment.get_template("report.html.jinja").render(
        facts=facts,
        policy=_policy(scripts),
        style=Markup(_text("report.css")),
        scripts=[Markup(script) for script in scripts],
        names=set(drawn),
        data=_json({"plots": drawn, "structures": drawings(facts), "legend": legend(facts)}),
        **_sentences(facts),
    )


def plots(facts: Facts) -> dict[str, Any]:
    """Return every plot of the report.

    Parameters
    ----------
    facts
        What it tells.

    Returns
    -------
    dict
        By the name of its place in the page; those without data are left out.
    """
    found: dict[str, Any] = {}
    formula = facts.labels["formula"]
    if facts.found is not None:
        found["hull"] = hull_figures(facts.found.hulls, formula)
        if facts.found.voltage is not None:
            found["voltage"] = voltage_figure(facts.found.voltage, formula)
    assessed = [one for one in facts.status["rounds"] if one["labels"] is not None]
    found |= convergence_figures(assessed, facts.tolerance)
    found["calibration"] = calibration_figure(facts.predictions)
    found["cost"] = cost_figure(facts.cost["rounds"])
    return {name: figure for name, figure in found.items() if figure is not None}


def drawings(facts: Facts) -> list[dict[str, Any]]:
    """Return what is drawn of the vertices.

    Parameters
    ----------
    facts
        What the report tells.

    Returns
    -------
    list of dict
        As `al_charge.report.campaign_report.structures.drawing` returns them, by x.
    """
    return [one.drawing for one in facts.structures if one.drawing is not None]


def legend(facts: Facts) -> list[dict[str, Any]]:
    """Return how each charge state in the drawings is shown.

    Parameters
    ----------
    facts
        What the report tells.

    Returns
    -------
    list of dict
        ``kind``, ``name`` and ``shape`` of each; the place in the list is that of its colour.
    """
    kinds = sorted(
        {
            atom["kind"]
            for one in drawings(facts)
            for atom in one["atoms"]
            if atom["kind"] not in ("ion", "cation", "anion")
        }
    )
    return [
        {"kind": kind, "name": kind, "shape": SHAPES[place % len(SHAPES)]}
        for place, kind in enumerate(kinds)
    ]


def _sentences(facts: Facts) -> dict[str, Any]:
    """Return texts and numbers that need more than a template."""
    status, ion = facts.status, facts.spec["host"]["working_ion"]
    x = [str(one) for one in facts.counts]
    hull = facts.found.hulls[-1] if facts.found else None
    voltage = facts.found.voltage if facts.found else None
    per_label = facts.cost["core_hours_per_label"]
    vertices = [one for one in facts.structures if one.vertex]
    return {
        "bibtex": bibtex(facts.references),
        "compositions": _compositions(facts),
        "campaign_file": yaml.safe_dump(facts.spec, sort_keys=False, allow_unicode=True),
        "certainty": answer.certainty_sentence(hull) if hull else "",
        "distinct": sum(facts.counts.values()),
        "engine_settings": yaml.safe_dump(facts.settings, sort_keys=True, allow_unicode=True),
        "hull": hull,
        "listed_labels": facts.labels["labels"][:MOST_LABELS],
        "meaning": answer.meaning_of(status["state"]),
        "most_drawn": MOST_DRAWN,
        "order_rows": [
            {
                "of": one,
                "states": states_text(one.order.states),
                "like": distances_text(one.order.like),
                "to_ion": distances_text(one.order.to_ion),
            }
            for one in facts.structures
        ],
        "plateaus": _plateaus(voltage) if voltage else [],
        "pooled": _pooled(facts),
        "rmse": _rmse_by_round(facts),
        "question": answer.question(facts.labels["formula"], x[0], x[-1], ion),
        "random_choice": answer.random_sentence(facts.random, per_label, status["labels_used"]),
        "refused": [one for one in facts.labels["labels"] if one["refused"]],
        "round_lines": [_round_line(one) for one in facts.found.hulls] if facts.found else [],
        "states": legend(facts),
        "steps_text": _steps_text(voltage) if voltage else "",
        "stored": voltage["electrode"] if voltage else None,
        "vertices": vertices,
        "vertices_sentence": answer.vertices_sentence(hull) if hull else "",
        "voltage": voltage,
        "working_ion": ion,
    }


def _compositions(facts: Facts) -> list[dict[str, Any]]:
    """Return the table of the hull: the lowest label of each composition, and what may be lower."""
    if facts.found is None:
        return []
    hull = facts.found.hulls[-1]
    vertices = {one["label"] for one in hull["vertices"]}
    ahead = {one["x"]: one for one in hull["compositions"]}
    counts = {str(x): number for x, number in facts.counts.items()}
    lowest: dict[str, dict[str, Any]] = {}
    for entry in hull["entries"]:  # by x and energy
        if entry["x"] not in lowest or entry["label"] in vertices:
            lowest[entry["x"]] = entry
    return [
        {
            **entry,
            "remark": entry.get("remark", ""),
            "vertex": entry["label"] in vertices,
            "configurations": counts.get(x, ""),
            "labelled": facts.labelled[x],
            "p_lower": ahead[x]["p_lower"] if x in ahead else None,
            "lower_by": ahead[x]["lower_by"] if x in ahead else None,
            "label": entry["label"][:8],
        }
        for x, entry in lowest.items()
    ]


def _plateaus(voltage: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the plateaus, each with the capacity at its end, mAh/g."""
    steps, stored = voltage["steps"], voltage["electrode"]
    first, last = Fraction(steps[0]["x_from"]), Fraction(steps[-1]["x_to"])
    return [
        {
            **step,
            "capacity": None
            if stored is None
            else stored["capacity"] * float((Fraction(step["x_to"]) - first) / (last - first)),
        }
        for step in steps
    ]


def _steps_text(voltage: dict[str, Any]) -> str:
    """Return the plateaus in a sentence, for those who do not see the plot."""
    each = [
        f"{one['voltage']:.3f} V from x = {one['x_from']} to {one['x_to']}"
        for one in voltage["steps"]
    ]
    return f"{', '.join(each)}; mean {voltage['mean_voltage']:.3f} V."


def _round_line(hull: dict[str, Any]) -> str:
    """Return what the slider says of a round."""
    vertices = ", ".join(one["x"] for one in hull["vertices"])
    chance = hull["p_below_hull"]
    known = "" if chance is None else f"; chance of a lower hull {answer.percent(chance)}"
    return (
        f"after round {hull['round']}: {len(hull['entries'])} configurations labelled, vertices at "
        f"x = {vertices}{known}"
    )


def _pooled(facts: Facts) -> dict[str, Any] | None:
    """Return how many labels of all rounds lie where their error bars said."""
    known = [one for _, one in facts.predictions]
    return coverage(known).model_dump() if known else None


def _rmse_by_round(facts: Facts) -> dict[int, float]:
    """Return the root mean square error of the predictions of each round's labels."""
    errors: dict[int, list[float]] = defaultdict(list)
    for number, one in facts.predictions:
        errors[number].append(one.error)
    return {number: math.sqrt(fmean(e**2 for e in some)) for number, some in errors.items()}


def _text(name: str) -> str:
    return (files(PACKAGE) / "templates" / name).read_text(encoding="utf-8")


def _json(value: Any) -> Markup:
    """Return JSON that no browser takes for markup, inside a script element."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _policy(scripts: list[str]) -> str:
    """Return what the page may do: run its own scripts, style itself, make pictures of plots."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _formula(text: str) -> Markup:
    return Markup(html(str(escape(text))))


def _mev(value: float | None, digits: int = 1) -> str:
    return "" if value is None else answer.minus(f"{1e3 * value:.{digits}f}")
