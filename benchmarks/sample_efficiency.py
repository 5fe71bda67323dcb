"""Labels until the hull is exact and until a rule would stop, with energies that are looked up.

Nothing is relaxed and no potential is trained: every energy of a cell is known from
``born_truth.py``, and the posterior is the surrogate fitted to the labels alone. Its covariance is
scaled so that residuals of labels left out are as large as it says. A run begins with one random
configuration at each composition. It stops when anything without a label lies below the hull, by
more than the tolerance, with a probability of less than 5 %. The file that it writes is written
after every run; started again with the same file, it goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from born_truth import DATA, Truth
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from al_charge.acquisition.outlook import lower_hulls
from al_charge.acquisition.plugin import ACQUISITIONS, Candidate, Choice, Labelled
from al_charge.crystal.configuration import Configuration
from al_charge.crystal.correlations import all_pair_correlations
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.loop.spec import load_spec
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import Observation, Prediction, fit_surrogate

ROOT = Path(__file__).parents[1]
AT_ONCE = 4
"""Labels of a round, at most."""
TOLERANCE = 1e-3
"""eV per formula unit."""
STOP = 0.05
DRAWS = 1000
LIMIT = 120
"""Labels after which a run is given up."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """Where energies come from: a file as of ``born_truth.py``, and the campaign of its host.

    Of a cell with too many configurations for joint draws, ``at_most`` of each composition are
    drawn once; the rest is taken not to exist.
    """

    data: str
    campaign: str
    at_most: int | None = None


HOSTS = {
    "olivine-1x2x1": Source("nafepo4_born_1x2x1.npz", "workflows/nafepo4_born.yaml"),
    "olivine-1x2x1-chgnet": Source("nafepo4_points_1x2x1.npz", "workflows/nafepo4_gpaw.yaml"),
    "layered-3x3x1-chgnet": Source("navo2_points_3x3x1.npz", "examples/hosts/gpaw/navo2.yaml"),
    "olivine-1x3x1-sampled": Source("nafepo4_born_1x3x1.npz", "workflows/nafepo4_born.yaml", 150),
}


@dataclass(frozen=True, eq=False)
class Known:
    """All configurations of a cell with their formation energies, eV per formula unit."""

    host: Host
    configs: list[Configuration]
    occupations: NDArray[np.int8]
    place: Ints
    """Which of the compositions each has."""
    energies: Floats
    features: Floats

    @classmethod
    def of(cls, source: Source) -> Known:
        """Read what is known; what has no energy is left out."""
        truth = Truth.read(DATA / source.data)
        spec = load_spec(ROOT / source.campaign).host
        host = Host.from_spec(spec.model_copy(update={"supercell": truth.supercell}))
        configs: list[Configuration] = []
        place, energies = [], []
        rng = np.random.default_rng(0)
        for number, n_ions in enumerate(host.ion_counts):
            here = enumerate_distinct(host, n_ions)
            known = np.flatnonzero(np.isfinite(truth.energies[n_ions]))
            if source.at_most is not None:
                known = np.sort(rng.permutation(known)[: source.at_most])
            configs += [here[i] for i in known]
            place += [number] * len(known)
            energies += truth.energies[n_ions][known].tolist()
        found = np.array(energies) - np.interp(
            place, [0, max(place)], [energies[0], energies[-1]]
        )  # the end members have one configuration each
        features = all_pair_correlations(host, configs)
        occupations = occupations_of(configs, host)
        return cls(host, configs, occupations, np.array(place), found, features)

    @property
    def x(self) -> Floats:
        """Every composition, ascending."""
        return np.array([float(self.host.composition(n)) for n in self.host.ion_counts])

    def hull(self, which: Ints) -> Floats:
        """Return the hull of some configurations at every composition; all have one of them."""
        lowest = np.full(len(self.x), np.inf)
        np.minimum.at(lowest, self.place[which], self.energies[which])
        return lower_hulls(self.x, lowest)

    def posterior(self, labelled: Ints, left: Ints) -> tuple[Prediction, float]:
        """Return what labels say of the rest, and by how much errors exceed what it says."""
        surrogate = fit_surrogate(
            [Observation(self.host, self.configs[i], float(self.energies[i])) for i in labelled]
        )
        residuals, bars = surrogate.left_out()
        scale = max(1.0, float(np.sqrt(((residuals / bars) ** 2).mean())))
        return surrogate.predict(self.host, self.occupations[left]), scale


@dataclass(frozen=True)
class Run:
    """How many labels a run took.

    Attributes
    ----------
    exact
        Labels until the hull was right to within the tolerance; None if it never was.
    stop
        Labels until the run stopped; None if it did not.
    error
        By how much the hull was wrong then, eV per formula unit.
    p_below_hull
        What was said of it then.
    rounds
        Rounds until it stopped.
    """

    exact: int | None
    stop: int | None
    error: float | None
    p_below_hull: float | None
    rounds: int


def run(known: Known, kind: str, seed: int) -> Run:
    """Label by a rule until it stops, and on until the hull is exact."""
    rule = ACQUISITIONS.get(kind)
    settings = rule.settings.model_validate({"kind": kind, "labels_per_round": AT_ONCE})
    rng = np.random.default_rng(seed)
    everything = np.arange(len(known.configs))
    truth = known.hull(everything)
    fractions = [known.host.composition(n) for n in known.host.ion_counts]
    labelled = first_labels(known, rng)
    exact: int | None = None
    stopped: dict[str, Any] = {"stop": None, "error": None, "p_below_hull": None}
    rounds = 0
    while len(labelled) < LIMIT:
        hull = known.hull(labelled)
        error = float((hull - truth).max())
        if exact is None and error < TOLERANCE:
            exact = len(labelled)
        left = np.setdiff1d(everything, labelled)
        found, scale = known.posterior(labelled, left)
        heights = hull[known.place[left]]
        drawn = found.mean + scale * (found.samples(DRAWS, rng) - found.mean)
        p_below_hull = float((drawn < heights - TOLERANCE).any(axis=1).mean())
        if stopped["stop"] is None and p_below_hull < STOP:
            stopped = {"stop": len(labelled), "error": error, "p_below_hull": p_below_hull}
        if stopped["stop"] and exact:
            break
        choice = Choice(
            candidates=[
                Candidate(str(i), fractions[known.place[i]], known.features[i]) for i in left
            ],
            mean=found.mean,
            covariance=scale**2 * found.covariance(),
            hull=list(zip(fractions, hull.tolist(), strict=True)),
            labelled=[
                Labelled(
                    str(i), fractions[known.place[i]], float(known.energies[i]), known.features[i]
                )
                for i in labelled
            ],
            pending=frozenset(),
            count=AT_ONCE,
            tolerance=TOLERANCE,
        )
        picked = [int(one.key) for one in rule.select(choice, settings, rng)]
        if not picked:  # it is sure of a hull that is wrong
            break
        labelled = np.append(labelled, picked)
        rounds += stopped["stop"] is None
    return Run(exact=exact, rounds=rounds, **stopped)


def first_labels(known: Known, rng: np.random.Generator) -> Ints:
    """Return a random configuration at each composition."""
    order = rng.random(len(known.configs))
    starts = [np.flatnonzero(known.place == place) for place in range(len(known.x))]
    return np.array([here[order[here].argmin()] for here in starts])


def exact_at_random(known: Known, seed: int) -> int:
    """Return after how many random labels the hull is exact; no model is needed to know."""
    rng = np.random.default_rng(seed)
    first = first_labels(known, rng)
    order = np.append(first, rng.permutation(np.setdiff1d(np.arange(len(known.configs)), first)))
    truth = known.hull(order)
    low, high = len(first), len(order)
    while low < high:
        middle = (low + high) // 2
        if (known.hull(order[:middle]) - truth).max() < TOLERANCE:
            high = middle
        else:
            low = middle + 1
    return high


def summary(kind: str, runs: Sequence[Run], random: Sequence[int]) -> dict[str, Any]:
    """Return medians over seeds, which of them stopped, and on how many wrong hulls."""
    stopped = [one for one in runs if one.stop is not None and one.error is not None]
    exact = [one.exact if one.exact is not None else np.inf for one in runs]
    stops = [one.stop if one.stop is not None else np.inf for one in runs]
    return {
        "rule": kind,
        "exact": float(np.median(exact)),
        "exact_worst": max(exact),
        "stop": float(np.median(stops)),
        "stop_worst": max(stops),
        "rounds": float(np.median([one.rounds for one in runs])),
        "stopped": len(stopped),
        "wrong": sum((one.error or 0.0) >= TOLERANCE for one in stopped),
        "of_random": float(np.median(exact) / np.median(random)),
    }


def table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return the summaries as a table."""
    result = Table(title=title)
    for heading in rows[0]:
        result.add_column(heading, justify="left" if heading == "rule" else "right")
    for row in rows:
        result.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    return result


