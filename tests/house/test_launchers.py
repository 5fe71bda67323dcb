"""Launchers: what FireWorks and Slurm make of every file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from fireworks import FWorker, fw_config
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

import al_charge.fw

ROOT = Path(__file__).parents[2]
LAUNCHERS = ROOT / "launchers"
SLURM = LAUNCHERS / "slurm"
CATEGORIES = ("cpu", "dft", "gpu")


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def render(category: str, folder: Path) -> str:
    adapter = CommonAdapter.from_file(str(SLURM / f"my_qadapter_{category}.yaml"))
    script: str = adapter.get_script_str(str(folder))
    return script


@pytest.mark.parametrize("script", sorted(LAUNCHERS.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_executable_bash(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("category", CATEGORIES)
def test_slurm_job_asks_for_what_the_adapter_says(category: str, tmp_path: Path) -> None:
    script = render(category, tmp_path)
    settings = load(SLURM / f"my_qadapter_{category}.yaml")
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", script, re.MULTILINE))
    assert directives["job-name"] == f"al-charge-{category}"
    assert directives["time"] == settings["walltime"]
    assert directives["cpus-per-task"] == str(settings["cpus_per_task"])
    assert directives["signal"].startswith("B:TERM@")
    assert ("gres" in directives) == (category == "gpu")
    assert "$${" not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize("category", CATEGORIES)
def test_rendered_job_starts_a_worker_of_its_category(category: str, tmp_path: Path) -> None:
    """Run the job with an `al-charge` that only tells how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in = programs / "al-charge"
    stand_in.write_text('#!/bin/bash\necho "$OMP_NUM_THREADS $(pwd) $*"\n')
    stand_in.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "AL_CHARGE_LAUNCHERS": str(SLURM),
        "AL_CHARGE_CAMPAIGN": "my campaign.yaml",
    }
    # Without -l, which would read the profile of whoever runs the tests.
    done = subprocess.run(
        ["bash", "-c", render(category, tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    threads, folder, *arguments = done.stdout.split()
    assert (threads, folder) == ("1", str(tmp_path))
    text = " ".join(arguments)
    assert text.startswith(f"worker my campaign.yaml --category {category} ")
    assert text.endswith("--until-idle")


@pytest.mark.parametrize("category", CATEGORIES)
def test_fworkers_take_their_category(category: str) -> None:
    fworker = FWorker.from_file(str(SLURM / f"my_fworker_{category}.yaml"))
    assert fworker.query["spec._category"] == category


def test_workstation_takes_every_category() -> None:
    fworker = FWorker.from_file(str(LAUNCHERS / "workstation" / "my_fworker.yaml"))
    assert fworker.query["spec._category"] == {"$in": list(CATEGORIES)}
    assert fworker.env["runs"]


@pytest.mark.parametrize("site", ["slurm", "workstation"])
def test_heartbeats_are_those_of_the_package(site: str) -> None:
    """A side that beats less often than the other expects would be taken for dead."""
    settings = load(LAUNCHERS / site / "FW_config.yaml")
    assert set(settings) <= set(fw_config.config_to_dict())
    packaged = load(Path(al_charge.fw.__file__).with_name("FW_config.yaml"))
    for name in ("PING_TIME_SECS", "RUN_EXPIRATION_SECS", "WFLOCK_EXPIRATION_SECS"):
        assert settings[name] == packaged[name]
    assert settings["RUN_EXPIRATION_SECS"] >= 3 * settings["PING_TIME_SECS"]


def test_fireworks_tools_get_a_launchpad_that_is_gone_afterwards(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text(
        '#!/bin/bash\necho "$2"; stat -c %a "$(dirname "$2")"; cat "$2"; echo "${@:3}"\n'
    )
    tool.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AL_CHARGE_DATABASE": "mongodb://db.example.org:27017/al_charge",
        "AL_CHARGE_DATABASE_USER": "worker",
        "AL_CHARGE_DATABASE_PASSWORD": 'p: "a$s/s',
    }
    done = subprocess.run(
        [LAUNCHERS / "fireworks.sh", tool, "get_wflows", "-d", "count"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    path, mode, *content, arguments = done.stdout.splitlines()
    settings = yaml.safe_load("\n".join(content))
    assert not Path(path).parent.exists()
    assert (mode, arguments) == ("700", "get_wflows -d count")
    assert settings["uri_mode"] is True
    assert settings["name"] == "al_charge"
    assert settings["host"].startswith("mongodb://worker:p%3A+%22a%24s%2Fs@db.example.org:27017/")
    assert "journal=true" in settings["host"]


def test_job_passes_the_exit_code_on() -> None:
    assert subprocess.run([SLURM / "job.sh", "bash", "-c", "exit 7"], check=False).returncode == 7


@pytest.mark.parametrize("ignoring", [False, True], ids=["obeys", "ignores TERM"])
def test_job_ends_with_all_its_children(tmp_path: Path, ignoring: bool) -> None:
    pids = tmp_path / "pids"
    trap = "trap '' TERM; " if ignoring else ""
    worker = f'{trap}sleep 300 & echo "$$ $!" > {pids}.part; mv {pids}.part {pids}; wait'
    job = subprocess.Popen([SLURM / "job.sh", "bash", "-c", worker])
    try:
        deadline = time.monotonic() + 60
        while not pids.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
        job.send_signal(signal.SIGTERM)
        assert job.wait(timeout=60) == 143
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    finally:
        job.kill()
