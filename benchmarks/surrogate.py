"""The surrogate on energies that are all known: errors, coverage, labels until the exact hull.

The first file is ``exhaustive_hull.py --json`` of one supercell, from which labels are looked up;
others, of more supercells of the same host, are predicted from labels of the first, and of all.
Nothing is relaxed here. Beside the surrogate stand the ridge fit that screens children in the
genetic search, the Ewald energy alone, and random choice.
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
from ase.io import read
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from al_charge.crystal.configuration import Configuration
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.loop.spec import load_spec
from al_charge.search.random_occupation import random_occupation
from al_charge.search.screening import guess_energies
from al_charge.search.seeds import ewald_energies
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import Observation, Prediction, Surrogate, fit_surrogate

ROOT = Path(__file__).parents[1]
CAMPAIGN = ROOT / "workflows" / "nafepo4_born.yaml"
GPAW = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
PER_ROUND = 4
TRIPLETS = {"pairs": 0.0, "triplets": 7.0}
Floats = NDArray[np.float64]


def host_of(supercell: Sequence[int]) -> Host:
    """Return the campaign's host in a supercell."""
    spec = load_spec(CAMPAIGN).host
    return Host.from_spec(spec.model_copy(update={"supercell": tuple(supercell)}))


@dataclass(frozen=True, eq=False)
class Known:
    """All configurations of a cell with their energies, eV per formula unit."""

    host: Host
    configs: list[Configuration]
    energies: Floats
    x: Floats
    stayed: NDArray[np.bool_]
    """Whether all ions are where they were before relaxation."""

    @classmethod
    def of_file(cls, path: Path) -> Known:
        """Read what ``exhaustive_hull.py`` has written."""
        document = json.loads(path.read_text())
        records = [r for r in document["configurations"] if "error" not in r]
        host = host_of(document["supercell"])
        configs = [Configuration(tuple(r["occupation"])) for r in records]
        energies = np.array([r["energy_per_formula"] for r in records])
        x = np.array([float(host.composition(r["n_ions"])) for r in records])
        stayed = np.array([r["same_configuration"] for r in records])
        return cls(host, configs, energies, x, stayed)

    @property
    def occupations(self) -> NDArray[np.int8]:
        """The configurations as an array."""
        return occupations_of(self.configs, self.host)

    def observed(self, which: NDArray[np.int64]) -> list[Observation]:
        """Return labels of some configurations."""
        return [Observation(self.host, self.configs[i], float(self.energies[i])) for i in which]

    def hull(self, energies: Floats) -> Floats:
        """Return the lower hull of some energies at the composition of every configuration."""
        grid = np.unique(self.x)
        lowest = np.array([energies[self.x == x].min() for x in grid])
        lower = lowest.copy()
        for i in range(len(grid)):
            for j in range(i + 1, len(grid)):
                within = slice(i, j + 1)
                line = np.interp(grid[within], grid[[i, j]], lowest[[i, j]])
                lower[within] = np.minimum(lower[within], line)
        return lower[np.searchsorted(grid, self.x)]

    def vertices(self) -> NDArray[np.int64]:
        """Return the configurations on the exact hull."""
        return np.flatnonzero(self.energies < self.hull(self.energies) + 1e-9)


def fitted(known: Known, labelled: NDArray[np.int64], kind: str) -> Surrogate:
    """Return the surrogate of some labels."""
    return fit_surrogate(known.observed(labelled), TRIPLETS[kind])


def ridge(known: Known, labelled: NDArray[np.int64]) -> Floats:
    """Return what the fit of the genetic search guesses, for all compositions on a parabola."""
    design = np.stack([known.x**0, known.x, known.x**2], axis=1)
    weights, *_ = np.linalg.lstsq(design[labelled], known.energies[labelled], rcond=None)
    above = known.energies - design @ weights
    mine = {known.configs[i]: float(above[i]) for i in labelled}
    return design @ weights + guess_energies(known.host, mine, known.configs)


