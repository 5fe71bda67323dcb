"""The five steps of a round on a real database: each product is made once, whatever happens."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from pymongo import MongoClient
from pymongo.database import Database
from safetensors.torch import load

from al_charge.acquisition.hull import HullPlugin
from al_charge.acquisition.plugin import Choice, Selection
from al_charge.api.hull import _candidates as predictions
from al_charge.crystal.configuration import Configuration, from_atoms, set_species
from al_charge.crystal.enumeration import count_distinct, enumerate_distinct
from al_charge.crystal.identity import identity
from al_charge.crystal.symmetry import canonical_hash
from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError
from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import Labeler, Reading, Relax
from al_charge.loop import posterior as posteriors
from al_charge.loop import propose as proposing
from al_charge.loop import select as selecting
from al_charge.loop import train as training
from al_charge.loop.assess import _assessment, _calibrate_weighed, assess, next_state
from al_charge.loop.calibration import Checked, bar, calibrate_bars, wide_band
from al_charge.loop.campaign import Campaign, label_key, open_campaign
from al_charge.loop.cells import configuration_of
from al_charge.loop.committee import load_committee, member_energies
from al_charge.loop.energies import Weighed, assessed_hull, calibration_of, labelled_hull
from al_charge.loop.label import label, retry_labels
from al_charge.loop.labelled_frames import label_atoms
from al_charge.loop.lookup import why
from al_charge.loop.posterior import (
    fit_posterior,
    observations,
    predicted_together,
    weigh,
    weighed,
)
from al_charge.loop.predicted import compare_with_labels
from al_charge.loop.propose import _observations, propose
from al_charge.loop.request_ledger import request_ledger
from al_charge.loop.rounds import current_round, label_slots, open_round
from al_charge.loop.select import labels_left, select_candidates
from al_charge.loop.spec import CampaignSpec, parse_spec
from al_charge.loop.submit import submit
from al_charge.loop.train import train_member, training_frames
from al_charge.potentials.training import train as trainer
from al_charge.report.campaign_report.facts import _predictions as reported_predictions
from al_charge.report.round_charts import error, parity
from al_charge.report.upcoming import _labels
from al_charge.search.plugin import SEARCHES
from al_charge.store.documents import (
    Calibration,
    CampaignState,
    LabelDoc,
    LabelUseDoc,
    ModelDoc,
    PredictedLabel,
)
from al_charge.store.labels import ALL_FRAMES, SUMMARY
from al_charge.store.mongo import Store
from al_charge.surrogate.polynomial import occupations_of
from al_charge.surrogate.surrogate import fit_surrogate

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
MAX_LABELS = 10
SLOSH = AlChargeError("the electrons slosh", where="engine", remedy="mix less")
Snapshot = dict[str, list[dict[str, Any]]]


def specification(name: str) -> CampaignSpec:
    document = {
        "name": name,
        "host": {
            "structure": str(HOST),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born", "fmax": "0.05 eV/A"},
        "potential": {"kind": "painn", "cutoff": "4 A", "channels": 8},
        "training": {"epochs": 1},
        "committee": {"size": 2},
        "relaxation": {"max_steps": 5},
        "search": {"kind": "genetic", "evaluations": 4, "seeds": 4},  # its shares differ
        "acquisition": {"first_round": 7, "labels_per_round": 4},
        "convergence": {"max_rounds": 2, "max_labels": MAX_LABELS},
    }
    return parse_spec(document, source=HOST)


class Engine:
    """The Born labeler, with a wrong answer for some configurations."""

    def __init__(self, campaign: Campaign) -> None:
        self.host = campaign.host
        self.born: Labeler = make_labeler(campaign.spec.labeler)
        self.fails: dict[str, Exception] = {}
        self.resolves: dict[str, list[str] | None] = {}
        self.asked: Counter[str] = Counter()

    def settings(self) -> dict[str, Any]:
        return self.born.settings()

    def check(self, species: Sequence[str], ion: str) -> None:
        self.born.check(species, ion)

    @property
    def relax(self) -> Relax:
        return self.born.relax

    @property
    def gives_stress(self) -> bool:
        return self.born.gives_stress

    @property
    def tries(self) -> int:
        return self.born.tries

    def metal_energy(self, ion: str, directory: Path) -> float:
        return self.born.metal_energy(ion, directory)

    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        self.born.prepare(atoms, directory, relax=relax, attempt=attempt)
        self.job = canonical_hash(self.host, from_atoms(self.host, atoms))

    def progress(self, directory: Path) -> int:
        return self.born.progress(directory)

    def run(self, directory: Path) -> None:
        self.asked[self.job] += 1
        if self.job in self.fails:
            raise self.fails[self.job]
        self.born.run(directory)

    def read(self, directory: Path) -> Reading:
        return self.born.read(directory)

    def audit(self, reading: Reading, species: Sequence[str], windows: Windows | None) -> Audit:
        if self.job not in self.resolves:
            return self.born.audit(reading, species, windows)
        found = self.resolves[self.job]
        if found is None:
            return Audit((None, *species[1:]), ambiguous=(0,), charge=None)
        return Audit(tuple(found))


class Run:
    """Two rounds of a campaign, each step run twice, and what the second run of it changed."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        submit(store, specification("steps"))
        self.campaign = open_campaign(store, "steps")
        self.engine = Engine(self.campaign)
        self.campaign.__dict__["labeler"] = self.engine
        self.changed: list[str] = []
        self.labels_left: list[int] = []
        self.known: list[set[str]] = []
        self.states: list[CampaignState] = []
        self.fail, self.twist, self.blur = "", "", ""

    def play(self) -> None:
        for number in (0, 1):
            self.round(number)

    def round(self, number: int) -> None:
        campaign = self.campaign
        assert current_round(campaign) == number
        open_round(campaign, number)
        for n_ions in campaign.host.ion_counts:
            self.twice(f"propose {number}", lambda n=n_ions: propose(campaign, number, n))
        self.labels_left.append(labels_left(campaign))
        self.known.append(set(request_ledger(campaign).configurations))
        self.twice(f"select {number}", lambda: select_candidates(campaign, number))
        if number == 0:
            self.spoil(select_candidates(campaign, 0))
        for slot in range(label_slots(campaign, number)):
            self.twice(f"label {number}", lambda s=slot: self.label(number, s))
        for member in range(campaign.spec.committee.size):
            self.twice(f"train {number}", lambda m=member: self.train(number, m))
        self.twice(f"assess {number}", lambda: self.assess(number))

    def spoil(self, selected: list[str]) -> None:
        """Choose three of the selected configurations between the ends to go wrong."""
        found = [self.store.candidates.get(key) for key in selected]
        between = [c for c in found if c is not None and c.composition not in ("0", "1")]
        for candidate in between:
            other = self.other_order(candidate.config_hash, candidate.geometry)
            if other is not None and not self.twist:
                self.twist = candidate.config_hash
                self.engine.resolves[self.twist] = other
            elif not self.fail:
                self.fail = candidate.config_hash
                self.engine.fails[self.fail] = SLOSH
            elif not self.blur:
                self.blur = candidate.config_hash
                self.engine.resolves[self.blur] = None
        assert self.twist and self.fail and self.blur

    def other_order(self, key: str, geometry: Any) -> list[str] | None:
        """Return the species of another charge order on the same ions, if there is one."""
        from al_charge.loop.campaign import atoms_of

        iron = [i for i, s in enumerate(geometry.species) if s.startswith("Fe")]
        for i, j in combinations(iron, 2):
            species = list(geometry.species)
            species[i], species[j] = species[j], species[i]
            atoms = atoms_of(geometry)
            set_species(atoms, species)
            if canonical_hash(self.engine.host, from_atoms(self.engine.host, atoms)) != key:
                return species
        return None

    def label(self, number: int, slot: int) -> None:
        label(
            self.campaign,
            number,
            slot,
            self.folder / f"label-{slot}",
            spool=self.folder / "spool",
        )

    @property
    def cache(self) -> Path:
        return self.folder / "labels"

    def assess(self, number: int) -> None:
        self.states.append(assess(self.campaign, number, self.folder / "metal"))

    def train(self, number: int, member: int) -> None:
        train_member(
            self.campaign, number, member, self.folder / f"train-{number}-{member}", self.cache
        )

    def twice(self, name: str, step: Callable[[], object]) -> None:
        step()
        before = snapshot(self.store)
        step()
        if snapshot(self.store) != before:
            self.changed.append(name)

    def asked_for(self, key: str) -> LabelDoc:
        """Return the label that was asked for under a configuration's hash."""
        labels = list(self.store.labels.read(ALL_FRAMES, campaign="steps"))
        return next(found for found in labels if found.requested_hash == key)


