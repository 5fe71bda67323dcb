"""Recorded outputs: what they say, and what is said where they are broken."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.protocol import BaderCharges, Reading, Relax
from al_charge.labelers.vasp import custodian_log, outputs
from al_charge.labelers.vasp.labeler import VaspLabeler
from al_charge.labelers.vasp.reading import keep_charges

Make = Callable[..., VaspLabeler]

AS_RECORDED: dict[str, Any] = {
    "incar": {"ISMEAR": -5, "EDIFF": 1e-4, "ALGO": "Fast", "NELM": 100},
    "kpoints": [3, 3, 3],
    "fixed_moment": False,
}
"""Settings with which the published run of NiO is what was asked for."""


@pytest.fixture
def job(
    recorded_nickel_oxide: Path, potcars: Path, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> Path:
    """A prepared job with the recorded outputs in place."""
    folder = tmp_path / "job"
    labeler(**AS_RECORDED).prepare(nickel_oxide, folder, relax=Relax.NONE, attempt=0)
    for name in ("OUTCAR", "vasprun.xml"):
        data = gzip.decompress((recorded_nickel_oxide / f"{name}.gz").read_bytes())
        (folder / "static" / name).write_bytes(data)
    return folder


def test_the_published_run(job: Path, labeler: Make, recorded_nickel_oxide: Path) -> None:
    vasp = labeler(**AS_RECORDED)
    reading = vasp.read(job)
    assert reading.frames[-1].energy == pytest.approx(-4.52549041, abs=1e-8)
    assert reading.moments is not None
    assert reading.moments.tolist() == [0.903, 1.122]  # oxygen is the job's first atom
    assert reading.details["hubbard_u"] == {"Ni": 6.2, "O": 0.0}
    assert reading.unusable == ""
    assert reading.converged
    assert reading.engine == "VASP 6.4.1"
    assert (reading.wall_time, reading.cores) == (109.551, 4)
    assert reading.datasets["Ni"].startswith("PAW_PBE Ni_pv 06Sep2000 sha256:")
    # ASE's own reader of OUTCAR must find the same stress, forces and moments.
    ase = read(recorded_nickel_oxide / "OUTCAR.gz", format="vasp-out")
    frame = reading.frames[-1]
    assert frame.stress is not None
    assert np.allclose(frame.stress, ase.get_stress(voigt=False), atol=1e-7)
    assert np.allclose(frame.forces[::-1], ase.get_forces(), atol=1e-6)
    assert ase.get_potential_energy() == pytest.approx(frame.energy)
    # The record's nickel has too small a moment for any state: kept, and never rounded.
    assert vasp.audit(reading, ("O2-", "Ni2+"), None).species is None


def test_settings_that_differ_make_it_unusable(job: Path, labeler: Make) -> None:
    document = json.loads((job / "request.json").read_text())
    document["stages"]["static"]["incar"] |= {
        "ISMEAR": 0,
        "GGA": "PS",
        "ENCUT": 680.0,
        "EDIFF": 1e-6,
        "NUPDOWN": 2,
        "LASPH": False,
        "LDAUU": {"Ni": 6.4, "O": 0.0},
    }
    document["kpoints"] = [2, 2, 2]
    document["titles"]["O"] = "PAW_PBE O_s 07Sep2000"
    (job / "request.json").write_text(json.dumps(document))
    unusable = labeler(**AS_RECORDED).read(job).unusable
    assert unusable.split("; ") == [
        "EDIFF is 0.0001 instead of 1e-06",
        "ENCUT is 520 instead of 680",
        "GGA is PE instead of PS",
        "ISMEAR is -5 instead of 0",
        "LASPH is True instead of False",
        "LDAUU is 6.2 0 instead of 6.4 0",
        "NUPDOWN is -1 instead of 2",
        "the k-point grid is 3 3 3 instead of 2 2 2",
        "the POTCAR of O is PAW_PBE O 08Apr2002, not PAW_PBE O_s 07Sep2000",
    ]


def test_tighter_electrons_are_still_comparable(job: Path, labeler: Make) -> None:
    document = json.loads((job / "request.json").read_text())
    document["stages"]["static"]["incar"]["EDIFF"] = 1e-3
    (job / "request.json").write_text(json.dumps(document))
    assert labeler(**AS_RECORDED).read(job).unusable == ""


@pytest.mark.parametrize("part", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_a_truncated_file_is_named(job: Path, labeler: Make, name: str, part: float) -> None:
    file = job / "static" / name
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    _refused(labeler, job, rf"static/{name}: the file is truncated or damaged: VASP did not finish")


@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_a_missing_or_empty_file_is_named(job: Path, labeler: Make, name: str) -> None:
    file = job / "static" / name
    file.write_bytes(b"")
    _refused(labeler, job, f"static/{name}: the file is empty")
    file.unlink()
    _refused(labeler, job, f"static: there is no {name}")


def test_another_geometry_is_refused(job: Path, labeler: Make) -> None:
    document = json.loads((job / "request.json").read_text())
    document["stages"]["static"]["positions"][1][0] += 0.2
    (job / "request.json").write_text(json.dumps(document))
    _refused(labeler, job, "a geometry other than the requested one")


def test_a_broken_log_of_custodian_is_named(job: Path, labeler: Make) -> None:
    (job / "static" / "custodian.json").write_text('[{"corrections"')
    _refused(labeler, job, "static/custodian.json: custodian's log cannot be read")


@pytest.fixture
def job_with_charges(job: Path) -> Path:
    document = json.loads((job / "request.json").read_text())
    document["bader"] = True
    (job / "request.json").write_text(json.dumps(document))
    return job


def test_a_damaged_density_is_no_property_of_the_label(
    job_with_charges: Path, labeler: Make
) -> None:
    for name in ("AECCAR0", "AECCAR2"):
        (job_with_charges / "static" / name).write_bytes(b"")
    with pytest.raises(CrashedError, match="AECCAR0: it has zero bytes"):
        labeler(**AS_RECORDED).read(job_with_charges)


def test_refused_charges_leave_the_label(job_with_charges: Path, labeler: Make) -> None:
    reading = labeler(**AS_RECORDED).read(job_with_charges)
    assert reading.bader is None
    assert "AECCAR0" in reading.bader_refused
    assert reading.frames[-1].energy == pytest.approx(-4.52549041)


def test_charges_that_were_kept_need_no_densities(
    job_with_charges: Path, labeler: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But those of another run, or that cannot be read, count for nothing."""
    found = BaderCharges(np.array([-1.25, 1.25]), np.array([6.0, 16.0]))
    monkeypatch.setattr("al_charge.labelers.bader.from_aeccar", lambda *_: found)
    vasp = labeler(**AS_RECORDED)
    keep_charges(vasp.read(job_with_charges), job_with_charges)
    monkeypatch.undo()
    again = vasp.read(job_with_charges).bader
    assert again is not None
    assert again.net.tolist() == found.net.tolist()
    assert again.electrons.tolist() == found.electrons.tolist()
    kept = job_with_charges / "bader.json"
    for text in (json.dumps(json.loads(kept.read_text()) | {"energy": -4.5}), "{", "{}"):
        kept.write_text(text)
        assert "AECCAR0" in vasp.read(job_with_charges).bader_refused


