"""Engines whose workers are killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from al_charge.labelers.dft.job_folder import MARK


def running_in(folder: Path) -> list[psutil.Process]:
    """Return what an engine in a folder has started and has not ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.environ().get(MARK) == str(folder.resolve())
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_all_but_engines(worker: subprocess.Popen[bytes], engine: str) -> None:
    """Kill a worker with -9, and all between it and its engines.

    Engines, and what starts them, are those whose command line has a word.
    """
    family = psutil.Process(worker.pid).children(recursive=True)
    engines = [one for one in family if engine in " ".join(one.cmdline())]
    guards = [one for one in engines if any("guard.py" in word for word in one.cmdline())]
    doomed = [one for one in family if one not in engines or one in guards]
    doomed.append(psutil.Process(worker.pid))
    for one in doomed:  # none sees another die
        one.suspend()
    for one in doomed:
        one.kill()
    worker.wait(20)


@pytest.fixture
def left_in() -> Callable[[Path], list[psutil.Process]]:
    """Give tests `running_in`."""
    return running_in


@pytest.fixture
def leave_engines() -> Callable[[subprocess.Popen[bytes], str], None]:
    """Give tests `kill_all_but_engines`."""
    return kill_all_but_engines
