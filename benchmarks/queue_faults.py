"""One campaign on a real Slurm, whose jobs are ended again and again in the middle of their tasks.

    python benchmarks/queue_faults.py FOLDER [--interruptions 20]

Tasks of each kind (propose, select, label with a stand-in for VASP, other spin states, the metal,
train, assess) are interrupted in each way: by `scancel`, by the end of their walltime, and by the
node, which goes down and comes back. `al-charge launch` keeps jobs in the queue; nobody helps. The
campaign has to end as one that was left alone, and its ledger has to agree with what Slurm has
written of its jobs. Prints a table and writes ``FOLDER/queue_faults.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from engine_faults import folders_of_engines, parts_of_engines
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table
from stand_ins import LABELERS, install, of_tests

from al_charge.cli.campaign_file import templates_folder
from al_charge.store.settings import CREDENTIALS_ENV, URI_ENV
from al_charge.testing.site import Site

KINDS = ("metal", "explore", "label", "propose", "select", "train", "assess")
ENGINES = ("metal", "explore", "label")
"""Kinds that are interrupted while their engine runs."""
WAYS = ("scancel", "node down", "walltime")
RESOURCES = """
resources:
  cpu: {cores: 1, processes: 1, walltime: 10 min, queue: short, jobs: 1}
  dft: {cores: 1, processes: 1, walltime: 10 min, queue: short, jobs: 2}
  gpu: {cores: 1, processes: 1, walltime: 10 min, queue: short, jobs: 1, gpus: 0}
"""
PATIENCE = 600.0
"""s, in which the next interruption has to be possible."""


class Cluster:
    """A campaign on a Slurm."""

    def __init__(self, site: Site, slurm: Any, hold: Path) -> None:
        self.site, self.slurm, self.hold = site, slurm, hold
        login = json.loads(Path(site.environment[CREDENTIALS_ENV]).read_text(encoding="utf-8"))
        self.client = MongoClient[dict[str, Any]](site.environment[URI_ENV], **login)
        self.database = self.client["al_charge"]
        self.launcher: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start `al-charge launch`."""
        folder = self.site.file.parent
        options = ["--site", str(folder / "site"), "--interval", "1"]
        with (folder / "launch.log").open("ab") as log:
            self.launcher = subprocess.Popen(
                [*self.site.program, "launch", str(self.site.file), *options],
                env=self.site.environment,
                stdout=log,
                stderr=log,
            )

    def hold_only(self, kinds: set[str]) -> None:
        """Let tasks of some kinds wait, or their engines compute, and all others go on."""
        wanted = {f"engine-{kind}" if kind in ENGINES else kind for kind in kinds}
        for path in self.hold.iterdir():
            if path.name not in wanted:
                path.unlink()
        for name in wanted:
            (self.hold / name).touch()

    def running(self) -> dict[str, tuple[str, int]]:
        """Return a job and the round for each kind of task that runs now."""
        found = {}
        jobs = self.slurm.run("squeue", "-h", "-t", "RUNNING", "-o", "%i").split()
        engines = folders_of_engines(self.site)
        for entry in self.database["ledger"].find({"ended": None, "task": {"$ne": ""}}):
            kind, _, which = entry["task"].partition(" ")
            folder = f"round-{entry['round']:03d}/{kind}-{which:0>3s}"
            if which == "metal":
                kind, folder = which, f"round-{entry['round']:03d}/{which}"
            job = entry["job"].removeprefix("slurm ")
            computes = kind not in ENGINES or any(folder in one for one in engines)
            if job in jobs and computes:
                found[kind] = (job, entry["round"])
        return found

    def interrupt(self, job: str, way: str) -> None:
        """End a job, and wait for its end."""
        node = socket.gethostname().partition(".")[0]
        change = ("update", f"NodeName={node}")
        if way == "scancel":
            self.slurm.run("scancel", job)
        elif way == "walltime":
            used = self.slurm.run("squeue", "-h", "-j", job, "-o", "%M").strip()
            minutes = int(used.split(":")[-2]) + 1
            self.slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
        else:
            self.slurm.run("scontrol", *change, "State=DOWN", "Reason=test")
        # A job that Slurm begins again has the same id.
        self.wait(
            lambda: job not in self.slurm.run("squeue", "-h", "-t", "R,CG", "-o", "%i").split()
        )
        if way == "node down":
            time.sleep(3.0)
            # It may be back already: it says itself that it is well.
            self.slurm.run("scontrol", *change, "State=RESUME", check=False)

    def wait(self, condition: Any) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)


