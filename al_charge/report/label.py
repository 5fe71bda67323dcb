"""One label: its energies, the states of its sites, why it was chosen and where its files are."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from al_charge.crystal.species import element_of
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import labelled_hull, usable
from al_charge.loop.lookup import why
from al_charge.report.labels import LABEL_UNITS, label_row
from al_charge.report.names import labeler_name
from al_charge.store.documents import LabelDoc
from al_charge.thermo.hull import Entry, pretty_formula

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

UNITS = LABEL_UNITS | {
    "formation_energy": "eV per formula unit, against the two end members",
    "distance_to_hull": "eV per formula unit",
    "predicted": "eV per formula unit, by committee and surrogate before the label was made",
    "error_bar": "eV per formula unit, half width of the band that should hold 68 % of errors",
    "volume": "cubic angstrom per formula unit",
    "moment": "Bohr magnetons",
    "bader": "e, net, cations positive",
}
_NO_MOMENTS = "no moments: the charge states are those that were asked for or given"
_ORIGINS = {
    "seed": "The candidate is one of the seeds",
    "search": "The candidate was found by the search",
    "label": "The candidate is a label to be verified",
}


def one_label_document(campaign: Campaign, label: LabelDoc) -> dict[str, Any]:
    """Return a label as a JSON document.

    Parameters
    ----------
    campaign
        A campaign that uses it.
    label
        The label, with its last frame.

    Returns
    -------
    dict
        As in the list of labels, with energies against the hull of all labels (None where there is
        none, and of labels that no hull may hold), ``sites`` of the redox elements and ``why`` it
        was chosen.
    """
    host, ion = campaign.cells.of(label), campaign.spec.host.working_ion
    uses = campaign.store.labels.uses(campaign.name)
    row = label_row(label, frozenset(host.redox_elements), host, uses.get(label.key, label.round))
    row["formula"] = _formula(pretty_formula(campaign.framework, ion), ion, row["x"])
    volume = float(abs(np.linalg.det(np.array(label.frames[-1].cell)))) / host.formula_units
    hosts = {attempt.hostname for attempt in campaign.store.attempts.all(campaign.name, label.key)}
    return {
        "campaign": campaign.name,
        "state": campaign.store.campaigns.state(campaign.name).value,
        "labeler": labeler_name(campaign.spec.labeler.kind),
        **row,
        **_against_the_hull(campaign, label),
        "volume": volume,
        "settings_hash": label.settings_hash,
        "audit": label.audit,
        "sites": _sites(label, frozenset(host.redox_elements)),
        "machines": sorted(hosts),
        "why": asdict(why(campaign, label)) if label.key in uses else None,
        "units": dict(UNITS),
    }


def one_label_table(document: dict[str, Any]) -> Group:
    """Return what is told of one label.

    Parameters
    ----------
    document
        What `one_label_document` returns.

    Returns
    -------
    Group
        What it is, then its redox sites.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from al_charge.report.terminal import Unbroken

    table = Table(
        title=Text(f"{document['formula']}, label {document['label']}"), show_header=False
    )
    table.add_column("what", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in _lines(document):
        table.add_row(Text(name), Unbroken(Text(value)))
    machines = ", ".join(document["machines"])
    # A path on a line of its own is never broken, which the terminal alone would undo in a copy.
    files = Text(
        f"files{machines and f' on {machines}'}:\n{document['directory']}",
        no_wrap=True,
        overflow="ignore",
    )
    sites = [_site_table(document["sites"])] if document["sites"] else []
    return Group(table, *sites, files)


def why_lines(document: dict[str, Any]) -> list[str]:
    """Return why a label was chosen, in sentences.

    Parameters
    ----------
    document
        What `one_label_document` returns.

    Returns
    -------
    list of str
        One or two lines; energies in meV per formula unit.
    """
    found = document["why"]
    if found is None:
        return ["No round of the campaign uses it: it explores another electronic state."]
    place = f", {found['place']} of {found['of']}" if found["place"] else ""
    reason = (found["reason"] or "no reason was recorded").replace("+-", "±")
    lines = [f"Round {found['round']}{place}: {reason}."]
    if found["origin"] in _ORIGINS:
        lines[0] += f" {_ORIGINS[found['origin']]}."
    if found["predicted"] is not None:
        error = document["energy_per_formula"] - found["predicted"]
        bar = "" if found["error_bar"] is None else f" ± {1e3 * found['error_bar']:.1f}"
        lines.append(
            f"Predicted {found['predicted']:.4f}{bar and f' eV{bar} meV'}, labelled "
            f"{document['energy_per_formula']:.4f} eV per formula unit: {1e3 * error:+.1f} meV."
        )
    return lines


def _lines(of: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of what is told of a label."""
    order = "as requested" if of["as_requested"] else "not as requested"
    order = "uncertain" if of["ambiguous"] else "delocalised" if of["delocalised"] else order
    energies = [f"{of['energy_per_formula']:.6f} eV per formula unit"]
    if of["distance_to_hull"] is not None:
        energies.append(f"{1e3 * of['formation_energy']:.1f} meV against the end members")
        above = 1e3 * of["distance_to_hull"]
        energies.append("on the hull" if not above else f"{above:.1f} meV above the hull")
    states = ", ".join(f"{number} {state}" for state, number in of["species"].items())
    moved = {"none": "single point", "ions": "ions relaxed", "cell": "ions and cell relaxed"}
    starts = "; ".join(f"{one['changed']}: {one['outcome']}" for one in of["attempts"])
    took = [] if of["wall_time"] is None else [f"{of['wall_time']:.0f} s"]
    took += [f"{of['cores']} core{'s' * (of['cores'] != 1)}"] if of["cores"] else []
    return [
        ("x", f"{of['x']}, {of['atoms']} atoms"),
        ("configuration", of["hash"]),
        ("energy", "\n".join(energies)),
        ("charge states", f"{states}; order {order}"),
        ("determined from", of["audit"] if of["moments"] or of["bader"] else _NO_MOMENTS),
        ("volume", f"{of['volume']:.3f} cubic angstrom per formula unit"),
        ("computed", f"{moved[of['relax']]}, {of['engine']}, settings {of['settings_hash']}"),
        *([("on no hull", of["refused"])] if of["refused"] else []),
        ("why", "\n".join(why_lines(of))),
        ("starts", starts or "1"),
        ("took", ", ".join(took) or "not known"),
        *([("imported", str(of["imported"]["file"]))] if of["imported"] else []),
    ]


def _site_table(sites: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("atom", "requested", "found")
    headings = {"moment": "moment", "bader": "Bader"}
    known = [name for name in headings if any(one[name] is not None for one in sites)]
    for name in known:
        table.add_column(headings[name], justify="right")
    for one in sites:
        numbers = ["" if one[name] is None else f"{one[name]:.3f}" for name in known]
        table.add_row(str(one["atom"]), one["requested"], one["found"], *numbers)
    return table


def _sites(label: LabelDoc, redox: frozenset[str]) -> list[dict[str, Any]]:
    return [
        {
            "atom": atom,
            "host_site": label.host_site[atom],
            "requested": asked,
            "found": label.states_found[atom],
            "moment": None if label.moments is None else label.moments[atom],
            "bader": None if label.bader is None else label.bader[atom],
        }
        for atom, asked in enumerate(label.requested)
        if element_of(asked) in redox
    ]


def _against_the_hull(campaign: Campaign, label: LabelDoc) -> dict[str, float | None]:
    """Return energies against the hull of all labels."""
    unknown: dict[str, float | None] = {"formation_energy": None, "distance_to_hull": None}
    if not usable(label):
        return unknown
    try:
        hull = labelled_hull(campaign).hull
    except AlChargeError:
        return unknown  # end members or metal are not labelled yet
    energy = campaign.cells.energy_of(label)
    entry = Entry(label.key, label.config_hash, Fraction(label.composition), energy)
    return {
        "formation_energy": hull.formation_energy(entry),
        "distance_to_hull": hull.distance(entry),
    }


def _formula(framework: str, ion: str, x: str) -> str:
    return framework if x == "0" else f"{ion}{'' if x == '1' else x}{framework}"
