"""Charts of how a campaign went: predictions against labels, the hull, and the cost, by round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

import numpy as np

from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import assessed_round, labelled_hull
from al_charge.loop.posterior import weighed
from al_charge.loop.predicted import compare_with_labels, predicted_labels
from al_charge.loop.verify import verifications
from al_charge.report.charts import Chart, Panel, Series, source_of
from al_charge.report.cost import cost_document
from al_charge.report.names import X_UNIT, host_formula
from al_charge.report.progress import core_time, core_unit
from al_charge.store.documents import Assessment
from al_charge.store.labels import SUMMARY
from al_charge.thermo.hull import Hull

GROUPS = 6
"""Rounds are drawn in at most so many groups, which have colours and shapes of their own."""
SAME = 5e-5
"""Hulls are drawn as one that differ by less, eV per formula unit."""


def parity(campaign: Campaign) -> Chart:
    """Compare what was predicted with the labels that were made afterwards.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each label of which committee and surrogate had given an energy.

    Raises
    ------
    AlChargeError
        If there is none.
    """
    rows = _predicted(campaign)
    _refuse_nothing(campaign, rows, "no label was predicted before it was made")
    series = [
        Series(
            name=name,
            x=[1e3 * row["labelled"] for row in some],
            y=[1e3 * row["predicted"] for row in some],
            error=[1e3 * (row["error_bar"] or 0.0) for row in some],
            style=number,
            texts=[_told(row) for row in some],
        )
        for number, (name, some) in enumerate(_by_rounds(rows))
    ]
    rmse = _rms([row["predicted"] - row["labelled"] for row in rows])
    remark = f"{len(rows)} labels, RMSE {1e3 * rmse:.1f} meV/f.u."
    panel = Panel(
        x_label="Formation energy, labelled (meV/f.u.)",
        y_label="Predicted before the label (meV/f.u.)",
        series=tuple(series),
        diagonal=True,
    )
    return Chart(
        kind="parity",
        title="Energies that were predicted before their labels",
        source=source_of(campaign, remark),
        panels=(panel,),
        rows=rows,
        units={
            "x": X_UNIT,
            "labelled": "eV per formula unit, formation energy",
            "predicted": "eV per formula unit, formation energy, by committee and surrogate",
            "error_bar": "eV per formula unit, half width of the band for 68 % of errors",
            "bar_95": "eV per formula unit, half width of the band for 95 % of errors",
        },
    )


def error(campaign: Campaign) -> Chart:
    """Return the errors of predictions that were made before the labels, round by round.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each assessed round whose labels were predicted.

    Raises
    ------
    AlChargeError
        If there is none.
    """
    predicted = _predicted(campaign)
    rows: list[dict[str, Any]] = []
    for record in campaign.store.rounds.all(campaign.name):
        if record.assessment is None or not record.assessment.prospective.labels:
            continue
        if campaign.store.rounds.weighed(record):
            told = _errors([row for row in predicted if row["round"] == record.number])
        else:  # an earlier version's, which kept no more than this
            told = _errors_of_committee(record.assessment)
        rows.append({"round": record.number, **told})
    _refuse_nothing(campaign, rows, "no label was predicted before it was made")
    errors = (
        _line("error of predictions (RMSE)", rows, "rmse", 1e3, 0),
        _line("their error bars (RMS)", rows, "error_bar", 1e3, 1),
    )
    shares_drawn = (
        _line("within the 68 % bar", rows, "within_68", 1e2, 2),
        _line("within the 95 % bar", rows, "within_95", 1e2, 3),
    )
    panels = [Panel("Round", "Error (meV/f.u.)", errors, whole=True)]
    if any(one.x for one in shares_drawn):
        levels = ((68.0, "68 %"), (95.0, "95 %"))
        panels.append(
            Panel("Round", "Labels within their bar (%)", shares_drawn, whole=True, levels=levels)
        )
    return Chart(
        kind="error",
        title="Errors of predictions made before the labels",
        source=source_of(campaign),
        panels=tuple(panels),
        rows=rows,
        units={
            "labels": "how many were predicted before they were made",
            "rmse": "eV per formula unit, root mean square error of these predictions",
            "error_bar": "eV per formula unit, root mean square of their error bars",
            "within_68": "share of these labels within the bar that should hold 68 %",
            "within_95": "share of these labels within the bar that should hold 95 %",
        },
    )


def evolution(campaign: Campaign) -> Chart:
    """Return the hull after every round.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each vertex of each round.

    Raises
    ------
    AlChargeError
        If no round has been assessed yet.
    """
    assessed_round(campaign)
    hulls: list[tuple[int, Assessment, Hull]] = []
    summaries = list(campaign.store.labels.read(SUMMARY, campaign=campaign.name))
    for record in campaign.store.rounds.all(campaign.name):
        if record.assessment is None:
            continue
        seen = frozenset(campaign.store.rounds.predictions(record)[0])
        labels = [one for one in summaries if one.key in seen and (one.used or 0) <= record.number]
        hull = labelled_hull(campaign, summaries=labels).hull
        hulls.append((record.number, record.assessment, hull))
    rows = [
        {
            "round": number,
            "x": str(vertex.x),
            "formation_energy": hull.formation_energy(vertex),
            "label": vertex.key,
            "labels": found.labels,
            "hull_shift": found.hull_shift,
            "p_below_hull": found.p_below_hull,
        }
        for number, found, hull in hulls
        for vertex in hull.vertices
    ]
    formula = host_formula(hulls[0][2].framework, hulls[0][2].working_ion)
    compositions = tuple(sorted({x for _, _, hull in hulls for x in hull.compositions}))
    lines = [
        Series(
            name=name,
            x=[float(vertex.x) for vertex in hull.vertices],
            y=[1e3 * hull.formation_energy(vertex) for vertex in hull.vertices],
            kind="line",
            style=number,
        )
        for number, (name, hull) in enumerate(_distinct(hulls))
    ]
    by_round = [next(of) for _, of in groupby(rows, key=lambda row: row["round"])]
    shift = _line("", by_round, "hull_shift", 1e3, 0)
    chance = _line("", by_round, "p_below_hull", 1e2, 0)
    panels = [
        Panel(formula, "Formation energy (meV/f.u.)", tuple(lines), compositions=compositions)
    ]
    if shift.x:
        panels.append(Panel("Round", "Largest shift of the hull (meV/f.u.)", (shift,), whole=True))
    if chance.x:
        panels.append(Panel("Round", "Probability of a lower hull (%)", (chance,), whole=True))
    return Chart(
        kind="evolution",
        title=f"{formula} hull by round",
        source=source_of(campaign),
        panels=tuple(panels),
        rows=rows,
        units={
            "x": X_UNIT,
            "formation_energy": "eV per formula unit, against the end members of that round",
            "labels": "usable labels after the round",
            "hull_shift": "eV per formula unit, largest movement since the round before",
            "p_below_hull": "probability that an unlabelled configuration lies below the hull",
        },
    )


def cost(campaign: Campaign) -> Chart:
    """Return what every round has cost, by kind of task.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each round and kind of task.

    Raises
    ------
    AlChargeError
        If nothing has run.
    """
    document = cost_document(campaign)
    rows = [
        {"round": one["round"], "task": kind, "core_hours": hours}
        for one in document["rounds"]
        for kind, hours in one["core_hours_by_kind"].items()
    ]
    _refuse_nothing(campaign, rows, "the ledger has no runs yet")
    unit, factor = core_unit(max(one["core_hours"] for one in document["rounds"]))
    series = tuple(
        Series(
            name=kind,
            x=[float(row["round"]) for row in rows if row["task"] == kind],
            y=[factor * row["core_hours"] for row in rows if row["task"] == kind],
            kind="bars",
            style=number,
        )
        for number, kind in enumerate(document["kinds"])
    )
    total = document["total"]["core_hours"]
    return Chart(
        kind="cost",
        title="Cost by round",
        source=source_of(campaign, f"{core_time(total)} in all"),
        panels=(Panel("Round", unit.capitalize(), series, whole=True),),
        rows=rows,
        units={"core_hours": "core hours of all runs, also of those that failed"},
    )


def _predicted(campaign: Campaign) -> list[dict[str, Any]]:
    """Return the labels of which an energy was known before them, round by round."""
    found = labelled_hull(campaign)
    rows: list[dict[str, Any]] = []
    rounds = campaign.store.rounds.all(campaign.name)
    verifying = verifications(rounds)  # what these have for predictions are energies of labels
    for record in rounds:
        some = list(predicted_labels(campaign, record.number, found.labels))
        if not some or record.number in verifying:
            continue
        told = compare_with_labels(campaign, record.number, found, weighed(campaign, record))
        for (label, _), one in zip(some, told, strict=True):
            labelled = campaign.cells.energy_of(label) - found.hull.reference(Fraction(one.x))
            rows.append(
                {
                    "round": record.number,
                    "x": one.x,
                    "label": label.key,
                    "labelled": labelled,
                    "predicted": labelled + one.error,
                    "error_bar": one.bar,
                    "bar_95": one.bands[1],
                }
            )
    return rows


def _errors(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    errors, bars, wide = np.array(
        [(one["predicted"] - one["labelled"], one["error_bar"], one["bar_95"]) for one in rows]
    ).T
    return {
        "labels": len(rows),
        "rmse": _rms(errors),
        "error_bar": _rms(bars),
        "within_68": float(np.mean(abs(errors) <= bars)),
        "within_95": float(np.mean(abs(errors) <= wide)),
    }


def _errors_of_committee(found: Assessment) -> dict[str, Any]:
    bars = [one.bar for one in found.prospective.predictions]
    shares = found.coverage
    return {
        "labels": found.prospective.labels,
        "rmse": found.prospective.rmse,
        "error_bar": _rms(bars) if any(bars) else None,
        "within_68": shares.within_68 if shares else None,
        "within_95": shares.within_95 if shares else None,
    }


def _line(name: str, rows: Sequence[dict[str, Any]], key: str, factor: float, style: int) -> Series:
    """Return what is known of some number by round."""
    known = [row for row in rows if row[key] is not None]
    x = [float(row["round"]) for row in known]
    return Series(name, x, [factor * row[key] for row in known], "line", style=style)


def _by_rounds(rows: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return rows in groups of successive rounds, with the groups' names."""
    numbers = sorted({row["round"] for row in rows})
    parts = np.array_split(np.array(numbers), min(GROUPS, len(numbers)))
    return [
        (_named(part.tolist()), [row for row in rows if row["round"] in part.tolist()])
        for part in parts
    ]


