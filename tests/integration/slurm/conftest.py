"""A Slurm of one's own: its daemons in a folder and on ports that nobody else uses; a MongoDB."""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from al_charge.store.mongod import find_mongod
from al_charge.store.settings import CREDENTIALS_ENV, URI_ENV

TREE = Path(sys.prefix) / "slurm" / "usr"
"""Where `bootstrap.py` unpacks it."""
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
PATIENCE = 60.0
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2
ReturnToService=2
OverTimeLimit=0
KillWait=15
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000
PartitionName=short Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def find(program: str) -> Path | None:
    """Return one of Slurm's programs, whose daemons Debian calls by another name as well."""
    places = os.pathsep.join(
        [str(TREE / "sbin"), str(TREE / "bin"), os.environ["PATH"], "/usr/sbin"]
    )
    found = shutil.which(program, path=places) or shutil.which(f"{program}-wlm", path=places)
    return None if found is None else Path(found)


def missing() -> str:
    """Say what is not here; an empty string if all is."""
    lacking = [program for program in PROGRAMS if find(program) is None]
    return f"there is no {', '.join(lacking)}" if lacking else ""


class Slurm:
    """A cluster with one node of four cores: this machine.

    Parameters
    ----------
    folder
        With a short path, because it holds a socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        programs = {str(path.parent) for path in map(find, PROGRAMS) if path is not None}
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([*sorted(programs), os.environ["PATH"]]),
        }
        self._configuration = CONFIGURATION
        self._slurmd_options: list[str] = []
        for plugins in TREE.glob("lib/*/slurm-wlm"):
            libraries = f"{plugins.parent}:{plugins}"
            self.environment["LD_LIBRARY_PATH"] = libraries
            self._configuration += f"PluginDir={plugins}\n"
            self._slurmd_options = ["-d", str(find("slurmstepd"))]

    def start(self) -> None:
        """Start the daemons, and wait until the node takes jobs."""
        folder = self.folder
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        (folder / "slurm.conf").write_text(
            self._configuration.format(
                host=host, user=getpass.getuser(), ports=_free_ports(2), folder=folder
            )
        )
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        wait_for(lambda: (folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", *self._slurmd_options)
        wait_for(lambda: "idle" in self.run("sinfo", "-h", "-o", "%t", check=False))

    def stop(self) -> None:
        """End every job and every daemon."""
        self.run("scancel", "--user", getpass.getuser(), check=False)
        wait_for(lambda: not self.run("squeue", "-h", check=False).strip())
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def jobs(self, name: str, state: str) -> list[str]:
        """Return the ids of jobs of a name in a state, such as RUNNING."""
        return self.run("squeue", "-h", "-n", name, "-t", state, "-o", "%i").split()

    def run(self, program: str, *arguments: str, check: bool = True) -> str:
        """Run one of Slurm's programs and return what it prints."""
        done = subprocess.run(
            [str(find(program)), *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{program}: {done.stderr}"
        return done.stdout

    def _daemon(self, program: str, *options: str) -> None:
        with (self.folder / f"{program}.out").open("wb") as output:
            self._daemons.append(
                subprocess.Popen(
                    [str(find(program)), *options],
                    env=os.environ | self.environment,
                    stdout=output,
                    stderr=output,
                )
            )


@contextmanager
def mongodb(folder: Path) -> Iterator[dict[str, str]]:
    """Run a MongoDB on TCP with a login, and yield what to set in the environment to use it."""
    data, password = folder / "data", secrets.token_urlsafe(12)
    data.mkdir()
    (port,) = _free_ports(1)
    command = [str(find_mongod()), "--dbpath", str(data)]
    options = ["--auth", "--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"]
    options += ["--fork", "--logpath", str(folder / "mongod.log")]
    subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
    credentials = folder / "credentials.json"
    credentials.touch(mode=0o600)
    credentials.write_text(json.dumps({"username": "worker", "password": password}))
    try:
        # The first user can be made without a login, and makes the other one.
        with MongoClient[dict[str, Any]]("127.0.0.1", port) as client:
            client["admin"].command("createUser", "admin", pwd=password, roles=["root"])
        with MongoClient[dict[str, Any]](
            "127.0.0.1", port, username="admin", password=password
        ) as client:
            client["al_charge"].command("createUser", "worker", pwd=password, roles=["readWrite"])
        yield {
            URI_ENV: f"mongodb://127.0.0.1:{port}/al_charge",
            CREDENTIALS_ENV: str(credentials),
        }
    finally:
        subprocess.run([*command, "--shutdown"], check=True, capture_output=True, timeout=60)


def wait_for(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def slurm() -> Iterator[Slurm]:
    """Run a cluster for one test."""
    if reason := missing():
        pytest.skip(f"{reason}; on Debian 'python3 bootstrap.py test' fetches it")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Slurm(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run a MongoDB for one test, and yield what to set in the environment to use it."""
    with mongodb(tmp_path) as environment:
        yield environment
