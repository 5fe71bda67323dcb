"""The valence audit of an output, and the result of one labelling job, for people and machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from rich.console import Group
from rich.table import Table
from rich.text import Text

from al_charge.crystal.charges import redox_elements
from al_charge.crystal.species import charge_of, element_of
from al_charge.crystal.valence import Audit, Windows
from al_charge.labelers.hubbard import u_text
from al_charge.labelers.method import Method
from al_charge.labelers.outputs import Output
from al_charge.labelers.protocol import LabelResult
from al_charge.report.progress import counted


@dataclass(frozen=True)
class _Column:
    heading: str
    cell: Callable[[dict[str, Any]], str]
    number: bool = False


_COLUMNS = (
    _Column("site", lambda site: str(site["site"]), number=True),
    _Column("element", lambda site: str(site["element"])),
    _Column("moment (muB)", lambda site: _number(site["moment"], "{:.3f}"), number=True),
    _Column("Bader (e)", lambda site: _number(site["bader"], "{:+.3f}"), number=True),
    _Column("asked for", lambda site: str(site.get("asked_for", ""))),
    _Column("state", lambda site: str(site["state"] or "ambiguous")),
    _Column("why", lambda site: str(site["note"])),
)
"""Columns of a table of sites; one that would be empty is left out."""


def audit_document(
    output: Output,
    audit: Audit,
    species: Sequence[str],
    windows: Windows,
    determined: frozenset[str] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what is known about the charge states of an output, ready for JSON.

    Parameters
    ----------
    output
        What the engine wrote.
    audit
        The charge states found in it.
    species
        A species token for each atom, as the audit was given them.
    windows
        Moment windows that the audit used.
    determined
        Elements whose sites the engine determines the states of; None for those that have windows.
    warnings
        What else is to be known of the output, a line each.

    Returns
    -------
    dict
        ``certain`` says whether every charge state is beyond doubt; ``reasons`` why not. Moments
        are in Bohr magnetons, charges in e with cations positive, the energy in eV.
    """
    symbols = output.atoms.get_chemical_symbols()
    reasons = _reasons(output, audit, symbols)
    determined = windows.elements if determined is None else determined
    return {
        "source": str(output.source),
        "engine": output.engine,
        "formula": output.atoms.get_chemical_formula("metal"),
        "energy": output.energy,
        "converged": output.converged,
        "certain": not reasons,
        "summary": _summary(audit, symbols, determined),
        "reasons": reasons,
        "states": audit.count(determined),
        "charge": audit.charge,
        "bader_refused": output.bader_refused,
        "functional": None if output.method is None else output.method.functional,
        "hubbard_u": None if output.method is None else dict(output.method.hubbard_u),
        "warnings": list(warnings),
        "windows": {token: list(window) for token, window in sorted(windows.ranges.items())},
        "fixed": {
            symbol: charge_of(token)
            for symbol, token in zip(symbols, species, strict=True)
            if symbol not in determined
        },
        "sites": [
            {
                "site": i,
                "element": symbol,
                "moment": None if output.moments is None else float(output.moments[i]),
                "bader": None if output.bader is None else float(output.bader.net[i]),
                "state": audit.sites[i],
                "told": symbol in determined,
                "note": _note(i, symbol, output, audit, windows),
            }
            for i, symbol in enumerate(symbols)
        ],
    }


