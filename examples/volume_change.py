"""How the volume of NaxFePO4 changes with x, with a stored potential.

    python examples/volume_change.py nafepo4.safetensors --plot volume.png

At each composition the labelled ground state is taken and its ions and cell are relaxed by the
potential. The charge states stay those of the label.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS

from al_charge.potentials import load

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# SciPy's, about the logarithm of a strain that is right to twelve digits
warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
ROOT = Path(__file__).resolve().parent.parent


def ground_states(data: Path) -> dict[float, Atoms]:
    """Return the labelled structure of lowest energy at every composition, ascending."""
    lowest: dict[float, Atoms] = {}
    for atoms in read(data, ":"):
        x = float(atoms.info["x"])
        if x not in lowest or atoms.get_potential_energy() < lowest[x].get_potential_energy():
            lowest[x] = atoms
    return dict(sorted(lowest.items()))


def relaxed(atoms: Atoms, fmax: float = 0.02) -> Atoms:
    """Relax ions and cell to forces of ``fmax`` eV/angstrom."""
    optimizer = BFGS(FrechetCellFilter(atoms), logfile=None)
    if not optimizer.run(fmax=fmax, steps=300):
        raise SystemExit(f"{atoms.symbols} did not relax: is the potential trained on it?")
    return atoms


def volume(atoms: Atoms) -> float:
    """Return the volume of one formula unit in angstrom^3."""
    return float(atoms.get_volume()) / sum(atoms.symbols == "Fe")


def main() -> None:
    """Print a table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="what 'al-charge train' wrote")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/data/nafepo4_gpaw.extxyz")
    parser.add_argument("--plot", type=Path, default=Path("volume.png"))
    arguments = parser.parse_args()
    potential = load(arguments.model)
    labelled, ours = {}, {}
    for x, label in ground_states(arguments.data).items():
        atoms = label.copy()
        # Exported files call the charge states that the labeler found "resolved_species".
        atoms.set_array("species", label.arrays["resolved_species"])
        atoms.calc = potential.calculator()
        labelled[x], ours[x] = volume(label), volume(relaxed(atoms))
    ends = min(ours), max(ours)
    print("   x   potential   labels   (A^3 per formula unit)")
    for x in ours:
        print(f"{x:5.2f}{ours[x]:10.2f}{labelled[x]:10.2f}")
    for source, found in (("potential", ours), ("labels", labelled)):
        change = found[ends[1]] / found[ends[0]] - 1
        print(f"FePO4 to NaFePO4, {source}: {100 * change:+.1f} %")

    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(ends, [ours[x] for x in ends], ":", color="#8A8A8A", label="between the ends")
    axes.plot(list(ours), list(ours.values()), "o-", color="#0072B2", label="potential")
    axes.plot(list(labelled), list(labelled.values()), "x", color="#333333", label="labels")
    axes.set(xlabel="x in NaxFePO4", ylabel="volume (A$^3$ per formula unit)")
    axes.legend(frameon=False)
    figure.savefig(arguments.plot, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