def main() -> None:
    """Run what is not in the file yet, write it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", choices=HOSTS, default="olivine-1x2x1")
    parser.add_argument("--rule", nargs="+", default=ACQUISITIONS.kinds, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("sample_efficiency.json"))
    arguments = parser.parse_args()
    known = Known.of(HOSTS[arguments.host])
    random = [exact_at_random(known, seed) for seed in range(arguments.seeds)]
    document: dict[str, Any] = {"host": arguments.host, "runs": {}}
    if arguments.json.is_file():
        document = json.loads(arguments.json.read_text(encoding="utf-8"))
    document["exact_at_random"] = random
    rows = []
    console = Console()
    for kind in arguments.rule:
        began = time.process_time()
        runs: list[dict[str, Any]] = document["runs"].setdefault(kind, [])
        for seed in range(len(runs), arguments.seeds):
            runs.append(asdict(run(known, kind, seed)))
            arguments.json.write_text(json.dumps(document), encoding="utf-8")
        rows.append(summary(kind, [Run(**one) for one in runs[: arguments.seeds]], random))
        console.print(f"{kind}: {time.process_time() - began:.0f} CPU s")
    console.print(table(f"{arguments.host}, {arguments.seeds} seeds", rows))
    console.print(f"random labels until exact: {sorted(random)}")


if __name__ == "__main__":
    main()
