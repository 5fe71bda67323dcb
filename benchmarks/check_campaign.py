"""Check a campaign's hull against every distinct configuration of its host, for small hosts.

What the campaign has left open is labelled by its own labeler, at the geometry that the last
committee relaxed it to: configurations without a label, and those that were predicted to have a
lower geometry than any labelled one. The campaign itself is left as it is.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from al_charge.cli.target import Target
from al_charge.crystal.enumeration import count_distinct
from al_charge.errors import AlChargeError
from al_charge.labelers.labelling import make_label
from al_charge.loop.campaign import Campaign, atoms_of
from al_charge.loop.energies import labelled_hull
from al_charge.loop.label_document import windows_for
from al_charge.loop.request_ledger import request_ledger
from al_charge.store.documents import CandidateDoc
from al_charge.thermo.hull import Entry


def last_candidates(campaign: Campaign) -> list[CandidateDoc]:
    """Return every configuration that a committee has relaxed, as the last one left it."""
    found: dict[str, CandidateDoc] = {}
    for record in campaign.store.rounds.all(campaign.name):
        for candidate in campaign.store.candidates.all(campaign.name, record.number):
            if candidate.origin == "search":
                found[candidate.config_hash] = candidate
    return list(found.values())


def check(campaign: Campaign, candidate: CandidateDoc, folder: Path) -> dict[str, Any]:
    """Label one candidate and return where it lies."""
    units = campaign.host.formula_units
    assert candidate.energy is not None
    row: dict[str, Any] = {
        "x": candidate.composition,
        "hash": candidate.config_hash,
        "predicted": candidate.energy / units,
    }
    windows = windows_for(campaign, 10**6, candidate.composition)
    try:
        result = make_label(campaign.labeler, atoms_of(candidate.geometry), folder, windows=windows)
    except AlChargeError as error:
        return row | {"failed": str(error)}
    return row | {
        "labelled": result.reading.frames[-1].energy / units,
        "as_asked": result.resolved == result.species,
    }


def main() -> None:
    """Label what is open and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign")
    parser.add_argument("folder", type=Path, help="for the runs; what has ended is not run again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    campaign = Target(options.campaign, None).campaign()
    hull = labelled_hull(campaign).hull
    known = {entry.config_hash for entry in hull.entries}
    candidates = last_candidates(campaign)
    rows = []
    for candidate in request_ledger(campaign).needing_label(candidates):
        row = check(campaign, candidate, options.folder / candidate.config_hash)
        if "labelled" in row:
            entry = Entry(row["hash"], row["hash"], Fraction(row["x"]), row["labelled"])
            row["above_hull"] = hull.distance(entry)
        rows.append(row)
        print(json.dumps(row), flush=True)
    table = Table(
        "x", "configuration", "predicted, eV/f.u.", "labelled", "above the hull, meV/f.u."
    )
    for row in rows:
        told = (
            ("-", row["failed"])
            if "failed" in row
            else (f"{row['labelled']:.4f}", f"{1e3 * row['above_hull']:.1f}")
        )
        table.add_row(row["x"], row["hash"][:8], f"{row['predicted']:.4f}", *told)
    console = Console()
    console.print(table)
    seen = known | {candidate.config_hash for candidate in candidates}
    total = sum(count_distinct(campaign.host).values())
    console.print(
        f"{len(known)} of {total} configurations have a label of the "
        f"campaign, {len(seen)} were relaxed by its committees; {len(rows)} labelled here"
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
