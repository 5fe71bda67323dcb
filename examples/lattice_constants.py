"""Lattice constants of FePO4 and NaFePO4 with a stored potential, beside its labels and experiment.

    python examples/lattice_constants.py nafepo4.safetensors

Ions and cell are relaxed from the experimental structures in ``workflows/hosts``. All iron of one
is Fe3+, of the other Fe2+: the calculator tells so from neutrality.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS

from al_charge.potentials import load

# SciPy's, about the logarithm of a strain that is right to twelve digits
warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = {"FePO4": (9.81, 5.79, 4.78), "NaFePO4": (10.406, 6.219, 4.947)}
"""a, b, c in angstrom of the olivines, Pnma: Rousse et al., Chem. Mater. 15, 4082 (2003), and
Moreau et al., Chem. Mater. 22, 4126 (2010)."""


def relaxed(atoms: Atoms, fmax: float = 0.02) -> Atoms:
    """Relax ions and cell to forces of ``fmax`` eV/angstrom."""
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
    if not optimizer.run(fmax=fmax, steps=300):
        raise SystemExit(f"{atoms.symbols} did not relax: is the potential trained on it?")
    return atoms


def lowest_label(data: Path, x: float) -> Atoms:
    """Return the labelled structure of lowest energy at a composition."""
    labels = [atoms for atoms in read(data, ":") if atoms.info["x"] == x]
    return min(labels, key=lambda atoms: atoms.get_potential_energy())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="what 'al-charge train' wrote")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/data/nafepo4_gpaw.extxyz")
    arguments = parser.parse_args()
    potential = load(arguments.model)
    print(f"{'':22}{'a':>8}{'b':>8}{'c':>8}{'A^3/f.u.':>10}")
    for x, name in enumerate(EXPERIMENT):
        atoms = read(ROOT / "workflows/hosts" / f"{name}.cif")
        atoms.calc = potential.calculator()
        label = lowest_label(arguments.data, x)
        rows = {
            "potential": relaxed(atoms).cell.lengths(),
            "relaxed labels": label.cell.lengths(),
            "experiment": EXPERIMENT[name],
        }
        for source, (a, b, c) in rows.items():
            print(f"{name:8}{source:14}{a:8.3f}{b:8.3f}{c:8.3f}{a * b * c / 4:10.2f}")


if __name__ == "__main__":
    main()
