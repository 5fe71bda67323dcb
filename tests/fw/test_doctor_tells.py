"""What the doctor only tells, what it leaves alone, and how it goes about its cures."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson.objectid import ObjectId
from fireworks import Firework, ScriptTask
from fireworks.fw_config import RUN_EXPIRATION_SECS

import al_charge
from al_charge.fw import doctor
from al_charge.fw.doctor import Finding, look, mend, workers
from al_charge.fw.lost_runs import MAX_CRASHES, release_runs_of
from al_charge.fw.tasks import ensure_round, round_workflow
from al_charge.fw.worker_registry import host_of, worker_name
from al_charge.store.documents import (
    SCHEMA_VERSION,
    Assessment,
    CampaignState,
    FailureDoc,
    ModelDoc,
)

pytestmark = pytest.mark.mongod
DEAD = f"{2**22}@{host_of(worker_name())}@1.00"
ELSEWHERE = "7@elsewhere@1.00"


def a_label_given_up(patient: Any) -> None:
    failure = FailureDoc(
        key="k", campaign=patient.campaign.name, round=0, reason="the SCF broke", attempts=3
    )
    patient.scene.store.failures.put(failure)


def a_folder_deleted_here(patient: Any) -> None:
    gone = patient.scene.runs / patient.campaign.name / "round-000" / "label-000"
    patient.scene.store.labels.put(patient.label("k", directory=str(gone)))


def a_label_made_elsewhere(patient: Any) -> None:
    patient.scene.store.labels.put(patient.label("k", directory="/on/another/machine"))


def a_spooled_label_that_cannot_be_read(patient: Any) -> None:
    folder = patient.scene.runs / patient.campaign.name / "spool"
    folder.mkdir(parents=True)
    (folder / "k.unreadable").touch()


def killed_between_weights_and_model(patient: Any) -> None:
    patient.scene.store._weights.put(b"weights", filename="c/0/0")


def another_user_of_fireworks(patient: Any) -> None:
    firework = Firework([ScriptTask(script="true")])
    patient.launchpad._upsert_fws([firework], reassign_all=True)


def a_campaign_that_a_failure_has_stopped(patient: Any) -> None:
    store, name = patient.scene.store, patient.campaign.name
    store.campaigns.set_state(name, CampaignState.FAILED, "no license")


@pytest.mark.parametrize(
    ("damage", "kind", "what"),
    [
        (a_campaign_that_a_failure_has_stopped, "stopped campaign", "no license"),
        (a_label_given_up, "label given up", "the SCF broke"),
        (a_folder_deleted_here, "label without files", "there is no "),
        (a_label_made_elsewhere, "label without files", "of one label are not on this machine"),
        (a_spooled_label_that_cannot_be_read, "label not delivered", "cannot be read"),
        (killed_between_weights_and_model, "leftover file", "1 files, 0.0 MB"),
        (another_user_of_fireworks, "foreign task", "1 Fireworks belong to no campaign"),
    ],
)
def test_what_does_no_harm_is_a_note(
    damage: Callable[[Any], None], kind: str, what: str, patient: Any
) -> None:
    damage(patient)
    before = patient.dump()
    mended, left = mend(patient.scene)
    assert mended == []
    assert [(one.kind, one.note, one.fix) for one in left] == [(kind, True, None)]
    assert what in left[0].what
    assert patient.dump() == before


def a_model(patient: Any, weights: bytes = b"weights") -> ModelDoc:
    document = ModelDoc(campaign=patient.campaign.name, round=0, member=0, config={})
    patient.scene.store.models.put(document, weights, {"k": -1.0})
    return patient.scene.store.models.all(patient.campaign.name)[0]


def a_model_without_weights(patient: Any) -> None:
    model = a_model(patient)
    file_id = ObjectId(model.weights_file)
    patient.scene.store.database["weights.files"].delete_one({"_id": file_id})
    patient.scene.store.database["weights.chunks"].delete_many({"files_id": file_id})


def a_model_without_predictions(patient: Any) -> None:
    file_id = ObjectId(a_model(patient).predictions_file)
    patient.scene.store.database["weights.chunks"].delete_many({"files_id": file_id})


def a_model_with_half_of_its_weights(patient: Any) -> None:
    a_model(patient, bytes(300 * 1024))
    patient.scene.store.database["weights.chunks"].delete_one({"n": 1})


def an_assessment_without_its_predictions(patient: Any) -> None:
    store, name = patient.scene.store, patient.campaign.name
    found = Assessment(spread_scale=1.0, vertices=[], labels=1, criteria=[])
    store.rounds.record_assessment(name, 0, found, ["k"], np.zeros((2, 1)))
    ensure_round(patient.launchpad, patient.campaign, 1)
    assert [one.kind for one in look(patient.scene)] == []
    store.database["weights.files"].delete_many({})
    store.database["weights.chunks"].delete_many({})


def a_label_without_its_frames(patient: Any) -> None:
    label = patient.label("k", frames_file=str(ObjectId()), frames=[])
    patient.scene.store.database["labels"].insert_one(label.to_mongo())


def a_foreign_task_in_a_workflow(patient: Any) -> None:
    patient.firework(patient.task("assess")["fw_id"], **{"spec._tasks": [{"_fw_name": "rm"}]})


def a_worker_with_a_slow_clock(patient: Any) -> None:
    registered(patient, ELSEWHERE, clock_offset=-40.0)


def a_worker_of_another_version(patient: Any) -> None:
    registered(patient, worker_name(), version="0.0.1")


def registered(patient: Any, name: str, **fields: Any) -> None:
    known = {
        "host": host_of(name),
        "version": al_charge.__version__,
        "schema": SCHEMA_VERSION,
        "campaign": patient.campaign.name,
        "categories": ["cpu"],
        "started": datetime.now(UTC),
        "seen": datetime.now(UTC),
        "clock_offset": 0.0,
    }
    workers = patient.launchpad.db["workers"]
    workers.replace_one({"_id": name}, known | fields, upsert=True)


def older_schema(patient: Any) -> None:
    version = {"version": SCHEMA_VERSION - 1}
    patient.scene.store.database["schema"].update_one({"_id": "version"}, {"$set": version})


def half_written_while_somebody_works(patient: Any) -> None:
    patient.run(worker_name())
    patient.launchpad.fireworks.delete_many({"name": {"$regex": "label"}})


@pytest.mark.parametrize(
    ("damage", "kind", "what"),
    [
        (an_assessment_without_its_predictions, "half-written round", "predictions in GridFS"),
        (a_label_without_its_frames, "half-written label", "missing or incomplete"),
        (a_foreign_task_in_a_workflow, "foreign task", "it would run rm"),
        (a_worker_with_a_slow_clock, "clock skew", "its clock is 40 s behind"),
        (a_worker_of_another_version, "other version", "it runs al-charge 0.0.1"),
        (older_schema, "other schema", f"its schema is version {SCHEMA_VERSION - 1}"),
        (half_written_while_somebody_works, "half-written workflow", "tasks do not exist"),
    ],
)
def test_what_only_a_person_can_mend_is_told(
    damage: Callable[[Any], None], kind: str, what: str, patient: Any
) -> None:
    damage(patient)
    before = patient.dump()
    mended, left = mend(patient.scene)
    assert mended == []
    assert [(one.kind, one.note, one.fix) for one in left] == [(kind, False, None)]
    assert what in left[0].what
    assert patient.dump() == before


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (a_model_without_predictions, "its predictions in GridFS"),
        (a_model_without_weights, "its weights in GridFS"),
        (a_model_with_half_of_its_weights, "missing or incomplete"),
    ],
)
def test_a_model_without_its_files_is_put_aside(
    damage: Callable[[Any], None], what: str, patient: Any
) -> None:
    damage(patient)
    (mended,), left = mend(patient.scene)
    assert mended.kind == "half-written model"
    assert what in mended.what
    assert [one.kind for one in left] in ([], ["leftover file"])
    assert patient.scene.store.models.all(patient.campaign.name) == []
    assert patient.scene.store.database["damaged"].count_documents({}) == 1


def test_this_machine_s_clock_is_compared_with_the_server_s(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "clock_offset", lambda _: 61.0)
    [finding] = look(patient.scene)
    assert (finding.kind, finding.where) == ("clock skew", "this machine")
    assert "61 s ahead of" in finding.what


def test_a_healthy_campaign_at_work_gives_no_finding(patient: Any) -> None:
    """With workers here and elsewhere, a label under way, locks held, a queue job that waits."""
    name = patient.campaign.name
    registered(patient, worker_name())
    registered(patient, ELSEWHERE, clock_offset=3.0)
    patient.run(worker_name())
    patient.run(ELSEWHERE)
    patient.run("cluster", state="RESERVED")
    patient.launchpad.workflows.update_one({}, {"$set": {"locked": True}})
    claims = patient.launchpad.db["claims"]
    claims.insert_many([{"_id": name, "owner": worker_name()}, {"_id": "k", "owner": ELSEWHERE}])
    patient.scene.store.attempts.start("k", campaign=name, round=0, slot=0)
    patient.scene.store.labels.put(patient.label("l"))
    a_model(patient)
    before = patient.dump()
    assert mend(patient.scene) == ([], [])
    assert patient.dump() == before


def test_an_attempt_of_a_living_worker_elsewhere_goes_on(patient: Any) -> None:
    patient.labelled()
    patient.launchpad.fireworks.update_many({}, {"$set": {"spec._category": "gpu"}})
    label = patient.task("label 0")["fw_id"]
    patient.firework(label, **{"spec._category": "cpu"})
    patient.launchpad.rerun_fw(label)
    patient.run(ELSEWHERE)
    key = {"key": "k", "campaign": patient.campaign.name, "round": 0, "slot": 0}
    patient.scene.store.attempts.start(**key, hostname="elsewhere", pid=7)
    assert patient.kinds() == {}
    patient.scene.store.attempts.start(**key, hostname="elsewhere", pid=6)
    assert patient.kinds() == {"attempt left open": 1}


def silent_elsewhere(patient: Any) -> int:
    _, launch = patient.run(ELSEWHERE)
    patient.silent(launch, RUN_EXPIRATION_SECS + 60.0)
    return int(launch)


def test_a_run_that_beats_while_it_is_watched_is_not_lost(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an outage of the database, which silences every worker."""
    launch = silent_elsewhere(patient)
    pauses = []

    def meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        patient.silent(launch, RUN_EXPIRATION_SECS + 1.0)

    monkeypatch.setattr(doctor, "sleep", meanwhile)
    assert mend(patient.scene) == ([], [])
    assert pauses == [doctor.runs.HEARTBEAT_WATCH]


