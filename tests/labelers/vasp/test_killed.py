"""A VASP that is killed, however its launcher tells it, is a crash and never a verdict."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.host import Host
from al_charge.errors import AlChargeError, CrashedError, UnfinishedError
from al_charge.labelers.files import write_json
from al_charge.labelers.protocol import Reading, Relax
from al_charge.labelers.vasp import custodian_log, run, stages
from al_charge.labelers.vasp.labeler import VaspLabeler

# pymatgen, inside custodian, about POTCARs that are headers only, and about runs that fail.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

Make = Callable[..., VaspLabeler]
Fill = Callable[[Host, int], Atoms]


@pytest.fixture
def half_filled(olivine: Host, fill: Fill) -> Atoms:
    """Two Fe2+ and two Fe3+ on ideal sites, so that a stage steers the charge order."""
    return fill(olivine, 2)


def label(labeler: VaspLabeler, atoms: Atoms, folder: Path, relax: Relax = Relax.NONE) -> Reading:
    """Prepare, run in this process, and read."""
    labeler.prepare(atoms, folder, relax=relax, attempt=0)
    write_json(folder / stages.LAUNCH, labeler._launch())
    run.run_stages(folder)
    return labeler.read(folder)


@pytest.fixture(scope="class")
def undisturbed() -> dict[str, Reading]:
    """Labels of the class that were left alone, by what was labelled."""
    return {}


def same(one: Reading, other: Reading) -> bool:
    """Tell whether two labels are the same."""
    assert one.moments is not None and other.moments is not None
    last, first = one.frames[-1], other.frames[-1]
    return (
        last.energy == pytest.approx(first.energy, abs=1e-7)
        and np.allclose(last.positions, first.positions, atol=1e-6)
        and np.array_equal(one.moments, other.moments)
        and one.details["start"] == other.details["start"]
    )


class TestMixedCell:
    """A cell whose energy depends on where its electrons began."""

    @pytest.mark.parametrize("fault", ["SIGKILL", "cut off", "in WAVECAR"])
    def test_it_is_tried_again_at_the_same_step_with_the_same_steering(
        self,
        lasting_standin: Any,
        labeler: Make,
        half_filled: Atoms,
        undisturbed: dict[str, Reading],
        tmp_path: Path,
        fault: str,
    ) -> None:
        vasp = labeler()
        if not undisturbed:
            lasting_standin.tell(remembers=1.0)
            undisturbed["calm"] = label(vasp, half_filled, tmp_path / "calm")
        lasting_standin.tell(remembers=1.0, faults={"start": [fault], "static": [fault]})
        for _ in range(2):
            with pytest.raises(CrashedError, match="VASP did not finish"):
                label(vasp, half_filled, tmp_path / "job")
        assert same(label(vasp, half_filled, tmp_path / "job"), undisturbed["calm"])
        # The stage that steers is repeated only where what it had left is lost.
        again = ["start"] if fault == "in WAVECAR" else []
        assert lasting_standin.starts() == ["start", "start", "static", *again, "static"]

    def test_the_stand_in_tells_a_label_that_began_elsewhere(
        self, lasting_standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
    ) -> None:
        """Else the tests above would show nothing."""
        lasting_standin.tell(remembers=1.0)
        steered = label(labeler(), half_filled, tmp_path / "steered")
        plain = label(labeler(shell_distortion="0 A"), half_filled, tmp_path / "plain")
        assert not same(steered, plain)

    def test_a_relaxation_goes_on_from_its_last_geometry(
        self, lasting_standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
    ) -> None:
        lasting_standin.tell(faults={"static": ["in WAVECAR"]})
        with pytest.raises(CrashedError):
            label(labeler(), half_filled, tmp_path / "job", Relax.IONS)
        relaxed = (tmp_path / "job" / "relax" / "CONTCAR").read_text()
        found = label(labeler(), half_filled, tmp_path / "job", Relax.IONS)
        assert lasting_standin.starts() == ["start", "relax", "static"] * 2
        assert (tmp_path / "job" / "relax" / "POSCAR").read_text() == relaxed
        assert found.converged


def launcher(folder: Path, name: str, text: str) -> str:
    """Write a script that starts VASP, and return its command."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vasp_std\nexit 0", r"\(exit status 0"),
        ("vasp_std", "killed by SIGKILL"),
        ("vasp_std | cat", r"\(exit status 0"),
        ("echo 'EXIT CODE: 9'; vasp_std || exit 9", r"\(exit status 9: .*Killed"),
        ("exit 127", r"\(exit status 127"),
    ],
    ids=["hides it", "passes it on", "a pipe", "as Hydra", "never started"],
)
def test_launchers_tell_a_kill_in_many_ways(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path, text: str, says: str
) -> None:
    standin.tell(faults={"static": ["SIGKILL"]})
    vasp = labeler(command=launcher(tmp_path, "launch", text))
    with pytest.raises(CrashedError, match=says):
        label(vasp, nickel_oxide, tmp_path / "job")


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="there is no MPI")
def test_a_rank_that_is_killed_under_mpi(
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    vasp = labeler(command="mpiexec -n 1 vasp_std")
    standin.tell(moments=[1.7, 0.2], faults={"static": ["SIGSEGV", "SIGTERM"]})
    with pytest.raises(CrashedError, match=r"SIGSEGV|signal 11"):
        label(vasp, nickel_oxide, tmp_path / "job")
    with pytest.raises(UnfinishedError, match="VASP was asked to stop"):
        label(vasp, nickel_oxide, tmp_path / "job")
    assert label(vasp, nickel_oxide, tmp_path / "job").converged


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("exec vasp_std", "killed by SIGTERM"),
        ("vasp_std\nexit 143", "killed by SIGTERM"),
        (
            "vasp_std\necho 'slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-29T12:00:00"
            " DUE TO PREEMPTION ***' >&2\nexit 1",
            "DUE TO PREEMPTION",
        ),
    ],
)
def test_what_a_queue_ends_is_unfinished(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path, text: str, says: str
) -> None:
    standin.tell(faults={"static": ["SIGTERM"]})
    vasp = labeler(command=launcher(tmp_path, "launch", text))
    with pytest.raises(UnfinishedError, match=says):
        label(vasp, nickel_oxide, tmp_path / "job")


