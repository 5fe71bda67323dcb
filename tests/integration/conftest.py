"""A whole installation of its own: home folder, embedded server, and one small campaign."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

VICTIMS = ("worker", "child", "mongod")
ENDED = ("converged", "exhausted")
ROUNDING = 1e-6
"""eV. Not bit for bit: libraries may add the same numbers in another order in another process."""
TIME_LIMIT = 900.0
CAMPAIGN = """
name: kills
host:
  structure: {structure}
  working_ion: Na
  redox: {{Fe: [2, 3]}}
  fixed: {{P: 5, O: -2}}
labeler: {{kind: born}}
potential: {{kind: painn, cutoff: 4 A, channels: 8}}
training: {{epochs: 10, checkpoint_every: 2}}
search: {{evaluations: 6, seeds: 4}}
acquisition: {{first_round: 7, labels_per_round: 3}}
convergence: {{rounds: 2, max_labels: 16}}
"""


class Site:
    """One machine's home folder, with its embedded server and one campaign."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | {
            "AL_CHARGE_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
        }
        structure = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
        folder.mkdir()
        self.file = folder / "campaign.yaml"
        self.file.write_text(CAMPAIGN.format(structure=structure), encoding="utf-8")
        self.worker: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "al_charge", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("campaign", "status", "kills", "--json"))
        return document

    def start_worker(self) -> None:
        self.worker = subprocess.Popen(
            [sys.executable, "-m", "al_charge", "worker", "kills", "--processes", "2"],
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def victims(self) -> dict[str, list[int]]:
        """Return the process ids that may be killed now, by kind."""
        found: dict[str, list[int]] = {kind: [] for kind in VICTIMS}
        if self.worker is not None and self.worker.poll() is None:
            found["worker"].append(self.worker.pid)
            children = psutil.Process(self.worker.pid).children(recursive=True)
            found["child"] += [child.pid for child in children if "spawn_main" in _line(child)]
        home = self.environment["AL_CHARGE_HOME"]
        found["mongod"] += [
            process.pid
            for process in psutil.process_iter()
            if "mongod" in _line(process) and home in _line(process)
        ]
        return found

    def finish(self) -> dict[str, Any]:
        """Let the campaign end in peace and return its hull."""
        deadline = time.monotonic() + TIME_LIMIT
        while self.status()["state"] not in ENDED:
            assert time.monotonic() < deadline, "the campaign did not end"
            self.end_worker()
            self.run("campaign", "resume", "kills")
            self.start_worker()
            assert self.worker is not None
            self.worker.wait(timeout=TIME_LIMIT)
        return self.hull()

    def hull(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("hull", "kills", "--json"))
        return document

    def ended_like(self, calm: Site) -> bool:
        """Return whether the campaign has the end of another: its hull, and no label twice."""
        status, other = self.status(), calm.status()
        assert status["labels_requested_twice"] == 0
        assert status["labels_used"] == other["labels_used"]
        assert status["labels_made"] <= status["labels_used"]
        (facts, numbers), (calm_facts, calm_numbers) = _split(self.hull()), _split(calm.hull())
        assert facts == calm_facts
        assert numbers and numbers == pytest.approx(calm_numbers, abs=ROUNDING)
        return True

    def end_worker(self) -> None:
        if self.worker is not None:
            if self.worker.poll() is None:
                os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait(timeout=30)
            self.worker = None

    def stop(self) -> None:
        self.end_worker()
        self.run("db", "stop")


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _split(hull: object, where: str = "") -> tuple[dict[str, object], dict[str, float]]:
    """Return the entries of a document that are no real numbers, and those that are, by place."""
    if isinstance(hull, float):
        return {}, {where: hull}
    if not isinstance(hull, dict | list):
        return {where: hull}, {}
    facts: dict[str, object] = {}
    numbers: dict[str, float] = {}
    for key, value in hull.items() if isinstance(hull, dict) else enumerate(hull):
        inner = _split(value, f"{where}.{key}")
        facts |= inner[0]
        numbers |= inner[1]
    return facts, numbers


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Make sites by name; all of them are stopped in the end."""
    sites: list[Site] = []

    def make(name: str) -> Site:
        sites.append(Site(tmp_path / name))
        return sites[-1]

    yield make
    for site in sites:
        site.stop()
