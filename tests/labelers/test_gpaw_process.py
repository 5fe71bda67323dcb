"""The engine's process: it ends on time, dies with its worker, and says why it failed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from al_charge.errors import AlChargeError, CrashedError, UnfinishedError
from al_charge.labelers.dft import job_folder, process
from al_charge.labelers.gpaw.journal import NO_SCF
from al_charge.stopping import SIGNALS, TOLD_TO_END

SLEEPER = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
"""A stand-in for an engine that hangs, with a child of its own."""

WORKER = """
import pathlib, signal, sys
from al_charge.labelers.dft import process
# Whoever runs the tests in the background has SIGINT ignored, and so have their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
sleeper = "import os, pathlib, time; pathlib.Path('pids').write_text(str(os.getpid())); " \
    "time.sleep(600)"
process.run([sys.executable, "-c", sleeper], pathlib.Path(sys.argv[1]), 600)
"""
"""A stand-in for a worker that waits for its engine."""


def run(code: str, directory: Path, timeout: float = 60, error_prefix: str = "") -> None:
    """Run a piece of Python in the place of the engine."""
    process.run([sys.executable, "-c", code], directory, timeout, error_prefix=error_prefix)


def alive(pid: int) -> bool:
    """Return whether a process is there and is more than an entry that waits to be collected."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: object, seconds: float = 20) -> bool:
    """Return whether a condition came true in time."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_it_runs_in_the_folder_on_one_thread_in_its_own_session(tmp_path: Path) -> None:
    run(
        "import os, pathlib; pathlib.Path('seen').write_text("
        "f\"{os.environ['OMP_NUM_THREADS']} {os.getsid(0)} {os.getpid()}\")",
        tmp_path,
    )
    threads, session, pid = (tmp_path / "seen").read_text().split()
    assert threads == "1"
    assert session != pid  # that of its guard
    assert int(session) != os.getsid(0)


def test_timeout_leaves_nothing_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.5)
    with pytest.raises(AlChargeError, match=r"output\.log: not finished after 3 s, and killed"):
        run(SLEEPER, tmp_path, timeout=3)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_it_dies_with_its_worker(tmp_path: Path, sent: signal.Signals) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)], stderr=subprocess.DEVNULL
    )
    try:
        assert wait_until(lambda: (tmp_path / "pids").is_file() and pid_in(tmp_path) is not None)
        engine = pid_in(tmp_path)
        assert engine is not None
        assert alive(engine)
    finally:
        worker.send_signal(sent)
        worker.wait(20)
    assert wait_until(lambda: not alive(engine))


DETACHED = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)", "engine"]
subprocess.Popen(sleep, start_new_session=True)
time.sleep(600)
"""
"""A stand-in for ``mpiexec``, whose ranks have sessions of their own."""

PARENT = """
import pathlib, sys
from al_charge.labelers.dft import process
process.GRACE = 0.5
process.run(sys.argv[2:], pathlib.Path(sys.argv[1]), 600)
"""


def engines(directory: Path) -> list[int]:
    """Return the processes that run for an engine in a folder, its guard among them."""
    mark = f"{job_folder.MARK}={directory.resolve()}".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in environ.read_bytes().split(b"\0"):
                found.append(int(environ.parent.name))
    return [pid for pid in found if alive(pid)]


