"""Verification: what is relaxed, what follows from it, and that no step of it is done twice."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pymongo.database import Database

from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import Frame, Labeler, Reading, Relax
from al_charge.loop.assess import assess
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.convergence import HullState, criteria
from al_charge.loop.energies import labelled_hull
from al_charge.loop.label import label
from al_charge.loop.propose import _observations, propose
from al_charge.loop.reference import label_metal
from al_charge.loop.request_ledger import request_ledger
from al_charge.loop.rounds import current_round, label_slots, open_round
from al_charge.loop.select import labels_left, select_candidates
from al_charge.loop.spec import CampaignSpec, parse_spec
from al_charge.loop.submit import submit
from al_charge.loop.train import FRESH, train_member
from al_charge.loop.verify import is_verification
from al_charge.store.documents import Assessment, CampaignState, Verification, Vertex
from al_charge.store.labels import SUMMARY, WITHOUT_FRAMES
from al_charge.store.mongo import Store

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
STATIC = {0: -100.0, 1: -120.1, 2: -145.0, 3: -160.1, 4: -180.0}
"""eV per cell by number of Na: a vertex at x = 1/2, the others 0.6 eV/f.u. above the hull."""
UNITS = 4


def is_verified(campaign: Campaign) -> bool:
    """Return whether the hull of the last assessed round is verified."""
    rounds = campaign.store.rounds.all(campaign.name)
    assessed = [one.assessment for one in rounds if one.assessment is not None]
    return bool(assessed and assessed[-1].verification and assessed[-1].verification.verified)


def specification(name: str, **convergence: Any) -> CampaignSpec:
    document = {
        "name": name,
        "host": {
            "structure": str(HOST),
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
        },
        "labeler": {"kind": "born", "relax": "none"},
        "potential": {"kind": "painn", "channels": 4, "cutoff": "3 A", "pair_cutoff": "0 A"},
        "training": {"epochs": 1},
        "committee": {"size": 2},
        "search": {"seeds": 2},
        "acquisition": {"first_round": 5, "labels_per_round": 2},
        "convergence": {"rounds": 1, "max_labels": 6, "verify": True} | convergence,
    }
    return parse_spec(document, source=HOST)


class Engine:
    """A table of energies: what is relaxed falls by so much, by number of Na."""

    def __init__(self, born: Labeler) -> None:
        self.born = born
        self.falls = dict.fromkeys(STATIC, 0.1)
        self.fails: set[int] = set()
        self.blurs: set[int] = set()
        self.asked: list[tuple[int, Relax]] = []

    relax = Relax.NONE
    gives_stress = True
    tries = 1

    def settings(self) -> dict[str, Any]:
        return self.born.settings()

    def metal_energy(self, ion: str, directory: Path) -> float:
        return -1.3

    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        self.atoms, self.moves = atoms, relax

    def run(self, directory: Path) -> None:
        self.sodium = int((self.atoms.numbers == 11).sum())
        self.asked.append((self.sodium, self.moves))
        if self.moves is not Relax.NONE and self.sodium in self.fails:
            raise AlChargeError("the ions never settle", where="table")

    def progress(self, directory: Path) -> int:
        return 0

    def read(self, directory: Path) -> Reading:
        energy = STATIC[self.sodium]
        if self.moves is not Relax.NONE:
            energy -= self.falls[self.sodium]
        zero = np.zeros((len(self.atoms), 3))
        frame = Frame(self.atoms.positions, self.atoms.cell.array, energy, zero, np.zeros((3, 3)))
        return Reading((frame,), None, None, True, "table 1", 0.0)

    def audit(self, reading: Reading, species: tuple[str, ...], windows: Windows | None) -> Audit:
        if self.moves is not Relax.NONE and self.sodium in self.blurs:
            return Audit((None, *species[1:]), ambiguous=(0,), charge=None)
        return Audit(tuple(species))


class Verifying:
    """A campaign after a first round that has met every criterion, and its verification."""

    def __init__(self, store: Store, folder: Path, **convergence: Any) -> None:
        self.name = uuid.uuid4().hex
        submit(store, specification(self.name, **convergence))
        self.store, self.folder = store, folder
        self.campaign: Campaign = open_campaign(store, self.name)
        self.engine = Engine(make_labeler(self.campaign.spec.labeler))
        self.campaign.__dict__["labeler"] = self.engine
        self.changed: list[str] = []
        self.first()

    def first(self) -> None:
        campaign = self.campaign
        label_metal(campaign, self.folder)
        open_round(campaign, 0)
        for n_ions in campaign.host.ion_counts:
            propose(campaign, 0, n_ions)
        for slot in range(len(select_candidates(campaign, 0))):
            label(campaign, 0, slot, self.folder, spool=self.folder / "spool")
        unmet = criteria(HullState((), None, None, None), None, campaign.spec.convergence)
        found = Assessment(
            spread_scale=1.0,
            vertices=[Vertex("0", ""), Vertex("1/2", ""), Vertex("1", "")],
            labels=5,
            criteria=[criterion.model_copy(update={"met": True}) for criterion in unmet],
            verify_next=True,
        )
        labels = labelled_hull(campaign).labels
        energies = np.zeros((2, len(labels)))
        self.store.rounds.record_assessment(self.name, 0, found, sorted(labels), energies)

    def verify(self) -> CampaignState:
        """Play the verification, each step twice; note the steps that changed anything again."""
        campaign = self.campaign
        assert current_round(campaign) == 1
        assert is_verification(campaign, 1)
        states: list[CampaignState] = []
        self.twice("open", lambda: open_round(campaign, 1))
        for slot in range(label_slots(campaign, 1)):
            self.twice(
                "label", lambda s=slot: label(campaign, 1, s, self.folder, spool=self.folder)
            )
        for member in range(2):
            folder = self.folder / self.name / str(member)
            self.twice(
                "train", lambda m=member, f=folder: train_member(campaign, 1, m, f, f / "cache")
            )
        self.twice("assess", lambda: states.append(assess(campaign, 1, self.folder)))
        assert states[0] is states[1]
        return states[0]

    def twice(self, name: str, step: Any) -> None:
        step()
        before = self.snapshot()
        step()
        if self.snapshot() != before:
            self.changed.append(name)

    def snapshot(self) -> dict[str, list[Any]]:
        names = sorted(self.store.database.list_collection_names())
        return {name: list(self.store.database[name].find(sort=[("_id", 1)])) for name in names}

    @property
    def found(self) -> Verification:
        record = self.store.rounds.get(self.name, 1)
        assert record is not None and record.assessment is not None
        assert record.assessment.verification is not None
        return record.assessment.verification

    @property
    def reason(self) -> str:
        return self.store.campaigns.get(self.name).reason


@pytest.fixture(autouse=True)
def from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first round has no committee here to go on from."""
    monkeypatch.setattr("al_charge.loop.train.start_of", lambda *_: (FRESH, None))


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    """A store of its own for each test: campaigns of one store share their labels."""
    store = Store(database)
    store.ensure_schema()
    return store


