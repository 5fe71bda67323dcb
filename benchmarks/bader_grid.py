"""Print how Bader charges of GPAW densities depend on the grid that they are written on.

For each saved calculation and grid refinement: the points of the grid, by how many electrons the
sums of the all-electron density (which GPAW repairs) and of the valence density (which it does not)
miss their numbers, the sum of the charges, the largest change of an atom's charge since the grid
before, and the charges themselves, averaged over atoms of one element and moment (their spread is
beside them, if it is 0.001 e or more). Needs a Python with GPAW and al-charge. Without a
file, rock-salt MnO is computed first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from rich.console import Console
from rich.table import Table

from al_charge.labelers.bader import from_density
from al_charge.labelers.protocol import Array

MOMENT = 0.2
"""Bohr magnetons by which moments of one kind of atom may differ."""


def compute_small_cell(path: Path) -> Path:
    """Compute two atoms of MnO in plane waves and return the file they are saved in."""
    from gpaw import GPAW, PW

    atoms = bulk("MnO", "rocksalt", a=4.44)
    atoms.set_initial_magnetic_moments([5.0, 0.0])
    atoms.calc = GPAW(
        mode=PW(400),
        xc="PBE",
        kpts={"size": (2, 2, 2), "gamma": True},
        occupations={"name": "fermi-dirac", "width": 0.05},
        txt=None,
    )
    atoms.get_potential_energy()
    atoms.calc.write(str(path))
    return path


def kinds(atoms: Atoms, moments: Array) -> dict[str, list[int]]:
    """Return the atoms of each element and moment."""
    groups: dict[str, list[int]] = {}
    for atom, (symbol, moment) in enumerate(zip(atoms.symbols, moments, strict=True)):
        for members in groups.values():
            first = members[0]
            if atoms.symbols[first] == symbol and abs(moments[first] - moment) < MOMENT:
                members.append(atom)
                break
        else:
            groups[f"{symbol} ({moment:.2f} muB)"] = [atom]
    return groups


def measure(calculator: Any, refinement: int) -> dict[str, Any]:
    """Return sums and charges on one grid; electrons, and charges in e."""
    atoms = calculator.get_atoms() if hasattr(calculator, "get_atoms") else calculator.atoms
    start = time.perf_counter()
    density, valence = (
        np.asarray(
            calculator.get_all_electron_density(gridrefinement=refinement, skip_core=skip_core)
        )
        for skip_core in (False, True)
    )
    wrote = time.perf_counter()
    per_atom = np.array([setup.Nv for setup in calculator.dft.setups], dtype=float)
    volume = atoms.get_volume()
    net = from_density(density, atoms, atoms.numbers).net
    groups = kinds(atoms, np.asarray(calculator.get_magnetic_moments(), dtype=float))
    return {
        "refinement": refinement,
        "grid": list(density.shape),
        "spacing": float((volume / density.size) ** (1 / 3)),
        "all_electron_excess": float(density.mean() * volume - atoms.numbers.sum()),
        "valence_excess": float(valence.mean() * volume - per_atom.sum()),
        "atoms": len(atoms),
        "net_sum": float(net.sum()),
        "net": net.tolist(),
        "kinds": {
            name: {"mean": float(net[members].mean()), "spread": float(np.ptp(net[members]))}
            for name, members in groups.items()
        },
        "density_seconds": wrote - start,
        "bader_seconds": time.perf_counter() - wrote,
    }


def table(name: str, records: list[dict[str, Any]]) -> Table:
    """Return one calculation's records as a table."""
    result = Table(title=name)
    columns = ["refinement", "grid", "all electrons", "valence", "sum of charges", "change"]
    for heading in [*columns, *records[0]["kinds"]]:
        result.add_column(heading, justify="right")
    before = None
    for record in records:
        net = np.array(record["net"])
        change = "" if before is None else f"{np.abs(net - before).max():.3f}"
        before = net
        charges = [
            f"{kind['mean']:+.3f}" + (f" ({kind['spread']:.3f})" if kind["spread"] >= 1e-3 else "")
            for kind in record["kinds"].values()
        ]
        result.add_row(
            str(record["refinement"]),
            "x".join(map(str, record["grid"])),
            f"{record['all_electron_excess']:+.4f}",
            f"{record['valence_excess']:+.4f}",
            f"{record['net_sum']:+.4f}",
            change,
            *charges,
        )
    return result


def main() -> None:
    """Measure, print the tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("calculations", nargs="*", type=Path, help="saved .gpw files")
    parser.add_argument("--refinements", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", type=Path, default=Path("bader_grid.json"))
    arguments = parser.parse_args()

    from gpaw import GPAW

    console = Console()
    documents = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = arguments.calculations or [compute_small_cell(Path(folder) / "MnO.gpw")]
        for path in paths:
            calculator = GPAW(str(path), txt=None)
            records = [measure(calculator, factor) for factor in arguments.refinements]
            documents[path.stem] = records
            console.print(table(path.stem, records))
            arguments.json.write_text(json.dumps(documents, indent=1))


if __name__ == "__main__":
    main()