def _distinct(hulls: list[tuple[int, Assessment, Hull]]) -> list[tuple[str, Hull]]:
    """Return the hulls that differ from that of the round before, the last of them at least."""
    groups: list[tuple[list[int], Hull]] = []
    for number, _, hull in hulls:
        if groups and _alike(groups[-1][1], hull):
            groups[-1][0].append(number)
        else:
            groups.append(([number], hull))
    if len(groups) > GROUPS:  # the first, the last, and some between
        kept = np.unique(np.linspace(0, len(groups) - 1, GROUPS).round().astype(int))
        groups = [groups[i] for i in kept]
    return [(_named(numbers), hull) for numbers, hull in groups]


def _alike(one: Hull, other: Hull) -> bool:
    corners = {*one.compositions, *other.compositions}
    return all(abs(one.lower(x) - other.lower(x)) < SAME for x in corners)


def _named(rounds: Sequence[int]) -> str:
    return f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"


def _told(row: dict[str, Any]) -> str:
    bar = "" if row["error_bar"] is None else f" ± {1e3 * row['error_bar']:.1f}"
    return (
        f"round {row['round']}, x = {row['x']}<br>label {row['label'][:8]}"
        f"<br>predicted {1e3 * row['predicted']:.1f}{bar} meV/f.u."
        f"<br>labelled {1e3 * row['labelled']:.1f} meV/f.u."
    )


def _rms(values: Iterable[float]) -> float:
    return float(np.sqrt(np.mean(np.square(list(values)))))


def _refuse_nothing(campaign: Campaign, rows: Sequence[object], what: str) -> None:
    if not rows:
        raise AlChargeError(
            what,
            where=f"campaign '{campaign.name}'",
            remedy=f"follow it with 'al-charge campaign watch {campaign.name}'",
        )