def test_a_hull_that_stays_is_verified(store: Store, tmp_path: Path) -> None:
    verifying = Verifying(store, tmp_path)
    left = labels_left(verifying.campaign)
    assert not is_verified(verifying.campaign)
    assert verifying.verify() is CampaignState.CONVERGED
    assert verifying.changed == []
    assert verifying.engine.asked[5:] == [(0, Relax.CELL), (2, Relax.CELL), (4, Relax.CELL)]
    record = store.rounds.get(verifying.name, 1)
    assert record is not None
    assert record.reasons == [f"vertex at x = {x}" for x in ("0", "1/2", "1")]
    assert verifying.reason == (
        "every criterion held for 1 round; verified by relaxing 3 configurations"
    )
    assert verifying.found.lowered == pytest.approx(0.1 / UNITS)
    assert verifying.found.relax == "cell"
    assert is_verified(verifying.campaign)
    assert labels_left(verifying.campaign) == left  # it comes on top of the budget
    hull = labelled_hull(verifying.campaign).hull
    assert [v.energy * UNITS for v in hull.vertices] == pytest.approx([-100.1, -145.1, -180.1])
    labels = store.labels.read(WITHOUT_FRAMES, campaign=verifying.name)
    assert {made.relax for made in labels if made.round == 1} == {"cell"}


