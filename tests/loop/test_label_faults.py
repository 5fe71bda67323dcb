"""A label that goes wrong in any way costs itself, never the round."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from ase import Atoms
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from al_charge.crystal.valence import Audit, Windows
from al_charge.errors import (
    AlChargeError,
    CrashedError,
    InputError,
    NotInstalledError,
    UnfinishedError,
)
from al_charge.labelers import make_labeler
from al_charge.labelers.protocol import Labeler, Reading, Relax
from al_charge.loop.campaign import Campaign, label_key, open_campaign
from al_charge.loop.label import label, retry_labels
from al_charge.loop.packed_folder import archive_of, pack
from al_charge.loop.propose import propose
from al_charge.loop.reference import label_metal
from al_charge.loop.rounds import open_round
from al_charge.loop.select import select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.submit import submit
from al_charge.store.documents import SCHEMA_VERSION
from al_charge.store.labels import Labels
from al_charge.store.mongo import Store
from al_charge.store.spool import Spool

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
SPEC = {
    "name": "faults",
    "host": {
        "structure": str(HOST),
        "working_ion": "Na",
        "redox": {"Fe": [2, 3]},
        "fixed": {"P": 5, "O": -2},
    },
    "labeler": {"kind": "born", "relax": "none"},
    "potential": {"kind": "painn"},
    "search": {"seeds": 2},
    "acquisition": {"first_round": 5},
}


class Engine:
    """The Born labeler with one step replaced."""

    def __init__(self, born: Labeler) -> None:
        self.born = born
        self.runs = 0
        self.failure: Exception | None = None
        self.finds: str | None = None
        self.seen: Windows | None = None
        self.steps = 0

    relax = Relax.NONE
    gives_stress = True
    tries = 1

    def settings(self) -> dict[str, Any]:
        return self.born.settings()

    def prepare(self, atoms: Atoms, directory: Path, *, relax: Relax, attempt: int) -> None:
        self.born.prepare(atoms, directory, relax=relax, attempt=attempt)

    def run(self, directory: Path) -> None:
        self.runs += 1
        if self.failure is not None:
            raise self.failure
        self.born.run(directory)

    def progress(self, directory: Path) -> int:
        return self.steps

    def metal_energy(self, ion: str, directory: Path) -> float:
        self.runs += 1
        (directory / f"run-{self.runs}").touch()
        if self.failure is not None:
            raise self.failure
        return self.born.metal_energy(ion, directory)

    def read(self, directory: Path) -> Reading:
        return self.born.read(directory)

    def audit(self, reading: Reading, species: tuple[str, ...], windows: Windows | None) -> Audit:
        found = [self.finds if self.finds and s.startswith("Fe") else s for s in species]
        return Audit(tuple(found))


@pytest.fixture(scope="module")
def store(mongodb_client: MongoClient[dict[str, Any]]) -> Iterator[Store]:
    name = f"test_{uuid.uuid4().hex}"
    store = Store(mongodb_client[name])
    store.ensure_schema()
    submit(store, parse_spec(SPEC, source=HOST))
    campaign = open_campaign(store, "faults")
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    select_candidates(campaign, 0)
    yield store
    mongodb_client.drop_database(name)


@pytest.fixture
def campaign(store: Store) -> Campaign:
    campaign = open_campaign(store, "faults")
    campaign.__dict__["labeler"] = Engine(make_labeler(campaign.spec.labeler))
    return campaign


def key_of(campaign: Campaign, slot: int) -> str:
    record = campaign.store.rounds.get("faults", 0)
    assert record is not None and record.selected is not None
    candidate = campaign.store.candidates.get(record.selected[slot])
    assert candidate is not None
    return label_key(campaign, candidate)


@pytest.mark.parametrize(
    ("slot", "failure", "reason"),
    [
        (0, AlChargeError("the SCF did not converge", where="gpaw"), "gpaw: the SCF did not"),
    ],
)
def test_a_failed_run_is_quarantined_with_its_reason(
    campaign: Campaign, tmp_path: Path, slot: int, failure: Exception, reason: str
) -> None:
    engine: Any = campaign.labeler
    engine.failure = failure
    label(campaign, 0, slot, tmp_path, spool=tmp_path / "spool")
    key = key_of(campaign, slot)
    found = campaign.store.failures.get(key)
    assert found is not None
    assert re.search(reason, found.reason)
    assert [a.outcome for a in campaign.store.attempts.all("faults", key)] == ["failed"]
    assert campaign.store.labels.get(key) is None
    engine.failure = None
    label(campaign, 0, slot, tmp_path, spool=tmp_path / "spool")  # given up: it is not tried again
    assert engine.runs == 1


FULL = OSError(errno.ENOSPC, "No space left on device", "job/x.gpw")
BROKEN = OSError(errno.EIO, "Input/output error", "job/x.gpw")
KILLED = CrashedError("the run failed (killed by SIGKILL)", where="output.log")
MISSING = NotInstalledError("there is no vasp_std on PATH")
STOPPED = UnfinishedError("asked to stop, and stopped at a saved state")


@pytest.mark.parametrize(
    ("failure", "raised", "outcome"),
    [
        (STOPPED, UnfinishedError, "unfinished"),
        (FULL, UnfinishedError, "disk full"),
        (KILLED, UnfinishedError, "crashed"),
        (BROKEN, UnfinishedError, "crashed"),
        (MISSING, NotInstalledError, "failed"),
    ],
    ids=["stopped", "disk full", "killed", "broken disk", "not installed"],
)
def test_what_is_no_fault_of_the_label_does_not_cost_it(
    campaign: Campaign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    raised: type[Exception],
    outcome: str,
) -> None:
    key = f"innocent {failure}"
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: key)
    engine: Any = campaign.labeler
    engine.failure = failure
    with pytest.raises(raised):
        label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    assert campaign.store.failures.get(key) is None
    engine.failure = None
    label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    assert campaign.store.labels.has(key)
    assert [a.outcome for a in campaign.store.attempts.all("faults", key)] == [outcome, "made"]


@pytest.mark.parametrize(
    ("failure", "limit", "reason"),
    [
        (STOPPED, "MOST_STARTS", "no progress in 3 starts"),
        (BROKEN, "MOST_CRASHES", "Input/output error: job/x.gpw (3 times)"),
    ],
)
def test_a_label_that_never_ends_is_given_up(
    campaign: Campaign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    limit: str,
    reason: str,
) -> None:
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: limit)
    monkeypatch.setattr(f"al_charge.loop.attempt.{limit}", 3)
    engine: Any = campaign.labeler
    engine.failure = failure
    for _ in range(2):
        with pytest.raises(UnfinishedError):
            label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    found = campaign.store.failures.get(limit)
    assert found is not None
    assert reason in found.reason


def test_a_label_that_gets_further_is_never_given_up(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a queue ends its engine; starts without progress count from the last with."""
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "preempted")
    monkeypatch.setattr("al_charge.loop.attempt.MOST_STARTS", 3)
    engine: Any = campaign.labeler
    gains = [1, 1, 1, 1, 0, 0, 1, 0, 0, 0]

    def stopped(_: Path) -> None:
        engine.steps += gains.pop(0)
        raise STOPPED

    monkeypatch.setattr(engine, "run", stopped)
    for _ in range(9):
        with pytest.raises(UnfinishedError):
            label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    assert label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool") is None
    outcomes = [one.outcome for one in campaign.store.attempts.all("faults", "preempted")]
    stops, goes = ["unfinished"], ["continued"]
    assert outcomes == goes * 4 + stops * 2 + goes + stops * 3