def ridge_of_each(known: Known, labelled: NDArray[np.int64]) -> Floats:
    """Return the same as the search has it, composition by composition; each has a label."""
    found = np.empty(len(known.x))
    for x in np.unique(known.x):
        here = np.flatnonzero(known.x == x)
        mine = {known.configs[i]: float(known.energies[i]) for i in np.intersect1d(here, labelled)}
        found[here] = guess_energies(known.host, mine, [known.configs[i] for i in here])
    return found


def ewald(known: Known, labelled: NDArray[np.int64]) -> Floats:
    """Return the least-squares fit of a parabola in x and a multiple of the Ewald energy."""
    energies = ewald_energies(known.host, known.configs) / known.host.formula_units
    design = np.stack([known.x**0, known.x, known.x**2, energies], axis=1)
    weights, *_ = np.linalg.lstsq(design[labelled], known.energies[labelled], rcond=None)
    return design @ weights


def floors(known: Known) -> list[dict[str, Any]]:
    """Fit all energies by least squares, with clusters up to several lengths."""
    rows = []
    of_x = known.x[:, None] ** np.arange(5)
    for pairs, triplets in ((5, 0), (7, 0), (9, 0), (7, 4), (7, 5), (7, 6), (7, 7)):
        found = features(known.host, Clusters(known.host, pairs, triplets)).of(known.occupations)
        design = np.hstack([of_x, found])
        weights, *_ = np.linalg.lstsq(design, known.energies, rcond=None)
        error = 1e3 * float(np.sqrt(((known.energies - design @ weights) ** 2).mean()))
        rows.append({"pairs up to": pairs, "triplets up to": triplets, "rmse": error})
    return rows


def learning(known: Known, seeds: int) -> list[dict[str, Any]]:
    """Fit to random labels (end members among them) and predict all others."""
    ends = [int(known.x.argmin()), int(known.x.argmax())]
    others = np.setdiff1d(np.arange(len(known.x)), ends)
    rows = []
    for number in (20, 40, 80, 160):
        for kind in ("ewald", "ridge", *TRIPLETS):
            found = []
            for seed in range(seeds):
                drawn = np.random.default_rng(seed).permutation(others)
                labelled = np.array([*ends, *drawn[: number - 2]])
                rest = drawn[number - 2 :]
                bars = np.full(len(rest), np.nan)
                if kind in TRIPLETS:
                    surrogate = fitted(known, labelled, kind)
                    mean, bars = surrogate.screen(known.host, known.occupations[rest])
                else:
                    mean = (ridge if kind == "ridge" else ewald)(known, labelled)[rest]
                error = known.energies[rest] - mean
                scores = np.abs(error) / bars
                found.append([1e3 * np.sqrt((error**2).mean()), *coverage(scores)])
            rmse, one, two = np.mean(found, axis=0)
            row = {"labels": number, "kind": kind, "rmse": rmse, "in_68": one, "in_95": two}
            rows.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
    return rows


def coverage(scores: Floats) -> tuple[float, float]:
    """Return the shares of errors within the 68 % and the 95 % bars; nan where there are none."""
    if np.isnan(scores).all():
        return np.nan, np.nan
    return float((scores < norm.ppf(0.84)).mean()), float((scores < norm.ppf(0.975)).mean())


Rule = Callable[[Known, NDArray[np.int64], np.random.Generator], Floats]
"""Says how much each configuration is worth a label, given those that have one."""


