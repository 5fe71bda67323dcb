"""Energies of configurations per second of one core: the surrogate, beside smol and icet.

Configurations are random ones of the 1x3x2 cell of olivine, 24 Fe, half of its sodium sites filled.
All get the same sites, with pairs and triplets up to the surrogate's distances, and random weights;
the surrogate and smol the Ewald energy too. CPU times, so that a busy machine slows nothing.

smol tells more kinds of clusters apart, by symmetry where the surrogate goes by distances. So each
feature of the surrogate has to be a linear function of smol's correlations and its Ewald energy:
the largest difference from the best one is printed.

    pip install smol icet
    OMP_NUM_THREADS=1 python benchmarks/ranking.py --json ranking.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from icet import ClusterExpansion, ClusterSpace
from mchammer.calculators import ClusterExpansionCalculator
from numpy.typing import NDArray
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from rich.console import Console
from rich.table import Table
from scipy.spatial import KDTree
from smol.cofe import ClusterSubspace
from smol.cofe.extern import EwaldTerm
from smol.moca.processor import ClusterExpansionProcessor, EwaldProcessor

from al_charge.crystal.host import VACANCY, Host
from al_charge.loop.spec import load_spec
from al_charge.surrogate.clusters import PAIR_CUTOFF, Clusters, features
from al_charge.surrogate.surrogate import TRIPLET_CUTOFF

CAMPAIGN = Path(__file__).parents[1] / "workflows" / "nafepo4_born.yaml"
CUTOFFS = (PAIR_CUTOFF, TRIPLET_CUTOFF)


def draw(host: Host, number: int, rng: np.random.Generator) -> NDArray[np.int8]:
    """Return random configurations with half of the sodium, shape (number, n_variable_sites)."""
    halves = []
    for states, sites in (((VACANCY, 1), host.ion_sites), ((2, 3), host.redox_sites)):
        ordered = np.repeat(np.array(states, dtype=np.int8), len(sites) // 2)
        halves.append(rng.permuted(np.tile(ordered, (number, 1)), axis=1))
    return np.hstack(halves)


class Surrogate:
    """Features and energies of the surrogate."""

    def __init__(self, host: Host, rng: np.random.Generator) -> None:
        self.features = features(host, Clusters(host, *CUTOFFS))
        self.energy = self.features.combined(rng.normal(size=self.features.coefficients.shape[1]))

    def rank(self, rows: NDArray[np.int8]) -> None:
        """Compute the energies of all."""
        self.energy.of(rows)


class Smol:
    """smol's processors, for one configuration at a time."""

    def __init__(self, host: Host, rng: np.random.Generator) -> None:
        species = {
            "Na": {"Na+": 0.5},
            "Fe": {"Fe2+": 0.5, "Fe3+": 0.5},
            "P": {"P5+": 1.0},
            "O": {"O2-": 1.0},
        }
        parent = host.parent
        sites = [species[site.species.elements[0].symbol] for site in parent]
        crystal = Structure(parent.lattice, sites, parent.frac_coords)
        space = ClusterSubspace.from_cutoffs(crystal, dict(enumerate(CUTOFFS, 2)), basis="sinusoid")
        weights = rng.normal(size=space.num_corr_functions)
        repeats = np.diag(host.supercell)
        self.clusters = ClusterExpansionProcessor(space, repeats, weights)
        self.ewald = EwaldProcessor(space, repeats, EwaldTerm())
        self.places = places(host, self.clusters.structure.frac_coords)
        self.names = [
            [str(one) for one in self.clusters.allowed_species[site]] for site in self.places
        ]

    def encoded(self, rows: NDArray[np.int8]) -> NDArray[np.int32]:
        """Return configurations as smol writes them."""
        found = np.zeros((len(rows), len(self.clusters.structure)), dtype=np.int32)
        tokens = {1: "Na+", 2: "Fe2+", 3: "Fe3+"}
        for column, (site, names) in enumerate(zip(self.places, self.names, strict=True)):
            for state, token in tokens.items():
                if token in names:
                    mine = rows[:, column] == state
                    found[:, site] = np.where(mine, names.index(token), found[:, site])
                    if token == "Na+":
                        found[~mine, site] = 1 - names.index(token)
        return found

    def correlations(self, rows: NDArray[np.int8]) -> NDArray[np.float64]:
        """Return the correlations and, last, the Ewald energy."""
        codes = self.encoded(rows)
        of_clusters = [self.clusters.compute_feature_vector(code) for code in codes]
        return np.column_stack([of_clusters, [self.ewald.compute_property(code) for code in codes]])

    def rank(self, rows: NDArray[np.int8]) -> None:
        """Compute the energies of all."""
        for code in self.encoded(rows):
            self.clusters.compute_property(code)

    def rank_with_ewald(self, rows: NDArray[np.int8]) -> None:
        """Compute the energies of all, Ewald energies among them."""
        for code in self.encoded(rows):
            self.clusters.compute_property(code) + self.ewald.compute_property(code)


