"""Make GPAW labels in several spin states, as a data set for spin-aware potentials.

Olivine NaxFePO4, one cell (4 Fe), single points in plane waves with fixed total moments. Geometries
are those of the labels in ``examples/data``, strained and displaced at random. Every second label
starts with one electron of one iron turned, and with the total moment that belongs to it: that site
ends in an intermediate spin state, whose moment fits no charge state, so that the label is
ambiguous. Needs GPAW; a label takes some minutes. What has ended is not run again, so the script
can be stopped and started at will.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from al_charge.crystal.configuration import set_species
from al_charge.crystal.shells import charge_order_contrast
from al_charge.errors import AlChargeError
from al_charge.labelers.gpaw import request
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import settings_hash

LABELS = Path(__file__).parents[1] / "examples" / "data" / "nafepo4_gpaw.extxyz"
SETTINGS: dict[str, Any] = {
    "mode": "pw",
    "cutoff": "450 eV",
    "kpoints": (1, 1, 1),
    "energy_tolerance": "3e-6 eV",
    "density_tolerance": 2e-4,
    "fixed_moment": True,
    "bader": False,
    "tries": 1,
    "timeout": "60 min",
}
STRAIN, RATTLE = 0.01, 0.02
"""Standard deviations of a strain component, and of a coordinate in angstrom."""
CONTRAST = 0.06
"""Difference of bond lengths, in angstrom, from which on shells hold their charge order."""
SODIUM = (2, 1, 3, 2, 0, 2, 1, 3, 2, 4)
"""Working ions of one pair of labels after the other: more often where there are more orders."""


def geometry(number: int) -> tuple[Atoms, int | None]:
    """Return the geometry of a number, and the iron of which an electron is turned, if any is."""
    rng = np.random.default_rng(number)
    n_ions = SODIUM[number // 2 % len(SODIUM)]
    labels: dict[str, list[Atoms]] = {}
    for image in ase.io.iread(LABELS):
        set_species(image, [str(token) for token in image.arrays["resolved_species"]])
        if image.info["n_ions"] == n_ions and charge_order_contrast(image) >= CONTRAST:
            labels.setdefault(image.info["config_hash"], []).append(image)
    config = sorted(labels)[int(rng.integers(len(labels)))]
    base = labels[config][int(rng.integers(len(labels[config])))]
    atoms = Atoms(base.numbers, base.positions, cell=base.cell, pbc=True)
    set_species(atoms, base.arrays["species"].tolist())
    strain = rng.normal(0.0, STRAIN, (3, 3))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    atoms.positions += rng.normal(0.0, RATTLE, (len(atoms), 3))
    atoms.info = {name: base.info[name] for name in ("config_hash", "x", "n_ions")}
    turned = int(rng.choice(np.flatnonzero(atoms.numbers == 26)))
    return atoms, turned if number % 2 else None


def labelled(number: int, folder: Path) -> Atoms | None:
    """Return a geometry with its label, as ``al-charge export`` writes one; None if GPAW failed."""
    atoms, turned = geometry(number)
    labeler = GpawLabeler(GpawSettings(**SETTINGS))
    high_spin = request.moments

    def first_moments(settings: GpawSettings, atoms: Atoms, *, exact: bool) -> NDArray[np.float64]:
        first = high_spin(settings, atoms, exact=exact)
        if turned is not None:
            first[turned] -= 2.0
        return first

    try:
        # A labeler has no setting for what is a mistake in a campaign.
        with patch.object(request, "moments", first_moments):
            result = make_label(labeler, atoms, folder / f"{number:03d}")
    except AlChargeError as error:
        print(f"{number}: {error}", flush=True)
        return None
    frame = result.reading.frames[-1]
    moments = result.reading.moments
    assert moments is not None
    image = Atoms(atoms.numbers, frame.positions, cell=frame.cell, pbc=True, info=atoms.info)
    pairs = zip(result.audit.sites, atoms.get_chemical_symbols(), strict=True)
    image.set_array("requested_species", atoms.arrays["species"])
    image.set_array("resolved_species", np.array([site or f"{symbol}?" for site, symbol in pairs]))
    image.info |= {
        "label": f"{number:03d}",
        "settings_hash": settings_hash(labeler),
        "engine": result.reading.engine,
        "ambiguous": result.resolved is None,
        "converged": result.reading.converged,
    }
    image.calc = SinglePointCalculator(
        image, energy=frame.energy, forces=frame.forces, magmoms=np.array(moments)
    )
    return image


def main() -> None:
    """Label geometries one after the other; write those that are there after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the runs")
    parser.add_argument("output", type=Path, help="extended XYZ file of the labels")
    parser.add_argument("--labels", type=int, default=48)
    options = parser.parse_args()
    images: list[Atoms] = []
    for number in range(options.labels):
        image = labelled(number, options.folder)
        if image is None:
            continue
        images.append(image)
        ase.io.write(options.output, images, format="extxyz")
        found = "ambiguous" if image.info["ambiguous"] else "certain"
        iron = np.abs(image.get_magnetic_moments()[image.numbers == 26]).round(2)
        print(f"{number}: x = {image.info['x']:.2f}, {found}, moments of Fe {iron}", flush=True)


if __name__ == "__main__":
    main()