def launchers() -> list[Any]:
    """Return commands that start an engine without becoming it."""
    mpi = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "2", "sleep", "600"]
    skip = pytest.mark.skipif(shutil.which("mpiexec") is None, reason="there is no MPI")
    return [
        pytest.param(["sh", "-c", "sleep 600; true"], 3, id="wrapper"),
        pytest.param([sys.executable, "-c", DETACHED], 3, id="sessions"),
        pytest.param(mpi, 4, id="mpiexec", marks=skip),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux makes orphans the guard's")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(("command", "processes"), launchers())
def test_no_engine_outlives_its_worker_behind_a_launcher(
    tmp_path: Path, command: list[str], processes: int, sent: signal.Signals
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), *command], stderr=subprocess.DEVNULL
    )
    try:
        assert wait_until(lambda: len(engines(tmp_path)) >= processes)
    finally:
        worker.send_signal(sent)
        worker.wait(30)
    assert wait_until(lambda: not engines(tmp_path), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems hide environments")
@pytest.mark.parametrize("killed", ["guard", "worker and guard"])
def test_what_outlived_a_killed_guard_is_ended_by_the_next_worker(
    tmp_path: Path, killed: str
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), *launchers()[1].values[0]]
    )
    assert wait_until(lambda: len(engines(tmp_path)) >= 3)
    before = engines(tmp_path)
    if killed != "guard":
        worker.send_signal(signal.SIGSTOP)  # it must not tidy up itself
    guard = json.loads((tmp_path / job_folder.LOCK).read_text())
    assert guard["pid"] == worker.pid
    (child,) = psutil.Process(worker.pid).children()
    child.kill()
    if killed != "guard":
        worker.kill()
    worker.wait(20)
    if killed != "guard":
        assert any(map(alive, before))
    run("import os; assert not os.path.exists('stop')", tmp_path)
    assert wait_until(lambda: not any(map(alive, before)), 5)


def test_two_engines_never_run_in_one_folder(tmp_path: Path) -> None:
    engine = "import os, pathlib, time; pathlib.Path('pids').write_text('1'); time.sleep(1.5)"
    code = f"import os; os.path.exists('pids') and open('met', 'w'); {engine}; os.remove('pids')"
    worker = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), sys.executable, "-c", code]
    )
    assert wait_until(lambda: (tmp_path / "pids").exists())
    run(code, tmp_path)
    assert worker.wait(20) == 0
    assert not (tmp_path / "met").exists()
    assert (tmp_path / job_folder.LOCK).read_text() == ""


def foreign(directory: Path, **changes: Any) -> None:
    """Leave the lock of an engine on another machine."""
    holder = {"host": "node9", "pid": 1, "created": 0.0, "since": "2026", "token": "a"} | changes
    (directory / job_folder.LOCK).write_text(json.dumps(holder))


def test_the_lock_of_a_lost_node_is_taken_over_when_it_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_folder, "SILENCE", 1.0)
    foreign(tmp_path)
    beats = 4
    for number in range(beats):  # as long as it shows signs of life, we wait
        threading.Timer(0.4 * number, os.utime, (tmp_path / job_folder.LOCK,)).start()
    began = time.monotonic()
    run("pass", tmp_path)
    assert time.monotonic() - began > 0.4 * (beats - 1) + 1.0


def test_an_engine_whose_folder_was_taken_over_ends(tmp_path: Path) -> None:
    """As when a lost node comes back: another machine has made the lock its own."""
    timer = threading.Timer(1.5, foreign, (tmp_path,))
    timer.start()
    with pytest.raises(UnfinishedError):
        run("import time; time.sleep(600)", tmp_path)
    assert "another engine has taken this folder over" in (tmp_path / "output.log").read_text()
    assert json.loads((tmp_path / job_folder.LOCK).read_text())["host"] == "node9"


def test_a_worker_that_is_told_to_end_waits_no_longer(tmp_path: Path) -> None:
    foreign(tmp_path)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(
        UnfinishedError, match=r"another engine was running there \(node9, process 1"
    ):
        run("open('begun', 'w')", tmp_path)
    assert not (tmp_path / "begun").exists()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"host": 3}', '{"host": "HERE", "pid": "x"}'])
def test_a_damaged_lock_holds_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setattr(job_folder, "SILENCE", 0.2)
    (tmp_path / job_folder.LOCK).write_text(left.replace("HERE", socket.gethostname()))
    run("pass", tmp_path)