@pytest.mark.parametrize(
    ("window", "competitors", "expected"),
    [("0.5 eV", 2, {0, 2, 4}), ("1 eV", 0, {0, 2, 4}), ("1 eV", 1, {0, 1, 2, 3, 4})],
)
def test_competitors_within_the_window_are_relaxed_too(
    store: Store, tmp_path: Path, window: str, competitors: int, expected: set[int]
) -> None:
    verifying = Verifying(store, tmp_path, verify_window=window, verify_competitors=competitors)
    verifying.engine.gives_stress = False
    open_round(verifying.campaign, 1)
    record = store.rounds.get(verifying.name, 1)
    assert record is not None and record.selected is not None
    chosen = [store.candidates.get(key) for key in record.selected]
    assert {c.n_ions for c in chosen if c is not None} == expected
    assert record.reasons[:3] == ["vertex at x = 0", "vertex at x = 1/2", "vertex at x = 1"]
    if 1 in expected:
        assert record.reasons[3] == "600 meV/f.u. above the hull at x = 1/4"
    label(verifying.campaign, 1, 0, tmp_path, spool=tmp_path / "spool")
    assert verifying.engine.asked[-1] == (0, Relax.IONS)  # no cell without a stress


def test_a_competitor_that_falls_below_the_hull_sends_the_campaign_on(
    store: Store, tmp_path: Path
) -> None:
    verifying = Verifying(store, tmp_path, verify_window="1 eV")
    verifying.engine.falls[3] = 12.0
    assert verifying.verify() is CampaignState.RUNNING
    assert verifying.changed == []
    assert not verifying.found.same_vertices
    assert not is_verified(verifying.campaign)
    assert store.campaigns.get(verifying.name).state is CampaignState.RUNNING
    assert current_round(verifying.campaign) == 2
    assert not is_verification(verifying.campaign, 2)
    # A search is told nothing of labels on ideal sites: their configurations lie lower.
    assert _observations(verifying.campaign, 1) == []
    told = _observations(verifying.campaign, 2)
    assert {one.noise for one in told} == {0.0}
    later = store.labels.read(SUMMARY, campaign=verifying.name, refused=False)
    assert len(told) == len({one.config_hash for one in later if one.used}) > 0
    open_round(verifying.campaign, 2)
    propose(verifying.campaign, 2, 4)  # by the committee that has seen the relaxed labels
    (candidate,) = store.candidates.all(verifying.name, 2)
    assert candidate.energy is not None
    # The labeler has relaxed it.
    assert not request_ledger(verifying.campaign).may_need_label(candidate)


def test_without_rounds_left_a_changed_hull_ends_the_campaign(store: Store, tmp_path: Path) -> None:
    verifying = Verifying(store, tmp_path, verify_window="1 eV", max_rounds=2)
    verifying.engine.falls[3] = 12.0
    assert verifying.verify() is CampaignState.EXHAUSTED
    assert verifying.reason.startswith("2 rounds without convergence")


def test_a_vertex_that_cannot_be_relaxed_is_named(store: Store, tmp_path: Path) -> None:
    verifying = Verifying(store, tmp_path)
    verifying.engine.fails = {2}
    assert verifying.verify() is CampaignState.CONVERGED
    assert verifying.changed == []
    assert not is_verified(verifying.campaign)
    assert verifying.reason.endswith(
        "; not verified, since relaxing failed at x = 1/2 (table: the ions never settle)"
    )


def test_a_relaxation_that_loses_the_charge_order_verifies_nothing(
    store: Store, tmp_path: Path
) -> None:
    verifying = Verifying(store, tmp_path)
    verifying.engine.blurs = {4}
    assert verifying.verify() is CampaignState.CONVERGED
    assert not is_verified(verifying.campaign)
    assert "moments of atoms 0 fit no charge state" in verifying.reason


def test_a_competitor_that_cannot_be_relaxed_does_no_harm(store: Store, tmp_path: Path) -> None:
    verifying = Verifying(store, tmp_path, verify_window="1 eV")
    verifying.engine.fails = {1}
    assert verifying.verify() is CampaignState.CONVERGED
    assert is_verified(verifying.campaign)
    assert verifying.found.failed == [("1/4", "table: the ions never settle")]


def test_relaxed_labels_need_no_verification(store: Store) -> None:
    spec = specification("refused")
    born = spec.labeler.model_copy(update={"relax": Relax.CELL})
    with pytest.raises(InputError, match=r"convergence\.verify.*nothing to verify"):
        submit(store, spec.model_copy(update={"labeler": born}))
