"""What a campaign has cost, by the ledger, and what it may still cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from al_charge.fw.status import held
from al_charge.loop.campaign import Campaign
from al_charge.loop.select import labels_left
from al_charge.report.progress import amount, core_time, core_unit, duration
from al_charge.store.documents import CampaignState
from al_charge.store.ledger import WORKERS

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

COST_UNITS = {
    "hours": "h, of all runs together",
    "core_hours": "core hours, of all runs together",
    "core_hours_per_label": "core hours of all labelling jobs over the labels that were made",
}


def cost_document(campaign: Campaign) -> dict[str, Any]:
    """Return what a campaign has cost, and what it may still cost.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    dict
        ``kinds`` sums runs by kind of task, ``rounds`` does so for each round, ``workers`` is what
        worker processes had as a whole, idle time included. ``forecast`` has bounds of what is to
        come: at least the rounds that convergence needs if every criterion holds from now on, at
        most the whole budget of labels and rounds; None before a label has been made. Labels of
        verifications and other electronic states are not among them.
    """
    sums = campaign.store.ledger.sums(campaign.name)
    rounds = {number: kinds for number, kinds in sums.items() if number is not None}
    kinds: dict[str, dict[str, float]] = {}
    for found in rounds.values():
        for kind, of in found.items():
            total = kinds.setdefault(kind, dict.fromkeys(of, 0.0))
            for name, value in of.items():
                total[name] += value
    made = campaign.store.attempts.count_made(campaign.name)
    labelling = kinds.get("label", {}).get("core_seconds", 0.0) / 3600
    workers = sums.get(None, {}).get(WORKERS)
    return {
        "campaign": campaign.name,
        "state": campaign.store.campaigns.state(campaign.name).value,
        "labels_made": made,
        "core_hours_per_label": labelling / made if made else None,
        "kinds": {kind: _hours(of) for kind, of in sorted(kinds.items())},
        "total": _hours(_sum(kinds)),
        "workers": None if workers is None else _hours(workers),
        "rounds": [
            {"round": number, **_hours(_sum(found)), "core_hours_by_kind": _by_kind(found)}
            for number, found in sorted(rounds.items())
        ],
        "forecast": _forecast(campaign, made, _sum(kinds)["core_seconds"] / 3600),
        "units": dict(COST_UNITS),
    }


def cost_table(document: dict[str, Any], *, forecast: bool) -> Group:
    """Return the tables of what a campaign has cost.

    Parameters
    ----------
    document
        What `cost_document` returns.
    forecast
        Whether to say what it may still cost.

    Returns
    -------
    Group
        By kind of task, by round, and a line on what is to come.
    """
    from rich.console import Group
    from rich.text import Text

    lines = []
    if document["core_hours_per_label"] is not None:
        lines.append(
            f"{core_time(document['core_hours_per_label'])} for each of "
            f"{document['labels_made']} labels that were made"
        )
    if document["workers"] is not None:
        lines.append(f"workers had {core_time(document['workers']['core_hours'])} in all")
    if forecast:
        lines.append(_forecast_line(document["forecast"]))
    if not document["kinds"]:
        return Group(Text("nothing has run yet"), *map(Text, lines))
    return Group(_by_task(document), _by_round(document), *map(Text, lines))


def _by_task(document: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title="by kind of task", show_footer=True)
    total = document["total"]
    unit, factor = core_unit(total["core_hours"])

    def told(of: dict[str, Any]) -> tuple[str, str, str]:
        return str(of["runs"]), duration(3600 * of["hours"]), amount(factor * of["core_hours"])

    table.add_column("task", footer="all")
    for heading, footer in zip(("runs", "time", unit), told(total), strict=True):
        table.add_column(heading, justify="right", footer=footer)
    for kind, of in document["kinds"].items():
        table.add_row(kind, *told(of))
    return table


def _by_round(document: dict[str, Any]) -> Table:
    from rich.table import Table

    unit, factor = core_unit(document["total"]["core_hours"])
    table = Table("round", title=f"{unit} by round")
    kinds = list(document["kinds"])
    for kind in [*kinds, "all"]:
        table.add_column(kind, justify="right")
    for one in document["rounds"]:
        of = one["core_hours_by_kind"]
        numbers = [amount(factor * of[kind]) if kind in of else "" for kind in kinds]
        table.add_row(str(one["round"]), *numbers, amount(factor * one["core_hours"]))
    return table


def _forecast_line(forecast: dict[str, Any] | None) -> str:
    if forecast is None:
        return "the cost of a label is not known yet"
    if not forecast["labels_at_most"]:
        return "no more labels are to come"
    return (
        f"to come: {forecast['labels_at_least']} to {forecast['labels_at_most']} labels, about "
        + core_time(forecast["core_hours_at_least"], forecast["core_hours_at_most"])
    )


def _forecast(campaign: Campaign, made: int, spent: float) -> dict[str, Any] | None:
    """Return bounds of what is to come, at the cost of each label so far, all tasks included."""
    if not made:
        return None
    rounds = campaign.store.rounds.all(campaign.name)
    state = campaign.store.campaigns.state(campaign.name)
    criteria, each = campaign.spec.convergence, campaign.spec.acquisition.labels_per_round
    open_labels = 0
    if rounds and rounds[-1].closed is None:
        chosen = rounds[-1].selected or []
        uses = campaign.store.labels.uses(campaign.name)
        open_labels = max(0, len(chosen) - sum(n == rounds[-1].number for n in uses.values()))
    if state not in (CampaignState.RUNNING, CampaignState.PAUSED):
        least = most = 0
    else:
        needed = max(0, criteria.rounds - held([one for one in rounds if one.assessment]))
        started = int(bool(open_labels))
        left = labels_left(campaign)
        by_rounds = each * max(0, criteria.max_rounds - len(rounds))
        most = open_labels + min(left, by_rounds)
        least = min(most, open_labels + each * max(0, needed - started))
    per_label = spent / made
    return {
        "labels_at_least": least,
        "labels_at_most": most,
        "core_hours_at_least": least * per_label,
        "core_hours_at_most": most * per_label,
    }


def _sum(kinds: dict[str, dict[str, float]]) -> dict[str, float]:
    names = ("runs", "seconds", "core_seconds")
    return {name: sum(of[name] for of in kinds.values()) for name in names}


def _by_kind(kinds: dict[str, dict[str, float]]) -> dict[str, float]:
    return {kind: of["core_seconds"] / 3600 for kind, of in sorted(kinds.items())}


def _hours(of: dict[str, float]) -> dict[str, Any]:
    return {
        "runs": int(of["runs"]),
        "hours": of["seconds"] / 3600,
        "core_hours": of["core_seconds"] / 3600,
    }
