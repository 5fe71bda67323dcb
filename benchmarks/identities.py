"""Canonical forms and identities per second of one core, beside what other libraries do instead.

Configurations are random ones of the 1x3x2 cell of olivine, 24 Fe. None of the libraries names the
infinite crystal: spglib finds the primitive cell of one (its kinds of sites told apart by charge
state), and pymatgen's ``StructureMatcher`` tells whether two are the same. CPU times, so that a
busy machine slows nothing.

    OMP_NUM_THREADS=1 python benchmarks/identities.py --json identities.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import spglib
from pymatgen.analysis.structure_matcher import StructureMatcher
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import Configuration, to_atoms, to_structure
from al_charge.crystal.host import Host
from al_charge.crystal.identity import identities
from al_charge.crystal.space_group import SYMPREC
from al_charge.crystal.symmetry import canonical, canonical_forms
from al_charge.loop.spec import load_spec
from al_charge.search.random_occupation import random_occupation

CAMPAIGN = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
TURNS = 2


def rates(supercell: tuple[int, int, int], number: int, compared: int) -> dict[str, float]:
    """Return how many configurations a second each way handles."""
    spec = load_spec(CAMPAIGN).host
    host = Host.from_spec(spec.model_copy(update={"supercell": supercell}))
    rng = np.random.default_rng(1)
    middle = host.ion_counts[len(host.ion_counts) // 2]
    configs = [random_occupation(host, middle, rng) for _ in range(number)]
    many = np.array([config.occupation for config in configs], dtype=np.int8)
    few = configs[:compared]
    structures = [to_structure(to_atoms(host, config)) for config in few]
    cells = [_spglib_cell(host, config) for config in few]
    matcher = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.1, scale=False)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "canonical forms, many at once": (number, lambda: canonical_forms(host, many)),
        "canonical forms, one by one": (number, lambda: [canonical(host, one) for one in configs]),
        "identities, many at once": (number, lambda: identities(host, many)),
        "spglib, primitive cells": (
            compared,
            lambda: [spglib.find_primitive(cell, symprec=SYMPREC) for cell in cells],
        ),
        "pymatgen, two compared": (
            compared - 1,
            lambda: [matcher.fit(structures[0], other) for other in structures[1:]],
        ),
    }
    canonical_forms(host, many[:2]), identities(host, many[:2])  # tables are made once
    spent: dict[str, float] = defaultdict(float)
    for _ in range(TURNS):
        for name, (_, run) in ways.items():
            started = time.process_time()
            run()
            spent[name] += time.process_time() - started
    return {name: TURNS * count / spent[name] for name, (count, _) in ways.items()}


def _spglib_cell(
    host: Host, config: Configuration
) -> tuple[list[list[float]], list[list[float]], list[int]]:
    atoms = to_atoms(host, config)
    kinds = np.unique(atoms.arrays["species"], return_inverse=True)[1]
    return atoms.cell.tolist(), atoms.get_scaled_positions().tolist(), kinds.tolist()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of rates, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supercell", type=int, nargs=3, default=[1, 3, 2])
    parser.add_argument("--number", type=int, default=20_000)
    parser.add_argument("--compared", type=int, default=3, help="by the other libraries")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found = rates(tuple(given.supercell), given.number, given.compared)
    table = Table("", "per second", "of identities")
    for name, rate in found.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / found['identities, many at once']:.2g}")
    Console().print(table)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
