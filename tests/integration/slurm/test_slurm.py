"""A campaign that runs through a real Slurm, and loses jobs there, ends like one left alone."""

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

import pytest
from pymongo import MongoClient

from al_charge.store.settings import CREDENTIALS_ENV, URI_ENV
from al_charge.testing.site import Site

SMALL = ("rounds: 2, max_labels: 16", "rounds: 1, max_labels: 10")
RESOURCES = """
resources:
  cpu: {{cores: 1, processes: 1, walltime: 10 min, queue: short, jobs: 1}}
  dft: {{cores: 1, processes: 1, walltime: {walltime}, queue: short, jobs: {jobs}}}
  gpu: {{cores: 1, processes: 1, walltime: 10 min, queue: short, jobs: 2, gpus: 0}}
"""
SLOW = """
import os, time
from pathlib import Path

if Path(os.environ["AL_CHARGE_TEST_SLOW"]).exists():
    from al_charge.labelers.born.labeler import BornLabeler

    run = BornLabeler.run

    def slow(self, folder):
        while Path(os.environ["AL_CHARGE_TEST_SLOW"]).exists():
            time.sleep(0.1)
        return run(self, folder)

    BornLabeler.run = slow
"""
"""Labels take for ever while a file is there."""
PATIENCE = 300.0
TIME_LIMIT = 600.0


class Cluster:
    """A home folder whose campaign runs through Slurm."""

    def __init__(self, home: Site, slurm: Any, slow: Path) -> None:
        self.home = home
        self.slurm = slurm
        self.slow = slow
        self.folder = home.file.parent
        self.site = self.folder / "site"
        self.text = home.file.read_text()
        self.output = self.folder / "launch.out"
        self.launcher: subprocess.Popen[bytes] | None = None

    def ask_for(self, *, walltime: str, jobs: int) -> None:
        """Say in the campaign file what jobs ask for."""
        self.home.file.write_text(self.text + RESOURCES.format(walltime=walltime, jobs=jobs))

    def launch(self) -> None:
        """Start `al-charge launch`."""
        with self.output.open("ab") as output:
            self.launcher = subprocess.Popen(
                [
                    *(sys.executable, "-m", "al_charge", "launch", str(self.home.file)),
                    *("--site", str(self.site), "--interval", "1"),
                ],
                env=self.home.environment,
                stdout=output,
                stderr=output,
                # Whoever runs the tests in the background may ignore Ctrl-C, and so would it.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        assert self.launcher is not None
        self.launcher.send_signal(signal.SIGINT)
        assert self.launcher.wait(timeout=PATIENCE) == 1

    def labelling_job(self, limit: str) -> str:
        """Wait until a job of this walltime works on a label, and return its id."""
        found: list[str] = []

        def look() -> bool:
            form = ("-h", "-n", "dft-kills", "-t", "RUNNING", "-o", "%l %i")
            jobs = [line.split() for line in self.slurm.run("squeue", *form).splitlines()]
            found[:] = [job for walltime, job in jobs if walltime == limit]
            return bool(found) and self.labelling()

        self.wait_for(look)
        return found[0]

    def labelling(self) -> bool:
        """Tell whether a label is being made."""
        name = self.home.environment[CREDENTIALS_ENV]
        login = json.loads(Path(name).read_text())
        with MongoClient[dict[str, Any]](self.home.environment[URI_ENV], **login) as client:
            running = {"state": "RUNNING", "spec._category": "dft"}
            return client["al_charge"]["fireworks"].count_documents(running) > 0

    def wait_until_gone(self, job: str) -> str:
        """Wait until a job has left the queue, and return what Slurm's log says of it."""
        self.wait_for(lambda: job not in self.slurm.run("squeue", "-h", "-o", "%i").split())
        log: str = (self.slurm.folder / "slurmctld.log").read_text()
        return "\n".join(line for line in log.splitlines() if f"JobId={job} " in line)

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something holds, as long as the launcher runs or has been interrupted."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            said = self.output.read_text()
            assert time.monotonic() < deadline, said
            assert self.launcher is not None and self.launcher.poll() in (None, 1), said
            time.sleep(0.5)

    def files(self) -> str:
        """Return the content of all files of jobs, of Slurm and of the launcher."""
        folders = (self.home.home, self.slurm.folder, self.site)
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return "\n".join(path.read_text(errors="replace") for path in [*paths, self.output])

    def stop(self) -> None:
        """End the launcher."""
        self.slow.unlink(missing_ok=True)
        if self.launcher is not None and self.launcher.poll() is None:
            self.launcher.kill()
            self.launcher.wait()


@pytest.fixture
def cluster(
    make_site: Callable[[str], Site], slurm: Any, server: dict[str, str], tmp_path: Path
) -> Iterator[Cluster]:
    """Make a home folder whose jobs take the database on TCP, with labels that can be slow."""
    home = make_site("cluster")
    slow = tmp_path / "slow"
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(SLOW)
    paths = [str(tmp_path / "patch"), *filter(None, [os.environ.get("PYTHONPATH")])]
    home.environment |= server | slurm.environment
    home.environment |= {"PYTHONPATH": os.pathsep.join(paths), "AL_CHARGE_TEST_SLOW": str(slow)}
    home.file.write_text(home.file.read_text().replace(*SMALL))
    made = Cluster(home, slurm, slow)
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.mongod
@pytest.mark.timeout(2 * TIME_LIMIT)
def test_campaign_through_slurm_ends_at_the_same_hull(
    make_site: Callable[[str], Site], cluster: Cluster, server: dict[str, str]
) -> None:
    calm = make_site("calm")
    calm.file.write_text(calm.file.read_text().replace(*SMALL))
    calm.run("campaign", "submit", str(calm.file))
    calm.start_worker()

    home, slurm = cluster.home, cluster.slurm
    cluster.ask_for(walltime="1 min", jobs=1)
    home.run("campaign", "submit", str(home.file))
    home.run("launchers", "new", "slurm", str(cluster.site))
    found = json.loads(home.run("launchers", "check", str(cluster.site), "--json"))
    assert found["level"] in ("ok", "warning")
    adapter = cluster.site / "my_qadapter_dft.yaml"
    adapter.write_text(adapter.read_text().replace("B:TERM@240", "B:TERM@5"))

    cluster.slow.touch()
    cluster.launch()
    warned = cluster.labelling_job("1:00")
    assert "WEXITSTATUS 143" in cluster.wait_until_gone(warned)
    cluster.interrupt()

    cluster.ask_for(walltime="10 min", jobs=2)
    cluster.launch()
    cancelled = cluster.labelling_job("10:00")
    cluster.interrupt()
    assert cancelled in slurm.jobs("dft-kills", "RUNNING")
    slurm.run("scancel", cancelled)
    cluster.wait_until_gone(cancelled)

    cluster.slow.unlink()
    cluster.launch()
    assert cluster.launcher is not None
    assert cluster.launcher.wait(timeout=TIME_LIMIT) == 0, cluster.output.read_text()
    assert calm.worker is not None
    assert calm.worker.wait(timeout=TIME_LIMIT) == 0
    assert home.differences(calm) == []
    jobs = home.home / "jobs" / "kills"
    for category in ("cpu", "dft", "gpu"):
        assert list((jobs / category).glob(f"{category}-kills-*.out"))
    password = json.loads(Path(server[CREDENTIALS_ENV]).read_text())["password"]
    assert password not in cluster.files()
