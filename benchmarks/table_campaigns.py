"""Whole campaigns on energies that are looked up: how they end, and whether their bars are true.

Search, acquisition, calibration, the chance below the hull and the criteria are those of campaigns.
Labels are looked up in a file of ``born_truth.py``. A potential is ridge regression on the
surrogate's features, pairs alone or with triplets, with scales that are never fitted; each member
is trained without a sixth of the labels, the fold that it would not see in a campaign. So it has
errors of its own, and none of relaxation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from sample_efficiency import HOSTS, TOLERANCE, Known, table

from al_charge.acquisition.plugin import ACQUISITIONS, Candidate, Choice, Labelled
from al_charge.crystal.configuration import Configuration
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.loop.calibration import Checked, bar, calibrate_bars, held_out_error, wide_band
from al_charge.loop.convergence import HullState, criteria, rounds_held
from al_charge.loop.select import ground_state_to_test
from al_charge.loop.spec import ConvergenceSettings
from al_charge.loop.train import FOLDS_PER_MEMBER
from al_charge.potentials.data.frames import fold_of
from al_charge.search.plugin import Space
from al_charge.search.screen import ScreenPlugin, ScreenSettings
from al_charge.search.seeds import seeds
from al_charge.store.documents import Calibration, Criterion, PredictedLabel, Vertex
from al_charge.surrogate.clusters import Clusters, features
from al_charge.surrogate.posterior import Posterior, combine
from al_charge.surrogate.surrogate import Observation, Prediction, fit_surrogate
from al_charge.thermo.hull import Entry, Hull, build_hull, max_hull_shift
from al_charge.thermo.uncertainty import Unlabelled, outlook

FIRST = 20
MEMBERS = 3
SCALES = {"pairs": (0.1, 0.0), "triplets": (0.1, 0.03)}
"""Prior standard deviations of pairs and triplets, eV per formula unit."""
NUGGET = 0.003
SETTINGS = ConvergenceSettings(max_rounds=30)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Committee:
    """Energies of all configurations by members that have seen different labels."""

    def __init__(self, known: Known, kind: str) -> None:
        clusters = Clusters(known.host, triplet_cutoff=7.0)
        design = features(known.host, clusters).of(known.occupations)
        sizes = np.array([len(corners) for corners, _ in clusters.kinds])
        scales = np.array([0.5, *SCALES[kind]])[sizes - 1] / np.sqrt(np.bincount(sizes)[sizes])
        ends = design[[0, -1], -1]
        design[:, -1] -= np.interp(known.place, [0, max(known.place)], ends)
        design = design * np.array([1.0, *scales, 0.1])
        self._kernel = design @ design.T
        self._energies = known.energies
        n_folds = FOLDS_PER_MEMBER * MEMBERS
        self.folds = np.array(
            [fold_of(canonical_hash(known.host, config), n_folds) for config in known.configs]
        )

    def train(self, labelled: Ints) -> tuple[Floats, float]:
        """Return each member's energies, shape (n_members, n_configs), and the held-out error."""
        found, residuals = [], []
        for member in range(MEMBERS):
            is_out = self.folds[labelled] == member
            seen, out = labelled[~is_out], labelled[is_out]
            gram = self._kernel[np.ix_(seen, seen)] + NUGGET**2 * np.eye(len(seen))
            mean = self._energies[seen].mean()
            energies = mean + self._kernel[:, seen] @ np.linalg.solve(
                gram, self._energies[seen] - mean
            )
            found.append(energies)
            residuals += (energies - self._energies)[out].tolist()
        return np.array(found), held_out_error(residuals)


@dataclass
class Run:
    """How a campaign ended; energies in eV per formula unit.

    Attributes
    ----------
    state
        ``converged``, or what was spent.
    labels, rounds
        How many it took.
    error
        By how much its hull is wrong.
    p_below_hull
        What was said of it in the end.
    lower
        Compositions whose ground state lies deeper below the lowest label than was said.
    tested
        By round, of every prospective label: its error as committee and surrogate together
        predicted it, the half widths of the bands that should hold 68 and 95 % of errors, and
        whether it decided the hull.
    p_by_round
        ``p_below_hull`` of each round, and whether anything did lie below.
    """

    state: str = ""
    labels: int = 0
    rounds: int = 0
    error: float = 0.0
    p_below_hull: float = 1.0
    lower: int = 0
    tested: list[list[tuple[float, float, float, bool]]] = field(default_factory=list)
    p_by_round: list[tuple[float, bool]] = field(default_factory=list)


