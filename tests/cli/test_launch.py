"""`al-charge launch`: what is submitted, what is said, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

HOST = Path(__file__).parents[2] / "workflows" / "hosts" / "NaFePO4.cif"
CAMPAIGN = f"""
name: queued
host: {{structure: {HOST}, working_ion: Na, redox: {{Fe: [2, 3]}}, fixed: {{P: 5, O: -2}}}}
labeler: {{kind: born}}
potential: {{kind: painn}}
resources:
  cpu: {{queue: short, walltime: 2 h}}
"""
PROGRAMS = {
    "sbatch": '[[ -e $QUEUE/away ]] && { echo "sbatch: error: no partition" >&2; exit 1; }\n'
    'echo job >> "$QUEUE/jobs"; cat "$1" > "$QUEUE/script"; echo "Submitted batch job 7"',
    "squeue": 'sed "s/.*/PENDING/" "$QUEUE/jobs" 2>/dev/null\n'
    'grep -s RUNNING "$QUEUE/last" && echo >> "$QUEUE/looks"\n'
    '[[ $(wc -l < "$QUEUE/looks") = 4 ]] 2>/dev/null && rm -f "$QUEUE/last"; exit 0',
}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def campaign(
    run: Run, mongodb_client: MongoClient[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Submit a campaign to the embedded database and write a site's folder beside it."""
    file = tmp_path_factory.mktemp("campaign") / "queued.yaml"
    file.write_text(CAMPAIGN)
    assert run("campaign", "submit", str(file))[0] == 0
    assert run("launchers", "new", "slurm", str(file.parent / "site"))[0] == 0
    yield file
    mongodb_client.drop_database("al_charge")


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for a queue whose jobs all wait."""
    programs, folder = tmp_path / "bin", tmp_path / "queue"
    for made in (programs, folder):
        made.mkdir()
    for name, lines in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{lines}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(folder))
    return folder


@pytest.fixture
def launch(run: Run, campaign: Path, queue: Path) -> Run:
    """Return a function that launches the campaign's file, or what it is given."""

    def call(*options: str, what: str = str(campaign)) -> tuple[int, str, str]:
        return run("launch", what, "--site", str(campaign.parent / "site"), *options)

    return call


def test_queue_is_filled_once(launch: Run, queue: Path, campaign: Path) -> None:
    code, out, err = launch("--once", "--category", "cpu", "--jobs", "2")
    assert (code, out) == (0, "")
    assert "running; cpu: 0 running, 2 waiting" in err
    assert "dft" not in err
    assert len((queue / "jobs").read_text().split()) == 2
    script = (queue / "script").read_text()
    assert "#SBATCH --partition=short" in script
    assert "#SBATCH --time=02:00:00" in script
    assert f"export AL_CHARGE_CAMPAIGN={campaign}" in script


def test_name_of_a_campaign_takes_what_the_folder_says(launch: Run, queue: Path) -> None:
    assert launch("--once", what="queued")[0] == 0
    script = (queue / "script").read_text()
    assert "--partition" not in script
    assert "#SBATCH --time=04:00:00" in script
    assert "export AL_CHARGE_CAMPAIGN=queued" in script


def test_campaign_that_is_not_there_is_refused(launch: Run, queue: Path) -> None:
    code, _, err = launch(what="queud")
    assert code == 2
    assert "did you mean 'queued'?" in err
    assert not (queue / "jobs").exists()


def test_queue_that_refuses_the_first_job_ends_it(launch: Run, queue: Path) -> None:
    (queue / "away").touch()
    code, _, err = launch()
    assert code == 1
    assert err.splitlines()[-1].endswith(
        "the queue refused a job of 'cpu': sbatch: error: no partition"
    )


def test_it_goes_on_when_the_queue_is_back_and_leaves_jobs_alone(launch: Run, queue: Path) -> None:
    """The queue goes away after the first job; later somebody presses Ctrl-C."""
    jobs, away = queue / "jobs", queue / "away"

    def disturb() -> None:
        while not jobs.exists():
            time.sleep(0.05)
        away.touch()
        jobs.unlink()
        time.sleep(2.5)
        away.unlink()
        while not jobs.exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        code, _, err = launch("--interval", "1")
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert code == 1
    assert "trying again: the queue refused a job" in err
    assert err.splitlines()[-1] == "al-charge: jobs stay in the queue; the same command continues"
    assert jobs.exists()


def test_campaign_that_is_paused_ends_it(
    launch: Run, run: Run, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("campaign", "pause", "queued")[0] == 0
    code, _, err = launch()
    assert code == 0
    assert err.splitlines()[-1] == "al-charge: campaign 'queued' is paused"
    # The last job is waited for, so that the ledger has its end; not for ever.
    for patience, looks in ((60.0, 4), (-1.0, 3)):
        (queue / "last").write_text("RUNNING")
        (queue / "looks").write_text("")
        monkeypatch.setattr("al_charge.cli.launch.LAST_JOBS", patience)
        assert launch("--interval", "1")[0] == 0
        assert (queue / "looks").read_text() == looks * "\n"
