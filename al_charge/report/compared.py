"""Two campaigns side by side: their settings, hulls and voltages."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import assessed_hull
from al_charge.thermo.hull import Hull, max_hull_shift
from al_charge.thermo.voltage import voltage_profile

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

UNITS = {
    "formation_energy": "eV per formula unit, lowest label against the end members of each hull",
    "difference": "eV per formula unit, second minus first",
    "hull_shift": "eV per formula unit, largest movement of the hull of total energies",
    "mean_voltage": "V against the working-ion metal",
}


def comparison(first: Campaign, second: Campaign) -> dict[str, Any]:
    """Return two campaigns side by side as a JSON document.

    Parameters
    ----------
    first
        A campaign.
    second
        Another, or the same.

    Returns
    -------
    dict
        ``settings`` lists what differs; ``compositions`` the lowest formation energy at every x
        that either has; ``hull_shift`` the largest movement between the hulls, None where they are
        of different hosts, settings or ends; ``mean_voltage`` of both.
    """
    hulls = [_hull(one) for one in (first, second)]
    same_settings = first.settings_hash == second.settings_hash
    same_host = first.host.fingerprint == second.host.fingerprint
    return {
        "campaigns": [first.name, second.name],
        "same_host": same_host,
        "same_settings": same_settings,
        "settings": _differences(_settings(first), _settings(second)),
        "labels": [len(one.store.labels.uses(one.name)) for one in (first, second)],
        "compositions": _compositions(*hulls),
        "vertices": [None if one is None else [str(v.x) for v in one.vertices] for one in hulls],
        "mean_voltage": [None if one is None else voltage_profile(one).mean for one in hulls],
        "hull_shift": _shift(*hulls) if same_settings else None,
        "units": dict(UNITS),
    }


def labeler_differences(first: Campaign, second: Campaign) -> list[dict[str, Any]]:
    """Return in which settings of their labelers two campaigns differ.

    Parameters
    ----------
    first
        A campaign.
    second
        Another.

    Returns
    -------
    list of dict
        ``name``, dotted, and the values of the ``first`` and the ``second``: only settings that
        energies depend on.
    """
    return _differences(_flat(first.physical_settings), _flat(second.physical_settings))


def comparison_table(document: dict[str, Any]) -> Group:
    """Return the tables of two campaigns side by side.

    Parameters
    ----------
    document
        What `comparison` returns.

    Returns
    -------
    Group
        What differs in their settings, then their hulls in meV per formula unit.
    """
    from rich.console import Group
    from rich.text import Text

    same = "the same" if document["same_host"] else "different"
    lines = [f"hosts: {same}; settings that energies depend on: "]
    lines[0] += "the same" if document["same_settings"] else "different"
    voltages = ["none" if one is None else f"{one:.3f} V" for one in document["mean_voltage"]]
    lines.append(f"mean voltage: {voltages[0]} and {voltages[1]}")
    if document["hull_shift"] is not None:
        lines.append(f"largest shift of the hull: {1e3 * document['hull_shift']:.1f} meV")
    differ = [_settings_table(document)] if document["settings"] else []
    return Group(*differ, _hull_table(document), *map(Text, lines))


def _settings_table(document: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", title="settings that differ")
    for name in document["campaigns"]:
        table.add_column(Text(name))
    for one in document["settings"]:
        table.add_row(*(Text(str(one[name])) for name in ("name", "first", "second")))
    return table


def _hull_table(document: dict[str, Any]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("x", title="formation energy of the lowest label, meV per formula unit; * vertex")
    for heading in (*document["campaigns"], "difference"):
        table.add_column(Text(heading), justify="right")
    for one in document["compositions"]:
        cells = []
        for place, name in enumerate(("first", "second")):
            star = "*" if one["x"] in (document["vertices"][place] or ()) else ""
            cells.append("" if one[name] is None else f"{1e3 * one[name]:.1f}{star}")
        both = one["difference"]
        table.add_row(one["x"], *cells, "" if both is None else f"{1e3 * both:+.1f}")
    return table


def _hull(campaign: Campaign) -> Hull | None:
    try:
        return assessed_hull(campaign)[0].hull
    except AlChargeError:
        return None  # no round has been assessed


def _shift(first: Hull | None, second: Hull | None) -> float | None:
    if first is None or second is None:
        return None
    try:
        return max_hull_shift(first, second)
    except AlChargeError:
        return None  # different hosts or ends


def _compositions(first: Hull | None, second: Hull | None) -> list[dict[str, Any]]:
    lowest: list[dict[Fraction, float]] = []
    for hull in (first, second):
        found: dict[Fraction, float] = {}
        for entry in hull.entries if hull is not None else ():
            assert hull is not None
            found.setdefault(entry.x, hull.formation_energy(entry))
        lowest.append(found)
    told = []
    for x in sorted(set(lowest[0]) | set(lowest[1])):
        one, other = lowest[0].get(x), lowest[1].get(x)
        difference = None if one is None or other is None else other - one
        told.append({"x": str(x), "first": one, "second": other, "difference": difference})
    return told


def _settings(campaign: Campaign) -> dict[str, Any]:
    """Return what a campaign's energies and hull depend on, by dotted names."""
    spec = campaign.spec.model_dump(mode="json", exclude={"name", "database", "resources"})
    spec["labeler"] = {"kind": campaign.spec.labeler.kind, **campaign.physical_settings}
    return _flat(spec)


def _flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{before}{name}.")
        else:
            flat[f"{before}{name}"] = value
    return flat


def _differences(first: dict[str, Any], second: dict[str, Any]) -> list[dict[str, Any]]:
    names = [*first, *(name for name in second if name not in first)]
    return [
        {"name": name, "first": first.get(name), "second": second.get(name)}
        for name in names
        if first.get(name) != second.get(name)
    ]