def snapshot(store: Store) -> Snapshot:
    names = sorted(store.database.list_collection_names())
    return {name: list(store.database[name].find(sort=[("_id", 1)])) for name in names}


@pytest.fixture(scope="module")
def own_database(
    mongodb_client: MongoClient[dict[str, Any]],
) -> Iterator[Database[dict[str, Any]]]:
    """A database that this module's tests share."""
    name = f"test_{uuid.uuid4().hex}"
    yield mongodb_client[name]
    mongodb_client.drop_database(name)


@pytest.fixture(scope="module")
def run(own_database: Database[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The campaign after two rounds."""
    store = Store(own_database)
    store.ensure_schema()
    played = Run(store, tmp_path_factory.mktemp("runs"))
    played.play()
    return played


def test_a_step_run_again_changes_nothing(run: Run) -> None:
    assert run.changed == []
    assert run.states[:2] == [CampaignState.RUNNING] * 2


def test_a_search_is_told_what_is_known_at_all_compositions(run: Run) -> None:
    """Labels as exact; what the committee of the round before has relaxed with its error bar."""
    campaign, units = run.campaign, run.campaign.host.formula_units
    lowest: dict[tuple[int, ...], float] = {}
    for one in run.store.labels.read(ALL_FRAMES, campaign="steps", refused=False):
        key = tuple(one.colours)
        lowest[key] = min(one.energy / units, lowest.get(key, 0.0))
    calibration = calibration_of(campaign, 0)
    exact = [(Configuration(key), pytest.approx(value), 0.0) for key, value in lowest.items()]
    relaxed = [
        (
            Configuration(tuple(one.colours)),
            pytest.approx((one.energy or 0.0) / units),
            pytest.approx(bar(calibration, one.composition, (one.spread or 0.0) / units)),
        )
        for one in run.store.candidates.all("steps", 1)
        if tuple(one.colours) not in lowest
    ]
    told = _observations(campaign, 2)
    found = [(one.config, one.energy, one.noise) for one in told]
    assert len(found) == len(exact) + len(relaxed)
    for one in (*exact, *relaxed):
        assert one in found


def test_what_a_search_tells_is_stored(run: Run) -> None:
    counted = count_distinct(run.campaign.host)
    labels = run.store.labels.read(ALL_FRAMES, campaign="steps", up_to=0, refused=False)
    known = Counter(n_ions for n_ions, _ in {(one.n_ions, one.config_hash) for one in labels})
    for proposal in run.store.proposals.all("steps", 1):
        number = counted[run.campaign.host.composition(proposal.n_ions)]
        share = (proposal.statistics.evaluated + known[proposal.n_ions]) / number
        assert proposal.statistics.screened == pytest.approx(share)
    assert {one.statistics.screened for one in run.store.proposals.all("steps", 0)} == {None}


def test_a_search_does_not_depend_on_which_label_was_made_first(run: Run) -> None:
    """Nor on the workers, then: labels of a round are made in any order."""
    labels = run.store.database["labels"]
    made = {one["_id"]: one["created"] for one in labels.find({}, {"created": 1})}

    def found() -> list[Any]:
        return [
            (one.config_hash, one.energy, one.geometry)
            for n_ions in run.campaign.host.ion_counts
            for one in proposing._evolved_candidates(
                run.campaign, 2, run.campaign.host.composition(n_ions)
            )[0]
        ]

    before = found()
    try:
        for key, time in zip(made, reversed(sorted(made.values())), strict=True):
            labels.update_one({"_id": key}, {"$set": {"created": time}})
        assert found() == before
    finally:
        for key, time in made.items():
            labels.update_one({"_id": key}, {"$set": {"created": time}})


@pytest.mark.parametrize(("evaluations", "extra"), [(4, 0), (7, 3), (36, 5)])
def test_what_is_in_doubt_is_relaxed_too_within_the_budget(
    run: Run, monkeypatch: pytest.MonkeyPatch, evaluations: int, extra: int
) -> None:
    host, half = run.campaign.host, Fraction(1, 2)
    every = enumerate_distinct(host, host.n_ions(half))
    settings = run.campaign.spec.search.model_copy(update={"evaluations": 4})
    method = SEARCHES.of(settings)

    class Short:
        """The search of the campaign, which stops at four whatever it may relax."""

        def search(self, spaces: Any, evaluate: Any, _: Any) -> Any:
            return method.search(spaces, evaluate, settings)

    def doubtful(campaign: Any, found: Any, posterior: Any, x: Fraction, relaxed: Any) -> Any:
        """Everything that is not relaxed, up to nine in all."""
        assert x == half and set(found.labels) <= labelled
        known = {one.config_hash for one in relaxed}
        left = [(host, one) for one in every if canonical_hash(host, one) not in known]
        return left[: max(0, 9 - len(known))]

    labelled = {one.key for one in run.store.labels.read(ALL_FRAMES, campaign="steps", up_to=0)}
    monkeypatch.setattr(proposing, "in_doubt", doubtful)
    monkeypatch.setattr(proposing.SEARCHES, "of", lambda _: Short())
    asked = settings.model_copy(update={"evaluations": evaluations})
    spec = run.campaign.spec.model_copy(update={"search": asked})
    campaign = replace(run.campaign, spec=spec)
    candidates, statistics = proposing._evolved_candidates(campaign, 1, half)
    plain = run.store.candidates.all("steps", 1, "1/2")
    assert statistics.evaluated == 4 + extra
    assert [one.config_hash for one in candidates[: len(plain)]] == [
        one.config_hash for one in plain
    ]
    assert len({one.config_hash for one in candidates}) == len(plain) + extra
    assert all(one.energy is not None and one.spread is not None for one in candidates)


def test_predictions_of_a_hull_weigh_committee_and_surrogate(run: Run) -> None:
    """Those of the next round's candidates: a false minimum of a potential is none of the hull."""
    campaign, host = run.campaign, run.campaign.host
    found, _ = assessed_hull(campaign, 0)
    predicted = {one.config_hash: one for one in predictions(campaign, 0, found.hull)}
    labelled = {one.config_hash for one in found.hull.entries}
    candidates = [
        one for one in run.store.candidates.all("steps", 1) if one.config_hash not in labelled
    ]
    assert set(predicted) <= {one.config_hash for one in candidates} and predicted
    some = [one for one in candidates if one.config_hash in predicted]
    calibration = calibration_of(campaign, 0)
    posterior = fit_posterior(campaign, found.labels.values(), candidates, calibration)
    for one in some:
        rows = occupations_of([configuration_of(one.colours)], host)
        known, entry = posterior.predict(host, rows), predicted[one.config_hash]
        assert entry.energy == pytest.approx(known.mean[0])
        assert entry.error_bar == pytest.approx(calibrate_bars([]).scale * known.deviation[0])
        assert abs(entry.energy - (one.energy or 0.0) / host.formula_units) > 1e-6


def test_what_was_predicted_of_labels_is_read_and_not_fitted_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everywhere the same: by what was known when the labels were selected."""
    campaign, units = run.campaign, run.campaign.host.formula_units
    record = run.store.rounds.get("steps", 1)
    assert record is not None and record.selected
    proposed = run.store.candidates.all("steps", 1)
    labels = run.store.labels.read(SUMMARY, campaign="steps", up_to=0)
    posterior = fit_posterior(campaign, labels, proposed, calibration_of(campaign, 0))
    known = predicted_together(campaign, posterior, proposed)
    first = run.store.rounds.all("steps")[0].assessment
    assert first is not None and first.weighed is not None and not first.weighed.predictions
    bars = first.weighed.calibration
    assert (bars, bars.factors) == (calibrate_bars([]), {})  # nothing has been compared yet
    hashes = [one.config_hash for one in proposed]
    whole = {
        key: pytest.approx(pair)
        for key, *pair in zip(hashes, known.mean, known.deviation, strict=True)
    }
    halves = zip(known.mean, bars.scale * known.deviation, strict=True)
    told = dict(zip(hashes, halves, strict=True))
    # Those of a round whose labels are still being made are as they will be stored.
    assert weighed(campaign, record.model_copy(update={"assessment": None})).told == whole

    def refuse(*_: Any) -> None:
        raise AssertionError("it is stored")

    monkeypatch.setattr(posteriors, "fit_posterior", refuse)
    assert weighed(campaign, record).told == whole
    for one in predictions(campaign, 0, assessed_hull(campaign, 0)[0].hull):
        assert (one.energy, one.error_bar) == pytest.approx(told[one.config_hash])
    upcoming = {one["label"]: one for one in _labels(campaign, record)}
    rows = {row["label"]: row for row in parity(campaign).rows}
    assert rows.keys() <= upcoming.keys() and len(rows) > 1
    (errors,), wide = error(campaign).rows, wide_band(bars)
    hull, misses = labelled_hull(campaign).hull, []
    for key, row in rows.items():
        label = run.store.labels.get(key)
        assert label is not None
        energy, bar_ = told[label.config_hash]
        given = why(campaign, label)
        assert (given.predicted, given.error_bar) == pytest.approx((energy, bar_))
        assert upcoming[key]["predicted"] == pytest.approx(energy)
        assert upcoming[key]["error_bar"] == row["error_bar"] == pytest.approx(bar_)
        line = hull.reference(Fraction(row["x"]))
        assert row["predicted"] == pytest.approx(energy - line)
        assert row["labelled"] == pytest.approx(label.energy / units - line)
        misses.append(((energy - label.energy / units), bar_))
    assert errors == {
        "round": 1,
        "labels": len(misses),
        "rmse": pytest.approx(np.sqrt(np.mean([miss**2 for miss, _ in misses]))),
        "error_bar": pytest.approx(np.sqrt(np.mean([bar_**2 for _, bar_ in misses]))),
        "within_68": np.mean([abs(miss) <= bar_ for miss, bar_ in misses]),
        "within_95": np.mean([abs(miss) <= wide * bar_ for miss, bar_ in misses]),
    }
    # Earlier versions stored no such thing: what the committee said remains.
    monkeypatch.setattr(type(run.store.rounds), "weighed", lambda *_: {})
    candidate = next(one for one in proposed if one.doc_id == record.selected[0])
    first = next(one for one in _labels(campaign, record) if one["place"] == 1)
    assert first["predicted"] == pytest.approx((candidate.energy or 0.0) / units)


def test_every_label_is_made_once(run: Run) -> None:
    attempts = run.store.attempts.all("steps")
    made = Counter(attempt.key for attempt in attempts if attempt.outcome == "made")
    labels = list(run.store.labels.read(ALL_FRAMES, campaign="steps"))
    metal = f"metal {run.campaign.settings_hash}/Na"
    assert set(made) == {found.key for found in labels} | {metal}
    assert set(made.values()) == {1}
    assert run.store.attempts.count_made("steps") == len(labels)
    assert run.store.attempts.made_twice("steps") == []
    assert {key: n for key, n in run.engine.asked.items() if n > 1} == {run.fail: 2}


def test_the_label_budget_is_never_exceeded(run: Run) -> None:
    rounds = run.store.rounds.all("steps")
    assert [len(record.selected or []) for record in rounds] == [7, 3]
    assert run.labels_left == [MAX_LABELS, MAX_LABELS - 7]
    assert labels_left(run.campaign) == 0
    assert len(list(run.store.labels.read(ALL_FRAMES, campaign="steps"))) <= MAX_LABELS


def test_a_round_that_is_assessed_again_counts_no_later_labels(run: Run) -> None:
    assert labels_left(run.campaign, up_to=0) == MAX_LABELS - 7
    assert next_state(run.campaign, 0) == (CampaignState.RUNNING, "")


def test_selection_leaves_out_what_was_labelled_or_failed(run: Run) -> None:
    first, second = (
        {key.rsplit("/", 1)[-1] for key in record.selected or []}
        for record in run.store.rounds.all("steps")
    )
    proposed = {candidate.config_hash for candidate in run.store.candidates.all("steps", 1)}
    assert proposed & first
    assert {run.fail, run.twist, run.blur} <= run.known[1]
    assert first <= run.known[1]
    assert not second & run.known[1]


def test_candidates_are_distinct_and_not_yet_answered(run: Run) -> None:
    seeds, searched = (run.store.candidates.all("steps", number) for number in (0, 1))
    assert {c.n_ions for c in seeds} == set(run.campaign.host.ion_counts)
    assert all(c.energy is None for c in seeds)
    assert all(c.energy is not None and c.spread is not None for c in searched)
    for found in (seeds, searched):
        assert len({c.config_hash for c in found}) == len(found)
    # The search does not evaluate what a usable label has answered.
    first = list(run.store.labels.read(ALL_FRAMES, campaign="steps", up_to=0))
    answered = {found.config_hash for found in first if found.resolved is not None}
    assert not answered & {c.config_hash for c in searched}


def test_candidates_and_labels_have_the_identity_of_what_they_are(run: Run) -> None:
    host = run.campaign.host
    candidates = [one for number in (0, 1) for one in run.store.candidates.all("steps", number)]
    labels = list(run.store.labels.read(SUMMARY, campaign="steps"))
    for one in (*candidates, *labels):
        assert one.identity == identity(host, configuration_of(one.colours))
    # In this primitive cell configurations are as many as infinite crystals.
    named = {(one.config_hash, one.identity) for one in (*candidates, *labels)}
    assert len(named) == len(dict(named)) == len({name for _, name in named})


def test_a_failing_label_is_quarantined_and_the_round_goes_on(run: Run) -> None:
    (failure,) = run.store.failures.all("steps")
    candidate = next(c for c in run.store.candidates.all("steps", 0) if c.config_hash == run.fail)
    assert failure.key == label_key(run.campaign, candidate)
    assert failure.reason == "engine: the electrons slosh; mix less"
    assert failure.attempts == 2
    outcomes = [a.outcome for a in run.store.attempts.all("steps", failure.key)]
    assert outcomes == ["failed", "failed"]
    assert run.store.labels.get(failure.key) is None
    assert run.store.rounds.get("steps", 0).assessment.labels == 5  # type: ignore[union-attr]


def test_another_charge_order_is_stored_as_what_it_is(run: Run) -> None:
    found = run.asked_for(run.twist)
    assert found.config_hash != found.requested_hash
    assert found.resolved == run.engine.resolves[run.twist] != found.requested
    frames = [
        f for f in training_frames(run.campaign, 1, run.cache) if f.group == found.config_hash
    ]
    assert frames
    entries = labelled_hull(run.campaign).hull.entries
    assert found.config_hash in {entry.config_hash for entry in entries}
    labels = run.store.labels.read(ALL_FRAMES, campaign="steps")
    same = [x for x in labels if x.config_hash == found.config_hash]
    lowest = min(same, key=lambda label: label.energy)
    assert found in same
    assert [e.key for e in entries if e.config_hash == found.config_hash] == [lowest.key]


def test_an_uncertain_charge_order_is_kept_but_never_used(run: Run) -> None:
    found = run.asked_for(run.blur)
    assert found.resolved is None
    assert found.config_hash == run.blur
    assert run.blur not in {frame.group for frame in training_frames(run.campaign, 1, run.cache)}
    assert found.key not in {entry.key for entry in labelled_hull(run.campaign).hull.entries}


def lower_hull(points: dict[Fraction, float]) -> set[Fraction]:
    """Return the x that no line between two other points lies on or below, by trying them all."""
    return {
        x
        for x, energy in points.items()
        if not any(
            a < x < b
            and points[a] + float((x - a) / (b - a)) * (points[b] - points[a]) <= energy + 1e-9
            for a in points
            for b in points
        )
    }


def test_the_hull_is_that_of_the_labels(run: Run) -> None:
    lowest: dict[Fraction, float] = {}
    for found in run.store.labels.read(ALL_FRAMES, campaign="steps"):
        if found.resolved is not None:
            x = Fraction(found.composition)
            lowest[x] = min(found.energy / 4, lowest.get(x, float("inf")))
    hull = labelled_hull(run.campaign).hull
    assert {v.x for v in hull.vertices} == lower_hull(lowest)
    assert {v.x: v.energy for v in hull.vertices} == {v.x: lowest[v.x] for v in hull.vertices}
    last = run.store.rounds.get("steps", 1)
    assert last is not None and last.assessment is not None
    assert last.assessment.vertices == [(str(v.x), v.config_hash) for v in hull.vertices]


def test_criteria_are_stored_and_the_campaign_ends(run: Run) -> None:
    first, second = (record.assessment for record in run.store.rounds.all("steps"))
    assert first is not None and second is not None
    assert [criterion.met for criterion in first.criteria] == [False] * 4
    assert len(second.criteria) == 4
    assert second.hull_shift >= 0.0
    assert first.p_below_hull is None
    assert 0.0 <= second.p_below_hull <= 1.0
    assert second.prospective.labels == second.labels - first.labels
    assert first.coverage is None and first.compositions is None
    assert second.coverage is not None and second.compositions is not None
    assert second.coverage.labels == len(second.prospective.predictions)
    hull = assessed_hull(run.campaign)[0].hull
    lowest = {str(one.x): hull.formation_energy(one) for one in reversed(hull.entries)}
    assert {one.x: one.lowest_labelled for one in second.compositions} == pytest.approx(lowest)
    assert second.exhaustive is True


def test_errors_are_those_of_predictions_made_before(run: Run) -> None:
    """Error, spread without its scale and bar of every label, from what was stored by then."""
    first, second = (record.assessment for record in run.store.rounds.all("steps"))
    assert first is not None and second is not None and first.calibration is not None
    units, labels = run.campaign.host.formula_units, labelled_hull(run.campaign).labels
    (chosen,) = [one.selected for one in run.store.rounds.all("steps") if one.number == 1]
    candidates = [run.store.candidates.get(one) for one in chosen or []]
    known = labelled_hull(run.campaign, up_to=0).labels.values()
    learnt = fit_surrogate(observations(run.campaign, known)[0])
    share = first.calibration.share
    assert share is not None
    for candidate, told in zip(candidates, second.prospective.predictions, strict=True):
        assert candidate is not None and candidate.energy is not None and candidate.spread
        energy = labels[label_key(run.campaign, candidate)].energy
        assert told.error == pytest.approx((candidate.energy - energy) / units)
        assert told.spread == pytest.approx(candidate.spread / units / first.spread_scale)
        rows = np.array([candidate.colours], dtype=np.int8)
        (deviation,) = learnt.predict(run.campaign.host, rows).deviation
        assert told.deviation == pytest.approx(deviation) and deviation > 0
        factor = first.calibration.factors.get(told.x, 1.0)
        parts = first.calibration.floor, candidate.spread / units, share * deviation
        assert told.bar == pytest.approx(factor * np.linalg.norm(parts))


def test_coverage_is_that_of_committee_and_surrogate_together(run: Run) -> None:
    """Of the energies and error bars that people see, and these as they were before the labels."""
    (chosen,) = [one.selected for one in run.store.rounds.all("steps") if one.number == 1]
    labelled, before = labelled_hull(run.campaign), weigh(run.campaign, 1)
    units, hull = run.campaign.host.formula_units, labelled.hull
    tolerance = run.campaign.spec.convergence.hull_tolerance
    inside, deciding, errors = [], [], []
    told_hashes, told_x = [], []
    for candidate in map(run.store.candidates.get, chosen or []):
        assert candidate is not None
        told_hashes.append(candidate.config_hash)
        told_x.append(candidate.composition)
        energy, _ = before.told[candidate.config_hash]
        error_bar = before.bar(candidate)
        band_95 = wide_band(before.calibration) * error_bar
        found = labelled.labels[label_key(run.campaign, candidate)].energy / units
        inside.append([abs(energy - found) <= width for width in (error_bar, band_95)])
        x = Fraction(candidate.composition)
        deciding.append(found - hull.reference(x) < hull.lower(x) + tolerance)
        errors.append((1, pytest.approx(energy - found), error_bar))
    reported = reported_predictions(run.campaign, run.store.rounds.all("steps"))
    assert [(number, one.error, one.bar) for number, one in reported] == errors
    second = run.store.rounds.all("steps")[1].assessment
    assert second is not None and second.coverage is not None
    told = second.coverage
    assert [told.within_68, told.within_95] == np.mean(inside, axis=0).tolist()
    assert told.deciding.labels == sum(deciding)
    if any(deciding):
        decided = np.mean(inside, axis=0, where=np.array(deciding)[:, None]).tolist()
        assert [told.deciding.within_68, told.deciding.within_95] == decided
    weighed_first = second.weighed
    assert weighed_first is not None
    assert [one.error for one in weighed_first.predictions] == [one for _, one, _ in errors]
    assert weighed_first.calibration == calibrate_bars([Checked(0.0, weighed_first.predictions)])
    deviations = [before.told[key][1] for key in told_hashes]
    assert [one.spread for one in weighed_first.predictions] == pytest.approx(deviations)
    bars = Calibration(scale=2.0, freedom=3.0, factors={told_x[0]: 1.5})
    others = compare_with_labels(run.campaign, 1, labelled, Weighed(before.told, bars))
    factors = np.where(np.array(told_x) == told_x[0], 1.5, 1.0)
    halves = 2 * factors * deviations
    assert [one.bar for one in others] == pytest.approx(halves)
    assert [one.band_95 for one in others] == pytest.approx(wide_band(bars) * halves)
    sure = Weighed({key: (energy, 0.0) for key, (energy, _) in before.told.items()})
    again, _, _ = _assessment(run.campaign, 1, sure)
    assert again.coverage is not None and again.prospective == second.prospective
    assert again.coverage.within_68 == again.coverage.within_95 == 0.0


def test_bars_of_weighed_energies_are_made_of_all_rounds_before() -> None:
    """The newest counts most; what was known exactly tells nothing of errors."""
    small, large = (
        [PredictedLabel("1/2", error, 0.002, 0.0, False) for error in (size, -size)]
        for size in (0.001, 0.02)
    )
    exact = PredictedLabel("1/2", 0.0, 0.0, 0.0, False)

    def rounds(*some: list[PredictedLabel] | None) -> Any:
        made = [
            SimpleNamespace(
                number=i,
                assessment=SimpleNamespace(
                    weighed=None if one is None else SimpleNamespace(predictions=one)
                ),
            )
            for i, one in enumerate(some)
        ]
        store = SimpleNamespace(rounds=SimpleNamespace(all=lambda name: made))
        return SimpleNamespace(name="c", store=store)

    def checked(*some: list[PredictedLabel]) -> Calibration:
        return calibrate_bars([Checked(0.0, one) for one in some])

    found = _calibrate_weighed(rounds(None, small, large, [exact]), 3, [exact, *small])
    assert found == checked(small, large, small) != checked(large, small, small)
    assert found.scale < _calibrate_weighed(rounds([], small), 2, large).scale


def test_the_campaign_ends_with_its_budget(run: Run) -> None:
    assert run.states[2:] == [CampaignState.EXHAUSTED] * 2
    document = run.store.campaigns.get("steps")
    assert document.state is CampaignState.EXHAUSTED
    assert document.reason.startswith("2 rounds without convergence; not met: ")
    assert current_round(run.campaign) == 1


def test_a_round_that_ends_the_campaign_is_under_way_until_the_campaign_is_told(run: Run) -> None:
    """As a kill between the two writes leaves it, or a backup that read between them."""
    told = {"_id": "steps", "state": "exhausted"}
    campaigns = run.store.database["campaigns"]
    assert campaigns.update_one(told, {"$set": {"state": "running"}}).modified_count == 1
    try:
        assert current_round(run.campaign) == 1
    finally:
        campaigns.update_one({"_id": "steps"}, {"$set": told})


def test_training_depends_on_seeds_alone(run: Run, tmp_path: Path) -> None:
    """A member whose document was lost is trained to the same weights again."""
    stored = run.store.models.get("steps", 0, 1)
    assert stored is not None
    run.store.database["models"].delete_one({"_id": stored[0].doc_id})
    train_member(run.campaign, 0, 1, tmp_path, tmp_path / "labels")
    again = run.store.models.get("steps", 0, 1)
    assert again is not None
    assert again[1] == stored[1]
    assert again[0].held_out == stored[0].held_out


def test_a_member_says_of_every_usable_label_what_it_predicts(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does when it is trained; one of an earlier version is asked when the round is assessed."""
    committee = load_committee(run.campaign, 1)
    assert load_committee(run.campaign, 1).members == committee.members  # they are built once
    weights = [one for member in committee.members for one in member.module.parameters()]
    assert not any(one.requires_grad for one in weights)  # nobody trains them further
    assert not {*load_committee(run.campaign, 0).members} & {*committee.members}
    labels = list(run.store.labels.read(ALL_FRAMES, campaign="steps", refused=False))
    assert 0 < len(labels) < len(run.store.labels.uses("steps"))
    keys = [found.key for found in labels]
    summaries = list(run.store.labels.read(SUMMARY, keys=keys))
    atoms = {found.key: label_atoms(found, found.frames[-1]) for found in labels}
    expected = [[one.predict([atoms[key]])[0].energy for key in keys] for one in committee.members]
    first = run.store.models.all("steps", 1)[0]
    assert set(run.store.models.predictions(first)) == set(keys)
    silent = {"$set": {"predictions_file": None}}
    read: list[list[str]] = []
    real = run.campaign.store.labels.read
    monkeypatch.setattr(
        run.campaign.store.labels,
        "read",
        lambda wanted, keys: [read.append(keys), real(wanted, keys=keys)][1],
    )
    for _ in range(2):
        found = member_energies(run.campaign, 1, committee, summaries)
        np.testing.assert_allclose(4 * found, expected, rtol=0, atol=1e-4)
        stored, energies = run.store.rounds.predictions(run.store.rounds.all("steps")[1])
        assert stored == keys
        np.testing.assert_allclose(found, energies, rtol=0, atol=1e-6)
        run.store.database["models"].update_one({"_id": first.doc_id}, silent)
    assert read == [[], [], keys, []]
    told = {"$set": {"predictions_file": first.predictions_file}}
    run.store.database["models"].update_one({"_id": first.doc_id}, told)


def test_every_member_starts_from_itself_a_round_ago(run: Run) -> None:
    """Its document tells, and the scale of its network is the one that it was born with."""
    first, second = (run.store.models.all("steps", number) for number in (0, 1))
    assert first and {model.start for model in first} == {"fresh"}
    assert [model.start for model in second] == [model.doc_id for model in first]
    weights = {}
    for model in (first[0], second[0]):
        stored = run.store.models.get("steps", model.round, model.member)
        assert stored is not None
        weights[model.round] = load(stored[1])
    assert torch.equal(weights[0]["scale"], weights[1]["scale"])


def plenty(spec: CampaignSpec) -> CampaignSpec:
    return spec.model_copy(
        update={"convergence": spec.convergence.model_copy(update={"max_labels": 100})}
    )


def without(store: Store, model: ModelDoc, key: str) -> list[str]:
    return sorted(set(store.models.predictions(model)) - {key})


def the_last(choice: Choice, in_vain: Collection[Fraction]) -> list[Selection]:
    return [Selection(choice.candidates[-1].key, 1.0, "a test")]


def test_a_round_without_a_new_label_goes_on_with_the_search(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its committee is that of the round before, so that what this has relaxed still holds."""
    campaign, store, half = run.campaign, run.store, Fraction(1, 2)
    settings = campaign.spec.search.model_copy(update={"evaluations": 4})
    campaign = replace(campaign, spec=campaign.spec.model_copy(update={"search": settings}))
    try:
        open_round(campaign, 2)
        propose(campaign, 2, 2)
        for member in range(2):
            train_member(campaign, 2, member, tmp_path, tmp_path / "labels")
        before, now = (store.models.all("steps", number) for number in (1, 2))
        assert [model.sha256 for model in now] == [model.sha256 for model in before]
        assert [model.start for model in now] == [model.doc_id for model in before]
        assert not any(model.history for model in now) and all(model.history for model in before)
        assert [model.held_out for model in now] == [model.held_out for model in before]
        assert load_committee(campaign, 2).members == load_committee(campaign, 1).members
        # Where a rule sees nothing worth a label, one label tests that.
        monkeypatch.setattr(HullPlugin, "select", lambda *_: [])
        monkeypatch.setattr(selecting, "ground_state_to_test", the_last)
        (tested,) = select_candidates(replace(campaign, spec=plenty(campaign.spec)), 2)
        record = store.rounds.get("steps", 2)
        assert record is not None
        assert (record.selected, record.reasons) == ([tested], ["a test"])
        # What was not relaxed to the end, and what no search has found, is not kept.
        first = store.candidates.all("steps", 2, "1/2")
        (told,) = [one for one in store.proposals.all("steps", 2) if one.n_ions == 2]
        assert len(first) > 2 and told.statistics.unconverged == len(told.statistics.unfinished)
        other = {"$set": {"origin": "label"}}
        store.database["candidates"].update_one({"_id": first[1].doc_id}, other)
        for unfinished, kept in (([], []), ([first[0].config_hash], first[2:])):
            few = {"statistics.unfinished": unfinished, "statistics.unconverged": 1}
            store.database["proposals"].update_many(
                {"round": 2, "n_ions": {"$ne": 2}},
                {"$set": {"statistics.unfinished": [], "statistics.unconverged": 0}},
            )
            store.database["proposals"].update_one({"_id": told.doc_id}, {"$set": few})
            now_kept = proposing._kept(campaign, 3, half)
            assert [one.config_hash for one in now_kept] == [one.config_hash for one in kept]
        first = first[2:]
        found, statistics = proposing._evolved_candidates(campaign, 3, half)
        kept, others = found[: len(first)], found[len(first) :]
        assert [one.doc_id for one in kept] != [one.doc_id for one in first]
        assert [one.model_copy(update={"round": 2}) for one in kept] == first
        assert len(others) == statistics.evaluated > 0
        assert len({one.config_hash for one in found}) == len(found) == statistics.candidates
        # One member that does not know a label is trained, and all is relaxed anew. What becomes
        # usable meanwhile it has not learnt.
        store.database["models"].delete_one({"_id": now[1].doc_id})
        late, *_ = store.models.predictions(before[1])
        read: list[str] = []
        known, train = without(store, before[1], late), trainer.train
        monkeypatch.setattr(training, "_usable_keys", lambda *_: [read.append("keys"), known][1])
        monkeypatch.setattr(
            trainer, "train", lambda *some, **more: [read.append("train"), train(*some, **more)][1]
        )
        train_member(campaign, 2, 1, tmp_path, tmp_path / "labels")
        again = store.models.all("steps", 2)
        assert again[1].history and again[1].start == before[1].doc_id
        assert (store.models.predictions(again[1]).keys(), read) == ({*known}, ["keys", "train"])
        assert [a.sha256 == b.sha256 for a, b in zip(again, before, strict=True)] == [True, False]
        assert not proposing._kept(campaign, 3, half)
    finally:
        for name in ("candidates", "proposals", "models"):
            store.database[name].delete_many({"campaign": "steps", "round": {"$gte": 2}})
        store.database["rounds"].delete_one({"campaign": "steps", "number": 2})


def test_a_second_campaign_uses_the_labels_that_exist(run: Run, tmp_path: Path) -> None:
    submit(run.store, specification("again"))
    again = open_campaign(run.store, "again")
    engine = Engine(again)
    again.__dict__["labeler"] = engine
    open_round(again, 0)
    for n_ions in again.host.ion_counts:
        propose(again, 0, n_ions)
    selected = select_candidates(again, 0)
    for slot in range(len(selected)):
        label(again, 0, slot, tmp_path, spool=tmp_path / "spool")
    assert not engine.asked
    assert run.store.attempts.all("again") == []
    assert run.store.labels.uses("again") == run.store.labels.uses("steps", up_to=0)


def test_a_slot_beyond_the_selection_has_nothing_to_do(run: Run, tmp_path: Path) -> None:
    before = snapshot(run.store)
    label(run.campaign, 1, 3, tmp_path / "none", spool=tmp_path / "spool")
    assert snapshot(run.store) == before
    assert not (tmp_path / "none").exists()


def test_a_label_that_comes_late_counts_in_the_next_round(run: Run) -> None:
    """What was given up, and is made after all, leaves assessed rounds as they are."""
    assessed, _ = assessed_hull(run.campaign)
    (failure,) = run.store.failures.all("steps")
    assert retry_labels(run.campaign) == [failure.key]
    del run.engine.fails[run.fail]
    for slot in range(label_slots(run.campaign, 0)):
        run.label(0, slot)
    uses = run.store.labels.uses("steps")
    assert uses[failure.key] == 2
    assert set(uses.values()) == {0, 1, 2}
    # As if it had come while the last round was being assessed.
    linked = run.store.database[LabelUseDoc.collection]
    linked.update_one({"key": failure.key, "campaign": "steps"}, {"$set": {"round": 1}})
    found = assessed_hull(run.campaign)[0]
    assert found == assessed and found.labels == assessed.labels
    assert failure.key in labelled_hull(run.campaign, up_to=1).labels