def test_without_the_watch_silent_runs_are_left_alone(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent_elsewhere(patient)
    monkeypatch.setattr(doctor, "sleep", lambda _: pytest.fail("it waited"))
    assert mend(replace(patient.scene, wait=False)) == ([], [])


def test_what_a_worker_is_just_doing_is_no_finding(
    patient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reserves a Firework, and has its run when the doctor looks again."""
    fw_id = patient.task("propose x=0")["fw_id"]
    patient.firework(fw_id, state="RESERVED")

    def goes_on(_: float) -> None:
        patient.firework(fw_id, state="READY")
        patient.run(worker_name())

    monkeypatch.setattr(doctor, "sleep", goes_on)
    assert mend(patient.scene) == ([], [])


def test_living_runs_are_not_touched_by_cures_beside_them(patient: Any) -> None:
    alive, _ = patient.run(worker_name())
    lost, _ = patient.run(DEAD)
    mended, left = mend(patient.scene)
    assert ([one.kind for one in mended], left) == (["lost run"], [])
    states = {one["fw_id"]: one["state"] for one in patient.launchpad.fireworks.find()}
    assert (states[alive], states[lost]) == ("RUNNING", "READY")


def test_two_doctors_at_once_mend_once(patient: Any) -> None:
    fw_id, launch = patient.run(DEAD)
    patient.lock()
    orphans = round_workflow(patient.campaign, 1).fws
    patient.launchpad._upsert_fws(orphans, reassign_all=True)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(mend, [patient.scene] * 2))
    assert [left for _, left in done] == [[], []]
    firework = patient.launchpad.fireworks.find_one({"fw_id": fw_id})
    assert (firework["state"], firework["archived_launches"]) == ("READY", [launch])
    assert patient.launchpad.db["claims"].count_documents({}) == 0


def test_one_campaign_is_looked_at_without_the_others(patient: Any) -> None:
    patient.run(DEAD)
    own = patient.scene.store.campaigns.get(patient.campaign.name)
    patient.scene.store.campaigns.add(own.model_copy(update={"name": "another"}))
    patient.launchpad.fireworks.update_many({}, {"$set": {"spec.campaign": "another"}})
    patient.launchpad.workflows.update_many({}, {"$set": {"metadata.campaign": "another"}})
    scene = replace(patient.scene, campaign=patient.campaign.name)
    patient.scene.store.campaigns.set_state(scene.campaign, CampaignState.PAUSED)
    assert look(scene) == []
    found = look(replace(scene, campaign="another"))
    assert [one.kind for one in found] == ["lost run", "no worker"]
    # Labels are shared, and so are their locks.
    locks = [{"_id": name, "owner": DEAD} for name in ("another", "label k")]
    patient.launchpad.db["claims"].insert_many(locks)
    assert [one.where for one in look(scene)] == ["label k"]


def test_a_given_up_task_says_why_and_is_ready_after_its_cause_is_mended(patient: Any) -> None:
    patient.launchpad.fireworks.update_many({}, {"$set": {"spec._category": "gpu"}})
    patient.firework(patient.task("propose x=0")["fw_id"], **{"spec._category": "cpu"})
    for _ in range(MAX_CRASHES):
        patient.run(DEAD)
        release_runs_of(patient.launchpad, [DEAD], "killed by signal 9", crashed=True)
    [finding] = look(patient.scene)
    assert finding.kind == "failed task"
    assert "killed by signal 9" in finding.what
    mended, left = mend(patient.scene)
    assert ([one.kind for one in mended], left) == (["failed task"], [])
    assert patient.task("propose x=0")["state"] == "READY"


def test_a_label_of_a_campaign_that_has_ended_is_only_told(patient: Any) -> None:
    key = patient.labelled()
    patient.scene.store.database["labels"].delete_one({"_id": key})
    patient.scene.store.database["label_uses"].delete_many({})
    patient.scene.store.campaigns.set_state(patient.campaign.name, CampaignState.CONVERGED)
    mended, left = mend(patient.scene)
    assert (mended, [one.kind for one in left]) == ([], ["files without label"])


def test_a_label_without_files_is_computed_again(patient: Any, tmp_path: Path) -> None:
    key = patient.labelled()
    patient.scene.store.database["labels"].delete_one({"_id": key})
    patient.scene.store.database["label_uses"].delete_many({})
    elsewhere = replace(patient.scene, runs=tmp_path / "nothing")
    assert [one.kind for one in look(elsewhere)] == ["task without label"]


def test_a_cure_that_fails_keeps_the_others_from_nothing(patient: Any) -> None:
    patient.run(DEAD)

    def unreadable(_: Any) -> list[Finding]:
        def fix() -> None:
            raise RuntimeError("Traceback ...\nKeyError: '_tasks'")

        return [Finding("broken", "task", "it is broken", "mend it", fix)]

    mended, left = mend(patient.scene, (unreadable, doctor.runs.lost_runs))
    assert [one.kind for one in mended] == ["lost run"]
    assert [one.what for one in left] == ["it is broken; the cure failed: KeyError: '_tasks'"]
