"""Charts of labels: volume and lattice against x, moments and Bader charges by charge state."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.lattice import Lattice

from al_charge.crystal.parent import Matrix, Repeats, matrix_of
from al_charge.crystal.species import element_of
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.energies import labelled_hull
from al_charge.report.charts import Chart, Panel, Series, source_of
from al_charge.report.names import MAGNETON, X_UNIT, host_formula, ion, labeler_name
from al_charge.store.labels import LAST_CELL, WITHOUT_FRAMES
from al_charge.thermo.hull import Hull, pretty_formula

ANGLES = (
    ("alpha", "\N{GREEK SMALL LETTER ALPHA}"),
    ("beta", "\N{GREEK SMALL LETTER BETA}"),
    ("gamma", "\N{GREEK SMALL LETTER GAMMA}"),
)
SAME = 0.05
"""Angles are drawn that differ by more between labels, degrees."""
_UNITS = {
    "x": X_UNIT,
    "vertex": "whether it is on the hull",
    "relax": "what the label's run has moved: none, ions, or cell",
}


def volume(campaign: Campaign) -> Chart:
    """Return the volume of the labels against the composition.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each label that may be on the hull.

    Raises
    ------
    AlChargeError
        If there is no hull yet.
    """
    hull, rows = _cells(campaign)
    return Chart(
        kind="volume",
        title=f"{_formula(hull)} volume",
        source=source_of(campaign, *_remark(rows)),
        panels=(_panel(hull, rows, "volume", "Volume (Å³/f.u.)"),),
        rows=[{k: row[k] for k in ("label", "x", "vertex", "relax", "volume")} for row in rows],
        units=_UNITS | {"volume": "cubic angstrom per formula unit"},
    )


def lattice(campaign: Campaign) -> Chart:
    """Return the lattice parameters of the labels against the composition.

    They are those of the cell of the host's structure file, whatever supercell a label is in.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each label that may be on the hull; angles are drawn where they differ.

    Raises
    ------
    AlChargeError
        If there is no hull yet.
    """
    hull, rows = _cells(campaign)
    panels = [_panel(hull, rows, axis, f"{axis} (Å)") for axis in "abc"]
    for name, letter in ANGLES:
        if np.ptp([row[name] for row in rows]) > SAME:
            panels.append(_panel(hull, rows, name, f"{letter} (°)"))
    return Chart(
        kind="lattice",
        title=f"{_formula(hull)} lattice parameters",
        source=source_of(campaign, *_remark(rows)),
        panels=tuple(panels),
        rows=[{key: row[key] for key in row if key != "volume"} for row in rows],
        units=_UNITS
        | dict.fromkeys("abc", "angstrom, of the cell of the host's structure file")
        | dict.fromkeys(("alpha", "beta", "gamma"), "degrees, of that cell"),
    )


def moments(campaign: Campaign) -> Chart:
    """Return the magnetic moments of the redox sites by their charge state.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each redox site of each label.

    Raises
    ------
    AlChargeError
        If no label has moments.
    """
    return _by_state(
        campaign, "moments", f"Magnetic moment, absolute ({MAGNETON})", "Bohr magnetons"
    )


def charges(campaign: Campaign) -> Chart:
    """Return the Bader charges of the redox sites by their charge state.

    Parameters
    ----------
    campaign
        The campaign.

    Returns
    -------
    Chart
        One row for each redox site of each label.

    Raises
    ------
    AlChargeError
        If no label has Bader charges.
    """
    return _by_state(campaign, "charges", "Bader charge (e)", "e, net, cations positive")


def parent_lattice(supercell: Repeats | Matrix, cell: NDArray[np.float64]) -> Lattice:
    """Return the cell that a supercell repeats.

    Parameters
    ----------
    supercell
        Repeats, or its vectors in units of the cell's, as rows.
    cell
        Vectors of the supercell as rows, angstrom, shape (3, 3).

    Returns
    -------
    Lattice
        pymatgen's.
    """
    return Lattice(np.linalg.solve(np.array(matrix_of(supercell), dtype=float), cell))


def _cells(campaign: Campaign) -> tuple[Hull, list[dict[str, Any]]]:
    """Return the hull, and cells of all labels that may be on it, by composition."""
    found = labelled_hull(campaign)
    vertices = {vertex.key for vertex in found.hull.vertices}
    rows = []
    for key, cell in campaign.store.labels.read(LAST_CELL, keys=list(found.labels)):
        label = found.labels[key]
        host = campaign.cells.of(label)
        vectors = np.array(cell)
        parent = parent_lattice(host.supercell, vectors)
        names = ("a", "b", "c", "alpha", "beta", "gamma")
        rows.append(
            {
                "label": key,
                "x": label.composition,
                "vertex": key in vertices,
                "relax": label.relax,
                "volume": float(abs(np.linalg.det(vectors))) / host.formula_units,
                **{
                    name: float(value) for name, value in zip(names, parent.parameters, strict=True)
                },
            }
        )
    return found.hull, sorted(rows, key=lambda row: (Fraction(str(row["x"])), row["label"]))


def _remark(rows: list[dict[str, Any]]) -> list[str]:
    """Return a remark where cells are as they were guessed, since no label has relaxed any."""
    return [] if any(row["relax"] == "cell" for row in rows) else ["no cell was relaxed"]


def _panel(hull: Hull, rows: list[dict[str, Any]], key: str, label: str) -> Panel:
    drawn = []
    for number, (name, kind, on_hull) in enumerate(
        (("hull vertices", "line", True), ("other labels", "points", False))
    ):
        some = [row for row in rows if row["vertex"] == on_hull]
        if some:
            drawn.append(
                Series(
                    name=name,
                    x=[float(Fraction(row["x"])) for row in some],
                    y=[row[key] for row in some],
                    kind="line" if kind == "line" else "points",
                    style=number,
                    texts=[f"label {row['label'][:8]}<br>{row[key]:.4g}" for row in some],
                )
            )
    compositions = tuple(sorted({Fraction(row["x"]) for row in rows}))
    return Panel(_formula(hull), label, tuple(drawn), compositions=compositions)


def _by_state(campaign: Campaign, kind: str, label: str, unit: str) -> Chart:
    rows = sorted(_sites(campaign, kind), key=lambda row: (Fraction(row["x"]), row["label"]))
    if not rows:
        name = labeler_name(campaign.spec.labeler.kind)
        what = "moments" if kind == "moments" else "Bader charges"
        raise AlChargeError(
            f"no label has {what}",
            where=f"campaign '{campaign.name}'",
            remedy=f"its engine is {name}",
        )
    drawn = [
        Series(
            name=ion(state),
            x=[float(Fraction(row["x"])) for row in rows if row["state"] == state],
            y=[row["value"] for row in rows if row["state"] == state],
            style=number,
            texts=[
                f"label {row['label'][:8]}, atom {row['atom']}<br>{row['value']:.3f}"
                for row in rows
                if row["state"] == state
            ],
        )
        for number, state in enumerate(sorted({row["state"] for row in rows}))
    ]
    framework, working = campaign.framework, campaign.spec.host.working_ion
    formula = host_formula(pretty_formula(framework, working), working)
    compositions = tuple(sorted({Fraction(row["x"]) for row in rows}))
    what = "magnetic moments" if kind == "moments" else "Bader charges"
    return Chart(
        kind=kind,
        title=f"{formula} {what} by charge state",
        source=source_of(campaign),
        panels=(Panel(formula, label, tuple(drawn), compositions=compositions),),
        rows=rows,
        units={"x": X_UNIT, "value": unit, "state": "as it was found; Fe? where uncertain"},
    )


def _sites(campaign: Campaign, kind: str) -> Iterator[dict[str, Any]]:
    redox = frozenset(campaign.host.redox_elements)
    for label in campaign.store.labels.read(WITHOUT_FRAMES, campaign=campaign.name):
        values = label.moments if kind == "moments" else label.bader
        if values is None or label.unusable:
            continue
        for atom, (asked, state, value) in enumerate(
            zip(label.requested, label.states_found, values, strict=True)
        ):
            if element_of(asked) in redox:
                yield {
                    "label": label.key,
                    "x": label.composition,
                    "atom": atom,
                    "state": state,
                    "value": abs(value) if kind == "moments" else value,
                }


def _formula(hull: Hull) -> str:
    return host_formula(hull.framework, hull.working_ion)
