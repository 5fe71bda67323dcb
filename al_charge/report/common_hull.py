"""Campaigns of one composition, such as polymorphs, on one hull."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from al_charge.crystal.formula import amounts_in
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.dft.kpoints import are_alike
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import label_entries, usable
from al_charge.rehearsal.settings import ModelSettings
from al_charge.report import documents
from al_charge.report.charts import Chart, Panel, Series
from al_charge.report.compared import labeler_differences
from al_charge.report.names import host_formula, labeler_name, labeler_remark
from al_charge.store.labels import SUMMARY
from al_charge.thermo.hull import Entry, Hull, build_hull
from al_charge.thermo.voltage import voltage_profile

if TYPE_CHECKING:
    from rich.console import Group

SAME_METAL = 1e-4
"""eV/atom by which energies of one metal may differ: what two machines make of it."""
BANDS = "Sampled bands of single campaigns do not hold for a common hull and are not shown."
TRANSFORMING = "The voltages assume that one host can transform into another."


@dataclass(frozen=True)
class CommonHull:
    """The hull of several campaigns.

    Attributes
    ----------
    hull
        All entries, per formula unit of the first campaign.
    units
        How many formula units of each campaign make one of the first, by name, in order.
    of
        The campaign that an entry is of, by the entry's key.
    """

    hull: Hull
    units: dict[str, Fraction]
    of: dict[str, str]


def common_hull(campaigns: Sequence[Campaign]) -> CommonHull:
    """Put all usable labels of several campaigns on one hull.

    Parameters
    ----------
    campaigns
        Two or more of the same composition; hosts may differ.

    Returns
    -------
    CommonHull
        Of each configuration its lowest label. The end members are the lowest of all campaigns at
        the smallest and the largest x that any of them allows. A label that several campaigns use
        is of the first of them.

    Raises
    ------
    InputError
        If they cannot stand together: another composition, working ion, metal or settings.
    AlChargeError
        If the metal or, in every campaign, an end member has no label yet.
    """
    units = _formula_units(campaigns)
    first = campaigns[0]
    for other in campaigns[1:]:
        _refuse_other_energies(first, other)
    entries: list[Entry] = []
    of: dict[str, str] = {}
    for campaign in campaigns:
        labels = campaign.store.labels.read(SUMMARY, campaign=campaign.name)
        for entry in label_entries(campaign, [one for one in labels if usable(one)]):
            if entry.key not in of:
                of[entry.key] = campaign.name
                per = units[campaign.name]
                entries.append(replace(entry, x=entry.x * per, energy=entry.energy * float(per)))
    ends = [Fraction(x) * units[one.name] for one in campaigns for x in one.cells.ends]
    for end in (min(ends), max(ends)):
        if all(entry.x != end for entry in entries):
            raise AlChargeError(
                f"no campaign has a usable label of the end member x = {end}",
                where=" ".join(units),
                remedy="label it in one of them first",
            )
    hull = build_hull(
        entries,
        framework=first.framework,
        working_ion=first.spec.host.working_ion,
        metal_energy=first.metal_energy,
        working_ion_charge=first.host.working_ion_charge,
    )
    return CommonHull(hull, units, of)


def common_hull_document(campaigns: Sequence[Campaign], found: CommonHull) -> dict[str, Any]:
    """Return the hull of several campaigns as a JSON document.

    Parameters
    ----------
    campaigns
        The campaigns.
    found
        Their hull.

    Returns
    -------
    dict
        ``vertices`` and ``entries`` as in the document of one campaign, each with its
        ``campaign``; ``ends`` are the vertices that energies refer to; ``steps`` the plateaus.
    """
    hull, spec = found.hull, campaigns[0].spec
    profile = voltage_profile(hull)

    def told(entry: Entry) -> dict[str, Any]:
        return {"campaign": found.of[entry.key], **documents.entry_document(hull, entry)}

    vertices = [told(vertex) for vertex in hull.vertices]
    shared = ("x", "energy_per_formula", "formation_energy", "distance_to_hull")
    voltages = ("x_from", "x_to", "voltage", "mean_voltage")
    return {
        "campaigns": [
            {
                "campaign": one.name,
                "state": one.store.campaigns.state(one.name).value,
                "framework": one.framework,
                "formula_units": str(found.units[one.name]),
                "vertices": sum(vertex["campaign"] == one.name for vertex in vertices),
                "entries": sum(name == one.name for name in found.of.values()),
            }
            for one in campaigns
        ],
        "labeler": labeler_name(spec.labeler.kind),
        "labeler_kind": spec.labeler.kind,
        "labeler_remark": labeler_remark(spec.labeler),
        "working_ion": hull.working_ion,
        "framework": hull.framework,
        "formula": host_formula(hull.framework, hull.working_ion),
        "metal_energy": hull.metal_energy,
        "ends": [vertices[0], vertices[-1]],
        "vertices": vertices,
        "entries": [told(entry) for entry in hull.entries],
        "steps": [
            {"x_from": str(step.x_from), "x_to": str(step.x_to), "voltage": step.voltage}
            for step in profile.steps
        ],
        "mean_voltage": profile.mean,
        "units": {name: documents.HULL_UNITS[name] for name in shared}
        | {name: documents.VOLTAGE_UNITS[name] for name in voltages}
        | {
            "metal_energy": "eV per atom",
            "formula_units": "of the campaign, in one formula unit of this hull",
        },
    }


def common_hull_table(document: dict[str, Any]) -> Group:
    """Return the tables of the hull of several campaigns.

    Parameters
    ----------
    document
        What `common_hull_document` returns.

    Returns
    -------
    Group
        One row for each composition of each campaign, in meV per formula unit; then the voltages.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names = [one["campaign"] for one in document["campaigns"]]
    low, high = document["ends"]
    remark = document["labeler_remark"]
    caption = [
        f"{remark[0].upper()}{remark[1:]}." if remark else "",
        f"Per formula unit of {names[0]}, against x = {low['x']} of {low['campaign']} and "
        f"x = {high['x']} of {high['campaign']}, in meV.",
        *(
            f"{one['formula_units']} of {one['framework']} of {one['campaign']} make one."
            for one in document["campaigns"]
            if one["formula_units"] != "1"
        ),
        f"{len(document['entries'])} labelled configurations; --json lists them all.",
        BANDS,
    ]
    title = f"{document['formula']} hull of {', '.join(names)}, labeler: {document['labeler']}"
    table = Table(title=Text(title), caption=Text(" ".join(filter(None, caption))))
    for heading in ("x", "formula", "campaign"):
        table.add_column(heading)
    for heading in ("formation energy", "above hull", "labelled"):
        table.add_column(heading, justify="right")
    table.add_column("label")
    vertices = {one["label"] for one in document["vertices"]}
    groups: dict[tuple[Fraction, int], list[dict[str, Any]]] = {}
    for entry in document["entries"]:
        place = Fraction(entry["x"]), names.index(entry["campaign"])
        groups.setdefault(place, []).append(entry)
    for _, entries in sorted(groups.items()):
        lowest = entries[0]
        is_vertex = lowest["label"] in vertices
        above = "vertex" if is_vertex else f"{1e3 * lowest['distance_to_hull']:.1f}"
        above += f", {lowest['remark']}" if "remark" in lowest else ""
        texts = [lowest["x"], lowest["formula"], lowest["campaign"]]
        texts += [f"{1e3 * lowest['formation_energy']:.1f}", above, str(len(entries))]
        style = "bold" if is_vertex else "dim"
        table.add_row(*(Text(text, style=style) for text in [*texts, lowest["label"][:8]]))
    voltages = Table(caption=TRANSFORMING, show_footer=True)
    voltages.add_column("from x", footer="mean")
    voltages.add_column("to x")
    voltages.add_column("between")
    heading = f"V against {document['working_ion']} metal"
    voltages.add_column(heading, justify="right", footer=f"{document['mean_voltage']:.3f}")
    both = pairwise(document["vertices"])
    for step, (left, right) in zip(document["steps"], both, strict=True):
        between = " and ".join(dict.fromkeys((left["campaign"], right["campaign"])))
        row = (step["x_from"], step["x_to"], between, f"{step['voltage']:.3f}")
        voltages.add_row(*map(Text, row))
    return Group(table, voltages)