class Icet:
    """icet's calculator for Monte Carlo, for one configuration at a time."""

    def __init__(self, host: Host, rng: np.random.Generator) -> None:
        parent = AseAtomsAdaptor.get_atoms(host.parent)
        # Cobalt stands in for Fe3+.
        allowed = {"Na": ["Na", "X"], "Fe": ["Fe", "Co"], "P": ["P"], "O": ["O"]}
        space = ClusterSpace(
            parent, list(CUTOFFS), [allowed[symbol] for symbol in parent.get_chemical_symbols()]
        )
        self.cell = parent.repeat(host.supercell)
        self.calculator = ClusterExpansionCalculator(
            self.cell, ClusterExpansion(space, rng.normal(size=len(space)))
        )
        self.places = places(host, self.cell.get_scaled_positions())

    def rank(self, rows: NDArray[np.int8]) -> None:
        """Compute the energies of all."""
        numbers = np.tile(self.cell.numbers, (len(rows), 1))
        elements = {VACANCY: 0, 1: 11, 2: 26, 3: 27}
        for state, element in elements.items():
            numbers[:, self.places] = np.where(rows == state, element, numbers[:, self.places])
        for occupations in numbers:
            self.calculator.calculate_total(occupations=occupations)


def places(host: Host, fractional: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return where the variable sites are in another library's list of the same sites."""
    tree = KDTree(fractional % 1.0 % 1.0, boxsize=1.0)
    mine = host.structure.frac_coords[host.variable_sites]
    distances, found = tree.query(mine % 1.0 % 1.0)
    if distances.max() > 1e-6 or len(set(found)) < len(found):
        raise SystemExit("the cells are not the same")
    return np.asarray(found, dtype=np.int64)


def disagreement(ours: Surrogate, smol: Smol, rows: NDArray[np.int8]) -> float:
    """Return how far features are from being linear in smol's, relative to their spread."""
    mine, theirs = ours.features.of(rows)[:, 1:], smol.correlations(rows)
    weights, *_ = np.linalg.lstsq(theirs, mine, rcond=1e-10)
    return float((np.abs(theirs @ weights - mine).max(axis=0) / mine.std(axis=0).max()).max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of rates, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supercell", type=int, nargs=3, default=[1, 3, 2])
    parser.add_argument("--number", type=int, default=10_000_000, help="that the surrogate ranks")
    parser.add_argument("--compared", type=int, default=2000, help="that the others rank")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    spec = load_spec(CAMPAIGN).host
    host = Host.from_spec(spec.model_copy(update={"supercell": tuple(given.supercell)}))
    rng = np.random.default_rng(1)
    few, many = (draw(host, number, rng) for number in (given.compared, given.number))
    ours, smol, icet = Surrogate(host, rng), Smol(host, rng), Icet(host, rng)
    ways: dict[str, tuple[NDArray[np.int8], Callable[[NDArray[np.int8]], None]]] = {
        "surrogate, with the Ewald energy": (many, ours.rank),
        "smol": (few, smol.rank),
        "smol, with the Ewald energy": (few, smol.rank_with_ewald),
        "icet": (few, icet.rank),
    }
    table = Table("", "configurations", "CPU s", "per second", "of the surrogate")
    found: dict[str, float] = {}
    for name, (rows, rank) in ways.items():
        rank(rows[:2])  # tables are made once
        started = time.process_time()
        rank(rows)
        spent = time.process_time() - started
        found[name] = len(rows) / spent
        share = found[name] / next(iter(found.values()))
        table.add_row(name, f"{len(rows):,}", f"{spent:.3g}", f"{found[name]:,.0f}", f"{share:.2g}")
    Console().print(table)
    found["disagreement"] = disagreement(ours, smol, few)
    print(f"features from linear ones of smol: {found['disagreement']:.1e} of their spread")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