def label_document(
    result: LabelResult,
    numbers: Sequence[int],
    windows: Windows,
    *,
    relax: str,
    states_from: str,
    method: Method | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result of one labelling job, ready for JSON: its audit, and how it was made.

    Parameters
    ----------
    result
        What the labeler returned.
    numbers
        Atomic number of each atom.
    windows
        Moment windows that the audit used; empty for an engine without spin.
    relax
        What was moved: ``none``, ``ions`` or ``cell``.
    states_from
        Where the charge states that were asked for come from.
    method
        Functional and U; None for an engine without.
    warnings
        What else is to be known of the label, a line each.

    Returns
    -------
    dict
        What `audit_document` returns, with the last geometry (angstrom), forces (eV/angstrom),
        stress (eV/angstrom^3, None if not known), attempts, wall time (s) and cores.
    """
    reading, last = result.reading, result.reading.frames[-1]
    output = Output(
        source=result.directory,
        engine=reading.engine,
        atoms=Atoms(numbers, positions=last.positions, cell=last.cell, pbc=True),
        windows=windows,
        energy=last.energy,
        moments=reading.moments,
        converged=reading.converged,
        bader=reading.bader,
        bader_refused=reading.bader_refused,
        species=result.species,
        method=method,
    )
    redox = frozenset(redox_elements(output.atoms.get_chemical_symbols()))
    document = audit_document(output, result.audit, result.species, windows, redox, warnings)
    for site, species in zip(document["sites"], result.species, strict=True):
        site["asked_for"] = species
    return document | {
        "relax": relax,
        "states_from": states_from,
        "as_requested": result.audit.species == result.species,
        "delocalised": result.delocalised,
        "unusable": reading.unusable,
        "largest_force": float(np.linalg.norm(last.forces, axis=1).max()),
        "positions": last.positions.tolist(),
        "cell": last.cell.tolist(),
        "forces": last.forces.tolist(),
        "stress": None if last.stress is None else last.stress.tolist(),
        "attempts": [asdict(attempt) for attempt in result.attempts],
        "datasets": dict(reading.datasets),
        "wall_time": reading.wall_time,
        "cores": reading.cores,
    }


def audit_table(document: dict[str, Any], *, every_site: bool = False) -> Group:
    """Return the table of an audit: sites whose state was determined, then the summary.

    Parameters
    ----------
    document
        What `audit_document` or `label_document` returns.
    every_site
        Whether to list the sites of fixed charge too.

    Returns
    -------
    Group
        The table, left out where it would be empty, and lines of text.
    """
    shown = [site for site in document["sites"] if every_site or site["told"]]
    columns = [column for column in _COLUMNS if any(column.cell(site) for site in shown)]
    table = Table(title=Text(f"{document['formula']}, {document['engine']}"))
    for column in columns:
        table.add_column(column.heading, justify="right" if column.number else "left")
    for site in shown:
        style = "bold yellow" if site["note"] else ""
        table.add_row(*(Text(column.cell(site), style=style) for column in columns))
    lines = [Text(line) for line in _lines(document)]
    return Group(table, *lines) if shown else Group(*lines)


def _lines(document: dict[str, Any]) -> list[str]:
    lines = [document["source"]]
    if document["fixed"]:
        fixed = ", ".join(f"{symbol} {charge:+d}" for symbol, charge in document["fixed"].items())
        lines.append(f"assumed: {fixed}")
    if document["functional"] is not None:
        lines.append(f"{document['functional']}; U: {u_text(document['hubbard_u'])}")
    if document["energy"] is not None:
        lines.append(f"energy: {document['energy']:.6f} eV")
    if "wall_time" in document:
        relaxed = {"none": "static", "ions": "ions relaxed", "cell": "ions and cell relaxed"}
        lines.append(
            f"{relaxed[document['relax']]}; largest force {document['largest_force']:.4f} eV/A; "
            f"{document['wall_time']:.0f} s on {counted(document['cores'], 'core')}, "
            f"{counted(len(document['attempts']), 'start')}"
        )
        lines += [f"not comparable: {document['unusable']}"] if document["unusable"] else []
        asked = "as requested" if document["as_requested"] else "not as requested"
        lines.append(f"charge states {document['states_from']}; found {asked}")
        if document["delocalised"]:
            lines.append("delocalised: every attempt ended with sites that share a charge")
    lines.append(document["summary"])
    lines += [f"not certain: {reason}" for reason in document["reasons"]]
    return lines + [f"warning: {warning}" for warning in document["warnings"]]


def _summary(audit: Audit, symbols: Sequence[str], determined: frozenset[str]) -> str:
    parts = [f"{number} {token}" for token, number in audit.count(determined).items()]
    for element in sorted({symbols[i] for i in audit.ambiguous}):
        number = sum(symbols[i] == element for i in audit.ambiguous)
        parts.append(f"{number} {element} ambiguous")
    found = ", ".join(parts) or "no site whose moment determines a charge state"
    if audit.charge is None:
        return found
    return f"{found}; neutral" if audit.charge == 0 else f"{found}; charge {audit.charge:+d} e"


def _reasons(output: Output, audit: Audit, symbols: Sequence[str]) -> list[str]:
    reasons = []
    if not output.converged:
        reasons.append("the SCF of the last geometry did not converge")
    if audit.ambiguous:
        reasons.append(output.no_moments or _ambiguous(audit, symbols))
    if audit.contradicted:
        atoms = ", ".join(map(str, audit.contradicted))
        reasons.append(f"the Bader charges of sites {atoms} contradict their moments")
    if audit.charge:
        reasons.append(
            f"the charges sum to {audit.charge:+d} e: a state or a fixed charge is wrong"
        )
    if output.told is not None and output.doubt and audit.species is not None:
        reasons.append(output.doubt)
    if output.bader_refused:
        reasons.append(f"Bader charges refused: {output.bader_refused}")
    return reasons


def _ambiguous(audit: Audit, symbols: Sequence[str]) -> str:
    sites = ", ".join(f"{symbols[i]} {i}" for i in audit.ambiguous)
    return f"the moments of {sites} fit no charge state"


def _note(index: int, symbol: str, output: Output, audit: Audit, windows: Windows) -> str:
    if index in audit.contradicted:
        return "its Bader charge is that of another state"
    if index not in audit.ambiguous:
        return ""
    if output.moments is None:
        return "no moment"
    moment = abs(float(output.moments[index]))
    bounds = sorted(
        (window, token) for token, window in windows.ranges.items() if element_of(token) == symbol
    )
    below = [f"{token} (to {high:.2f})" for (_, high), token in bounds if high < moment]
    above = [f"{token} (from {low:.2f})" for (low, _), token in bounds if low > moment]
    if below and above:
        return f"between {below[-1]} and {above[0]}"
    if below or above:
        return f"above {below[-1]}" if below else f"below {above[0]}"
    return "its moment fits no charge state"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