def common_hull_chart(document: dict[str, Any]) -> Chart:
    """Return the hull of several campaigns as a chart: points by campaign, in colour and shape.

    Parameters
    ----------
    document
        What `common_hull_document` returns.

    Returns
    -------
    Chart
        One row for each entry.
    """
    names = [one["campaign"] for one in document["campaigns"]]
    vertices = {one["label"] for one in document["vertices"]}
    series = [_points("common hull", document["vertices"], 0)]
    for number, name in enumerate(names, start=1):
        entries = [one for one in document["entries"] if one["campaign"] == name]
        series.append(_points(name, entries, number))
    remark = document["labeler_remark"]
    source = f"{document['labeler']}, campaigns {', '.join(names)}"
    shown = ("x", "formula", "energy_per_formula", "formation_energy", "distance_to_hull")
    return Chart(
        kind="hull",
        title=f"{document['formula']} hull of {', '.join(names)}",
        source="\n".join([source, *([remark] if remark else [])]),
        panels=(
            Panel(
                document["formula"],
                "Formation energy (meV/f.u.)",
                tuple(series),
                tuple(sorted({Fraction(one["x"]) for one in document["entries"]})),
            ),
        ),
        rows=[
            {"campaign": one["campaign"]}
            | {name: one[name] for name in shown}
            | {
                "vertex": one["label"] in vertices,
                "label": one["label"],
                "hash": one["hash"],
                "remark": one.get("remark", ""),
            }
            for one in document["entries"]
        ],
        units=document["units"],
    )


