"""A job of VASP in a process of its own: its time, signals, and what dies with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase import Atoms

from al_charge.errors import AlChargeError, InputError, NotInstalledError
from al_charge.labelers.dft import process
from al_charge.labelers.files import write_json
from al_charge.labelers.plugin import LABELERS
from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp import run, stages
from al_charge.labelers.vasp.labeler import VaspLabeler
from al_charge.labelers.vasp.settings import VaspSettings

# pymatgen, inside custodian, about POTCARs that are headers only, and about runs that fail.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

Make = Callable[..., VaspLabeler]


def test_a_job_runs_in_a_process_of_its_own(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    standin.tell(energy=-4.0, moments=[1.7, 0.2], check={"static": {"NUPDOWN": "2.0"}})
    vasp = labeler()
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    vasp.run(tmp_path / "job")
    reading = vasp.read(tmp_path / "job")
    assert standin.starts() == ["static"]
    assert reading.engine == "VASP 6.9.9"
    assert reading.cores == 2
    assert reading.wall_time >= 7.0
    assert reading.converged
    assert reading.unusable == ""
    # sigma -> 0, which the stand-in has 1 meV above the free energy
    assert reading.frames[-1].energy == pytest.approx(-3.999)
    assert reading.details["free_energy"] == pytest.approx(-4.0)
    assert reading.moments is not None
    assert reading.moments.tolist() == [0.2, 1.7]  # oxygen is the first atom of the job
    assert vasp.audit(reading, ["O2-", "Ni2+"], None).species == ("O2-", "Ni2+")
    vasp.run(tmp_path / "job")  # a job that has ended is not run again
    assert standin.starts() == ["static"]
    assert not (tmp_path / "job" / "static" / "WAVECAR").exists()


def test_time_that_is_up_ends_the_run_and_vasp_with_it(
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "GRACE", 1.0)
    standin.tell(faults={"static": ["hang"]})
    vasp = labeler(timeout="25 s")
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    with pytest.raises(AlChargeError, match="not finished after 25 s"):
        vasp.run(tmp_path / "job")
    assert standin.starts() == ["static"]
    _wait_for_end(standin.last_process())


def test_told_to_stop_vasp_stops_in_order_and_goes_on_when_run_again(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    standin.tell(faults={"static": ["until STOPCAR"]})
    labeler().prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path / "job"), "vasp_std"], stderr=-1
    )
    try:
        end = time.monotonic() + 120
        while not standin.starts() and time.monotonic() < end:
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=100)
    finally:
        worker.kill()
    assert b"UnfinishedError" in said
    assert "LABORT" in (tmp_path / "job" / "static" / "STOPCAR").read_text()
    assert not (tmp_path / "job" / "failure.json").exists()
    labeler().run(tmp_path / "job")
    assert standin.starts() == ["static", "static"]
    assert labeler().read(tmp_path / "job").converged
    assert not (tmp_path / "job" / "static" / "STOPCAR").exists()


WORKER = """
import sys
from pathlib import Path
from al_charge.labelers.vasp.settings import VaspSettings
from al_charge.labelers.vasp.labeler import VaspLabeler
settings = VaspSettings(verify_potcars=False, bader=False, command=sys.argv[2])
VaspLabeler(settings).run(Path(sys.argv[1]))
"""


def start(standin: Any, job: Path, command: str) -> subprocess.Popen[bytes]:
    """Start a worker, and wait for its VASP."""
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(job), command])
    end = time.monotonic() + 120
    while not standin.starts() and time.monotonic() < end:
        time.sleep(0.1)
    return worker


def wrapper(folder: Path) -> str:
    """Write a script between VASP and its guard, and return its command."""
    (folder / "launch").write_text("#!/bin/sh\nvasp_std; true\n")
    (folder / "launch").chmod(0o755)
    return str(folder / "launch")


def test_vasp_dies_with_its_worker(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    standin.tell(faults={"static": ["hang"]})
    labeler().prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    worker = start(standin, tmp_path / "job", wrapper(tmp_path))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    _wait_for_end(standin.last_process())


@pytest.mark.parametrize("launcher", ["wrapper", "mpiexec"])
def test_vasp_that_was_left_behind_is_ended_by_the_next_start_which_makes_the_same_label(
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    leave_engines: Callable[..., None],
    left_in: Callable[[Path], list[psutil.Process]],
    launcher: str,
) -> None:
    """Worker, guards and custodian were all killed with -9."""
    if launcher == "mpiexec" and shutil.which("mpiexec") is None:
        pytest.skip("there is no MPI")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    command = wrapper(tmp_path) if launcher == "wrapper" else "mpiexec -n 1 vasp_std"
    vasp, job, calm = labeler(command=command), tmp_path / "job", tmp_path / "calm"
    standin.tell(remembers=1.0)
    vasp.prepare(nickel_oxide, calm, relax=Relax.NONE, attempt=0)
    write_json(calm / stages.LAUNCH, vasp._launch())
    run.run_stages(calm)
    (notes := tmp_path / "notes").mkdir()
    standin.tell(remembers=1.0, faults={"static": ["hang"]}, notes=str(notes))
    vasp.prepare(nickel_oxide, job, relax=Relax.NONE, attempt=0)
    leave_engines(start(standin, job, command), "vasp_std")
    assert standin.last_process() in [process.pid for process in left_in(job)]
    vasp.run(job)
    assert left_in(job) == []
    assert list(notes.iterdir()) == []  # of engines beside each other
    assert standin.starts() == ["static", "static"]
    found, undisturbed = vasp.read(job), vasp.read(calm)
    assert found.frames[-1].energy == undisturbed.frames[-1].energy
    assert np.array_equal(found.moments, undisturbed.moments)


def _wait_for_end(pid: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("VASP was left behind")


def test_a_missing_program_is_told(
    potcars: Path,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vasp = labeler(command="srun_of_a_cluster vasp_std")
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    with pytest.raises(InputError, match="there is no srun_of_a_cluster on PATH") as caught:
        vasp.run(tmp_path / "job")
    assert caught.value.remedy
    plugin = LABELERS.get("vasp")
    with pytest.raises(NotInstalledError, match="there is no srun_of_a_cluster on PATH"):
        plugin.check_machine(VaspSettings(command="srun_of_a_cluster vasp_std"))
    plugin.check_machine(VaspSettings(command=f"{sys.executable} vasp_std"))
