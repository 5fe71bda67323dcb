"""Which folders of labels are packed, what of them is kept, and what a restart finds in them."""

from __future__ import annotations

import fcntl
import json
import os
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from al_charge.fw.database_locks import COLLECTION
from al_charge.fw.doctor.labels import without_files, without_labels
from al_charge.fw.run_folders import (
    RunFolder,
    Usage,
    clean,
    files_document,
    run_folders,
    usage,
)
from al_charge.labelers.dft.job_folder import LOCK
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.loop.campaign import Campaign
from al_charge.loop.packed_folder import Keep, archive_of
from al_charge.loop.reference import label_metal
from al_charge.store.attempts import METAL
from al_charge.store.documents import ModelDoc, ReferenceDoc

from .conftest import DEAD, Patient

pytestmark = pytest.mark.mongod
VASP_FILES = {
    "try-0/bader.json": 10,
    "try-0/start/OUTCAR": 100,
    "try-0/start/WAVECAR": 9000,
    "try-0/static/AECCAR0.gz": 2000,
    "try-0/static/CHG": 500,
    "try-0/static/CHGCAR": 4000,
    "try-0/static/vasprun.xml": 200,
    "try-1/static/CHGCAR": 4000,
}
"""The second try has no charges yet, so that they would have to be found in its density."""


@pytest.fixture
def labelled(patient: Patient) -> tuple[Patient, Path]:
    """A campaign with one label, and the folder of its files."""
    patient.labelled()
    folder = files_of(patient) / "round-000" / "label-000"
    fill(folder, VASP_FILES)
    return patient, folder


def files_of(patient: Patient) -> Path:
    return patient.scene.runs / patient.campaign.name


def fill(folder: Path, files: dict[str, int]) -> None:
    for name, size in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def cleaned(patient: Patient, keep: Keep = Keep.DENSITIES) -> list[RunFolder]:
    return list(clean(patient.launchpad, with_vasp(patient.campaign), files_of(patient), keep))


def with_vasp(campaign: Campaign, **settings: Any) -> Campaign:
    """Return a campaign as if VASP had made its labels."""
    labeler = VaspSettings.model_validate(settings)
    return replace(campaign, spec=campaign.spec.model_copy(update={"labeler": labeler}))


def names_in(folder: Path) -> set[str]:
    with tarfile.open(archive_of(folder)) as tar:
        return {name.removeprefix(f"{folder.name}/") for name in tar.getnames()}


WAVES = {"try-0/start/WAVECAR", "try-0/static/CHG"}
DENSITIES = {"try-0/static/AECCAR0.gz", "try-0/static/CHGCAR"}


@pytest.mark.parametrize(
    ("keep", "dropped"),
    [
        (Keep.EVERYTHING, set()),
        (Keep.DENSITIES, WAVES),
        (Keep.OUTPUTS, WAVES | DENSITIES),
    ],
)
def test_what_is_kept(labelled: tuple[Patient, Path], keep: Keep, dropped: set[str]) -> None:
    patient, folder = labelled
    (found,) = cleaned(patient, keep)
    assert not folder.exists()
    assert names_in(folder) == VASP_FILES.keys() - dropped
    assert (found.before.files, found.before.size) == (8, sum(VASP_FILES.values()))
    assert found.after is not None
    assert found.after.size == archive_of(folder).stat().st_size
    stamp = archive_of(folder).stat().st_mtime_ns
    assert cleaned(patient, keep) == []  # a second time there is nothing to do
    assert archive_of(folder).stat().st_mtime_ns == stamp
    assert list(without_files(patient.scene)) == []


def test_wave_functions_that_the_campaign_asks_for_are_kept(
    labelled: tuple[Patient, Path],
) -> None:
    patient, folder = labelled
    campaign = with_vasp(patient.campaign, keep_wavecar=True)
    list(clean(patient.launchpad, campaign, files_of(patient), Keep.OUTPUTS))
    assert "try-0/start/WAVECAR" in names_in(folder)
    assert "try-0/static/CHG" not in names_in(folder)


def test_what_is_not_in_the_database_stays(labelled: tuple[Patient, Path]) -> None:
    patient, folder = labelled
    other = folder.with_name("label-001")
    fill(other, {"try-0/WAVECAR": 10})
    fill(files_of(patient) / "round-000" / "metal", {"WAVECAR": 10})
    fill(files_of(patient) / "round-000" / "train-0", {"checkpoint": 10})
    before = {path for path in patient.scene.runs.rglob("*") if folder not in path.parents}
    first, *others = cleaned(patient)
    assert not first.stays
    assert [one.stays for one in others] == ["nothing in the database was made in it"] * 3
    after = set(patient.scene.runs.rglob("*"))
    assert after == before - {folder} | {archive_of(folder)}


