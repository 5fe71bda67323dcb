"""Labels that cost nothing for a rehearsal of the proof at x = 2/3: the campaign's own labeler.

    python benchmarks/two_thirds_born.py first CAMPAIGN LABELS --each 6
    python benchmarks/two_thirds_born.py picks CAMPAIGN FOLDER/picks.extxyz LABELS TRUTH

With the Born labeler, ``first`` labels a few configurations of every composition, half of lowest
Ewald energy and half at random, as the first round of a campaign does. ``picks`` labels what
`two_thirds_arms` wants and the known superstructure, and writes them with the first labels. Files
are like those of `al-charge labels export`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.progress import track
from superstructure import home, open_campaign, start
from two_thirds_data import placed

from al_charge.crystal.configuration import Configuration, ion_count, set_species
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers import make_labeler
from al_charge.labelers.labelling import make_label
from al_charge.loop.campaign import Campaign
from al_charge.search.seeds import seeds


def labelled(campaign: Campaign, host: Host, config: Configuration) -> list[Atoms]:
    """Return the geometry asked for, one three quarters down in energy, and the relaxed one."""
    atoms = start(campaign, host, config, shells=False)
    with tempfile.TemporaryDirectory() as folder:
        result = make_label(make_labeler(campaign.spec.labeler), atoms, Path(folder))
    frames, last = result.reading.frames, len(result.reading.frames) - 1
    energies = np.array([frame.energy for frame in frames])
    middle = int(np.abs(energies - energies[-1] - (energies[0] - energies[-1]) / 4).argmin())
    return [_image(host, config, atoms, frames[i]) for i in sorted({0, middle, last})]


def _image(host: Host, config: Configuration, start: Atoms, frame: Any) -> Atoms:
    atoms = Atoms(start.numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.set_array("host_site", start.arrays["host_site"])
    atoms.set_array("resolved_species", start.arrays["species"])
    n_ions = ion_count(host, config)
    atoms.info = {
        "config_hash": canonical_hash(host, config),
        "n_ions": n_ions,
        "x": n_ions / host.formula_units,
    }
    results = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def first(campaign: Campaign, each: int) -> list[tuple[Host, Configuration]]:
    """Return what is labelled first: so many of each composition, in the first cell that has it."""
    cells = campaign.cells
    chosen = []
    for cell, n_ions in cells.compositions.values():
        host = cells.hosts[cell]
        found = seeds(host, n_ions, each, campaign.rng("first", n_ions), cells.smaller(cell))
        chosen += [(host, config) for config in found]
    return chosen


def wanted(campaign: Campaign, path: Path) -> list[tuple[Host, Configuration]]:
    """Return the configurations of a file that `two_thirds_arms` wrote, and the superstructure."""
    found = []
    for number, atoms in enumerate(ase.io.iread(path)):
        set_species(atoms, [str(token) for token in atoms.arrays["requested_species"]])
        found.append(placed(campaign, atoms, f"{path}, frame {number}"))
    return [*found, home(campaign)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Label, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    beginning = commands.add_parser("first", help="label a few of each composition")
    going_on = commands.add_parser("picks", help="label what arms want")
    beginning.add_argument("campaign", type=Path)
    beginning.add_argument("output", type=Path)
    beginning.add_argument("--each", type=int, default=6)
    for name in ("campaign", "picks", "labels", "output"):
        going_on.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    campaign = open_campaign(options.campaign)
    images: list[Atoms] = []
    if options.command == "first":
        chosen = first(campaign, options.each)
    else:
        chosen = wanted(campaign, options.picks)
        images = ase.io.read(options.labels, ":")
    for host, config in track(chosen, "labels"):
        images += labelled(campaign, host, config)
    ase.io.write(options.output, images, format="extxyz")


if __name__ == "__main__":
    main()