def test_a_label_that_was_lost_is_read_from_its_packed_files(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "packed")
    folder, engine = tmp_path / "label-000", cast("Any", campaign.labeler)
    label(campaign, 0, 0, folder, spool=tmp_path / "spool")
    made = campaign.store.labels.get("packed")
    assert made is not None
    campaign.store.database["labels"].delete_one({"_id": "packed"})
    pack(folder, lambda _: False)

    def compute(_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(engine.born, "compute", compute)
    label(campaign, 0, 0, folder, spool=tmp_path / "spool")
    found = campaign.store.labels.get("packed")
    assert found is not None
    assert found.frames == made.frames
    assert folder.is_dir() and not archive_of(folder).exists()
    campaign.store.database["attempts"].delete_many({"key": "packed"})  # it was made twice


@pytest.fixture
def metal(campaign: Campaign) -> Iterator[str]:
    """Key of the metal's attempts; none is known, and none is left."""
    key = f"metal {campaign.settings_hash}/Na"
    yield key
    campaign.store.database["references"].delete_many({})
    campaign.store.database["attempts"].delete_many({"key": key})


@pytest.mark.parametrize("failure", [KILLED, STOPPED, BROKEN], ids=["killed", "ended", "disk"])
def test_a_metal_whose_engine_is_ended_costs_the_campaign_nothing(
    campaign: Campaign, tmp_path: Path, metal: str, failure: Exception
) -> None:
    engine: Any = campaign.labeler
    engine.failure = failure
    labels = campaign.store.attempts.count_made("faults")
    for _ in range(2):
        with pytest.raises(UnfinishedError):
            label_metal(campaign, tmp_path)
    engine.failure = None
    label_metal(campaign, tmp_path)
    label_metal(campaign, tmp_path)
    assert engine.runs == 3
    outcome = "unfinished" if failure is STOPPED else "crashed"
    outcomes = [one.outcome for one in campaign.store.attempts.all("faults", metal)]
    assert outcomes == [outcome, outcome, "made"]
    assert campaign.metal_energy == engine.born.metal_energy("Na", tmp_path)
    assert campaign.store.attempts.count_made("faults") == labels  # it is none


def test_a_metal_that_cannot_be_computed_fails_until_the_campaign_is_resumed(
    campaign: Campaign, tmp_path: Path, metal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_charge.loop.attempt.MOST_CRASHES", 2)
    engine: Any = campaign.labeler
    engine.failure = AlChargeError("the SCF did not converge", where="gpaw")
    with pytest.raises(AlChargeError, match="Na metal cannot be computed: gpaw: the SCF did not"):
        label_metal(campaign, tmp_path)
    engine.failure = KILLED
    with pytest.raises(UnfinishedError):
        label_metal(campaign, tmp_path)
    with pytest.raises(AlChargeError, match=r"killed by SIGKILL\) \(2 times\)") as caught:
        label_metal(campaign, tmp_path)
    assert not isinstance(caught.value, UnfinishedError)
    with pytest.raises(UnfinishedError):  # its crashes are forgotten
        label_metal(campaign, tmp_path)
    engine.failure = None
    label_metal(campaign, tmp_path)
    # What has failed is not continued, what has crashed is.
    runs = {"": [1], "again-1": [2, 3], "again-2": [4, 5]}
    for folder, numbers in runs.items():
        assert all((tmp_path / folder / f"run-{number}").exists() for number in numbers)


def test_one_process_at_a_time_computes_a_metal(
    campaign: Campaign, tmp_path: Path, metal: str
) -> None:
    engine: Any = campaign.labeler

    @contextmanager
    def lock(key: str) -> Iterator[None]:
        """Another campaign computes it while we wait."""
        assert key == metal
        label_metal(campaign, tmp_path / "other")
        yield

    label_metal(campaign, tmp_path / "ours", lock=lock)
    assert engine.runs == 1
    assert campaign.store.attempts.made_twice("faults") == []


def test_what_was_given_up_is_made_once_its_cause_is_mended(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its crashes are forgotten, and the engine finds nothing of what it left."""
    monkeypatch.setattr("al_charge.loop.attempt.MOST_CRASHES", 2)
    engine: Any = campaign.labeler
    engine.failure = KILLED
    with pytest.raises(UnfinishedError):
        label(campaign, 0, 1, tmp_path, spool=tmp_path / "spool")
    label(campaign, 0, 1, tmp_path, spool=tmp_path / "spool")
    key = key_of(campaign, 1)
    assert campaign.store.failures.get(key) is not None
    assert key in retry_labels(campaign)
    assert campaign.store.failures.get(key) is None
    with pytest.raises(UnfinishedError):  # once more it may crash
        label(campaign, 0, 1, tmp_path, spool=tmp_path / "spool")
    engine.failure = None
    label(campaign, 0, 1, tmp_path, spool=tmp_path / "spool")
    made = campaign.store.labels.get(key)
    assert made is not None
    assert made.directory == str(tmp_path / "again-1" / "try-0")
    outcomes = [attempt.outcome for attempt in campaign.store.attempts.all("faults", key)]
    assert outcomes == ["crashed", "crashed", "retried", "crashed", "made"]
    assert key not in retry_labels(campaign)


@pytest.mark.parametrize("version", [4, SCHEMA_VERSION])
def test_a_finished_label_outlives_the_database(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Also where the database was migrated while the label waited."""
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: f"spooled-{version}")
    folder = tmp_path / "spool"

    def away(*_: Any) -> bool:
        raise AutoReconnect("connection closed")

    with monkeypatch.context() as outage:
        outage.setattr(Labels, "put", away)
        with pytest.raises(AutoReconnect):
            label(campaign, 0, 0, tmp_path / "job", spool=folder)
    (waiting,) = folder.iterdir()
    assert waiting.name == f"spooled-{version}.json"
    if version == 4:
        written = json.loads(waiting.read_text(encoding="utf-8")) | {"schema_version": 4}
        del written["refusal"]
        waiting.write_text(json.dumps(written), encoding="utf-8")
    assert Spool(folder).deliver_all(campaign.store.labels) == 1
    assert list(folder.iterdir()) == []
    delivered = campaign.store.labels.get(f"spooled-{version}")
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: f"direct-{version}")
    label(campaign, 0, 0, tmp_path / "job", spool=folder)
    direct = campaign.store.labels.get(f"direct-{version}")
    assert delivered is not None and direct is not None
    own = {"key", "created", "wall_time"}
    assert delivered.model_dump(exclude=own) == direct.model_dump(exclude=own)


def test_a_damaged_file_of_the_spool_is_put_aside(campaign: Campaign, tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"key": "cut", "frames": [')
    assert Spool(tmp_path).deliver_all(campaign.store.labels) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cut.unreadable"]


def test_one_process_at_a_time_makes_a_label(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "shared")
    engine: Any = campaign.labeler

    @contextmanager
    def lock(key: str) -> Iterator[None]:
        """Another campaign makes the label while we wait for it."""
        assert key == "shared"
        label(campaign, 0, 0, tmp_path / "other", spool=tmp_path)
        yield

    label(campaign, 0, 0, tmp_path / "ours", spool=tmp_path, lock=lock)
    assert engine.runs == 1
    assert not (tmp_path / "ours").exists()


def test_a_charge_order_that_the_host_has_not_is_quarantined(
    campaign: Campaign, tmp_path: Path
) -> None:
    engine: Any = campaign.labeler
    engine.finds = "Fe4+"
    label(campaign, 0, 2, tmp_path, spool=tmp_path / "spool")
    found = campaign.store.failures.get(key_of(campaign, 2))
    assert found is not None
    assert "Fe4+ where the host has Fe2+, Fe3+" in found.reason
    assert campaign.store.labels.get(key_of(campaign, 2)) is None


@pytest.mark.parametrize("tries", [1, 2])
def test_a_label_whose_tries_all_share_a_charge_counts_as_what_was_asked_for(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    def share(_: Reading, species: tuple[str, ...], __: Windows | None) -> Audit:
        iron = tuple(i for i, token in enumerate(species) if token.startswith("Fe"))
        sites = tuple(None if i in iron else token for i, token in enumerate(species))
        return Audit(sites, iron, charge=None, delocalised=True)

    record = campaign.store.rounds.get("faults", 0)
    assert record is not None and record.selected is not None
    candidates = map(campaign.store.candidates.get, record.selected)
    slot = next(slot for slot, one in enumerate(candidates) if one is not None and one.n_ions == 2)
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: f"shared-{tries}")
    engine: Any = campaign.labeler
    engine.tries, engine.audit = tries, share
    assert label(campaign, 0, slot, tmp_path, spool=tmp_path / "spool") == f"shared-{tries}"
    assert engine.runs == tries
    made = campaign.store.labels.get(f"shared-{tries}")
    assert made is not None
    assert made.resolved is None
    assert made.config_hash == made.requested_hash
    assert made.delocalised is (tries > 1)
    assert made.refusal == (None if tries > 1 else "ambiguous")
    assert made.audit.endswith("lie between two charge states")


def test_a_static_label_of_ions_on_other_sites_is_refused_before_it_is_run(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = campaign.store.rounds.get("faults", 0)
    assert record is not None and record.selected is not None
    candidates = map(campaign.store.candidates.get, record.selected)
    slot, asked = next(
        (slot, one) for slot, one in enumerate(candidates) if one is not None and one.n_ions == 2
    )
    sites = campaign.host.ion_sites
    empty = next(int(s) for s in sites if s not in asked.geometry.host_site)
    positions, cell = np.array(asked.geometry.positions), np.array(asked.geometry.cell)
    ion = asked.geometry.numbers.index(11)
    positions[ion] = campaign.host.structure.frac_coords[empty] @ cell
    geometry = asked.geometry.model_copy(update={"positions": positions.tolist()})
    hopped = asked.model_copy(update={"geometry": geometry})
    monkeypatch.setattr(campaign.store.candidates, "get", lambda _: hopped)
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "hopped")
    engine: Any = campaign.labeler
    job = tmp_path / "job"
    assert label(campaign, 0, slot, job, spool=tmp_path / "spool") is None
    assert (engine.runs, job.exists()) == (0, False)
    found = campaign.store.failures.get("hopped")
    assert found is not None
    assert (
        "in the committee's relaxation its ions moved to other sites: another config"
        in found.reason
    )


def test_an_interrupted_job_finds_its_files_again(campaign: Campaign, tmp_path: Path) -> None:
    engine: Any = campaign.labeler
    engine.failure = KeyboardInterrupt()  # what stops a worker stops no other way
    with pytest.raises(KeyboardInterrupt):
        label(campaign, 0, 3, tmp_path, spool=tmp_path / "spool")
    left = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert left
    (attempt,) = campaign.store.attempts.all("faults", key_of(campaign, 3))
    assert attempt.outcome is None
    engine.failure = None
    label(campaign, 0, 3, tmp_path, spool=tmp_path / "spool")
    assert left <= set(tmp_path.rglob("*"))
    made = campaign.store.labels.get(key_of(campaign, 3))
    assert made is not None
    assert made.relax == "none"
    assert made.sites == made.resolved == made.requested
    assert made.directory == str(tmp_path / "try-0")
    assert len(made.frames) == 1
    uses = campaign.store.labels.uses("faults")
    assert made.key in uses


def test_a_label_is_never_made_twice(campaign: Campaign, tmp_path: Path) -> None:
    engine: Any = campaign.labeler
    for _ in range(2):
        label(campaign, 0, 4, tmp_path, spool=tmp_path / "spool")
    assert engine.runs == 1
    assert campaign.store.attempts.made_twice("faults") == []


def test_an_engine_that_has_changed_computes_nothing(campaign: Campaign, tmp_path: Path) -> None:
    campaign.__dict__["settings_hash"] = "of another version"
    engine: Any = campaign.labeler
    with pytest.raises(InputError, match="no longer those of its labels"):
        label(campaign, 0, 4, tmp_path, spool=tmp_path / "spool")
    assert engine.runs == 0


def test_a_label_tells_what_it_was_audited_with(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = Windows({"Fe2+": (3.6, 3.8), "Fe3+": (4.2, 4.4)}, {"Fe2+": 1.5, "Fe3+": 2.0})
    monkeypatch.setattr("al_charge.loop.label.windows_for", lambda *_: windows)
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "audited")
    label(campaign, 0, 4, tmp_path, spool=tmp_path / "spool")
    made = campaign.store.labels.get("audited")
    assert made is not None
    assert made.bader_centres == windows.charges
    assert {token: tuple(w) for token, w in made.windows.items()} == windows.ranges


def test_a_label_holds_what_the_engine_found(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[Reading] = []
    read = campaign.labeler.read

    def recorded(directory: Path) -> Reading:
        readings.append(dataclasses.replace(read(directory), cores=3))
        return readings[-1]

    monkeypatch.setattr(campaign.labeler, "read", recorded)
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "found")
    label(campaign, 0, 4, tmp_path, spool=tmp_path / "spool")
    made = campaign.store.labels.get("found")
    assert made is not None
    assert made.cores == 3
    assert len(made.frames) == len(readings[-1].frames)
    for kept, frame in zip(made.frames, readings[-1].frames, strict=True):
        assert frame.stress is not None
        assert np.array(kept.stress) == pytest.approx(frame.stress)
        assert np.array(kept.forces) == pytest.approx(frame.forces)
        assert kept.energy == frame.energy


def test_a_spin_state_that_the_host_has_not_is_uncertain(
    campaign: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its energy is paid for and right; it is kept, under what was asked for."""
    monkeypatch.setattr("al_charge.loop.label.label_key", lambda *_: "other spin")
    engine: Any = campaign.labeler
    engine.finds = "Fe3+,spin=1"
    label(campaign, 0, 0, tmp_path, spool=tmp_path / "spool")
    assert campaign.store.failures.get("other spin") is None
    found = campaign.store.labels.get("other spin")
    assert found is not None
    assert found.resolved is None
    assert found.config_hash == found.requested_hash
    iron = [i for i, token in enumerate(found.requested) if token.startswith("Fe")]
    assert [i for i, token in enumerate(found.sites) if token is None] == iron
    assert "fit no charge state" in found.audit