def pid_in(directory: Path) -> int | None:
    """Return the process id that a stand-in wrote, None while it has written none."""
    text = (directory / "pids").read_text()
    return int(text) if text else None


def test_children_that_outlive_a_failed_engine_are_ended(tmp_path: Path) -> None:
    with pytest.raises(AlChargeError, match="exit status 3"):
        run(SLEEPER.replace("time.sleep(600)\n", "sys.exit(3)\n"), tmp_path)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ValueError('Bad basis for Fe')", "ValueError: Bad basis for Fe"),
        ("raise OSError('not found\\n\\nsee there')", "OSError: not found see there"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("print('no traceback'); raise SystemExit(4)", "no traceback"),
        ("raise SystemExit(4)", "exit status 4"),
    ],
)
def test_a_failure_names_its_reason_and_its_log(tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(AlChargeError) as caught:
        run(code, tmp_path)
    line = str(caught.value)
    assert reason in line
    assert str(tmp_path / "output.log") in line
    assert "\n" not in line


HEEDING = """
import pathlib, sys, time
pathlib.Path("started").touch()
while not pathlib.Path("stop").exists():
    time.sleep(0.05)
sys.exit(75)
"""
"""A stand-in for an engine that stops where it can be continued when it is asked to."""


def test_an_engine_that_stops_in_time_is_not_killed(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedError) as caught:
        run(HEEDING, tmp_path, timeout=1)
    assert "not finished after 1 s, and stopped at a saved state" in str(caught.value)
    assert "run it again to continue from the last saved state" in str(caught.value)


def test_the_request_to_stop_is_gone_when_it_runs_again(tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    run("import os; assert not os.path.exists('stop')", tmp_path)


@pytest.mark.parametrize("sent", SIGNALS)
def test_a_worker_that_is_told_to_stop_lets_its_engine_save(
    tmp_path: Path, sent: signal.Signals
) -> None:
    code = f"import pathlib\nfrom al_charge.labelers.dft import process\nengine = {HEEDING!r}\n"
    code += "process.run([sys.executable, '-c', engine], pathlib.Path(sys.argv[1]), 600)"
    worker = subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{code}", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert wait_until(lambda: (tmp_path / "started").exists())
        worker.send_signal(sent)
        _, said = worker.communicate(timeout=60)
    finally:
        worker.kill()
    assert "UnfinishedError" in said
    assert "asked to stop, and stopped at a saved state" in said


def test_an_engine_that_was_told_to_end_by_others(tmp_path: Path) -> None:
    with pytest.raises(UnfinishedError, match="asked to stop, and stopped at a saved state"):
        run("raise SystemExit(75)", tmp_path)


def test_the_end_of_a_batch_job_stops_the_engine_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", "")
    assert process.time_left() == float("inf")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 1000))
    assert 800 < process.time_left() < 830
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 10))
    with pytest.raises(UnfinishedError, match="no time left"):
        run("pass", tmp_path)
    monkeypatch.setattr(process, "GRACE", 5.0)
    monkeypatch.setattr(process, "MARGIN", 4.0)
    with pytest.raises(AlChargeError, match="stopped at a saved state"):
        run(HEEDING, tmp_path)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("raise SystemExit(137)", "killed by SIGKILL"),
        ("raise SystemExit(0)", "exit status 0"),
        ("print('mpiexec: rank 0 exited on signal 11'); raise SystemExit(1)", "signal 11"),
        ("print('srun: task 1: Terminated'); print('Killed'); raise SystemExit(1)", "Killed"),
        ("print('Killed', *range(99), sep='\\n'); raise SystemExit(6)", "exit status 6: 98"),
        ("raise SystemExit(4)", "exit status 4"),
        ("raise OSError(5, 'Input/output error')", "OSError: .*Input/output error"),
        ("raise MemoryError('no 9 GiB')", "MemoryError: no 9 GiB"),
        ("import numpy as np; np.zeros((10**8, 10**8))", "_ArrayMemoryError"),
        ("import no_such_library", "ModuleNotFoundError"),
        ("from al_charge.errors import CrashedError; raise CrashedError('cut')", "CrashedError"),
    ],
)
def test_what_is_no_verdict_of_the_engine(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(CrashedError, match=says):
        process.run([sys.executable, "-c", code], tmp_path, 60, result="result.json")


@pytest.mark.parametrize("status", [0, 1])
def test_what_the_engine_says_of_itself_is_a_verdict(tmp_path: Path, status: int) -> None:
    """Also behind a launcher that hides the exit status, and that says more than the engine."""
    code = f"print('{NO_SCF} (...)'); print('killed by signal 9'); raise SystemExit({status})"
    with pytest.raises(AlChargeError, match=NO_SCF) as caught:
        process.run([sys.executable, "-c", code], tmp_path, 60, error_prefix=NO_SCF, result="no")
    assert type(caught.value) is AlChargeError
    with pytest.raises(AlChargeError, match="ValueError: Bad basis") as caught:
        run("raise ValueError('Bad basis for Fe')", tmp_path)
    assert type(caught.value) is AlChargeError


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import os, signal; signal.signal(2, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)",
        "import os, signal; os.kill(os.getpid(), signal.SIGXCPU)",
        "raise SystemExit(143)",
        "print('slurmstepd: error: *** STEP 3.0 ON n1 CANCELLED AT 2026-11-29T12:00:00 ***');"
        "raise SystemExit(1)",
        "print('srun: error: Node failure on n1'); raise SystemExit(1)",
        "print('srun: error: n1: task 0: Terminated')",
        "print('mpirun noticed that process rank 0 exited on signal 15 (Terminated).');"
        "raise SystemExit(1)",
    ],
)
def test_an_engine_that_a_queue_has_ended_is_unfinished(tmp_path: Path, code: str) -> None:
    with pytest.raises(UnfinishedError, match="asked to stop"):
        process.run([sys.executable, "-c", code], tmp_path, 60, result="result.json")


