"""The engine's process: it ends on time, dies with its worker, and says why it failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from al_charge.errors import AlChargeError
from al_charge.labelers.gpaw import process

SLEEPER = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
"""A stand-in for an engine that hangs, with a child of its own."""

WORKER = """
import pathlib, signal, sys
from al_charge.labelers.gpaw import process
# Whoever runs the tests in the background has SIGINT ignored, and so have their children.
signal.signal(signal.SIGINT, signal.default_int_handler)
sleeper = "import os, pathlib, time; pathlib.Path('pids').write_text(str(os.getpid())); " \
    "time.sleep(600)"
process.run([sys.executable, "-c", sleeper], pathlib.Path(sys.argv[1]), 600)
"""
"""A stand-in for a worker that waits for its engine."""


def run(code: str, directory: Path, timeout: float = 60) -> None:
    """Run a piece of Python in the place of the engine."""
    process.run([sys.executable, "-c", code], directory, timeout)


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
    assert session == pid
    assert int(session) != os.getsid(0)


def test_timeout_leaves_nothing_alive(tmp_path: Path) -> None:
    with pytest.raises(AlChargeError, match=r"output\.log: not finished after 3 s and killed"):
        run(SLEEPER, tmp_path, timeout=3)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
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
        (
            "class KohnShamConvergenceError(Exception): pass\nraise KohnShamConvergenceError",
            "SCF did not converge",
        ),
    ],
)
def test_a_failure_names_its_reason_and_its_log(tmp_path: Path, code: str, reason: str) -> None:
    with pytest.raises(AlChargeError) as caught:
        run(code, tmp_path)
    line = str(caught.value)
    assert reason in line
    assert str(tmp_path / "output.log") in line
    assert "\n" not in line


def test_documents_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    process.write_json(path, {"energy": -1.5})
    assert process.read_json(path) == {"energy": -1.5}
    with pytest.raises(TypeError):
        process.write_json(path, {"energy": object()})
    assert process.read_json(path) == {"energy": -1.5}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", [None, "", '{"energy": -1', "[1, 2]", "\x00\x00"])
def test_unreadable_results_are_failures(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AlChargeError, match="the run left no readable result"):
        process.read_json(path)
