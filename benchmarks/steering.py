"""Print how often a labeler finds the charge order that it was asked for, steered and not steered.

For some configurations of every mixed composition, at sites interpolated between the empty and the
filled host, which favour no charge order: started from the moments of the charge states alone, and
started from a density of distorted shells, harder while the order is lost. Then at the geometry
that a campaign starts from, whose shells fit the charge states. Needs GPAW; each row is some DFT
runs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.errors import AlChargeError
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.labelling import make_label
from al_charge.loop.spec import load_spec


def undistorted(file: Path) -> dict[str, list[Atoms]]:
    """Return the mixed configurations on interpolated sites, by composition."""
    spec = load_spec(file)
    full = read_structure(spec.host.structure)
    host = Host.build(spec.host, full)
    assert spec.host.empty_structure is not None, "the campaign names no empty structure"
    empty = match_empty(full, read_structure(spec.host.empty_structure), spec.host.working_ion)
    found: dict[str, list[Atoms]] = defaultdict(list)
    for n in host.ion_counts[1:-1]:
        sites = interpolated_host(host, full, empty, n)
        found[str(host.composition(n))] = [
            to_atoms(sites, config) for config in enumerate_distinct(host, n)
        ]
    return found


def outcome(labeler: GpawLabeler, atoms: Atoms, folder: Path) -> tuple[str, list[float]]:
    """Return what became of a charge order, and the moments of the redox sites."""
    try:
        result = make_label(labeler, atoms, folder)
    except AlChargeError as error:
        return f"failed: {error}"[:120], []
    assert result.reading.moments is not None
    moments = [float(m) for m in result.reading.moments if abs(m) > 1.0]
    if result.resolved is None:
        return "ambiguous", moments
    return ("as asked" if result.resolved == result.species else "another"), moments


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", type=Path, help="file of a GPAW campaign")
    parser.add_argument("folder", type=Path, help="for the runs; what has ended is not run again")
    parser.add_argument("--each", type=int, default=2, help="configurations of each composition")
    parser.add_argument("--cutoff", default="450 eV")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    plain: dict[str, Any] = {"mode": "pw", "cutoff": options.cutoff, "bader": False}
    plain["kpoints"] = (1, 1, 1)
    # One attempt at each density: what is compared is where it starts from.
    plain |= {"scf_ladder": False, "max_iterations": 80}
    alone = GpawLabeler(GpawSettings(**plain, shell_distortion="0 A", tries=1))
    steered = GpawLabeler(GpawSettings(**plain))
    cases = (
        ("undistorted", "moments alone", alone, 0.0),
        ("shells fit the states", "moments", steered, SHELL_DISTORTION),
        ("undistorted", "moments and distorted start", steered, 0.0),
    )
    rows = []
    configurations = undistorted(options.campaign)
    for geometry, start, labeler, shells in cases:
        for x, structures in configurations.items():
            for number, atoms in enumerate(structures[: options.each]):
                name = f"{x.replace('/', '_')}-{number}-{start.replace(' ', '_')}-{shells:g}"
                moved = distort_shells(atoms, shells) if shells else atoms
                began = time.monotonic()
                found, moments = outcome(labeler, moved, options.folder / name)
                row = {"x": x, "geometry": geometry, "start": start, "found": found}
                rows.append(row | {"moments": moments, "seconds": time.monotonic() - began})
                print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    table = Table("x", "geometry", "start", "as asked", "otherwise")
    groups: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        groups[row["x"], row["geometry"], row["start"]][row["found"].split(":")[0]] += 1
    for key, counts in groups.items():
        rest = ", ".join(f"{n} {what}" for what, n in counts.items() if what != "as asked")
        table.add_row(*key, f"{counts['as asked']} of {counts.total()}", rest)
    Console().print(table)


if __name__ == "__main__":
    main()