def test_killed_when_it_was_asked_to_stop_it_is_unfinished(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    """The batch system's patience ended before VASP's step did."""
    (tmp_path / "job").mkdir()
    standin.tell(faults={"static": ["SIGKILL"]})
    vasp = labeler()
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    (tmp_path / "job" / "stop").touch()
    with pytest.raises(UnfinishedError, match="VASP was asked to stop"):
        label(vasp, nickel_oxide, tmp_path / "job")


@pytest.mark.parametrize("fault", ["die", "disk full", "truncate", "in OUTCAR", "SIGSEGV"])
def test_what_a_run_time_system_says_is_kept(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path, fault: str
) -> None:
    words = {"die": "SIGSEGV", "disk full": "No space left", "SIGSEGV": "killed by SIGSEGV"}
    standin.tell(faults={"static": [fault]})
    with pytest.raises(CrashedError, match=words.get(fault, "exit status 0")) as caught:
        label(labeler(), nickel_oxide, tmp_path / "job")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "job" / "static") in str(caught.value)


def test_what_vasp_refuses_is_a_verdict(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    text = "echo '|  ----> I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!! <----  |'; exit 1"
    vasp = labeler(command=launcher(tmp_path, "launch", text))
    with pytest.raises(AlChargeError, match="I REFUSE TO CONTINUE") as caught:
        label(vasp, nickel_oxide, tmp_path / "job")
    assert not isinstance(caught.value, CrashedError)


def test_an_error_that_custodian_knows_is_corrected_although_vasp_died_of_it(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    text = (
        "test -f once && exec vasp_std\ntouch once\n"
        "echo 'BRMIX: very serious problems'; kill -ABRT $$"
    )
    standin.tell(moments=[1.7, 0.2])
    vasp = labeler(command=launcher(tmp_path, "launch", text))
    found = label(vasp, nickel_oxide, tmp_path / "job")
    assert [one.outcome for one in found.attempts] == ["VaspErrorHandler: brmix", "converged"]


@pytest.mark.parametrize(
    ("errors", "crashed"),
    [(["Frozen job"], True), (["out_of_memory"], True), (["zbrent"], False), ([], False)],
)
def test_reasons_of_the_machine(tmp_path: Path, errors: list[str], crashed: bool) -> None:
    correction = {"errors": errors or ["zbrent", "out_of_memory"], "actions": None, "handler": "H"}
    (tmp_path / "custodian.json").write_text(json.dumps([{"corrections": [correction]}]))
    found = custodian_log.failure(tmp_path, RuntimeError("Unrecoverable"))
    assert isinstance(found, CrashedError) is crashed


def test_progress_is_what_another_start_continues_from(
    standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
) -> None:
    vasp, job = labeler(), tmp_path / "job"
    assert vasp.progress(job) == 0
    standin.tell(faults={"start": ["SIGKILL", "SIGTERM"], "static": ["SIGTERM"]})
    seen = []
    for _ in range(3):
        with pytest.raises((CrashedError, UnfinishedError)):
            label(vasp, half_filled, job)
        seen.append(vasp.progress(job))
    assert seen[0] == seen[1] == 0  # nothing was saved
    assert seen[2] > 0  # the stage before has ended
    label(vasp, half_filled, job)
    assert vasp.progress(job) > seen[2]


def test_a_worker_that_ended_without_a_word_was_killed(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path, monkeypatch: Any
) -> None:
    """Also where it was no signal, but for example Python that cannot be loaded."""
    vasp = labeler()
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "/bin/false")
    with pytest.raises(CrashedError):
        vasp.run(tmp_path / "job")


def test_a_handler_that_trips_over_a_file_is_no_verdict(
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from custodian.vasp.handlers import UnconvergedErrorHandler

    def trip(*_: Any, **__: Any) -> bool:
        raise IndexError("list index out of range")

    monkeypatch.setattr(UnconvergedErrorHandler, "check", trip)
    with pytest.raises(CrashedError, match="IndexError: list index out of range"):
        label(labeler(), nickel_oxide, tmp_path / "job")
    assert Path.cwd() != tmp_path / "job" / "static"