def disturb(cluster: Cluster, interruptions: int) -> list[dict[str, Any]]:
    """Interrupt tasks of each kind in each way; return what was done."""
    left = {kind: [*WAYS[n % 3 :], *WAYS[: n % 3]] for n, kind in enumerate(KINDS)}
    done: list[dict[str, Any]] = []
    seen: set[tuple[int, str]] = set()
    newest, deadline = 0, time.monotonic() + PATIENCE
    while any(left.values()) and len(done) < interruptions and time.monotonic() < deadline:
        newest = max([newest, *cluster.database["rounds"].distinct("number")])
        # Short tasks are interrupted once in a round, and so are other tasks each time.
        wanted = {
            kind
            for kind, ways in left.items()
            if ways and (kind in ENGINES or (newest, kind) not in seen)
        }
        cluster.hold_only(wanted)
        ended = cluster.launcher is None or cluster.launcher.poll() is not None
        if ended:
            break
        running = {kind: at for kind, at in cluster.running().items() if kind in wanted}
        if not running:
            time.sleep(0.3)
            continue
        kind = min(running, key=KINDS.index)
        job, number = running[kind]
        way = left[kind].pop()
        began = time.monotonic()
        cluster.interrupt(job, way)
        seen.add((number, kind))
        done.append({"kind": kind, "way": way, "round": number, "job": job})
        print(f"{time.strftime('%X')} {kind}, {way}: {time.monotonic() - began:.0f} s", flush=True)
        deadline = time.monotonic() + PATIENCE
    cluster.hold_only(set())
    return done


def charged(slurm: Any) -> dict[str, float]:
    """Return the seconds that Slurm has charged, by job: as it began and ended each time."""
    seconds: Counter[str] = Counter()
    text = (slurm.folder / "ended").read_text(encoding="utf-8")
    for line in text.splitlines():
        told = dict(re.findall(r"(\w+)=(\S*)", line))
        if "Unknown" in (told["StartTime"], told["EndTime"]):
            continue
        begin, end = (datetime.fromisoformat(told[name]) for name in ("StartTime", "EndTime"))
        seconds[told["JobId"]] += (end - begin).total_seconds()
    return seconds