def by_surrogate(kind: str, rule: str) -> Rule:
    """Return a rule that uses the surrogate."""

    def worth(known: Known, labelled: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        found = fitted(known, labelled, kind).predict(known.host, known.occupations)
        energies = np.full(len(known.x), np.inf)
        energies[labelled] = known.energies[labelled]
        below = known.hull(energies) - found.mean
        if rule == "lowest":
            return below
        if rule == "improvement":
            bars = np.maximum(found.deviation, 1e-9)
            return below * norm.cdf(below / bars) + bars * norm.pdf(below / bars)
        if rule == "spread":
            return found.deviation
        return sampled(known, labelled, found, rng)

    return worth


def sampled(
    known: Known, labelled: NDArray[np.int64], found: Prediction, rng: np.random.Generator
) -> Floats:
    """Give one configuration for each drawn hull: a new vertex of it, or what is next to one."""
    worth = np.zeros(len(known.x))
    for draw in found.samples(PER_ROUND, rng):
        above = draw - known.hull(draw)
        above[labelled] = np.inf
        above[worth > 0] = np.inf
        worth[above.argmin()] = 1.0
    return worth


def by_ridge(guess: Callable[[Known, NDArray[np.int64]], Floats]) -> Rule:
    """Return the rule: lowest by a ridge fit, against the hull of what is labelled."""

    def worth(known: Known, labelled: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        energies = np.full(len(known.x), np.inf)
        energies[labelled] = known.energies[labelled]
        return known.hull(energies) - guess(known, labelled)

    return worth


def by_ewald(known: Known, labelled: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Lowest Ewald energy of those of its composition that are left; each composition in turn."""
    energies = ewald_energies(known.host, known.configs)
    worth = np.zeros(len(known.x))
    for x in np.unique(known.x):
        here = np.flatnonzero(known.x == x)
        worth[here[np.argsort(energies[here])]] = -np.arange(len(here))
    return worth


def at_random(known: Known, labelled: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Any."""
    return rng.random(len(known.x))


RULES: dict[str, Rule] = {
    "random": at_random,
    "Ewald": by_ewald,
    "ridge at each x, lowest": by_ridge(ridge_of_each),
    "ridge, lowest": by_ridge(ridge),
    "pairs, lowest": by_surrogate("pairs", "lowest"),
    "pairs, improvement": by_surrogate("pairs", "improvement"),
    "pairs, sampled hulls": by_surrogate("pairs", "sampled"),
    "triplets, lowest": by_surrogate("triplets", "lowest"),
    "triplets, improvement": by_surrogate("triplets", "improvement"),
    "triplets, sampled hulls": by_surrogate("triplets", "sampled"),
    "triplets, spread": by_surrogate("triplets", "spread"),
}


def labels_until_exact(known: Known, rule: Rule, seed: int | None) -> int:
    """Look up labels, four a round, until every vertex of the exact hull has one.

    The first are one at each composition: random ones, or without a seed those of lowest Ewald
    energy.
    """
    rng = np.random.default_rng(seed or 0)
    order = ewald_energies(known.host, known.configs) if seed is None else rng.random(len(known.x))
    starts = [np.flatnonzero(known.x == x) for x in np.unique(known.x)]
    labelled = np.array([here[order[here].argmin()] for here in starts])
    while not np.isin(known.vertices(), labelled).all():
        worth = rule(known, labelled, rng)
        worth[labelled] = -np.inf
        left = len(known.x) - len(labelled)
        labelled = np.append(labelled, np.argsort(-worth, kind="stable")[: min(PER_ROUND, left)])
    return len(labelled)


def cells(every: list[Known], number: int) -> list[dict[str, Any]]:
    """Predict cells from random labels of the first alone, and from as many of all together."""
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(np.flatnonzero(known.stayed)) for known in every]
    rows = []
    for kind, cutoff in TRIPLETS.items():
        for name, sources in (("the first", every[:1]), ("all", every)):
            some = [
                one
                for known, order in zip(sources, drawn, strict=False)
                for one in known.observed(order[: number // len(sources)])
            ]
            surrogate = fit_surrogate(some, cutoff)
            for known in every:
                mean, bars = surrogate.screen(known.host, known.occupations)
                new = (bars > 1e-6) & known.stayed
                error = (known.energies - mean)[new]
                shares = coverage(np.abs(error) / bars[new])
                rows.append(
                    {
                        "labels of": name,
                        "kind": kind,
                        "supercell": known.host.supercell,
                        "configurations": int(new.sum()),
                        "rmse": 1e3 * float(np.sqrt((error**2).mean())),
                        "in_68": shares[0],
                        "in_95": shares[1],
                    }
                )
    return rows


def gpaw() -> dict[str, Any]:
    """Leave out each of the 16 configurations of the GPAW campaign in turn."""
    host = host_of((1, 1, 1))
    lowest: dict[str, float] = {}
    for atoms in read(GPAW, ":"):
        name = atoms.info["config_hash"]
        energy = atoms.get_potential_energy() / host.formula_units
        lowest[name] = min(energy, lowest.get(name, np.inf))
    configs = [c for n in host.ion_counts for c in enumerate_distinct(host, n)]
    configs = [c for c in configs if canonical_hash(host, c) in lowest]
    energies = np.array([lowest[canonical_hash(host, c)] for c in configs])
    x = np.array([sum(s > 0 for s in c.occupation[:4]) / 4 for c in configs])
    known = Known(host, configs, energies, x, np.ones(len(x), dtype=bool))
    inner = np.flatnonzero((x > 0) & (x < 1))
    result: dict[str, Any] = {"configurations": len(configs)}
    line = np.interp(x, [0, 1], energies[[x.argmin(), x.argmax()]])
    errors: dict[str, list[float]] = {"line": list(energies[inner] - line[inner])}
    for kind in TRIPLETS:
        scores = []
        for i in inner:
            rest = np.delete(np.arange(len(x)), i)
            mean, bar = fitted(known, rest, kind).screen(host, known.occupations[[i]])
            errors.setdefault(kind, []).append(float(energies[i] - mean[0]))
            scores.append(abs(errors[kind][-1]) / bar[0])
        result[f"{kind} in_68"], result[f"{kind} in_95"] = coverage(np.array(scores))
    for name, predict in (("ewald", ewald), ("ridge", ridge)):
        for i in inner:
            rest = np.delete(np.arange(len(x)), i)
            errors.setdefault(name, []).append(float(energies[i] - predict(known, rest)[i]))
    return result | {k: 1e3 * float(np.sqrt(np.mean(np.square(v)))) for k, v in errors.items()}


def speed(known: Known) -> list[dict[str, Any]]:
    """Time what a million configurations cost, from 20,000, on one core (CPU seconds)."""
    rows = []
    for supercell in ((1, 3, 1), (1, 3, 2)):
        host = host_of(supercell)
        rng = np.random.default_rng(0)
        some = [random_occupation(host, host.ion_counts[-1] // 2, rng) for _ in range(500)]
        occupations = np.tile(occupations_of(some, host), (40, 1))
        for kind in TRIPLETS:
            surrogate = fitted(known, np.arange(0, len(known.x), 8), kind)
            energy = surrogate.energy(host, host.ion_counts[-1] // 2)
            energy.of(occupations[:10])
            times = [time.process_time()]
            energy.of(occupations)
            times.append(time.process_time())
            surrogate.screen(host, occupations)
            times.append(time.process_time())
            ranked, bars = np.diff(times) * 1e6 / len(occupations)
            rows.append({"supercell": supercell, "kind": kind, "ranked": ranked, "bars": bars})
    return rows


def table(rows: list[dict[str, Any]], title: str) -> Table:
    """Return rows as a table."""
    result = Table(title=title)
    for name in rows[0]:
        result.add_column(name, justify="right")
    for row in rows:
        result.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()))
    return result


def main() -> None:
    """Run everything, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="of exhaustive_hull.py")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("surrogate.json"))
    arguments = parser.parse_args()
    known, *others = [Known.of_file(path) for path in arguments.files]
    console, document = Console(), dict[str, Any]()

    document["floors"] = floors(known)
    document["learning"] = learning(known, arguments.seeds)
    document["cells"] = cells([known, *others], 240)
    document["gpaw"] = [gpaw()]
    document["speed"] = speed(known)
    for name in ("floors", "learning", "cells", "gpaw", "speed"):
        if document[name]:
            console.print(table(document[name], name))
    document["until_exact"] = []
    for name, rule in RULES.items():
        seeds = [None, *range(arguments.seeds)]
        found = [labels_until_exact(known, rule, seed) for seed in seeds]
        row = {"rule": name, "from lowest Ewald": found[0], "from random": sorted(found[1:])}
        document["until_exact"].append(row)
        console.print(row)
        arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