class Campaign:
    """One campaign on a table."""

    def __init__(
        self, known: Known, committee: Committee, rule: str, evaluations: int, seed: int
    ) -> None:
        self.known, self.committee, self.rule = known, committee, ACQUISITIONS.get(rule)
        self.settings = self.rule.settings.model_validate({"kind": rule})
        self.search = ScreenSettings(evaluations=evaluations)
        self.rng = np.random.default_rng(seed)
        self.x = [known.host.composition(n) for n in known.host.ion_counts]
        self.number = {canonical(known.host, c): i for i, c in enumerate(known.configs)}
        ends = np.flatnonzero(np.isin(known.place, [0, len(self.x) - 1]))
        order = self.rng.permutation(np.setdiff1d(np.arange(len(known.configs)), ends))
        # One of each composition, then any.
        _, first = np.unique(known.place[order], return_index=True)
        chosen = [*ends, *order[first], *np.delete(order, first)]
        self.labelled = np.array(chosen[:FIRST])
        self.relaxed: Ints = np.empty(0, dtype=np.int64)
        self.kept = self.relaxed  # by the present committee
        self.history: list[Checked] = []
        self.bars = Calibration()
        self.shown: list[Checked] = []  # what people had seen of labels before
        self.run = Run()

    def play(self) -> Run:
        """Run rounds until the campaign ends."""
        met: list[list[Criterion]] = []
        hull = self.hull()
        energies, held_out = self.committee.train(self.labelled)
        self.bars = calibrate_bars(self.history, held_out)
        while not self.run.state:
            self.relaxed = self.relax(energies)
            picked, weighed = self.select(energies)
            predictions = self.predicted(energies, picked)
            self.labelled = np.append(self.labelled, picked)
            before, hull = hull, self.hull()
            self.note(picked, predictions, weighed, hull)
            self.kept = self.relaxed[:0] if len(picked) else self.relaxed
            energies, held_out = self.committee.train(self.labelled)
            self.bars = calibrate_bars(self.history, held_out)
            met.append(self.assess(energies, before, hull, asked=bool(len(picked))))
            self.run.rounds += 1
            if rounds_held(met) >= SETTINGS.rounds:
                self.run.state = "converged"
            elif (
                len(self.labelled) >= SETTINGS.max_labels or self.run.rounds >= SETTINGS.max_rounds
            ):
                self.run.state = "exhausted"
        self.run.labels = len(self.labelled)
        return self.run

    def hull(self) -> Hull:
        """Return the hull of all labels."""
        entries = [
            Entry(str(i), str(i), self.x[self.known.place[i]], float(self.known.energies[i]))
            for i in self.labelled
        ]
        return build_hull(entries, framework="FePO4", working_ion="Na", metal_energy=0.0)

    def relax(self, energies: Floats) -> Ints:
        """Return the configurations that the search of every composition relaxes."""
        host, mean = self.known.host, energies.mean(axis=0)

        def evaluate(points: Sequence[tuple[Space, Configuration]]) -> list[float]:
            which = [self.number[config] for _, config in points]
            return [float(mean[i]) * host.formula_units for i in which]

        others = np.setdiff1d(self.relaxed, self.labelled)
        told = [*self.exact(), *self.noisy(energies, others, np.zeros(len(others)))]
        known = self.known.energies.copy()
        known[self.kept] = mean[self.kept]
        spaces = [
            Space(
                host,
                n_ions,
                rng=self.rng,
                seeds=seeds(host, n_ions, self.search.seeds, self.rng),
                known={
                    self.known.configs[i]: float(known[i]) * host.formula_units
                    for i in [*self.labelled, *self.kept]
                    if self.known.place[i] == place
                },
                observations=told,
            )
            for place, n_ions in enumerate(host.ion_counts)
        ]
        found = ScreenPlugin().search(spaces, evaluate, self.search)
        which = [self.number[config] for one in found for config, _ in one.ranking]
        found_now = {*which, *self.kept.tolist()}
        return np.array(sorted(found_now - set(self.labelled.tolist())), dtype=np.int64)

    def alone(self, which: Ints) -> Prediction:
        """Return what a surrogate says that knows the labels alone."""
        return fit_surrogate(self.exact()).predict(self.known.host, self.known.occupations[which])

    def error_bars(self, energies: Floats, which: Ints, deviation: Floats) -> tuple[Floats, Floats]:
        """Return the members' standard deviations and the calibrated bars."""
        spread = energies[:, which].std(axis=0, ddof=1)
        x = [str(self.x[place]) for place in self.known.place[which]]
        scaled = self.bars.scale * spread
        told = zip(x, scaled.tolist(), deviation.tolist(), strict=True)
        return spread, np.array([bar(self.bars, *one) for one in told])

    def exact(self) -> list[Observation]:
        """Return the labels."""
        host, configs = self.known.host, self.known.configs
        energies = self.known.energies
        return [Observation(host, configs[i], float(energies[i])) for i in self.labelled]

    def noisy(self, energies: Floats, which: Ints, deviation: Floats) -> list[Observation]:
        """Return what the committee says of some that have no label."""
        host, configs = self.known.host, self.known.configs
        mean, (_, bars) = energies.mean(axis=0), self.error_bars(energies, which, deviation)
        return [
            Observation(host, configs[i], float(mean[i]), float(noise))
            for i, noise in zip(which, bars, strict=True)
        ]

    def posterior(self, energies: Floats) -> Posterior:
        """Return the joint distribution of all energies, as `loop.posterior` makes it."""
        others = np.setdiff1d(self.relaxed, self.labelled)
        noisy = self.noisy(energies, others, self.alone(others).deviation)
        return combine(self.exact(), noisy, fit_surrogate(self.exact()))

    def select(self, energies: Floats) -> tuple[Ints, dict[int, tuple[float, float]]]:
        """Return what the rule asks for, and what is known of what it may ask for."""
        known, hull = self.known, self.hull()
        left = SETTINGS.max_labels - len(self.labelled)
        count = min(self.settings.labels_per_round, left)
        if not len(self.relaxed) or not count:
            return np.empty(0, dtype=np.int64), {}
        found = self.posterior(energies).predict(known.host, known.occupations[self.relaxed])
        choice = Choice(
            candidates=[
                Candidate(str(i), self.x[known.place[i]], known.features[i]) for i in self.relaxed
            ],
            mean=found.mean,
            covariance=found.covariance(),
            hull=[(vertex.x, hull.formation_energy(vertex)) for vertex in hull.vertices],
            labelled=[
                Labelled(
                    str(i), self.x[known.place[i]], float(known.energies[i]), known.features[i]
                )
                for i in self.labelled
            ],
            pending=frozenset(),
            count=count,
            tolerance=TOLERANCE,
        )
        picked = self.rule.select(choice, self.settings, self.rng) or ground_state_to_test(choice)
        told = zip(found.mean.tolist(), found.deviation.tolist(), strict=True)
        weighed = dict(zip(self.relaxed.tolist(), told, strict=True))
        return np.array([int(one.key) for one in picked], dtype=np.int64), weighed

    def predicted(self, energies: Floats, picked: Ints) -> list[PredictedLabel]:
        """Return what the committee says of what was selected; whether it decides is not known."""
        error = (energies.mean(axis=0) - self.known.energies)[picked]
        deviation = self.alone(picked).deviation
        spread, bars = self.error_bars(energies, picked, deviation)
        wide = wide_band(self.bars)
        columns = (one.tolist() for one in (picked, error, spread, bars, deviation))
        return [
            PredictedLabel(
                str(self.x[self.known.place[i]]), error, spread, bar, False, wide * bar, deviation
            )
            for i, error, spread, bar, deviation in zip(*columns, strict=True)
        ]

    def note(
        self,
        picked: Ints,
        predicted: list[PredictedLabel],
        weighed: dict[int, tuple[float, float]],
        hull: Hull,
    ) -> None:
        """Keep what was predicted of labels: by the committee for later bars, else for coverage."""
        self.history.append(Checked(self.bars.held_out or 0.0, predicted))
        shown, bars = [], calibrate_bars(self.shown)
        for i, one in zip(picked.tolist(), predicted, strict=True):
            (energy, deviation), label = weighed[i], float(self.known.energies[i])
            half = bar(bars, one.x, bars.scale * deviation)
            decides = bool(label < hull.lower(self.x[self.known.place[i]]) + TOLERANCE)
            told = energy - label, deviation, half, decides, wide_band(bars) * half
            shown.append(PredictedLabel(one.x, *told))
        self.shown.append(Checked(0.0, shown))
        self.run.tested.append([(one.error, *one.bands, one.deciding) for one in shown])

    def assess(self, energies: Floats, before: Hull, hull: Hull, *, asked: bool) -> list[Criterion]:
        """Return the criteria after a round."""
        known, posterior = self.known, self.posterior(energies)
        open_now = np.setdiff1d(self.relaxed, self.labelled)
        relaxed = posterior.predict(known.host, known.occupations[open_now])
        others = np.setdiff1d(np.arange(len(known.configs)), [*self.labelled, *open_now])
        guessed = posterior.predict(known.host, known.occupations[others])
        both = np.append(open_now, others)
        mean = np.append(relaxed.mean, guessed.mean)
        root = np.vstack([relaxed.root, guessed.root])
        own = np.append(relaxed.own, guessed.own)
        unlabelled = []
        for place, x in enumerate(self.x):
            here = known.place[both] == place
            few = Prediction(mean[here], root[here], own[here])
            unlabelled.append(Unlabelled(x, few, np.empty(0), np.empty(0)))
        ahead = outlook(hull, unlabelled, TOLERANCE, self.rng)
        truth = known.hull(np.arange(len(known.configs)))
        self.run.error = float((known.hull(self.labelled) - truth).max())
        self.run.p_below_hull = ahead.p_below_hull
        self.run.p_by_round.append((ahead.p_below_hull, self.run.error > TOLERANCE))
        self.run.lower = self.missed(ahead.lower_by)
        lowest = {one.x: one.lowest for one in unlabelled}
        state = HullState(
            vertices=[Vertex(str(one.x), one.config_hash) for one in hull.vertices],
            shift=max_hull_shift(before, hull),
            unlabelled_vertices=[
                str(one.x)
                for one in hull.vertices
                if lowest[one.x] < hull.formation_energy(one) - TOLERANCE
            ],
            p_below_hull=ahead.p_below_hull,
            gained=asked,
            asked=asked,
        )
        earlier = HullState([Vertex(str(one.x), one.config_hash) for one in before.vertices])
        return criteria(state, earlier, SETTINGS)

    def missed(self, lower_by: Floats) -> int:
        """Return at how many compositions the ground state lies deeper than was said."""
        known, count = self.known, 0
        for place, bound in enumerate(lower_by):
            here = known.place == place
            lowest = known.energies[self.labelled][here[self.labelled]].min(initial=np.inf)
            count += lowest - known.energies[here].min() > bound + TOLERANCE
        return int(count)


