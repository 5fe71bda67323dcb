"""Other spin states and magnetic orders: which are run, and what follows from what they show.

The engine is GPAW's labeler with a stand-in for GPAW itself, whose energies follow from the moments
that it is asked to start from: of each ion by its spin state, and of all pairs by their order.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket_launcher import launch_rocket

from al_charge.api.hull import hull_result
from al_charge.errors import AlChargeError, InputError
from al_charge.fw.doctor import Scene
from al_charge.fw.doctor.labels import without_labels
from al_charge.fw.launchpad import store_of
from al_charge.fw.repair import repair, retry
from al_charge.fw.status import status_document
from al_charge.fw.tasks import ensure_round, round_workflow
from al_charge.labelers.gpaw import labeler
from al_charge.loop.assess import assess
from al_charge.loop.campaign import Campaign, open_campaign
from al_charge.loop.convergence import HullState, criteria
from al_charge.loop.energies import labelled_hull
from al_charge.loop.explore import explore, explore_slots, explored
from al_charge.loop.ground_state import electrons, lower_spin_states, magnetic_corrections
from al_charge.loop.label import label
from al_charge.loop.propose import propose
from al_charge.loop.reference import label_metal
from al_charge.loop.request_ledger import request_ledger
from al_charge.loop.rounds import label_slots, open_round
from al_charge.loop.select import labels_left, select_candidates
from al_charge.loop.spec import parse_spec
from al_charge.loop.stored_spec import spec_of
from al_charge.loop.submit import new_document, submit
from al_charge.loop.train import FRESH, train_member
from al_charge.report.progress import status_panel
from al_charge.report.tables import hull_table
from al_charge.store.documents import Assessment, CampaignState, Vertex
from al_charge.store.labels import SUMMARY, WITHOUT_FRAMES
from al_charge.store.mongo import Store

pytestmark = pytest.mark.mongod

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
OLIVINE = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"


def stand_in(folder: Path, world: dict[str, Any]) -> None:
    """Do GPAW's job in a folder."""
    job = json.loads((folder / "input.json").read_text())
    n, ions = len(job["numbers"]), str(job["numbers"].count(world["ion"]))
    energy, moments = world.get("cells", {}).get(ions, 0.0), [0.0] * n
    frames = []
    if job.get("scales"):
        for scale in job["scales"]:
            cell = [[scale * a for a in row] for row in job["cell"]]
            frames.append(
                {
                    "positions": job["positions"],
                    "cell": cell,
                    "moments": [0.0] * n,
                    "energy": -1.9 + (scale - 1) ** 2,
                    "forces": None,
                    "stress": None,
                }
            )
    else:
        for site, token in enumerate(job["species"]):
            ion = token.partition(",")[0]
            spins = {int(s): e for s, e in world["spins"].get(ion, {}).items()}
            if not spins:
                continue
            start = job["moments"][site]
            # A start may be smaller than the moment, within GPAW's limit.
            found = max((s for s in spins if abs(start) >= 0.75 * s), default=min(spins))
            found = world.get("falls", {}).get(ion, {}).get(str(found), found)
            energy += spins[found]
            moments[site] = world.get("share", {}).get(ion, 0.9) * found * (-1 if start < 0 else 1)
        up = not any(m < 0 for m in moments)
        if order := world.get("charge order", {}).get("up" if up else "up and down"):
            places = [site for site, m in enumerate(moments) if m]
            sizes = sorted((abs(moments[site]) for site in places), reverse=order == "falling")
            for site, size in zip(places, sizes, strict=True):
                moments[site] = size if moments[site] > 0 else -size
        signs = [(m > 0) - (m < 0) for m in moments if m]
        if world.get("aligned"):
            moments, signs = [abs(m) for m in moments], [1] * len(signs)
        net = abs(sum(signs)) / len(signs) if signs else 1.0
        energy -= (1 - net) * len(signs) * world.get("antiferromagnetic", {}).get(ions, 0.0)
        frames.append(
            {
                "positions": job["positions"],
                "cell": job["cell"],
                "energy": energy,
                "forces": [[0.0] * 3] * n,
                "stress": [0.0] * 6 if job["stress"] else None,
                "moments": moments,
            }
        )
    for frame in frames:
        frame |= {"free_energy": frame["energy"], "total_moment": sum(frame["moments"])}
    result = {
        "job": hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16],
        "engine": "GPAW 26.7.0",
        "frames": frames,
        "setups": {},
        "attempts": [{"changed": "mixer msr1", "outcome": "converged after 12 steps"}],
        "scf_steps": 12,
        "wall_time": 1.0,
        "cores": 1,
    }
    (folder / "result.json").write_text(json.dumps(result))
    with Path(world["log"]).open("a") as log:
        asked = {"moments": job["moments"], "species": job.get("species")}
        log.write(json.dumps(asked | {"spinpol": any(job["moments"] or [])}) + "\n")


