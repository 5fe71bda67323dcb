"""A separate installation to disturb: home folder, embedded server and a small campaign."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

NAME = "kills"
ENDED = ("converged", "sampled", "exhausted")
ROUNDING = 1e-6
"""Largest difference, eV: libraries may add numbers in another order in another process."""

TIME_LIMIT = 900.0
"""Seconds for the whole campaign."""

CAMPAIGN = f"""
name: {NAME}
host:
  structure: {{structure}}
  working_ion: Na
  redox: {{{{Fe: [2, 3]}}}}
  fixed: {{{{P: 5, O: -2}}}}
labeler: {{{{kind: born}}}}
potential: {{{{kind: painn, cutoff: 4 A, channels: 8}}}}
committee: {{{{size: 2}}}}
training: {{{{epochs: 4, checkpoint_every: 1}}}}
relaxation: {{{{max_steps: 10}}}}
search: {{{{evaluations: 4, seeds: 3}}}}
acquisition: {{{{first_round: 5, labels_per_round: 2}}}}
convergence: {{{{rounds: 2, max_labels: 9}}}}
"""


class Site:
    """A small campaign with everything that it needs, in one folder.

    Parameters
    ----------
    folder
        For the home folder and the campaign file; made where there is none.
    structure
        CIF of the olivine host.
    program
        What runs al-charge; `python -m al_charge` with this Python by default.
    environment
        Variables besides those of this process.
    """

    def __init__(
        self,
        folder: Path,
        structure: Path,
        program: Sequence[str] = (sys.executable, "-m", "al_charge"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.home = folder / "home"
        self.program = list(program)
        self.environment = {
            **os.environ,
            "AL_CHARGE_HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "campaign.yaml"
        self.file.write_text(CAMPAIGN.format(structure=structure), encoding="utf-8")
        self.log = folder / "workers.log"
        self.worker: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> str:
        """Run a command that has to succeed.

        Parameters
        ----------
        *arguments
            Arguments of al-charge.

        Returns
        -------
        str
            What the command printed.
        """
        done = subprocess.run(
            [*self.program, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """Return the campaign's status.

        Returns
        -------
        dict
            What ``al-charge campaign status --json`` prints.
        """
        document: dict[str, Any] = json.loads(self.run("campaign", "status", NAME, "--json"))
        return document

    def start_worker(self, **environment: str) -> None:
        """Start a worker with two processes, in a session of its own.

        Parameters
        ----------
        **environment
            Further environment variables.
        """
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen(
                [*self.program, "worker", NAME, "--processes", "2"],
                env=self.environment | environment,
                start_new_session=True,
                stdout=log,
                stderr=log,
            )

    def victims(self) -> dict[str, list[int]]:
        """Return the processes that may be killed now.

        Returns
        -------
        dict
            Process ids of the ``worker`` (the parent), its ``child`` processes and ``mongod``.
        """
        found: dict[str, list[int]] = {"worker": [], "child": [], "mongod": []}
        if self.worker is not None and self.worker.poll() is None:
            found["worker"].append(self.worker.pid)
            children = psutil.Process(self.worker.pid).children(recursive=True)
            found["child"] += [child.pid for child in children if "spawn_main" in _line(child)]
        found["mongod"] += [
            process.pid
            for process in psutil.process_iter()
            if "mongod" in _line(process) and str(self.home) in _line(process)
        ]
        return found

    def finish(self) -> dict[str, Any]:
        """Let the campaign end undisturbed.

        Returns
        -------
        dict
            Its hull.
        """
        deadline = time.monotonic() + TIME_LIMIT
        while self.status()["state"] not in ENDED:
            assert time.monotonic() < deadline, "the campaign did not end"
            self.end_worker()
            self.run("campaign", "resume", NAME)
            self.start_worker()
            assert self.worker is not None
            self.worker.wait(timeout=TIME_LIMIT)
        return self.hull()

    def hull(self) -> dict[str, Any]:
        """Return the campaign's hull.

        Returns
        -------
        dict
            What ``al-charge hull --json`` prints, but for the time at which it was asked.
        """
        document: dict[str, Any] = json.loads(self.run("hull", NAME, "--json"))
        del document["time"]
        return document

    def differences(self, calm: Site) -> list[str]:
        """Compare the campaign's end with that of an undisturbed one.

        Parameters
        ----------
        calm
            Site of the undisturbed campaign.

        Returns
        -------
        list of str
            Each difference in a sentence; empty if both ended alike.
        """
        status, other = self.status(), calm.status()
        found = []
        if status["labels_requested_twice"]:
            found.append(f"{status['labels_requested_twice']} labels made twice")
        if status["labels_used"] != other["labels_used"]:
            found.append(f"{status['labels_used']} labels, not {other['labels_used']}")
        # Those in other spin states are made and not used.
        if status["labels_made"] > other["labels_made"]:
            found.append(f"{status['labels_made']} labels made, not {other['labels_made']}")
        (facts, numbers), (calm_facts, calm_numbers) = _split(self.hull()), _split(calm.hull())
        if facts != calm_facts or numbers.keys() != calm_numbers.keys():
            found.append("another hull")
        apart = [key for key, value in numbers.items() if not _same(value, calm_numbers.get(key))]
        return found + [f"hull{key} is {numbers[key]}" for key in apart]

    def end_worker(self) -> None:
        """Kill the worker processes and their parent."""
        if self.worker is not None:
            if self.worker.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait(timeout=30)
            self.worker = None

    def stop(self) -> None:
        """End everything that runs."""
        self.end_worker()
        self.run("db", "stop")


def _same(value: float, other: float | None) -> bool:
    return other is not None and abs(value - other) <= ROUNDING


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _split(hull: object, where: str = "") -> tuple[dict[str, object], dict[str, float]]:
    """Return the entries of a document that are not floats, and those that are, by place."""
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
