"""Launchers: what FireWorks, the queues and a shell make of every file."""

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
from al_charge.fw.queue_folder import write_launchers
from al_charge.fw.queue_launch import plan_jobs
from al_charge.fw.queue_systems import QUEUE_SYSTEMS, SAVE_SECONDS, WORKSTATION
from al_charge.fw.tasks import CATEGORIES
from al_charge.loop.resources import ResourcesSettings

LAUNCHERS = Path(__file__).parents[2] / "launchers"
JOB = LAUNCHERS / "shared" / "job.sh"
SITES = [*QUEUE_SYSTEMS, WORKSTATION]
with_queue = pytest.mark.parametrize("site", QUEUE_SYSTEMS, indirect=True)
WARNINGS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2]
PROGRAMS = """#!/bin/bash
echo "$OMP_NUM_THREADS $(pwd) $*"
"""


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Write the folder of each kind of site."""
    folder = tmp_path / str(request.param)
    write_launchers(
        LAUNCHERS,
        folder.name,
        folder,
        resources=ResourcesSettings(),
        campaign=None,
        pre_rocket="export LOADED=1",
    )
    return folder


def render(site: Path, category: str, folder: Path) -> str:
    (plan,) = plan_jobs(
        site, "sulphates", ResourcesSettings(), [category], argument="my campaign.yaml"
    )
    script: str = plan.adapter.get_script_str(str(folder))
    return script


@pytest.mark.parametrize("script", sorted(LAUNCHERS.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_executable_bash(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@with_queue
@pytest.mark.parametrize("category", CATEGORIES)
def test_fireworks_renders_every_job(
    site: Path, category: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FireWorks' own tools take the files as they are, from the folder."""
    monkeypatch.chdir(site)
    adapter = CommonAdapter.from_file(str(site / f"my_qadapter_{category}.yaml"))
    script = adapter.get_script_str(str(tmp_path))
    settings = load(site / f"my_qadapter_{category}.yaml")
    assert f"al-charge-{category}" in script
    assert settings["walltime"] in script
    assert "$${" not in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    gpus = r"gpu:1|ngpus=1|num=1|gpu=1"
    assert bool(re.search(gpus, script)) == (category == "gpu")


@with_queue
@pytest.mark.parametrize("category", CATEGORIES)
def test_rendered_job_starts_a_worker_of_its_category(
    site: Path, category: str, tmp_path: Path
) -> None:
    """Run the job with an `al-charge` that only tells how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in = programs / "al-charge"
    stand_in.write_text(PROGRAMS)
    stand_in.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    # Without -l, which would read the profile of whoever runs the tests.
    done = subprocess.run(
        ["bash", "-c", render(site, category, tmp_path)],
        env=kept | {"PATH": f"{programs}:{os.environ['PATH']}"},
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
def test_fworkers_take_their_category(site: Path, category: str) -> None:
    fworker = FWorker.from_file(str(site / f"my_fworker_{category}.yaml"))
    assert fworker.query["spec._category"] == category


def test_heartbeats_are_those_of_the_package() -> None:
    """A side that beats less often than the other expects would be taken for dead."""
    settings = load(LAUNCHERS / "shared" / "FW_config.yaml")
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
        [LAUNCHERS / "shared" / "fireworks.sh", tool, "get_wflows", "-d", "count"],
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
    assert subprocess.run([JOB, "bash", "-c", "exit 7"], check=False).returncode == 7


def test_time_to_save_is_that_of_the_script() -> None:
    assert f"\nsave={SAVE_SECONDS} " in JOB.read_text()


class Job:
    """A running job whose worker has a child; its script waits a second for them to save."""

    def __init__(self, folder: Path, *, ignoring: bool, **environment: str) -> None:
        script = folder / "job.sh"
        script.write_text(re.sub(r"(?m)^save=\d+", "save=1", JOB.read_text()))
        script.chmod(0o755)
        pids = folder / "pids"
        trap = "trap '' TERM; " if ignoring else ""
        worker = f'{trap}sleep 300 & echo "$$ $!" > {pids}.part; mv {pids}.part {pids}; wait'
        self.process = subprocess.Popen(
            [script, "bash", "-c", worker], env=os.environ | environment
        )
        deadline = time.monotonic() + 60
        while not pids.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.children = [psutil.Process(int(pid)) for pid in pids.read_text().split()]

    def ends(self) -> bool:
        """Tell whether it ends as one that was told to, and all its children with it."""
        try:
            if self.process.wait(timeout=60) != 128 + signal.SIGTERM:
                return False
            _, alive = psutil.wait_procs(self.children, timeout=10)
            return not alive
        finally:
            self.process.kill()


@pytest.mark.parametrize("warning", WARNINGS, ids=lambda warning: warning.name)
@pytest.mark.parametrize("ignoring", [False, True], ids=["obeys", "ignores TERM"])
def test_job_ends_with_all_its_children(
    tmp_path: Path, ignoring: bool, warning: signal.Signals
) -> None:
    job = Job(tmp_path, ignoring=ignoring)
    job.process.send_signal(warning)
    assert job.ends()


def test_job_watches_the_clock_where_the_queue_does_not_warn(tmp_path: Path) -> None:
    assert Job(tmp_path, ignoring=False, AL_CHARGE_WALLTIME="00:01:02").ends()


def test_worker_is_told_before_it_is_killed(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    worker = f"trap 'touch {saved}; exit 0' TERM; while :; do sleep 0.1; done"
    job = subprocess.Popen([JOB, "bash", "-c", f"touch {saved}.started; {worker}"])
    try:
        while not Path(f"{saved}.started").exists():
            time.sleep(0.05)
        time.sleep(0.5)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) == 128 + signal.SIGTERM
        assert saved.exists()
    finally:
        job.kill()


def test_workstation_runs_training_apart_from_the_rest(tmp_path: Path) -> None:
    program = tmp_path / "al-charge"
    program.write_text(f'#!/bin/bash\necho "$*" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    done = subprocess.run(
        [LAUNCHERS / WORKSTATION / "workers.sh", "mine.yaml", "3"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 0
    assert set((tmp_path / "calls").read_text().splitlines()) == {
        "worker mine.yaml --category cpu --category dft --processes 3",
        "worker mine.yaml --category gpu",
    }