COBALT = {
    "Co3+": {"0": 0.0, "2": 0.9, "4": 1.523},
    "Co4+": {"1": 0.0, "3": 0.3, "5": 0.6},
}
"""eV of each ion by unpaired electrons; 1.52 eV is what GPAW has for LiCoO2."""
IRON = {"Fe2+": {"4": 0.0, "2": 0.7, "0": 1.2}, "Fe3+": {"5": 0.0, "3": 1.0, "1": 1.5}}


@contextmanager
def no_lock(_: str) -> Iterator[None]:
    yield


class World:
    """What the stand-in finds, and what it was asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = folder / "asked.jsonl"
        self.facts: dict[str, Any] = {"log": str(self.log), "spins": {}, "ion": 3}
        monkeypatch.setattr(labeler.process, "run", self._run)
        monkeypatch.setattr(labeler, "gpaw_version", lambda: "26.7.0")
        monkeypatch.setattr(labeler, "datasets_identity", lambda: "gpaw-data 1.2.1")
        monkeypatch.setattr(labeler, "_check_datasets", lambda elements: None)

    def _run(self, command: Any, folder: Path, timeout: float, **_: Any) -> None:
        """Run the stand-in here; a process for each label would take most of the time."""
        try:
            stand_in(folder, json.loads(json.dumps(self.facts)))
        except ValueError as error:
            raise AlChargeError(f"ValueError: {error}", where=str(folder)) from error

    @property
    def asked(self) -> list[dict[str, Any]]:
        """Every label that was computed."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [job for job in map(json.loads, lines) if job["species"] is not None]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Put the stand-in in the place of GPAW."""
    return World(tmp_path, monkeypatch)


@pytest.fixture
def launchpad(database: Any, launchpad_on: Any) -> LaunchPad:
    """A LaunchPad on the test's database."""
    launchpad: LaunchPad = launchpad_on(database)
    return launchpad


@pytest.fixture
def store(launchpad: LaunchPad) -> Store:
    """The store beside it."""
    store = store_of(launchpad)
    store.ensure_schema()
    return store


def document(redox: Any, structure: Path, ion: str = "Li", **sections: Any) -> dict[str, Any]:
    fixed = {"O": -2} if ion == "Li" else {"P": 5, "O": -2}
    u = {"hubbard_u": {}, "bader": False, "mode": "pw"}
    return {
        "name": f"c{uuid.uuid4().hex}",
        "host": {
            "structure": str(structure),
            "working_ion": ion,
            "redox": redox,
            "fixed": fixed,
            "spins": "high",
        },
        "labeler": {"kind": "gpaw", **u, **sections.pop("labeler", {})},
        "potential": {"kind": "painn", "channels": 4, "cutoff": "3 A", "pair_cutoff": "0 A"},
        "training": {"epochs": 1},
        "committee": {"size": 2},
        "search": {"seeds": 2},
        "acquisition": {"first_round": 4, "labels_per_round": 2},
        "convergence": {"rounds": 1, "max_labels": 6} | sections.pop("convergence", {}),
    }