def _refused(labeler: Make, job: Path, words: str) -> None:
    with pytest.raises(AlChargeError, match=words) as caught:
        labeler(**AS_RECORDED).read(job)
    assert "\n" not in str(caught.value)


def test_custodians_actions_in_words(tmp_path: Path) -> None:
    corrections = [
        {
            "errors": ["zbrent"],
            "handler": {"@class": "VaspErrorHandler"},
            "actions": [
                {"file": "CONTCAR", "action": {"_file_copy": {"dest": "POSCAR"}}},
                {"dict": "INCAR", "action": {"_set": {"IBRION": 1}}},
            ],
        },
        {
            "errors": ["aliasing"],
            "handler": {"@class": "AliasingErrorHandler"},
            "actions": [
                {"dict": "INCAR", "action": {"_unset": {"NGX": 1, "NGY": 1}}},
                {"file": "CHGCAR", "action": {"_file_delete": {"mode": "actual"}}},
            ],
        },
        {"errors": ["Walltime reached"], "handler": {"@class": "WalltimeHandler"}, "actions": None},
    ]
    with gzip.open(tmp_path / "custodian.json.gz", "wt") as log:
        json.dump([{"job": {}, "corrections": corrections}], log)
    attempts = custodian_log.attempts(tmp_path, "static: the geometry itself", "converged")
    assert [(attempt.changed, attempt.outcome) for attempt in attempts] == [
        ("static: the geometry itself", "VaspErrorHandler: zbrent"),
        ("CONTCAR copied to POSCAR, INCAR IBRION = 1", "AliasingErrorHandler: aliasing"),
        (
            "INCAR NGX removed, INCAR NGY removed, CHGCAR removed",
            "WalltimeHandler: Walltime reached",
        ),
    ]


def test_a_run_that_stopped_for_time_is_unfinished(
    recorded_nickel_oxide: Path, tmp_path: Path
) -> None:
    log = [{"corrections": [{"errors": ["Walltime reached"], "handler": {}, "actions": None}]}]
    (tmp_path / "custodian.json").write_text(json.dumps(log))
    text = gzip.decompress((recorded_nickel_oxide / "vasprun.xml.gz").read_bytes()).decode()
    (tmp_path / "vasprun.xml").write_text(text)
    outcar = gzip.decompress((recorded_nickel_oxide / "OUTCAR.gz").read_bytes())
    (tmp_path / "OUTCAR").write_bytes(outcar)
    custodian_log.check_ended(tmp_path)  # it converged in the time that it was left
    # As if the last of its electronic steps had been the last that were allowed.
    steps = text.count("<scstep>")
    text = text.replace('name="NELM">   100', f'name="NELM">   {steps}')
    (tmp_path / "vasprun.xml").write_text(text)
    with pytest.raises(AlChargeError, match="stopped at its time limit"):
        custodian_log.check_ended(tmp_path)


def test_frames_of_earlier_starts_are_read(recorded_nickel_oxide: Path, tmp_path: Path) -> None:
    aside = tmp_path / "interrupted-1"
    aside.mkdir()
    shutil.copy(recorded_nickel_oxide / "vasprun.xml.gz", aside)
    packed = tmp_path / "files"
    packed.mkdir()
    data = gzip.decompress((recorded_nickel_oxide / "vasprun.xml.gz").read_bytes())
    (packed / "vasprun.xml").write_bytes(data)
    shutil.make_archive(str(tmp_path / "error.1"), "gztar", packed)
    (tmp_path / "error.2.tar.gz").write_bytes(b"broken")
    frames = outputs.archived_frames(tmp_path)
    assert [frame.energy for frame in frames] == pytest.approx([-4.52549041] * 2)


def test_reading_is_complete(job: Path, labeler: Make) -> None:
    reading: Reading = labeler(**AS_RECORDED).read(job)
    json.dumps(dict(reading.details))  # goes into the database as it is
    assert reading.bader_refused == "not asked for"
    assert reading.attempts[0].outcome == "converged"