@pytest.mark.parametrize("ends", ["raise SystemExit(1)", "os.kill(os.getpid(), 9)", "pass"])
def test_an_engine_that_ends_with_its_worker_is_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """A batch system tells both at once, and the engine may be the first to act."""
    code = f"import os; {ends}; os._exit(0)"
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    real = process.subprocess.Popen.wait

    def wait(child: Any, timeout: float | None = None) -> int:
        status = real(child, timeout)
        if not timer.ident:
            timer.start()
        return status

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # should it come too late
    monkeypatch.setattr(process.subprocess.Popen, "wait", wait)
    with pytest.raises(UnfinishedError, match="asked to stop"):
        process.run([sys.executable, "-c", code], tmp_path, 60, result="result.json")
    timer.join()
    signal.signal(signal.SIGTERM, before)
    assert TOLD_TO_END.is_set()
    with pytest.raises(UnfinishedError, match="this process was asked to stop"):
        run("open('begun', 'w')", tmp_path)
    assert not (tmp_path / "begun").exists()


def test_an_engine_that_came_to_its_end_while_the_worker_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result counts; the worker begins nothing more."""
    code = f"import os, signal, time; os.kill({os.getpid()}, signal.SIGTERM); time.sleep(0.1)"
    run(code, tmp_path)
    assert TOLD_TO_END.is_set()


def test_the_attempts_are_told_whatever_mpi_says_last(tmp_path: Path) -> None:
    code = "print('SCF did not converge after 4 attempts (...)'); print('mpiexec: bye'); exit(1)"
    with pytest.raises(AlChargeError, match="SCF did not converge after 4 attempts"):
        run(code, tmp_path, error_prefix=NO_SCF)
    with pytest.raises(CrashedError, match="mpiexec: bye"):
        run(code, tmp_path)