def submitted(store: Store, written: dict[str, Any]) -> Campaign:
    submit(store, parse_spec(written, source=HOSTS))
    return open_campaign(store, written["name"])


def cobalt(store: Store, *redox: Any, structure: str = "licoo2.cif", **labeler: Any) -> Campaign:
    return submitted(store, document({"Co": list(redox)}, HOSTS / structure, labeler=labeler))


def played(campaign: Campaign, folder: Path) -> Path:
    """Label the end members of the first round and run them in other states; return the folder."""
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    select_candidates(campaign, 0)
    for slot in range(2):
        label(campaign, 0, slot, folder / f"label-{slot}", spool=folder / "spool")
    for slot in explore_slots(campaign, 0):
        run(campaign, 0, slot, folder)
    return folder


def run(campaign: Campaign, number: int, slot: int, folder: Path) -> str | None:
    place = folder / f"explore-{number}-{slot}"
    return explore(campaign, number, slot, place, spool=folder / "spool", lock=no_lock)


def names(campaign: Campaign, number: int = 0) -> list[list[str]]:
    return [[run.state for run in one.runs] if one else [] for one in explored(campaign, number)]


def test_the_states_of_an_end_member_are_its_spins_and_orders(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 low", "4 low")
    played(campaign, tmp_path)
    charged = ["antiferromagnetic", "Co4+ high", "Co4+ intermediate"]
    charged += ["Co4+ high, antiferromagnetic", "Co4+ intermediate, antiferromagnetic"]
    # Low-spin Co3+ has no moment, so that there is no other order of it.
    discharged = ["Co3+ high", "Co3+ intermediate"]
    discharged += [f"{state}, antiferromagnetic" for state in discharged]
    assert names(campaign) == [charged, discharged]
    assert len(world.asked) == 2 + 5 + 4, "every run, and nothing twice"
    by_species = {tuple(sorted(set(job["species"]))): job for job in world.asked}
    assert by_species["Co3+", "Li+", "O2-"]["spinpol"], "a state with moments starts from them"
    assert not by_species["Co3+,spin=0", "Li+", "O2-"]["spinpol"]
    assert lower_spin_states(campaign) == ""
    assert len(set(world_signs(world, "Co4+,spin=1"))) == 2


def world_signs(world: World, token: str) -> list[tuple[int, ...]]:
    """Return the signs of the moments of every run with ions of a species."""
    return [
        tuple(
            int(np.sign(m))
            for m, t in zip(job["moments"], job["species"], strict=True)
            if t == token
        )
        for job in world.asked
        if token in job["species"]
    ]


def test_a_single_moment_has_one_order_and_few_runs_are_those_that_differ_least(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 low", "4 low", explore_runs=2)
    played(campaign, tmp_path)
    assert names(campaign) == [
        ["antiferromagnetic", "Co4+ high"],
        ["Co3+ high", "Co3+ intermediate"],
    ]
    left = [one.left_out for one in explored(campaign, 0) if one]
    assert left[0] == (
        "Co4+ intermediate",
        "Co4+ high, antiferromagnetic",
        "Co4+ intermediate, antiferromagnetic",
    )
    assert list(explore_slots(campaign, 0).values()) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_spin_state_that_other_sites_have_is_run_too(
    store: Store, world: World, tmp_path: Path
) -> None:
    """Iron on nitrogen may be low spin, though iron on carbon is: the search does not try it."""
    world.facts["spins"] = IRON | {"Fe2+": {"4": 0.0, "2": 0.7, "0": -0.3}}
    world.facts["share"] = {"Fe2+": 0.915, "Fe3+": 0.86}
    written = document({"Fe": [2, 3]}, HOSTS / "prussian_white.cif", "Na")
    written["host"] |= {"fixed": {"C": 2, "N": -3}, "sites": {"FeC": 2}, "spins": "usual"}
    windows = {"Fe2+": [3.5, 3.8], "Fe3+": [4.1, 4.5], "Fe2+,spin=0": [0.0, 0.3]}
    written["labeler"] |= {"moment_windows": windows, "explore_runs": 5}
    campaign = submitted(store, written)
    played(campaign, tmp_path)
    assert names(campaign)[1] == [
        "antiferromagnetic",
        "Fe2+ high for Fe2+ low",
        "Fe2+ intermediate for Fe2+ low",
        "Fe2+ intermediate for Fe2+ high",
        "Fe2+ low for Fe2+ high",
    ]
    (_, full) = electrons(campaign, 0)
    assert [one.spins for one in full.others] == [
        "Fe2+ high and Fe2+ low",
        "Fe2+ high",
        "Fe2+ high and Fe2+ intermediate",
        "Fe2+ intermediate and Fe2+ low",
        "Fe2+ low",
    ]
    reason = lower_spin_states(campaign)
    assert "at x = 2 Fe2+ low lies 300 meV/f.u. below Fe2+ high" in reason
    assert "redox: {Fe: [2 low, 3 high]}" in reason


def test_a_lower_spin_state_stops_the_campaign_and_says_what_to_write(
    store: Store, launchpad: LaunchPad, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 high", "4 high")
    played(campaign, tmp_path)
    reason = lower_spin_states(campaign)
    assert "at x = 1 Co3+ low lies 1523 meV/f.u. below Co3+ high" in reason
    assert "at x = 0 Co4+ low lies 600 meV/f.u. below Co4+ high" in reason
    assert "write 'redox: {Co: [3 low, 4 low]}' under 'host'" in reason
    with pytest.raises(InputError, match="3 low, 4 low"):
        repair(launchpad, campaign)
    found = store.campaigns.get(campaign.name)
    assert (found.state, found.reason) == (CampaignState.FAILED, reason)
    # What it says is right: the campaign that is written so finds these runs among its labels.
    before = len(world.asked)
    corrected = cobalt(store, "3 low", "4 low")
    played(corrected, tmp_path / "again")
    assert lower_spin_states(corrected) == ""
    assert len(world.asked) - before < 11, "labels of these states are shared"


def test_only_the_ion_that_is_lower_is_changed(store: Store, world: World, tmp_path: Path) -> None:
    world.facts["spins"] = COBALT | {"Co4+": {"5": 0.0, "3": 0.3, "1": 0.6}}
    campaign = cobalt(store, "3 high", "4 high")
    played(campaign, tmp_path)
    assert "write 'redox: {Co: [3 low, 4 high]}'" in lower_spin_states(campaign)
    assert "at x = 0 " not in lower_spin_states(campaign)


def test_a_difference_within_the_tolerance_stops_nothing(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = {
        "Co3+": {"0": 0.0, "2": 0.9, "4": 0.004},
        "Co4+": {"5": 0.0, "3": 0.3, "1": 0.6},
    }
    campaign = cobalt(store, "3 high", "4 high")
    played(campaign, tmp_path)
    assert lower_spin_states(campaign) == ""


def test_a_run_that_falls_back_is_no_other_state(
    store: Store, world: World, tmp_path: Path
) -> None:
    # Energies would show a lower state, were the runs taken for what was asked.
    world.facts |= {"spins": COBALT, "falls": {"Co3+": {"0": 4, "2": 4}, "Co4+": {"1": 5, "3": 5}}}
    world.facts["aligned"] = True
    campaign = cobalt(store, "3 high", "4 high")
    played(campaign, tmp_path)
    assert lower_spin_states(campaign) == ""
    for one in electrons(campaign, 0):
        assert {run.species for run in one.others} == {one.requested}
        assert one.correction == 0.0
        assert one.lowest_order is None


def test_an_end_member_that_dft_finds_in_another_state_stops_the_campaign(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts |= {"spins": COBALT, "falls": {"Co3+": {"4": 0, "2": 0}}}
    campaign = cobalt(store, "3 high", "4 low")
    played(campaign, tmp_path)
    reason = lower_spin_states(campaign)
    assert "at x = 1 Co3+ low was found instead of Co3+ high" in reason
    assert "redox: {Co: [3 low, 4 low]}" in reason


def test_the_runs_are_labels_that_no_campaign_uses(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 low", "4 low")
    played(campaign, tmp_path)
    runs = [run for one in explored(campaign, 0) if one for run in one.runs]
    labels = {one.key: one for one in store.labels.read(WITHOUT_FRAMES, keys=[r.key for r in runs])}
    assert len(labels) == 9
    for one in runs:
        found = labels[one.key]
        assert found.details["explored"] == one.state
        assert found.settings_hash == one.campaign.settings_hash
        assert found.host_fingerprint == one.campaign.host.fingerprint
        assert (found.config_hash, found.settings_hash, found.host_fingerprint) != (
            one.candidate.config_hash,
            campaign.settings_hash,
            campaign.host.fingerprint,
        )
    used = store.labels.uses(campaign.name)
    assert used.keys().isdisjoint(labels)
    assert {one.key for one in store.labels.read(SUMMARY)} == used.keys()
    assert request_ledger(campaign).keys.isdisjoint(labels)
    assert labels_left(campaign) == 6 - 4, "they do not count against max_labels"
    before = len(world.asked)
    for slot in explore_slots(campaign, 0):
        run(campaign, 0, slot, tmp_path / "again")
    assert len(world.asked) == before


def test_other_spin_states_are_not_advised_where_the_label_itself_has_failed(
    store: Store, launchpad: LaunchPad, world: World, tmp_path: Path
) -> None:
    """Nothing is known of low-spin Co3+ then, which lies 1.52 eV below all that is."""
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 low", "4 low", explore_runs=1)
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    select_candidates(campaign, 0)
    for slot in explore_slots(campaign, 0):
        run(campaign, 0, slot, tmp_path)
    ends = electrons(campaign, 0)
    assert [(one.label, one.pending, len(one.others)) for one in ends] == [(None, (), 1)] * 2
    assert lower_spin_states(campaign) == ""
    (_, discharged) = status_document(launchpad, campaign)["electrons"]
    assert discharged["outcome"] == "there is no label of Co3+ low to compare with"


def test_a_failed_run_is_told_and_stops_nothing(
    store: Store, launchpad: LaunchPad, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 low", "4 low", explore_runs=1, kpoints=[1, 1, 1])
    open_round(campaign, 0)
    for n_ions in campaign.host.ion_counts:
        propose(campaign, 0, n_ions)
    select_candidates(campaign, 0)
    for slot in range(2):
        label(campaign, 0, slot, tmp_path / f"label-{slot}", spool=tmp_path / "spool")
    ends = status_document(launchpad, campaign)["electrons"]
    assert [one["outcome"] for one in ends] == ["1 not finished yet"] * 2
    world.facts["spins"] = {"Co3+": {"bad": 0}}
    for slot in explore_slots(campaign, 0):
        run(campaign, 0, slot, tmp_path)
    (charged, discharged) = electrons(campaign, 0)
    assert not charged.pending and not discharged.pending
    assert list(discharged.failed) == ["Co3+ high"]
    assert lower_spin_states(campaign) == ""


def test_a_run_that_was_given_up_is_tried_again(
    store: Store, launchpad: LaunchPad, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT | {"Co3+": {"bad": 0}}
    campaign = cobalt(store, "3 low", "4 low", explore_runs=1)
    ensure_round(launchpad, campaign, 0)
    fworker = FWorker(name="test", category=["cpu", "dft"], env={"runs": str(tmp_path)})

    def work(last: str) -> None:
        query = {"name": {"$regex": last}, "state": "COMPLETED"}
        while launchpad.fireworks.count_documents(query) < 2:
            assert launch_rocket(launchpad, fworker, strm_lvl="CRITICAL")

    work("label [01]$")
    (failure,) = store.failures.all(campaign.name)
    assert "Co3+" in str(world.facts["spins"]) and failure.round == 0
    world.facts["spins"] = COBALT
    assert retry(launchpad, campaign) == [failure.key]
    work("label [01]$")
    world.facts["spins"] = COBALT | {"Co3+": {"bad": 0}}
    work("explore ")
    failed = {failure.key for failure in store.failures.all(campaign.name)}
    runs = [run.key for one in explored(campaign, 0) if one for run in one.runs]
    assert len(runs) == 2 and failed == {runs[1]}
    world.facts["spins"] = COBALT
    assert retry(launchpad, campaign) == [runs[1]]
    assert launchpad.fireworks.count_documents({"name": {"$regex": "explore"}, "state": "READY"})
    work("explore ")
    assert store.labels.among(runs) == set(runs)
    # A database from before a run: the doctor hands its task back.
    store.database["labels"].delete_one({"_id": runs[0]})
    scene = replace(Scene(launchpad, store, campaign.name), runs=tmp_path)
    (finding,) = without_labels(scene)
    assert (finding.kind, finding.fix is not None) == ("files without label", True)
    assert "explore" in finding.where


def iron(store: Store, **changes: Any) -> Campaign:
    return submitted(store, document({"Fe": [2, 3]}, OLIVINE, "Na", **changes))


def test_a_lower_magnetic_order_is_corrected_for_and_stops_nothing(
    store: Store, launchpad: LaunchPad, world: World, tmp_path: Path
) -> None:
    # meV per formula unit by which antiferromagnetic order is lower: 46 at x = 0, 10 at x = 1.
    world.facts |= {"spins": IRON, "ion": 11, "antiferromagnetic": {"0": 0.046, "4": 0.010}}
    campaign = iron(store)
    played(campaign, tmp_path)
    assert lower_spin_states(campaign) == ""
    found = magnetic_corrections(campaign)
    assert sorted(found.values()) == [pytest.approx(-0.046), pytest.approx(-0.010)]
    status = status_document(launchpad, campaign)
    assert status["state"] == "running"
    assert [round(1e3 * one["magnetic_correction"]) for one in status["electrons"]] == [-46, -10]
    assert "antiferromagnetic order is 46.0 meV/f.u. lower" in status["electrons"][0]["outcome"]
    (order,) = [r for r in status["electrons"][0]["runs"] if r["asked"] == "antiferromagnetic"]
    assert order["found"] == "Fe3+ high, antiferromagnetic"
    assert order["energy"] == pytest.approx(-0.046)
    status_panel(status)


def test_given_windows_say_which_spin_state_a_small_moment_is(
    store: Store, world: World, tmp_path: Path
) -> None:
    """CoO2 without U has 0.63 Bohr magnetons on cobalt: the rest of its spin is on oxygen."""
    world.facts |= {"spins": COBALT, "share": {"Co4+": 0.63}}
    windows = {"Co3+,spin=0": [0.0, 0.03], "Co4+,spin=1": [0.6, 0.66]}
    campaign = cobalt(store, "3 low", "4 low", explore_runs=1, moment_windows=windows)
    played(campaign, tmp_path)
    (charged, _) = electrons(campaign, 0)
    assert charged.label is not None and charged.label.species == charged.requested
    assert charged.outcome == "Co4+ low is the lowest of 1 run in other states"


def mixed_end(store: Store, world: World, tmp_path: Path, **order: str) -> Campaign:
    """Return a campaign whose first end member has two Fe2+ and two Fe3+ in an order of DFT's."""
    world.facts["share"] = {"Fe2+": 0.915, "Fe3+": 0.86}
    world.facts |= {"spins": IRON, "ion": 11, "antiferromagnetic": {"2": 0.046, "4": 0.010}}
    world.facts["charge order"] = {name.replace("_", " "): one for name, one in order.items()}
    written = document({"Fe": [2, 3]}, OLIVINE, "Na", labeler={"explore_runs": 1})
    written["host"]["compositions"] = {"from": "1/2", "to": 1}
    campaign = submitted(store, written)
    played(campaign, tmp_path)
    return campaign


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_a_mixed_end_member_in_a_charge_order_that_was_not_asked_for_is_in_no_other_spin_state(
    store: Store, world: World, tmp_path: Path, order: str
) -> None:
    campaign = mixed_end(store, world, tmp_path, up=order, up_and_down=order)
    (mixed, _) = electrons(campaign, 0)
    assert mixed.label is not None and mixed.label.species == mixed.requested
    assert lower_spin_states(campaign) == ""
    assert sorted(magnetic_corrections(campaign).values()) == [
        pytest.approx(-0.046),
        pytest.approx(-0.010),
    ]


def test_a_run_in_another_charge_order_is_no_correction(
    store: Store, world: World, tmp_path: Path
) -> None:
    campaign = mixed_end(store, world, tmp_path, up="rising", up_and_down="falling")
    (mixed, full) = electrons(campaign, 0)
    assert mixed.correction is None and full.correction == pytest.approx(-0.010)
    assert lower_spin_states(campaign) == ""


def test_an_end_member_without_moments_has_no_other_order_and_hinders_no_correction(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts |= {"spins": COBALT, "antiferromagnetic": {"0": 0.046}}
    campaign = cobalt(store, "3 low", "4 low")
    played(campaign, tmp_path)
    by_x = {one.x: one.config_hash for one in electrons(campaign, 0)}
    # Of three Co4+ one points down.
    lower = pytest.approx(-0.046 * 2 / 3)
    assert magnetic_corrections(campaign) == {by_x["0"]: lower, by_x["1"]: 0.0}
    spins = cobalt(store, "3 low", "4 low", explore_runs=1)
    played(spins, tmp_path / "few")
    assert magnetic_corrections(spins) == magnetic_corrections(campaign)


def test_a_campaign_that_is_antiferromagnetic_is_run_in_the_other_order(
    store: Store, world: World, tmp_path: Path
) -> None:
    world.facts |= {"spins": IRON, "ion": 11, "antiferromagnetic": {"0": 0.046, "4": 0.010}}
    campaign = iron(store, labeler={"magnetic_order": "antiferromagnetic"})
    played(campaign, tmp_path)
    assert names(campaign)[0][0] == "ferromagnetic"
    assert set(magnetic_corrections(campaign).values()) == {0.0}


def test_a_total_moment_by_hand_is_that_of_no_other_state(store: Store, world: World) -> None:
    campaign = iron(store, labeler={"total_moment": 2.0, "moments": {"Fe3+": -4.0}})
    orders = campaign.spec.labeler.magnetic_orders()
    assert list(orders) == ["given", "ferromagnetic", "antiferromagnetic"]
    for name, settings in orders.items():
        assert settings.model_dump()["total_moment"] is None
        assert settings.model_dump()["fixed_moment"] is True
        assert (settings.model_dump()["moments"]["Fe3+"] < 0) == (name == "given")


def test_the_hull_shows_corrections_and_what_they_leave_undecided(
    store: Store,
    launchpad: LaunchPad,
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A verification runs the vertices in the other order; 13.5 meV are less than 46 meV."""
    world.facts["share"] = {"Fe2+": 0.915, "Fe3+": 0.86}
    sodium = {str(n): 0.010 for n in range(5)} | {"0": 0.056, "4": 0.056}
    world.facts |= {"spins": IRON, "ion": 11, "antiferromagnetic": sodium}
    world.facts["cells"] = dict.fromkeys("123", -4 * 0.0135)
    convergence = {"verify": True}
    campaign = iron(store, convergence=convergence)
    label_metal(campaign, tmp_path / "metal")
    played(campaign, tmp_path)
    selected = store.rounds.get(campaign.name, 0)
    assert selected is not None and selected.selected is not None
    for slot in range(2, len(selected.selected)):
        label(campaign, 0, slot, tmp_path / f"label-{slot}", spool=tmp_path / "spool")
    unmet = criteria(HullState((), None, None, None), None, campaign.spec.convergence)
    assessment = Assessment(
        spread_scale=1.0,
        vertices=[Vertex("0", ""), Vertex("1", "")],
        labels=4,
        criteria=[criterion.model_copy(update={"met": True}) for criterion in unmet],
        verify_next=True,
    )
    labels = labelled_hull(campaign).labels
    store.rounds.record_assessment(
        campaign.name, 0, assessment, sorted(labels), np.zeros((2, len(labels)))
    )
    open_round(campaign, 1)
    slots = explore_slots(campaign, 1)
    vertices = len(labelled_hull(campaign).hull.vertices)
    assert [place for place in slots.values()] == [(i, 0) for i in range(vertices)]
    for slot in range(label_slots(campaign, 1)):
        label(campaign, 1, slot, tmp_path / f"verify-{slot}", spool=tmp_path / "spool")
    for slot in slots:
        assert run(campaign, 1, slot, tmp_path) is not None
    assert all(states == ["antiferromagnetic"] for states in names(campaign, 1))
    # The first round has no committee here to go on from.
    monkeypatch.setattr("al_charge.loop.train.start_of", lambda *_: (FRESH, None))
    for member in range(2):
        train_member(campaign, 1, member, tmp_path / str(member), tmp_path / f"{member}-cache")
    assess(campaign, 1, tmp_path)
    result = hull_result(campaign)
    corrections = [round(1e3 * v["magnetic_correction"]) for v in result.document["vertices"]]
    assert corrections[0] == corrections[-1] == -56
    assert set(corrections[1:-1]) <= {-10}
    assert len(corrections) > 2
    assert "other order" in str(result)
    told = {one["x"]: one for one in result.document["undecided"]}
    assert set(told) == {str(x) for x in result.hull.compositions[1:-1]}
    for one in told.values():
        assert 0 < one["depth"] <= 0.0135 + 1e-9
        assert one["depth"] < one["change"] <= 0.046 + 1e-9
    assert f"Not decided by the labels: x = {next(iter(told))} lies" in " ".join(
        str(result).split()
    )
    parents = {fw.name.split(" ", 1)[1] for fw in round_workflow(campaign, 1).fws}
    assert {f"explore {slot}" for slot in slots} <= parents
    assert hull_table(result.document).columns


def test_the_workflow_runs_them_before_other_labels_and_stops(
    store: Store, launchpad: LaunchPad, world: World, tmp_path: Path
) -> None:
    world.facts["spins"] = COBALT
    campaign = cobalt(store, "3 high", "4 high")
    ensure_round(launchpad, campaign, 0)
    fworker = FWorker(name="test", category=["cpu", "dft"], env={"runs": str(tmp_path)})
    while store.campaigns.state(campaign.name) is CampaignState.RUNNING:
        assert launch_rocket(launchpad, fworker, strm_lvl="CRITICAL")
    status = status_document(launchpad, campaign)
    assert status["state"] == "failed"
    assert "redox: {Co: [3 low, 4 low]}" in status["reason"]
    assert status["labels_used"] == 2
    waiting = launchpad.fireworks.find({"name": {"$regex": "label [23]$"}})
    assert {one["state"] for one in waiting} <= {"WAITING", "READY"}


def test_stored_campaigns_and_other_engines_explore_nothing(
    store: Store, world: World, tmp_path: Path
) -> None:
    written = document({"Co": [3, 4]}, HOSTS / "licoo2.cif")
    stored = new_document(parse_spec(written, source=HOSTS))
    assert spec_of(stored).labeler.spin_runs == 6
    del stored.spec["defaults"]["labeler"]["explore_spin"]
    del stored.spec["defaults"]["labeler"]["explore_runs"]
    assert spec_of(stored).labeler.spin_runs == 0
    born = written | {"labeler": {"kind": "born"}}
    born["host"] = document({"Fe": [2, 3]}, OLIVINE, "Na")["host"]
    campaign = submitted(store, born)
    assert explore_slots(campaign, 0) == {} and explored(campaign, 0) == []
    off = submitted(store, document({"Co": [3, 4]}, HOSTS / "licoo2.cif",
                                    labeler={"explore_spin": False}))  # fmt: skip
    assert explore_slots(off, 0) == {}
    assert not [fw for fw in round_workflow(off, 0).fws if "explore" in fw.name]
