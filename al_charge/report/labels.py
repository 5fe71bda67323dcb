"""The labels of a campaign one by one: what was asked for, what was found, at what cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from al_charge.crystal.host import Host
from al_charge.crystal.parent import matrix_of
from al_charge.crystal.species import element_of
from al_charge.loop.campaign import Campaign
from al_charge.loop.label_filter import labels_where
from al_charge.report.names import X_UNIT, host_formula, labeler_name, labeler_remark
from al_charge.store.documents import LabelDoc
from al_charge.store.labels import WITHOUT_FRAMES
from al_charge.thermo.hull import pretty_formula

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

LABEL_UNITS = {
    "x": X_UNIT,
    "energy_per_formula": "eV per formula unit",
    "species": "redox sites of the cell that were found in a state; Fe? for uncertain ones",
    "moments": "Bohr magnetons: smallest and largest absolute moment of the sites found in a state",
    "bader": "e, net, cations positive: lowest and highest charge of the sites found in a state",
    "wall_time": "s",
}

_ALWAYS = ("x", "label", "order", "energy")
_NAMES = (
    "x", "label", "relaxed", "order", "atoms", "energy", "moments", "Bader", "starts", "time",
    "why it is on no hull",
)  # fmt: skip
"""Columns of the table of labels, and those of them that are always there."""


def labels_document(campaign: Campaign, where: str | None = None) -> dict[str, Any]:
    """Return the labels of a campaign as a JSON document.

    Parameters
    ----------
    campaign
        Whose labels to list.
    where
        Condition that they fulfil; see `al_charge.loop.label_filter.labels_where`. All when None.

    Returns
    -------
    dict
        ``labels`` by x and energy; ``compositions`` counts for each x how many have the charge
        order that was asked for, ``mixed`` does so for all labels that ask for more than one
        charge state of an element; ``quarantined`` are the labels that were given up, whatever the
        condition.

    Raises
    ------
    InputError
        If the condition cannot be read.
    """
    ion = campaign.spec.host.working_ion
    redox = frozenset(campaign.host.redox_elements)
    keys = None if where is None else labels_where(campaign, where)
    found = campaign.store.labels.read(WITHOUT_FRAMES, campaign=campaign.name, keys=keys)
    rounds = campaign.store.labels.uses(campaign.name, keys=keys)
    cells = campaign.cells
    labels = sorted(
        found,
        key=lambda label: (Fraction(label.composition), cells.energy_of(label), label.key),
    )
    groups: dict[str, list[LabelDoc]] = defaultdict(list)
    for label in labels:
        groups[label.composition].append(label)
    return {
        "campaign": campaign.name,
        "state": campaign.store.campaigns.state(campaign.name).value,
        "formula": host_formula(pretty_formula(campaign.framework, ion), ion),
        "labeler": labeler_name(campaign.spec.labeler.kind),
        "labeler_remark": labeler_remark(campaign.spec.labeler),
        "engines": sorted({label.engine for label in labels}),
        "where": where,
        "labels": [label_row(label, redox, cells.of(label), rounds[label.key]) for label in labels],
        "compositions": [{"x": x, **_counts(group)} for x, group in groups.items()],
        "mixed": _counts(label for label in labels if _is_mixed(label)),
        "quarantined": [
            {
                "label": failure.key,
                "round": failure.round,
                "attempts": failure.attempts,
                "reason": failure.reason,
            }
            for failure in campaign.store.failures.all(campaign.name)
        ],
        "units": dict(LABEL_UNITS),
    }


def labels_table(document: dict[str, Any]) -> Group:
    """Return the tables of the labels and of their compositions.

    Parameters
    ----------
    document
        What `labels_document` returns.

    Returns
    -------
    Group
        Both tables, then a line for each label that was given up.
    """
    from rich.console import Group
    from rich.text import Text

    lines = [
        Text(f"given up {one['label'][:8]}: {one['reason']}", style="red")
        for one in document["quarantined"]
    ]
    return Group(_each(document), _by_composition(document), *lines)


def label_row(
    label: LabelDoc, redox: frozenset[str], host: Host, round: int | None
) -> dict[str, Any]:
    """Return a label as the list of labels tells it.

    Parameters
    ----------
    label
        The label; its frames are not read.
    redox
        Elements that change their charge.
    host
        The supercell that it is in.
    round
        Round of the campaign that uses it.

    Returns
    -------
    dict
        For JSON; units are in `LABEL_UNITS`.
    """
    return {
        "label": label.key,
        "hash": label.config_hash,
        "x": label.composition,
        "supercell": matrix_of(host.supercell),
        "atoms": len(label.numbers),
        "round": round,
        "species": _species(label, redox),
        "as_requested": label.as_requested,
        "ambiguous": label.resolved is None and not label.delocalised,
        "delocalised": label.delocalised,
        "unusable": bool(label.unusable),
        "converged": label.converged,
        "refused": label.refused,
        "energy_per_formula": label.energy / host.formula_units,
        "moments": _ranges(label, label.moments, redox, absolute=True),
        "bader": _ranges(label, label.bader, redox),
        "bader_refused": label.bader_refused,
        "relax": label.relax,
        "engine": label.engine,
        "attempts": [attempt.model_dump() for attempt in label.attempts],
        "wall_time": label.wall_time,
        "cores": label.cores,
        "directory": label.directory,
        "imported": None if label.imported is None else label.imported.model_dump(mode="json"),
    }


def _species(label: LabelDoc, redox: frozenset[str]) -> dict[str, int]:
    """Return how many of the redox sites were found in each state."""
    sites = zip(label.requested, label.states_found, strict=True)
    return dict(
        sorted(Counter(found for asked, found in sites if element_of(asked) in redox).items())
    )


def _ranges(
    label: LabelDoc, values: list[float] | None, redox: frozenset[str], *, absolute: bool = False
) -> dict[str, list[float]]:
    """Return the lowest and highest value of the redox sites in each state that was found."""
    found: dict[str, list[float]] = defaultdict(list)
    if values is not None:
        sites = zip(label.requested, label.states_found, values, strict=True)
        for asked, state, value in sites:
            if element_of(asked) in redox:
                found[state].append(abs(value) if absolute else value)
    return {state: [min(of), max(of)] for state, of in sorted(found.items())}


def _is_mixed(label: LabelDoc) -> bool:
    states = set(label.requested)
    return len({element_of(state) for state in states}) < len(states)


def _counts(labels: Iterable[LabelDoc]) -> dict[str, Any]:
    group = list(labels)
    as_requested = sum(label.as_requested for label in group)
    return {
        "labels": len(group),
        "as_requested": as_requested,
        "fraction": as_requested / len(group) if group else None,
        "ambiguous": sum(label.resolved is None and not label.delocalised for label in group),
        "delocalised": sum(label.delocalised for label in group),
        "unusable": sum(bool(label.unusable) for label in group),
    }


def _each(document: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    engines = ", ".join(document["engines"]) or "no engine yet"
    told = {"moments": ", moments in Bohr magnetons", "bader": ", Bader charges in e"}
    units = [unit for name, unit in told.items() if any(one[name] for one in document["labels"])]
    table = Table(
        title=Text(f"{document['formula']} labels, labeler: {document['labeler']}"),
        caption=Text(
            f"{engines}. Energies in eV per formula unit{''.join(units)}; --json lists everything."
        ),
    )
    several = len({str(label["supercell"]) for label in document["labels"]}) > 1
    rows = [_cells(label, several=several) for label in document["labels"]]
    for heading in _NAMES:
        # What none of them has, such as moments of an engine without spin, takes no room.
        if heading in _ALWAYS or any(row[heading] for row in rows):
            right = heading in ("atoms", "energy", "starts", "time")
            table.add_column(heading, justify="right" if right else "left")
    shown = [str(column.header) for column in table.columns]
    for label, row in zip(document["labels"], rows, strict=True):
        style = "yellow" if label["refused"] else ""
        table.add_row(*(Text(row[heading], style=style) for heading in shown))
    return table


def _cells(label: dict[str, Any], *, several: bool) -> dict[str, str]:
    """Return the row of a label by heading."""
    order = "uncertain" if label["ambiguous"] else "as requested"
    order = "delocalised" if label["delocalised"] else order
    if not label["ambiguous"] and not label["as_requested"]:
        order = "another"
    cells = [
        label["x"],
        label["label"][:8],
        label["relax"].replace("none", ""),
        order,
        str(label["atoms"]) if several else "",
        f"{label['energy_per_formula']:.4f}",
        _written(label["moments"]),
        _written(label["bader"]),
        str(len(label["attempts"]) or ""),
        _time(label),
        label["refused"],
    ]
    return dict(zip(_NAMES, cells, strict=True))


def _time(label: dict[str, Any]) -> str:
    """Return what a label took, and that it was imported if it was."""
    took = "" if label["wall_time"] is None else f"{label['wall_time']:.0f} s"
    return f"{took} (imported)".strip() if label["imported"] else took


def _by_composition(document: dict[str, Any]) -> Table:
    from rich.table import Table

    total = document["mixed"]
    table = Table(show_footer=bool(total["labels"]))
    if total["labels"]:
        table.caption = "mixed: labels with more than one charge state of an element"
    table.add_column("x", footer="mixed")
    names = ["labels", "as_requested", "ambiguous", "unusable"]
    if any(row["delocalised"] for row in document["compositions"]):
        names.insert(3, "delocalised")
    for name in names:
        heading = name.replace("as_requested", "as requested")
        table.add_column(heading, justify="right", footer=str(total[name]))
    table.add_column("share as requested", justify="right", footer=_percent(total["fraction"]))
    for row in document["compositions"]:
        counts = (row[name] for name in names)
        table.add_row(row["x"], *map(str, counts), _percent(row["fraction"]))
    return table


def _written(ranges: dict[str, list[float]]) -> str:
    parts = []
    for state, (low, high) in ranges.items():
        span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
        parts.append(f"{state} {span}")
    return "\n".join(parts)


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.0f} %"
