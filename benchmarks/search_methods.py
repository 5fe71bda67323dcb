"""Search methods on a potential that is perfect: energies that are all known are looked up.

The file is that of ``born_truth.py``. A search starts with nothing but what it relaxes. Beside the
methods stand what each has to beat: random order, and the order of Ewald energies.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from born_truth import DATA, Outcome, Truth
from exhaustive_hull import CAMPAIGN
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.loop.spec import load_spec
from al_charge.search.genetic import GeneticPlugin, GeneticSettings
from al_charge.search.plugin import SearchResult, Space
from al_charge.search.screen import ScreenPlugin, ScreenSettings
from al_charge.search.seeds import ewald_energies, seeds

Ranking = list[tuple[Configuration, float]]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Landscape:
    """All configurations of one composition with their energies, eV per formula unit."""

    host: Host
    n_ions: int
    configs: list[Configuration]
    energies: dict[Configuration, float]
    ewald: Floats

    @classmethod
    def of(cls, host: Host, n_ions: int, truth: Truth) -> Landscape:
        """Look energies up; those are infinite whose ions leave their sites, or without a label."""
        configs = enumerate_distinct(host, n_ions)
        kept = truth.outcomes[n_ions] == Outcome.RELAXED
        known = np.where(kept, truth.energies[n_ions], np.inf).tolist()
        ewald = ewald_energies(host, configs)
        return cls(host, n_ions, configs, dict(zip(configs, known, strict=True)), ewald)

    def evaluate(self, points: Sequence[tuple[Space, Configuration]]) -> list[float]:
        """Return energies, eV per cell."""
        return [self.energies[config] * self.host.formula_units for _, config in points]

    def space(self, seed: int, number: int) -> Space:
        """Return the space with the seeds that a campaign would give it."""
        rng = np.random.default_rng([seed, self.n_ions])
        start = seeds(self.host, self.n_ions, number, rng)
        return Space(self.host, self.n_ions, rng=rng, seeds=start)

    def ranking(self, order: NDArray[np.int64]) -> SearchResult:
        """Return what evaluating some configurations gives."""
        found = [(self.configs[i], self.energies[self.configs[i]]) for i in order]
        return SearchResult(sorted(found, key=lambda pair: pair[1]))


Method = Callable[[Landscape, int, int], SearchResult]
"""Searches with a seed and a number of evaluations."""


def screen(landscape: Landscape, seed: int, evaluations: int) -> SearchResult:
    """Screening."""
    settings = ScreenSettings(evaluations=evaluations)
    space = landscape.space(seed, settings.seeds)
    (found,) = ScreenPlugin().search([space], landscape.evaluate, settings)
    return found


def genetic(landscape: Landscape, seed: int, evaluations: int) -> SearchResult:
    """Genetic search."""
    settings = GeneticSettings(evaluations=evaluations)
    space = landscape.space(seed, settings.seeds)
    (found,) = GeneticPlugin().search([space], landscape.evaluate, settings)
    return found


def ewald(landscape: Landscape, seed: int, evaluations: int) -> SearchResult:
    """Take those of lowest Ewald energy."""
    return landscape.ranking(np.argsort(landscape.ewald, kind="stable")[:evaluations])


def at_random(landscape: Landscape, seed: int, evaluations: int) -> SearchResult:
    """Take any."""
    rng = np.random.default_rng(seed)
    return landscape.ranking(rng.permutation(len(landscape.configs))[:evaluations])


METHODS: dict[str, tuple[Method, int]] = {
    "random": (at_random, 72),
    "Ewald": (ewald, 72),
    "genetic": (genetic, 72),
    "genetic, 216": (genetic, 216),
    "screen": (screen, 72),
}
"""Methods with the most evaluations that each may use."""


def compare(landscape: Landscape, method: str, n_seeds: int) -> dict[str, Any]:
    """Search with several seeds; energies above the ground state are meV per formula unit."""
    search, evaluations = METHODS[method]
    truth = min(landscape.energies.values())
    above, relaxed, missed = [], [], []
    began = time.process_time()
    for seed in range(1, n_seeds + 1):
        found = search(landscape, seed, evaluations)
        lowest = min(landscape.energies[config] for config, _ in found.ranking)
        above.append(1e3 * (lowest - truth))
        relaxed.append(len(found.ranking))
        missed.append(found.p_missed)
    wrong = [round(one, 1) for one in sorted(above) if one > 1e-3]
    return {
        "x": str(landscape.host.composition(landscape.n_ions)),
        "configurations": len(landscape.configs),
        "method": method,
        "found": f"{n_seeds - len(wrong)} of {n_seeds}",
        "above": wrong,
        "relaxed": float(np.median(relaxed)),
        "most": max(relaxed),
        "p_missed": None if missed[0] is None else max(missed),
        "seconds": round((time.process_time() - began) / n_seeds, 3),
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """Return rows as a table."""
    result = Table(title="Ground states found with a perfect potential")
    for name in rows[0]:
        result.add_column(name, justify="right")
    for row in rows:
        result.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    return result


def main() -> None:
    """Compare, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=DATA / "nafepo4_born_1x3x1.npz")
    parser.add_argument("--n-ions", type=int, nargs="+", help="all whose energies are known")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("search_methods.json"))
    arguments = parser.parse_args()
    truth = Truth.read(arguments.file)
    spec = load_spec(CAMPAIGN).host
    host = Host.from_spec(spec.model_copy(update={"supercell": truth.supercell}))
    complete = [n for n, outcomes in truth.outcomes.items() if (outcomes > 0).all()]
    console, rows = Console(), []
    for n_ions in arguments.n_ions or complete:
        landscape = Landscape.of(host, n_ions, truth)
        for method in arguments.methods:
            rows.append(compare(landscape, method, arguments.seeds))
            console.print(rows[-1])
            arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    console.print(table(rows))


if __name__ == "__main__":
    main()