def summary(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Return how campaigns ended, and in the median how many labels lie within their bars."""
    ended = [one for one in runs if one.state == "converged"]
    row: dict[str, Any] = {
        "campaign": name,
        "converged": len(ended),
        "wrong": sum(one.error > TOLERANCE for one in ended),
        "labels": float(np.median([one.labels for one in runs])),
        "most": max(one.labels for one in runs),
        "rounds": float(np.median([one.rounds for one in runs])),
        "deeper": sum(one.lower for one in runs),
    }
    for deciding in (False, True):
        shares = []
        for one in runs:
            some = [
                (abs(error) <= bar_68, abs(error) <= bar_95)
                for found in one.tested
                for error, bar_68, bar_95, decided in found
                if decided or not deciding
            ]
            if some:
                shares.append(np.mean(some, axis=0))
        which = "deciding " if deciding else ""
        middle = np.median(shares, axis=0)
        row |= {f"{which}68 %": float(middle[0]), f"{which}95 %": float(middle[1])}
    return row


def main() -> None:
    """Run, print the table and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--host", choices=HOSTS, default="olivine-1x2x1")
    parser.add_argument("--rule", default="hull")
    parser.add_argument("--potential", nargs="+", choices=SCALES, default=list(SCALES))
    parser.add_argument("--evaluations", nargs="+", type=int, default=[72, 10])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("table_campaigns.json"))
    arguments = parser.parse_args()
    known = Known.of(HOSTS[arguments.host])
    console = Console(width=140)
    rows, document = [], {}
    for kind in arguments.potential:
        committee = Committee(known, kind)
        for evaluations in arguments.evaluations:
            name = f"{kind}, {evaluations} relaxations"
            runs: list[Run] = []
            for seed in range(arguments.seeds):
                began = time.process_time()
                runs.append(Campaign(known, committee, arguments.rule, evaluations, seed).play())
                one = runs[-1]
                console.print(
                    f"{name}, seed {seed}: {one.state}, {one.labels} labels, {one.rounds} rounds, "
                    f"hull wrong by {1e3 * one.error:.1f} meV/f.u., "
                    f"{time.process_time() - began:.0f} CPU s"
                )
                document[name] = [asdict(one) for one in runs]
                arguments.json.write_text(json.dumps(document), encoding="utf-8")
            rows.append(summary(name, runs))
    console.print(table(f"{arguments.host}, {arguments.seeds} seeds", rows))


if __name__ == "__main__":
    main()
