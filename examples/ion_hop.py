"""The barrier of a sodium hop along the b channel of olivine, with a stored potential.

    python examples/ion_hop.py nafepo4.safetensors --plot hop.png --images hop

One sodium of NaFePO4 is missing, and the one next to it along b moves into its place (nudged
elastic band, climbing image). The electron hole that the vacancy leaves, one Fe3+ among Fe2+, stays
on an iron as far from the first site as from the last: charge states are part of the structure, and
the polaron does not follow the ion. So both ends are mirror images, and equal in energy.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.filters import FrechetCellFilter
from ase.geometry import find_mic
from ase.io import read, write
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from scipy.interpolate import PchipInterpolator

from al_charge.potentials import load
from al_charge.potentials.committee import Committee

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# SciPy's, about the logarithm of a strain that is right to twelve digits
warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
ROOT = Path(__file__).resolve().parent.parent
LENGTHS = [True, True, True, False, False, False]
"""Strains that are relaxed: right angles belong to the mirror plane between the ends."""
MakeCalculator = Callable[[], BaseCalculator]


def filled(data: Path) -> Atoms:
    """Return the labelled NaFePO4 of lowest energy, with its charge states."""
    labels = [atoms for atoms in read(data, ":") if atoms.info["x"] == 1.0]
    lowest = min(labels, key=lambda atoms: atoms.get_potential_energy())
    atoms = Atoms(lowest.symbols, lowest.positions, cell=lowest.cell, pbc=True)
    atoms.set_array("species", lowest.arrays["resolved_species"])
    return atoms


def ends(host: Atoms) -> tuple[Atoms, Atoms]:
    """Return a structure with one sodium less, before and after its neighbour's hop.

    Parameters
    ----------
    host
        NaFePO4 with its charge states, b along the second lattice vector.
    """
    sodium = [atom.index for atom in host if atom.symbol == "Na"]
    iron = [atom.index for atom in host if atom.symbol == "Fe"]
    vacancy = sodium[0]
    vectors = host.get_distances(vacancy, sodium[1:], mic=True, vector=True)
    along_b = host.cell[1] / np.linalg.norm(host.cell[1])
    across = np.linalg.norm(vectors - np.outer(vectors @ along_b, along_b), axis=1)
    next_along_b = np.where(across < 0.5, np.linalg.norm(vectors, axis=1), np.inf).argmin()
    hopping = sodium[1 + next_along_b]
    far = [host.get_distances(site, iron, mic=True) for site in (vacancy, hopping)]
    hole = iron[np.sum(far, axis=0).argmin()]
    before = host.copy()
    before.arrays["species"][hole] = "Fe3+"
    after = before.copy()
    after.positions[hopping] -= vectors[next_along_b]
    kept = [atom.index for atom in host if atom.index != vacancy]
    return before[kept], after[kept]


def hop(host: Atoms, make: MakeCalculator, images: int = 5, fmax: float = 0.05) -> list[Atoms]:
    """Return the minimum energy path of the hop, both ends included.

    The lengths of the cell are relaxed before the hop, and kept on the path.

    Parameters
    ----------
    host
        See `ends`.
    make
        Returns a new calculator; every image needs its own.
    images
        Between the ends; an odd number has one on the mirror plane.
    fmax
        Largest force at which the band's relaxation ends, in eV/angstrom; a fifth for its ends.
    """
    before, after = ends(host)
    before.calc, after.calc = make(), make()
    _finish(BFGS(FrechetCellFilter(before, mask=LENGTHS), logfile=None), fmax / 5)
    after.set_cell(before.cell, scale_atoms=True)
    _finish(BFGS(after, logfile=None), fmax / 5)
    path = [before, *(before.copy() for _ in range(images)), after]
    for atoms in path[1:-1]:
        atoms.calc = make()
    band = NEB(path, k=0.5, method="improvedtangent")
    band.interpolate("idpp", mic=True)
    _finish(FIRE(band, logfile=None), 2 * fmax)
    band.climb = True
    _finish(FIRE(band, logfile=None), fmax)
    return path


def _finish(optimizer: BFGS | FIRE, fmax: float) -> None:
    if not optimizer.run(fmax=fmax, steps=500):
        raise SystemExit("a relaxation did not end: look at the path before you trust it")


def write_images(path: list[Atoms], folder: Path) -> None:
    """Write every image to a file of its own, as ``al-charge label`` takes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, atoms in enumerate(path):
        image = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        # Extended XYZ itself calls the column of elements "species".
        image.set_array("requested_species", atoms.arrays["species"])
        write(folder / f"{number}.extxyz", image)


def draw(path: list[Atoms], energies: np.ndarray, spreads: list[float], plot: Path) -> None:
    """Draw the energy (eV) along the path, with the committee's spread if there is one."""
    steps = [find_mic(b.positions - a.positions, a.cell)[0] for a, b in pairwise(path)]
    lengths = np.cumsum([0.0, *(np.linalg.norm(step) for step in steps)])
    fine = np.linspace(0.0, lengths[-1], 200)
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.plot(fine, PchipInterpolator(lengths, energies)(fine), color="#0072B2")
    axes.errorbar(lengths, energies, spreads or None, fmt="o", color="#0072B2", capsize=3)
    axes.set(xlabel="length of the path (A)", ylabel="energy (eV)")
    axes.set_title(f"sodium hop along b: {energies.max():.2f} eV")
    figure.savefig(plot, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print the profile, draw it, and write the path."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path, help="what 'al-charge train' wrote")
    parser.add_argument("--data", type=Path, default=ROOT / "examples/data/nafepo4_gpaw.extxyz")
    parser.add_argument(
        "--repeat", type=int, nargs=3, default=(1, 1, 1), help="cells along a, b and c"
    )
    parser.add_argument("--plot", type=Path, default=Path("hop.png"))
    parser.add_argument("--images", type=Path, help="folder to write the path to, for labels")
    arguments = parser.parse_args()
    model = load(arguments.model)
    host = filled(arguments.data).repeat(arguments.repeat)
    path = hop(host, model.calculator)

    energies = np.array([atoms.get_potential_energy() for atoms in path])
    energies -= energies[0]
    spreads = [p.spread for p in model.predict(path)] if isinstance(model, Committee) else []
    print("image   energy (eV)" + "   committee's spread (eV)" * bool(spreads))
    for number, energy in enumerate(energies):
        print(f"{number:5}{energy:12.3f}" + "".join(f"{s:16.3f}" for s in spreads[number:][:1]))
    print(f"barrier: {energies.max():.2f} eV; the ends differ by {1e3 * energies[-1]:.1f} meV")

    draw(path, energies, spreads, arguments.plot)
    if arguments.images:
        write_images(path, arguments.images)


if __name__ == "__main__":
    main()
