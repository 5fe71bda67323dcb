"""Backups of a running campaign: each one, restored elsewhere, is continued to the same hull."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from al_charge.fw.tasks import CATEGORIES
from al_charge.fw.worker import work
from al_charge.store.backup.make import make_backup
from al_charge.store.embedded import HOME_ENV, EmbeddedServer

TIME_LIMIT = 600.0
RESTORED = 2
"""Backups that are restored and continued, of those made while the campaign ran."""
ROUNDING = 1e-6
"""eV. Not bit for bit: libraries may add the same numbers in another order in another process."""
CAMPAIGN = """
name: kept
host:
  structure: {structure}
  working_ion: Na
  redox: {{Fe: [2, 3]}}
  fixed: {{P: 5, O: -2}}
labeler: {{kind: born, fmax: 0.1 eV/A}}
potential: {{kind: painn, cutoff: 4 A, channels: 8, layers: 1}}
committee: {{size: 2}}
training: {{epochs: 3, checkpoint_every: 2}}
relaxation: {{max_steps: 10}}
search: {{evaluations: 4, seeds: 3}}
acquisition: {{first_round: 5, labels_per_round: 3}}
convergence: {{rounds: 2, max_labels: 8}}
"""


class Site:
    """One machine's home folder, with its embedded server."""

    def __init__(self, folder: Path, run_here: Callable[..., tuple[int, str, str]]) -> None:
        self.home = folder
        self.run_here = run_here
        self.environment = os.environ | {HOME_ENV: str(folder), "OMP_NUM_THREADS": "1"}

    def run(self, *arguments: str) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(HOME_ENV, str(self.home))
            code, out, err = self.run_here(*arguments)
        assert code == 0, f"{arguments}: {err}"
        return out

    def worker(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "al_charge", "worker", "kept", "--processes", "2"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def go_on(self) -> None:
        """Work in this process, which has imported everything, until nothing is left to do."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(HOME_ENV, str(self.home))
            work(None, "kept", self.home / "runs", categories=CATEGORIES, until_idle=True)

    def outcome(self) -> dict[str, Any]:
        """Return what the campaign found, and what it cost."""
        hull = json.loads(self.run("hull", "kept", "--json"))
        status = json.loads(self.run("campaign", "status", "kept", "--json"))
        assert status["labels_requested_twice"] == 0
        entries = [
            (entry["x"], entry["hash"], pytest.approx(entry["energy_per_formula"], abs=ROUNDING))
            for entry in hull["entries"]
        ]
        vertices = [vertex["hash"] for vertex in hull["vertices"]]
        rounds = [record["selected"] for record in status["rounds"]]
        return {
            "state": (status["state"], status["reason"]),
            "labels": status["labels_used"],
            "rounds": rounds,
            "vertices": vertices,
            "entries": entries,
        }


def back_up_again_and_again(
    site: Site, worker: subprocess.Popen[str], folder: Path, rng: random.Random
) -> list[Path]:
    """Make backups until the worker ends, each as slow as that of a large database."""
    made: list[Path] = []
    uri = EmbeddedServer(site.home).start().uri("al_charge")
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        while worker.poll() is None:
            longest = rng.choice([0.0, 0.1, 0.4])

            def dawdle(name: str, done: int, total: int, longest: float = longest) -> None:
                if done == 0:
                    time.sleep(rng.uniform(0.0, longest))

            made.append(folder / f"{len(made)}.zip")
            make_backup(client["al_charge"], made[-1], dawdle)
            time.sleep(1.0)
    return made


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.timeout(2 * TIME_LIMIT)
def test_a_running_campaign_is_restored_and_continued(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    structure = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
    file = tmp_path / "campaign.yaml"
    file.write_text(CAMPAIGN.format(structure=structure), encoding="utf-8")
    rng = random.Random(5)
    first = Site(tmp_path / "first", run)
    sites = [first]
    try:
        first.run("campaign", "submit", str(file))
        with first.worker() as worker:
            made = back_up_again_and_again(first, worker, tmp_path, rng)
            _, complaints = worker.communicate(timeout=TIME_LIMIT)
        assert worker.returncode == 0, complaints
        undisturbed = first.outcome()
        for backup in rng.sample(made, min(RESTORED, len(made))):
            other = Site(tmp_path / backup.stem, run)
            sites.append(other)
            other.run("db", "restore", str(backup))
            other.run("campaign", "resume", "kept")
            other.go_on()
            assert other.outcome() == undisturbed
            other.run("db", "stop")
    finally:
        for site in sites:
            site.run("db", "stop")
