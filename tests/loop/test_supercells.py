"""A campaign over several supercells, on a real database: against every configuration of all."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymongo import MongoClient
from pymongo.database import Database
from typing_extensions import override

from al_charge.api.imports import import_into
from al_charge.crystal.configuration import Configuration, to_atoms
from al_charge.crystal.enumeration import distinct_occupations
from al_charge.crystal.identity import identities, identity, written_in
from al_charge.crystal.parent import matrix_of
from al_charge.crystal.species import tokens_of
from al_charge.crystal.supercells import host_of_cell
from al_charge.crystal.superlattices import as_matrix
from al_charge.crystal.symmetry import canonical, canonical_hash
from al_charge.errors import AlChargeError
from al_charge.labelers.born.labeler import BornLabeler
from al_charge.labelers.born.model import BornModel
from al_charge.labelers.protocol import Frame
from al_charge.loop import propose as proposing
from al_charge.loop.assess import assess
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.cells import Cells
from al_charge.loop.energies import labelled_hull, lowest_labels
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.request_ledger import request_ledger
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.loop.train import train_member
from al_charge.report.export import export
from al_charge.store.documents import CampaignState, CandidateDoc
from al_charge.store.labels import SUMMARY, WITHOUT_FRAMES, LabelSummary
from al_charge.store.mongo import Store
from al_charge.store.proposals import Proposals

A, C, BOND = 5.2, 6.24, 0.171
OXYGEN = [[BOND, BOND, BOND], [-BOND, -BOND, BOND], [BOND, -BOND, -BOND], [-BOND, BOND, -BOND]]
SITES = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [0.0, 0.0, 0.0], *OXYGEN]
IDEAL = Structure(Lattice.tetragonal(A, C), ["Na", "Fe", "P"] + 4 * ["O"], SITES)
"""A crystal that is not known, with one formula unit in its primitive cell."""


class OnIdealSites(BornLabeler):
    """Relaxations that end on the ideal sites, whose energies are those of the ionic model."""

    @override
    def compute(self, job: dict[str, Any]) -> tuple[list[Frame], dict[str, Any]]:
        positions = snapped(np.array(job["positions"]))
        energy = born_energy(job["species"], positions, np.array(job["cell"]))
        nothing = np.zeros_like(positions)
        frame = Frame(positions, np.array(job["cell"]), energy, nothing, np.zeros((3, 3)))
        return [frame], {}


def snapped(positions: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(IDEAL.lattice.matrix)
    steps = (positions @ inverse)[:, None] - IDEAL.frac_coords
    steps -= np.round(steps)
    nearest = np.linalg.norm(steps @ IDEAL.lattice.matrix, axis=2).argmin(axis=1)
    moved = steps[np.arange(len(positions)), nearest] @ IDEAL.lattice.matrix
    return np.asarray(positions - moved)


def born_energy(species: list[str], positions: np.ndarray, cell: np.ndarray) -> float:
    return float(BornModel(species).evaluate(positions, cell).energy)


def document(name: str) -> dict[str, Any]:
    """Return a campaign file."""
    return {
        "name": name,
        "host": {
            "structure": "POSCAR",
            "working_ion": "Na",
            "redox": {"Fe": [2, 3]},
            "fixed": {"P": 5, "O": -2},
            "supercells": {"up_to": 2},
        },
        "labeler": {"kind": "born", "relax": "ions"},
        "relaxation": {"max_steps": 2, "cell": False},
        "potential": {"kind": "painn", "cutoff": "3 A", "channels": 4},
        "training": {"epochs": 1},
        "committee": {"size": 2},
        "search": {"seeds": 4},
        "acquisition": {"kind": "random", "first_round": 4, "labels_per_round": 3},
        "convergence": {"rounds": 5},
    }


class Run:
    """A campaign from its file to its end; `killed` kills each proposal once, half-way."""

    def __init__(self, store: Store, folder: Path, *, killed: bool) -> None:
        IDEAL.to(filename=str(folder / "POSCAR"))
        assert submit(store, parse_spec(document("cells"), source=folder / "campaign.yaml"))
        self.store, self.folder, self.killed = store, folder, killed
        self.campaign = open_campaign(store, "cells")
        self.campaign.__dict__["labeler"] = OnIdealSites(self.campaign.spec.labeler)  # type: ignore[arg-type]
        self.rounds = 0
        while self.round(self.rounds) is CampaignState.RUNNING:
            self.rounds += 1

    def round(self, number: int) -> CampaignState:
        campaign, folder = self.campaign, self.folder
        open_round(campaign, number)
        for cell, n_ions in campaign.cells.compositions.values():
            if self.killed:
                with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                    patch.setattr(Proposals, "_insert_once", killed)
                    propose(campaign, number, n_ions, cell)
            propose(campaign, number, n_ions, cell)
        select_candidates(campaign, number)
        for slot in range(label_slots(campaign, number)):
            label(campaign, number, slot, folder / f"label-{slot}", spool=folder / "spool")
        for member in range(campaign.spec.committee.size):
            train_member(campaign, number, member, folder / f"train-{member}", folder / "cache")
        return assess(campaign, number, folder / "metal")

    @property
    def labels(self) -> list[LabelSummary]:
        return list(self.store.labels.read(SUMMARY, campaign="cells"))


def killed(*_: object) -> bool:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def runs(
    mongodb_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Run]]:
    """The same campaign, undisturbed and killed."""
    names = [f"test_{uuid.uuid4().hex}" for _ in range(2)]
    some = []
    for name, is_killed in zip(names, (False, True), strict=True):
        store = Store(mongodb_client[name])
        store.ensure_schema()
        some.append(Run(store, tmp_path_factory.mktemp("run"), killed=is_killed))
    yield some
    for name in names:
        mongodb_client.drop_database(name)


@pytest.fixture(scope="module")
def truth(runs: list[Run]) -> dict[str, tuple[Fraction, float, int]]:
    """Composition, energy per formula unit and cell of every crystal, by its identity."""
    found: dict[str, tuple[Fraction, float, int]] = {}
    for cell, host in enumerate(runs[0].campaign.cells.hosts):
        for n_ions in host.ion_counts:
            rows = distinct_occupations(host, n_ions)
            for row, one in zip(rows.tolist(), identities(host, rows), strict=True):
                atoms = to_atoms(host, Configuration(tuple(row)))
                energy = born_energy(tokens_of(atoms), atoms.positions, atoms.cell.array)
                # Redox sites are half of the variable ones: one in each formula unit.
                energy /= len(row) // 2
                found.setdefault(one, (host.composition(n_ions), energy, cell))
    return found


def test_every_crystal_is_labelled_once_in_its_smallest_cell(
    runs: list[Run], truth: dict[str, tuple[Fraction, float, int]]
) -> None:
    labels = runs[0].labels
    assert Counter(one.identity for one in labels) == Counter(truth.keys())
    reason = runs[0].store.campaigns.get("cells").reason
    assert reason == "every distinct configuration is labelled"
    hosts = runs[0].campaign.cells.hosts
    for one in labels:
        x, energy, cell = truth[one.identity]
        assert one.host_fingerprint == hosts[cell].fingerprint
        assert Fraction(one.composition) == x
        assert one.energy / hosts[cell].formula_units == pytest.approx(energy, abs=1e-6)
    assert len({one.host_fingerprint for one in labels}) > 3


def test_the_hull_is_that_of_every_crystal(
    runs: list[Run], truth: dict[str, tuple[Fraction, float, int]]
) -> None:
    found = labelled_hull(runs[0].campaign).hull
    assert [vertex.x for vertex in found.vertices] == [0, Fraction(1, 2), 1]
    for vertex in found.vertices:
        lowest = min(energy for x, energy, _ in truth.values() if x == vertex.x)
        assert vertex.energy == pytest.approx(lowest, abs=1e-6)
    assert len(found.entries) == len(truth)


def test_small_cells_come_first(runs: list[Run]) -> None:
    run = runs[0]
    sizes = [
        max(len(run.campaign.cells.of(one).elements) for one in selected(run, number))
        for number in range(run.rounds + 1)
    ]
    assert sizes[-1] == 14
    first = [run.campaign.cells.of(one) for one in selected(run, 0)[:2]]
    assert first == [run.campaign.cells.hosts[0]] * 2  # the end members


def selected(run: Run, number: int) -> list[CandidateDoc]:
    record = run.store.rounds.get("cells", number)
    assert record is not None
    found = [run.store.candidates.get(doc_id) for doc_id in record.selected or []]
    return [one for one in found if one is not None]


def test_what_is_told_of_a_composition_is_of_all_cells(runs: list[Run]) -> None:
    run = runs[0]
    first, last = (run.store.rounds.get("cells", number) for number in (1, run.rounds))
    assert first and first.assessment and last and last.assessment
    told = {one.x: one for one in first.assessment.compositions or []}
    assert told.keys() == {"0", "1/2", "1"}
    assert told["1/2"].lowest_predicted is not None
    assert told["0"].lowest_predicted is None
    assert first.assessment.exhaustive
    assert {one.lowest_predicted for one in last.assessment.compositions or []} == {None}
    assert last.assessment.p_below_hull == 0
    for proposal in run.store.proposals.all("cells", 1):
        assert proposal.statistics.screened == 1
        assert proposal.statistics.p_missed == 0
    candidates = run.store.candidates.all("cells", 1, "1/2")
    assert len({one.cell for one in candidates}) > 3


def test_what_a_search_keeps_is_known_in_its_own_cell_and_not_relaxed_again(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the default search, `screen`, which relaxes all that is left of so few."""
    run, half = runs[0], Fraction(1, 2)
    cells, before = run.campaign.cells, run.store.candidates.all("cells", 1, "1/2")
    relaxed = [one for one in before if one.origin == "search"]
    kept = [one.model_copy(update={"round": 2}) for one in relaxed[::2]]
    assert len({one.cell for one in kept}) > 2
    for space in proposing._spaces(run.campaign, 2, half, [], kept):
        own = [one for one in kept if cells.hosts[one.cell] is space.host]
        assert space.known == {Configuration(tuple(one.colours)): one.energy for one in own}
    monkeypatch.setattr(proposing, "_kept", lambda *_: kept)
    found, statistics = proposing._evolved_candidates(run.campaign, 2, half)
    assert found[: len(kept)] == kept
    assert statistics.evaluated == len(found) - len(kept) > 0
    orders = {one.identity for one in found}
    assert len(orders) == len(found)
    labels = run.store.labels.read(SUMMARY, campaign="cells", up_to=1, compositions=["1/2"])
    assert orders | {one.identity for one in labels} >= {one.identity for one in relaxed}