def test_a_label_that_is_lost_meanwhile_keeps_its_files(
    labelled: tuple[Patient, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient, folder = labelled
    store = type(patient.campaign.store.labels)
    monkeypatch.setattr(store, "has", lambda *_: False)
    (found,) = cleaned(patient)
    assert found.stays == "what was made in it is no longer in the database"
    assert (folder / "try-0/static/vasprun.xml").exists()


@pytest.mark.parametrize(
    ("owner", "stays"), [("1@elsewhere@1.00", True), (DEAD, False)], ids=["elsewhere", "dead"]
)
def test_what_is_being_made_stays(labelled: tuple[Patient, Path], owner: str, stays: bool) -> None:
    patient, folder = labelled
    (key,) = patient.campaign.store.labels.folders(patient.campaign.name)
    patient.launchpad.db[COLLECTION].insert_one({"_id": f"label {key}", "owner": owner})
    (found,) = cleaned(patient)
    assert found.stays == (f"{owner} is making its label" if stays else "")
    assert folder.exists() == stays


def holder(host: str, age: float) -> Callable[[Path], None]:
    def hold(lock: Path) -> None:
        lock.write_text(json.dumps({"host": host, "pid": 1, "created": 0.0}))
        os.utime(lock, (time.time() - age,) * 2)

    return hold


@pytest.mark.parametrize(
    ("hold", "stays"),
    [(holder("elsewhere", 60.0), True), (holder("elsewhere", 7200.0), False), (Path.touch, False)],
    ids=["a minute ago", "two hours ago", "nobody"],
)
def test_an_engine_of_another_machine_keeps_its_folder(
    labelled: tuple[Patient, Path], hold: Callable[[Path], None], stays: bool
) -> None:
    patient, folder = labelled
    hold(folder / "try-1" / LOCK)
    (found,) = cleaned(patient)
    assert found.stays == ("an engine runs in try-1" if stays else "")
    assert folder.exists() == stays


def test_an_engine_that_runs_keeps_its_folder(labelled: tuple[Patient, Path]) -> None:
    patient, folder = labelled
    with (folder / "try-1" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (found,) = cleaned(patient)
        assert found.stays == "an engine runs in try-1"
    (found,) = cleaned(patient)
    assert not found.stays


def test_what_cannot_be_packed_costs_nothing_else(labelled: tuple[Patient, Path]) -> None:
    patient, folder = labelled
    os.mkfifo(folder / "pipe")
    second = folder.with_name("label-001")
    fill(second, {"try-0/OUTCAR": 10})
    patient.campaign.store.labels.put(patient.label("k", directory=str(second / "try-0")))
    failed, packed = cleaned(patient)
    assert failed.failed and "neither a file nor a folder" in failed.stays
    assert folder.exists() and not packed.stays and archive_of(second).exists()


def test_the_metal_is_packed_and_comes_back(patient: Patient) -> None:
    folder, campaign = files_of(patient) / "round-000" / "metal", patient.campaign
    label_metal(campaign, folder)
    fill(folder, {"WAVECAR": 900, "OUTCAR": 100})
    content = (folder / "OUTCAR").read_bytes()
    name = ReferenceDoc.id_of(campaign.settings_hash, "Na")
    lock = {"_id": METAL + name, "owner": "1@elsewhere@1.00"}
    patient.launchpad.db[COLLECTION].insert_one(lock)
    (found,) = cleaned(patient)
    assert (found.label, found.stays) == ("", "1@elsewhere@1.00 is making its metal")
    patient.launchpad.db[COLLECTION].delete_one(lock)
    (found,) = cleaned(patient)
    assert (found.stays, folder.exists()) == ("", False)
    assert names_in(folder) >= {"OUTCAR"}
    assert "WAVECAR" not in names_in(folder)
    counted = files_document(files_of(patient))
    assert counted is not None and counted["labels_packed"] == 0
    label_metal(campaign, folder)  # it is known
    assert not folder.exists()
    campaign.store.database["references"].delete_many({})
    label_metal(campaign, folder)
    assert (folder / "OUTCAR").read_bytes() == content
    assert not archive_of(folder).exists()


def test_checkpoints_of_stored_models_are_removed(patient: Patient) -> None:
    store, name = patient.campaign.store, patient.campaign.name
    folders = [files_of(patient) / "round-000" / f"train-{member}" for member in range(2)]
    for folder in folders:
        fill(folder, {"checkpoint": 100})
    document = ModelDoc(campaign=name, round=0, member=1, config={})
    store.models.put(document, b"weights", {})
    assert cleaned(patient, Keep.EVERYTHING) == []
    first, second = cleaned(patient)
    assert (first.path, first.stays) == (folders[0], "nothing in the database was made in it")
    assert (second.path, second.stays, second.after) == (folders[1], "", Usage())
    assert [folder.exists() for folder in folders] == [True, False]


def test_a_lost_label_is_handed_back_with_its_packed_files(
    labelled: tuple[Patient, Path],
) -> None:
    patient, _ = labelled
    cleaned(patient)
    patient.scene.store.database["labels"].delete_many({})
    (found,) = without_labels(patient.scene)
    assert found.kind == "files without label"
    assert "its files are here" in found.what


def test_status_counts_what_is_there(labelled: tuple[Patient, Path]) -> None:
    patient, folder = labelled
    files = files_of(patient)
    size = sum(VASP_FILES.values())
    found = files_document(files)
    assert found == {
        "folder": str(files), "files": 8, "bytes": size, "complete": True, "labels_packed": 0,
    }  # fmt: skip
    cleaned(patient)
    found = files_document(files)
    assert found is not None
    assert (found["files"], found["labels_packed"]) == (1, 1)
    assert found["bytes"] == archive_of(folder).stat().st_size
    assert files_document(files / "nothing") is None
    assert not usage(files, seconds=-1.0).complete


def test_listing_changes_nothing(labelled: tuple[Patient, Path]) -> None:
    patient, folder = labelled
    before = sorted(folder.rglob("*"))
    (found,) = run_folders(patient.launchpad, patient.campaign, files_of(patient), Keep.OUTPUTS)
    assert (found.path, found.stays, found.after) == (folder, "", None)
    assert sorted(folder.rglob("*")) == before
