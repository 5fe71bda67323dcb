"""Label every distinct configuration of a campaign's host, and print the hull that is true.

The labeler is the campaign's own, so the result is the answer that the campaign has to find with a
fraction of the labels. Besides the hull it is counted how many configurations lie within 1 meV per
formula unit of the lowest of their composition, and checked whether every relaxed geometry,
by the positions of its ions, still is the configuration it started as.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from al_charge.crystal.configuration import (
    Configuration,
    composition,
    from_atoms,
    ion_count,
    to_atoms,
)
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash, multiplicity
from al_charge.errors import AlChargeError
from al_charge.labelers import make_labeler
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import Frame, settings_hash
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.thermo.hull import Entry, Hull, build_hull

CAMPAIGN = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
DEGENERATE = 1e-3
"""Configurations this close to the lowest of their composition are counted, eV/f.u."""


@dataclass(frozen=True)
class Job:
    """What a worker process needs to label a configuration of a host."""

    spec: CampaignSpec
    host: Host

    @classmethod
    def of(cls, supercell: tuple[int, ...]) -> Job:
        """Return the job of the olivine campaign in another supercell."""
        spec = load_spec(CAMPAIGN)
        host_spec = spec.host.model_copy(update={"supercell": supercell})
        return cls(spec.model_copy(update={"host": host_spec}), Host.from_spec(host_spec))

    def start(self, config: Configuration) -> Atoms:
        """Return where the relaxation of a configuration starts."""
        return to_atoms(self.host, config)

    def label(self, config: Configuration) -> dict[str, Any]:
        """Return the record of one configuration, with ``error`` where the labeler failed."""
        atoms = self.start(config)
        record: dict[str, Any] = {
            "hash": canonical_hash(self.host, config),
            "occupation": list(config.occupation),
            "multiplicity": multiplicity(self.host, config),
            "n_ions": ion_count(self.host, config),
            "x": str(composition(self.host, config)),
        }
        began = time.process_time()
        try:
            with tempfile.TemporaryDirectory() as folder:
                result = make_label(make_labeler(self.spec.labeler), atoms, Path(folder))
        except AlChargeError as error:
            return record | {"error": str(error)}
        first, last = result.reading.frames[0], result.reading.frames[-1]
        return record | {
            "energy_per_formula": last.energy / self.host.formula_units,
            "unrelaxed_energy_per_formula": first.energy / self.host.formula_units,
            "same_configuration": self._is_still(config, last, result.resolved),
            "cpu_seconds": time.process_time() - began,
        }

    def _is_still(
        self, config: Configuration, frame: Frame, resolved: tuple[str, ...] | None
    ) -> bool:
        """Say whether a relaxed geometry, matched by positions, is still its configuration."""
        atoms = to_atoms(self.host, config)
        if resolved is None or list(resolved) != [str(t) for t in atoms.arrays["species"]]:
            return False
        del atoms.arrays["host_site"]
        atoms.set_cell(frame.cell, scale_atoms=False)
        atoms.positions = frame.positions
        try:
            found = from_atoms(self.host, atoms)
        except AlChargeError:
            return False
        return canonical_hash(self.host, found) == canonical_hash(self.host, config)


def label_all(
    job: Job, configurations: list[Configuration], processes: int, console: Console
) -> list[dict[str, Any]]:
    """Return the records of all configurations, in order, with a progress bar meanwhile."""
    # Workers that share cores are several times slower with more than one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeRemainingColumn())
    with context.Pool(processes) as pool, Progress(*columns, console=console) as progress:
        done: Iterator[dict[str, Any]] = pool.imap(job.label, configurations, chunksize=4)
        return list(progress.track(done, total=len(configurations), description="labels"))


def true_hull(job: Job, records: list[dict[str, Any]]) -> Hull:
    """Build the hull of all labels."""
    host, spec = job.host, job.spec
    return build_hull(
        [
            Entry(r["hash"], r["hash"], host.composition(r["n_ions"]), r["energy_per_formula"])
            for r in records
            if "error" not in r
        ],
        framework=host.framework,
        working_ion=spec.host.working_ion,
        metal_energy=metal_energy(job),
        ends=(host.composition(host.ion_counts[0]), host.composition(host.ion_counts[-1])),
    )


def metal_energy(job: Job) -> float:
    """Return the energy of the working-ion metal by the campaign's labeler, eV/atom."""
    with tempfile.TemporaryDirectory() as folder:
        labeler = make_labeler(job.spec.labeler)
        return labeler.metal_energy(job.spec.host.working_ion, Path(folder))


def summary(hull: Hull) -> list[dict[str, Any]]:
    """Return one row per composition: lowest energy, twins, and the width of the spectrum."""
    rows = []
    for x in sorted({entry.x for entry in hull.entries}):
        entries = [entry for entry in hull.entries if entry.x == x]
        lowest = entries[0]
        rows.append(
            {
                "x": str(x),
                "configurations": len(entries),
                "lowest_hash": lowest.config_hash,
                "energy_per_formula": lowest.energy,
                "formation_energy": hull.formation_energy(lowest),
                "above_hull": hull.distance(lowest),
                "vertex": lowest in hull.vertices,
                "within_1_mev": sum(e.energy - lowest.energy < DEGENERATE for e in entries),
                "spread": entries[-1].energy - lowest.energy,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table; energies in meV per formula unit."""
    result = Table(title="Exhaustive hull, meV per formula unit")
    for heading in ("x", "labels", "formation", "above hull", "vertex", "within 1 meV", "spread"):
        result.add_column(heading, justify="right")
    for row in rows:
        result.add_row(
            row["x"],
            str(row["configurations"]),
            f"{1e3 * row['formation_energy']:.2f}",
            f"{1e3 * row['above_hull']:.2f}",
            "yes" if row["vertex"] else "",
            str(row["within_1_mev"]),
            f"{1e3 * row['spread']:.1f}",
        )
    return result


def main() -> None:
    """Label, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", type=Path, nargs="?", default=CAMPAIGN)
    parser.add_argument(
        "--supercell", type=int, nargs=3, metavar=("A", "B", "C"), help="instead of the campaign's"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("exhaustive_hull.json"))
    arguments = parser.parse_args()
    spec = load_spec(arguments.campaign)
    if arguments.supercell:
        host_spec = spec.host.model_copy(update={"supercell": tuple(arguments.supercell)})
        spec = spec.model_copy(update={"host": host_spec})
    job = Job(spec, Host.from_spec(spec.host))
    configurations = [c for n in job.host.ion_counts for c in enumerate_distinct(job.host, n)]

    console = Console()
    began = time.monotonic()
    records = label_all(job, configurations, arguments.processes, console)
    seconds = time.monotonic() - began
    hull = true_hull(job, records)
    rows = summary(hull)
    failed = [record for record in records if "error" in record]
    moved = [r for r in records if "error" not in r and not r["same_configuration"]]
    console.print(table(rows))
    console.print(
        f"{len(records)} labels in {seconds:.0f} s, {len(failed)} failed, "
        f"{len(moved)} with an ion far from its site after relaxation"
    )
    labeler = make_labeler(spec.labeler)
    document = {
        "host": job.host.fingerprint,
        "supercell": list(spec.host.supercell),
        "settings": labeler.settings(),
        "settings_hash": settings_hash(labeler),
        "seconds": seconds,
        "vertices": [row["x"] for row in rows if row["vertex"]],
        "compositions": rows,
        "configurations": records,
    }
    arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