def _points(name: str, entries: Sequence[dict[str, Any]], number: int) -> Series:
    return Series(
        name=name,
        x=[float(Fraction(one["x"])) for one in entries],
        y=[1e3 * one["formation_energy"] for one in entries],
        kind="points" if number else "line",
        style=number,
        texts=[
            f"{one['campaign']}: {one['formula']}<br>{1e3 * one['formation_energy']:.1f} meV, "
            f"{1e3 * one['distance_to_hull']:.1f} above the hull<br>label {one['label'][:8]}"
            for one in entries
        ],
    )


def _formula_units(campaigns: Sequence[Campaign]) -> dict[str, Fraction]:
    """Return how many formula units of each campaign make one of the first."""
    if len(campaigns) < 2:
        raise InputError("a common hull needs two or more campaigns", where="hull")
    first = campaigns[0]
    whole = amounts_in(first.framework)
    units: dict[str, Fraction] = {}
    for campaign in campaigns:
        if campaign.name in units:
            raise InputError(f"campaign '{campaign.name}' is given twice", where="hull")
        ion, usual = campaign.spec.host.working_ion, first.spec.host.working_ion
        if (ion, campaign.host.working_ion_charge) != (usual, first.host.working_ion_charge):
            raise _apart(
                first,
                campaign,
                f"the working ions are {usual} ({first.host.working_ion_charge:+d}) and "
                f"{ion} ({campaign.host.working_ion_charge:+d})",
            )
        amounts = amounts_in(campaign.framework)
        ratios = {whole.get(el, Fraction(0)) / number for el, number in amounts.items()}
        if amounts.keys() != whole.keys() or len(ratios) != 1:
            raise _apart(
                first,
                campaign,
                f"without {usual} they are {first.framework} and {campaign.framework}",
            )
        (units[campaign.name],) = ratios
    return units


def _refuse_other_energies(first: Campaign, other: Campaign) -> None:
    """Refuse two campaigns whose energies are not on one scale."""
    rehearsals = [isinstance(one.spec.labeler, ModelSettings) for one in (first, other)]
    if rehearsals[0] != rehearsals[1]:
        name = (first if rehearsals[0] else other).name
        raise _apart(first, other, f"'{name}' is a rehearsal, whose energies are not of DFT")
    if first.settings_hash != other.settings_hash:
        told = [
            f"{one['name']} is {one['first']} and {one['second']}"
            for one in labeler_differences(first, other)
        ]
        raise _apart(first, other, f"their settings differ: {', '.join(told)}")
    grid: Any = first.physical_settings.get("kpoints")
    if isinstance(grid, list):  # a spacing suits cells of every size
        cells = [
            host.structure.lattice.matrix for one in (first, other) for host in one.cells.hosts
        ]
        if not all(are_alike(grid, cells[0], grid, cell) for cell in cells):
            atoms = [len(one.host.elements) for one in (first, other)]
            raise _apart(
                first,
                other,
                f"k-points {'x'.join(map(str, grid))} do not mean the same in their cells, of "
                f"{atoms[0]} and {atoms[1]} sites; label with 'kpoint_spacing'",
            )
    metals = first.metal_energy, other.metal_energy
    if abs(metals[0] - metals[1]) > SAME_METAL:
        raise _apart(
            first,
            other,
            f"{first.spec.host.working_ion} metal has {metals[0]:.4f} and {metals[1]:.4f} eV",
        )


def _apart(first: Campaign, other: Campaign, why: str) -> InputError:
    return InputError(f"they cannot share a hull: {why}", where=f"{first.name} {other.name}")
