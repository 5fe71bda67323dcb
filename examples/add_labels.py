r"""Add labels that ``al-charge label`` made to a file of labels, to train on both.

    python examples/add_labels.py examples/data/nafepo4_gpaw.extxyz hop/*-gpaw/label.json \
        --group hop --output with_hop.extxyz

All labels added are one group: a training holds out all of them or none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.stress import full_3x3_to_voigt_6_stress


def labelled(file: Path, group: str) -> Atoms:
    """Return the structure of a ``label.json`` with energy, forces, stress and charge states."""
    label = json.loads(file.read_text(encoding="utf-8"))
    if not label["certain"] or label["unusable"]:
        raise SystemExit(f"{file}: not to be trained on: {label['unusable'] or label['reasons']}")
    sites = label["sites"]
    atoms = Atoms([site["element"] for site in sites], label["positions"], cell=label["cell"])
    atoms.pbc = True
    atoms.set_array("resolved_species", np.array([site["state"] for site in sites]))
    results = {"energy": label["energy"], "forces": np.array(label["forces"])}
    if label["stress"] is not None:
        results["stress"] = full_3x3_to_voigt_6_stress(np.array(label["stress"]))
    if all(site["moment"] is not None for site in sites):
        results["magmoms"] = np.array([site["moment"] for site in sites])
    if all(site["bader"] is not None for site in sites):
        atoms.set_array("bader_charges", np.array([site["bader"] for site in sites]))
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["config_hash"] = group  # what frames are grouped by
    return atoms


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="file of labels in extended XYZ")
    parser.add_argument("labels", type=Path, nargs="+", help="files label.json")
    parser.add_argument("--group", required=True, help="name of the group of the labels added")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    added = [labelled(file, arguments.group) for file in arguments.labels]
    write(arguments.output, [*read(arguments.data, ":"), *added])
    print(f"{arguments.output}: {len(added)} labels added")


if __name__ == "__main__":
    main()