def judge(cluster: Cluster, calm: Site, done: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the campaign with the undisturbed one, and its ledger with Slurm's accounting."""
    site, database = cluster.site, cluster.database
    wrong = site.differences(calm)
    wrong += [f"given up: {one['reason']}" for one in database["failures"].find()]
    made = Counter(one["key"] for one in database["attempts"].find({"outcome": "made"}))
    wrong += [f"made {times} times: {key}" for key, times in made.items() if times > 1]
    wrong += [f"{one} was left running" for one in parts_of_engines(site)]
    notes = site.file.parent / "notes"
    wrong += [path.name for path in notes.iterdir()]  # two engines in a folder
    ledger: Counter[str] = Counter()
    for entry in database["ledger"].find({"task": ""}):
        if entry["ended"] is None:
            wrong.append(f"an entry of {entry['job']} is open")
            continue
        ledger[entry["job"].removeprefix("slurm ")] += (
            entry["ended"] - entry["started"]
        ).total_seconds()
    slurm = charged(cluster.slurm)
    return {
        "interruptions": done,
        "attempts": dict(Counter(one["outcome"] for one in database["attempts"].find())),
        "labels": sum(made.values()),
        "jobs": len(slurm),
        "slurm_seconds": sum(slurm.values()),
        "ledger_seconds": sum(ledger.values()),
        "by_job": {job: [seconds, ledger[job]] for job, seconds in slurm.items()},
        "wrong": wrong,
    }


def show(found: dict[str, Any]) -> None:
    """Print how often which tasks were interrupted, and the sums."""
    table = Table("task", *WAYS)
    often = Counter((one["kind"], one["way"]) for one in found["interruptions"])
    for kind in KINDS:
        table.add_row(kind, *[str(often[kind, way]) for way in WAYS])
    console = Console()
    console.print(table)
    slurm, ledger = found["slurm_seconds"], found["ledger_seconds"]
    console.print(
        f"{len(found['interruptions'])} interruptions, {found['labels']} labels, attempts: "
        f"{found['attempts']}; {found['jobs']} jobs: {slurm:.0f} s by Slurm, {ledger:.0f} s by the "
        f"ledger ({100 * (ledger / slurm - 1):+.2f} %)"
    )
    console.print("\n".join(found["wrong"]) or "it ended as the undisturbed campaign")


def new_site(folder: Path, environment: dict[str, str], hold: Path | None, seconds: float) -> Site:
    """Make a site with a stand-in for VASP, and write its campaign file."""
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    engine = install("vasp", folder / "engine", folder / "notes", {}, seconds=seconds, hold=hold)
    program = [sys.executable, str(Path(__file__).with_name("faulty_worker.py"))]
    structure = templates_folder() / "hosts" / "NaFePO4.cif"
    site = Site(folder, structure, program, environment | engine.environment)
    text = site.file.read_text(encoding="utf-8")
    site.file.write_text(text.replace(LABELERS["born"], engine.labeler), encoding="utf-8")
    return site


def on_slurm(folder: Path, slurm: Any, server: dict[str, str]) -> Cluster:
    """Submit a campaign whose jobs go to a Slurm."""
    hold = folder / "hold"
    hold.mkdir()
    environment = server | slurm.environment | {"FAULT_HOLD": str(hold)}
    site = new_site(folder / "slurm", environment, hold, 2.0)
    path = os.pathsep.join([site.environment["PATH"], slurm.environment["PATH"]])
    site.environment["PATH"] = path  # its first folder is that of the stand-in
    program = site.file.parent / "engine" / "al-charge"  # what jobs start
    program.write_text(f'#!/bin/sh\nexec {" ".join(site.program)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    site.file.write_text(site.file.read_text(encoding="utf-8") + RESOURCES, encoding="utf-8")
    site.run("campaign", "submit", str(site.file))
    site.run("launchers", "new", "slurm", str(site.file.parent / "site"))
    for adapter in (site.file.parent / "site").glob("my_qadapter_*.yaml"):
        text = adapter.read_text(encoding="utf-8").replace("B:TERM@240", "B:TERM@5")
        text = text.replace("export PATH=", f"export PATH={path}:")
        adapter.write_text(text, encoding="utf-8")
    return Cluster(site, slurm, hold)


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="an undisturbed campaign that is there is used")
    parser.add_argument("--interruptions", type=int, default=20)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    tests = of_tests("integration/slurm/conftest.py")
    if reason := tests.missing():
        sys.exit(f"{reason}; on Debian 'python3 bootstrap.py test' fetches it")
    calm = new_site(folder / "calm", {}, None, 0.0)
    calm.run("campaign", "submit", str(calm.file))
    calm.finish()
    with tempfile.TemporaryDirectory(prefix="slurm-") as short, tests.mongodb(folder) as server:
        slurm, cluster = tests.Slurm(Path(short)), None
        try:
            slurm.start()
            cluster = on_slurm(folder, slurm, server)
            cluster.launch()
            done = disturb(cluster, arguments.interruptions)
            assert cluster.launcher is not None
            code = cluster.launcher.wait()
            cluster.wait(lambda: not slurm.run("squeue", "-h").strip())
            found = judge(cluster, calm, done)
            if code:
                found["wrong"].append(f"al-charge launch ended with {code}")
        finally:
            if cluster is not None and cluster.launcher is not None:
                cluster.launcher.kill()
            slurm.stop()
            calm.stop()
    (folder / "queue_faults.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(found)
    sys.exit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