def test_a_killed_campaign_ends_with_the_same_labels(runs: list[Run]) -> None:
    undisturbed, disturbed = runs
    assert disturbed.rounds == undisturbed.rounds
    for number in range(undisturbed.rounds + 1):
        ids = [[one.doc_id for one in selected(run, number)] for run in runs]
        assert ids[0] == ids[1]
    assert [one.energy for one in disturbed.labels] == [one.energy for one in undisturbed.labels]
    assert vertices(disturbed) == vertices(undisturbed)


def test_its_export_is_imported_cell_by_cell(
    runs: list[Run], database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    run, file = runs[0], tmp_path / "cells.extxyz"
    export(run.campaign, file, last=False, usable_only=False, force=False)
    store = Store(database)
    store.ensure_schema()
    imported = import_into(store, file)
    before = {one.key: one for one in run.store.labels.read(WITHOUT_FRAMES, campaign="cells")}
    after = {one.key: one for one in store.labels.read(WITHOUT_FRAMES)}
    assert imported.left_out == {} and after.keys() == before.keys()
    changed = {"directory", "imported"}
    for key, one in after.items():
        assert one.model_dump(exclude=changed) == before[key].model_dump(exclude=changed)
    # A campaign on the same cells takes all of them over.
    submit(store, parse_spec(document("again"), source=run.folder / "campaign.yaml"))
    campaign = open_campaign(store, "again")
    open_round(campaign, 0)
    for cell, n_ions in campaign.cells.compositions.values():
        propose(campaign, 0, n_ions, cell)
    select_candidates(campaign, 0)
    assert store.labels.uses("again").keys() == before.keys()


def vertices(run: Run) -> list[tuple[str, float]]:
    return [(one.key, one.energy) for one in labelled_hull(run.campaign).hull.vertices]


# What an engine may do that the ionic model does not: find an order that a smaller cell holds.


@pytest.fixture(scope="module")
def cells(runs: list[Run]) -> Cells:
    """The primitive cell, one of two formula units, and the latter repeated."""
    small = runs[0].campaign.cells.hosts
    doubled = next(host for host in small if len(host.redox_sites) == 2)
    first, *rest = matrix_of(doubled.supercell)
    repeated = as_matrix([[2 * step for step in first], *rest])
    largest = host_of_cell(runs[0].campaign.spec.host, doubled.parent, repeated)
    return Cells((small[0], doubled, largest))


def found_in(cells: Cells, cell: int, config: Configuration, energy: float, **more: Any) -> Any:
    """Return the summary of a label with an energy per formula unit."""
    host = cells.hosts[cell]
    facts = {
        "key": f"label {cell}",
        "config_hash": canonical_hash(host, config),
        "colours": list(canonical(host, config).occupation),
        "host_fingerprint": host.fingerprint,
        "composition": "1/2",
        "energy": energy * host.formula_units,
        "refusal": None,
        "delocalised": False,
        "relax": "ions",
        "used": 0,
    }
    return SimpleNamespace(**facts | more)


@pytest.fixture
def twice(cells: Cells) -> tuple[Configuration, Configuration]:
    """One order in the cell of two formula units and in that of four."""
    _, doubled, largest = cells.hosts
    config = Configuration(tuple(distinct_occupations(doubled, 1)[0].tolist()))
    same = written_in(largest, doubled, config)
    assert same is not None
    return config, same


def test_an_order_found_in_two_cells_is_one_point(
    cells: Cells, twice: tuple[Configuration, Configuration]
) -> None:
    config, same = twice
    campaign = cast(Campaign, SimpleNamespace(cells=cells))
    low, high = found_in(cells, 2, same, -3.0), found_in(cells, 1, config, -2.9)
    assert low.config_hash != high.config_hash
    assert cells.order_of(low) == cells.order_of(high) == high.config_hash
    home, written = cells.home_of(low)
    assert (home, written) == (cells.hosts[1], canonical(cells.hosts[1], config))
    assert identity(home, written) == identity(cells.hosts[2], same)
    assert lowest_labels(campaign, [low, high]) == [low]
    # Four formula units at -2.8 eV have a lower energy per cell than two at -2.9.
    low.energy = -2.8 * 4
    assert lowest_labels(campaign, [low, high]) == [high]
    assert cells.energy_of(low) == pytest.approx(-2.8)


def test_an_order_that_was_found_in_a_large_cell_is_not_asked_for_again(
    cells: Cells, twice: tuple[Configuration, Configuration]
) -> None:
    config, same = twice
    store = SimpleNamespace(rounds=SimpleNamespace(all=lambda name: []))
    spec = SimpleNamespace(convergence=SimpleNamespace(hull_tolerance=0.001))
    campaign = SimpleNamespace(name="c", cells=cells, store=store, spec=spec, static_labels=False)
    home = cells.hosts[1]
    candidate = CandidateDoc.model_construct(cell=1, config_hash=canonical_hash(home, config))
    ledger = request_ledger(cast(Campaign, campaign), [])
    assert ledger.needs_label(candidate)
    ledger = request_ledger(cast(Campaign, campaign), [found_in(cells, 2, same, -3.0)])
    assert not ledger.needs_label(candidate)
    assert ledger.lowest == {candidate.config_hash: pytest.approx(-3.0)}


def test_a_label_of_no_cell_is_refused(
    cells: Cells, twice: tuple[Configuration, Configuration]
) -> None:
    stranger = found_in(cells, 1, twice[0], -1.0, host_fingerprint="another")
    with pytest.raises(AlChargeError, match="label 'label 1': it is in none of its campaign's"):
        cells.of(stranger)
    assert Cells((cells.hosts[1],)).of(stranger) is cells.hosts[1]


def test_other_spin_states_have_the_same_cells(cells: Cells) -> None:
    other = cells.with_spins({"Fe2+": "Fe2+,spin=0"})
    assert isinstance(other, Cells)
    assert [one.supercell for one in other.hosts] == [one.supercell for one in cells.hosts]
    assert all(one.unpaired for one in other.hosts)
