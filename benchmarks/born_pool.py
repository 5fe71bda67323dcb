"""Born labels of every configuration of several supercells: data that no potential was tuned to.

Olivine NaxFePO4 with eight Fe, the cell doubled along each axis in turn. Frames of the compositions
in ``HELD_OUT`` are for testing only. What is made is kept in a folder as extended XYZ.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.progress import track

from al_charge.crystal.configuration import Configuration, composition, ion_count, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers.born.model import BornModel
from al_charge.labelers.born.relaxation import relax
from al_charge.loop.spec import load_spec

CAMPAIGN = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
SUPERCELLS = ((1, 2, 1), (2, 1, 1), (1, 1, 2))
EXHAUSTIVE = SUPERCELLS[0]
"""Tests that need every configuration of a composition are made in this one."""
HELD_OUT = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
FMAX = 0.005
"""eV/angstrom, of the labels."""


def host_of(supercell: tuple[int, int, int]) -> Host:
    """Return the olivine host in a supercell."""
    spec = load_spec(CAMPAIGN).host
    return Host.from_spec(spec.model_copy(update={"supercell": supercell}))


@dataclass(frozen=True)
class _Job:
    supercell: tuple[int, int, int]
    host: Host

    def frames(self, config: Configuration) -> list[Atoms]:
        """Return the geometry asked for, one three quarters down in energy, and the relaxed one."""
        start = to_atoms(self.host, config)
        species = [str(token) for token in start.arrays["species"]]
        points = relax(BornModel(species), start.positions, start.cell.array, fmax=FMAX)
        energies = np.array([point.result.energy for point in points])
        middle = int(np.abs(energies - energies[-1] - (energies[0] - energies[-1]) / 4).argmin())
        return [self._image(start, points[i], config) for i in sorted({0, middle, len(points) - 1})]

    def _image(self, start: Atoms, point: Any, config: Configuration) -> Atoms:
        atoms = Atoms(start.numbers, point.positions, cell=point.cell, pbc=True)
        atoms.set_array("resolved_species", start.arrays["species"])
        atoms.info = {
            "config_hash": canonical_hash(self.host, config),
            "supercell": "x".join(map(str, self.supercell)),
            "n_ions": ion_count(self.host, config),
            "x": float(composition(self.host, config)),
        }
        result = point.result
        atoms.calc = SinglePointCalculator(
            atoms, energy=result.energy, forces=result.forces, stress=result.stress
        )
        return atoms


def make_pool(folder: Path, processes: int) -> dict[str, Path]:
    """Label every configuration once; return the files ``train`` and ``test``."""
    files = {name: folder / f"born_{name}.extxyz" for name in ("train", "test")}
    if all(file.exists() for file in files.values()):
        return files
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    images: dict[str, list[Atoms]] = {"train": [], "test": []}
    with get_context("spawn").Pool(processes) as pool:
        for supercell in SUPERCELLS:
            host = host_of(supercell)
            job = _Job(supercell, host)
            configs = [c for n in host.ion_counts for c in enumerate_distinct(host, n)]
            made = pool.imap(job.frames, configs, chunksize=8)
            told = f"Born labels, {supercell}"
            for config, frames in zip(configs, track(made, told, len(configs)), strict=True):
                held = composition(host, config) in HELD_OUT
                images["test" if held else "train"] += frames
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        part = file.with_suffix(".part")
        ase.io.write(part, images[name], format="extxyz")
        part.replace(file)
    return files
