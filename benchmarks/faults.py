"""Small campaigns into which faults are injected, until there were enough of every kind.

    python benchmarks/faults.py FOLDER [--faults 400]

Each campaign has to end with the hull, label for label, of one that was left alone. Nothing helps
it but `al-charge campaign resume` and a new worker where the worker is gone, as a queue would start
one. Faults come alone or several at once. Labels are made by the analytic engine, by a stand-in for
VASP and by one for GPAW in turn, and in every campaign 2 or 3 runs of an engine in 10 fail. What
was found is in ``FOLDER/faults.json`` after each campaign; called again, it goes on from there,
with ``--faults 0`` for the table alone. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_faults import FROM_WITHIN, OF_ENGINES, parts_of_engines
from fault_kinds import BETWEEN, KINDS, look, stage, state
from rich.console import Console
from rich.table import Table
from stand_ins import LABELERS, install

from al_charge.cli.campaign_file import templates_folder
from al_charge.store.attempts import METAL
from al_charge.testing.site import ENDED, NAME, Site

CHANCES = {
    "born": {"killed": 0.2, "cut off": 0.1},
    "vasp": {
        "SIGKILL": 0.03,
        "SIGSEGV": 0.02,
        "SIGTERM": 0.02,
        "cut off": 0.02,
        "in WAVECAR": 0.02,
        "in OUTCAR": 0.02,
        "truncate": 0.02,
        "die": 0.02,
        "disk full": 0.02,
    },
    "gpaw": {"killed": 0.1, "killed, its state cut off": 0.05, "result cut off": 0.05},
}
"""Shares of runs of an engine that fail, by fault; a label of VASP has two."""
IMPATIENT = "60 600"
"""Seconds after which a silent process is replaced, and one that hangs ends."""
DISK_MB = 200
PER_CAMPAIGN = 15
"""Times that faults come."""
AT_ONCE = 3
"""Faults that come at once, at most."""
LONGEST_START = 60.0
"""s; after so long the fault comes whatever runs."""


@dataclass
class Tally:
    """What was injected, and what came of it.

    Attributes
    ----------
    tried
        How often each kind was tried; some need something that is not always there.
    kinds
        How often it was injected.
    stages
        What the campaigns were doing then, by kind.
    resumed
        How often `resume` was called and a worker started.
    mended
        What `resume` had to do.
    wrong
        In what campaigns differ from the undisturbed one; empty, if all is well.
    """

    tried: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Counter[str]] = field(default_factory=dict)
    resumed: int = 0
    mended: Counter[str] = field(default_factory=Counter)
    campaigns: int = 0
    labels: int = 0
    lost: int = 0
    twice: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Tally:
        """Return what earlier calls have found."""
        if not file.exists():
            return cls()
        found = json.loads(file.read_text(encoding="utf-8"))
        for name in ("tried", "kinds", "mended"):
            found[name] = Counter(found[name])
        stages = {kind: Counter(during) for kind, during in found["stages"].items()}
        return cls(**found | {"stages": stages})

    def write(self, file: Path) -> None:
        """Keep it, in one step."""
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")
        unfinished.replace(file)

    def add(self, kind: str, during: str) -> None:
        """Count a fault."""
        self.kinds[kind] += 1
        self.stages.setdefault(kind, Counter())[during] += 1


def new_site(folder: Path, engine: str, chances: dict[str, float], **options: Any) -> Site:
    """Make a site and submit its campaign; its jobs' files lie on a small disk, if we may."""
    program = [sys.executable, str(Path(__file__).with_name("faulty_worker.py"))]
    notes = folder / "notes"
    notes.mkdir(parents=True, exist_ok=True)
    installed = install(engine, folder / "engine", notes, chances, **options)
    environment = dict(installed.environment)
    if chances:
        environment |= {"FAULT_LOG": str(notes), "FAULT_SILENT": IMPATIENT}
        if engine == "born":
            environment["FAULT_DFT"] = " ".join(map(str, chances.values()))
    site = Site(folder, templates_folder() / "hosts" / "NaFePO4.cif", program, environment)
    text = site.file.read_text(encoding="utf-8")
    site.file.write_text(text.replace(LABELERS["born"], installed.labeler), encoding="utf-8")
    (site.home / "runs").mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and not os.path.ismount(site.home / "runs") and chances:
        options_ = ["-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(site.home / "runs")]
        subprocess.run(["mount", *options_], check=False, capture_output=True)
    site.run("campaign", "submit", str(site.file))
    return site


def close(site: Site) -> None:
    """Stop a site and give its disk back."""
    site.stop()
    if os.path.ismount(site.home / "runs"):
        subprocess.run(["umount", "-l", str(site.home / "runs")], check=True)


def disturb(site: Site, engine: str, rng: random.Random, tally: Tally) -> None:
    """Inject faults until the campaign has ended or there were enough for one campaign."""
    for _ in range(PER_CAMPAIGN):
        _keep_working(site, tally)
        _wait_for_work(site)
        time.sleep(rng.uniform(0.0, 4.0))
        for _ in range(rng.randint(1, AT_ONCE)):
            if state(site) in ENDED:
                return
            during = stage(site)
            has_engine = engine != "born" and bool({"label", "explore"} & set(during.split(", ")))
            kinds = [kind for kind in KINDS if has_engine or kind not in OF_ENGINES]
            # The one that was tried least often.
            kind = min(kinds, key=lambda kind: (tally.tried[kind], rng.random()))
            tally.tried[kind] += 1
            done = KINDS[kind](site, rng)
            told = f"{kind}{'' if done else ': not now'}, {during}"
            print(f"{time.strftime('%X')} {told}", flush=True)
            if done:
                tally.add(kind, during)
            if site.worker is None or site.worker.poll() is not None:
                break


def _keep_working(site: Site, tally: Tally) -> None:
    """Resume the campaign and start a worker where there is none."""
    if site.worker is not None and site.worker.poll() is None:
        return
    begun = site.worker is not None
    site.end_worker()
    told = site.run("campaign", "resume", NAME)
    if begun:
        tally.resumed += 1
        for what, count in re.findall(r"([a-z][^,;:()]*) \((\d+)\)", told):
            tally.mended[what] += int(count)
    site.start_worker()


def _wait_for_work(site: Site) -> None:
    """Wait for a task to run: a worker takes seconds to start."""
    deadline = time.monotonic() + LONGEST_START
    while time.monotonic() < deadline and stage(site) == BETWEEN and state(site) not in ENDED:
        time.sleep(1.0)


def judge(site: Site, calm: Site, tally: Tally) -> None:
    """Compare a campaign with the undisturbed one, and look for what was left behind."""
    found = site.differences(calm)
    with look(site) as client:
        database = client["al_charge"]
        made = database["attempts"].distinct("key", {"outcome": "made"})
        there = set(database["labels"].distinct("_id"))
        there |= {METAL + name for name in database["references"].distinct("_id")}
        used = database["label_uses"].count_documents({"campaign": NAME})
        quarantined = [one["reason"] for one in database["failures"].find()]
    lost = [key for key in made if key not in there]
    waiting = list((site.home / "runs" / NAME / "spool").glob("*"))
    found += [f"label {key} was lost" for key in lost]
    found += [f"quarantined: {reason}" for reason in quarantined]
    found += [f"{path.name} was not delivered" for path in waiting]
    found += [f"{one} was left running" for one in parts_of_engines(site)]
    for path in (site.home.parent / "notes").iterdir():
        note = path.name.rpartition("-")[0]
        if note in FROM_WITHIN:
            tally.add(FROM_WITHIN[note], "label")
        else:
            found.append(note)  # two engines in a folder
    done = subprocess.run(
        [*site.program, "doctor", "--no-wait"], env=site.environment, capture_output=True, text=True
    )
    if done.returncode:
        found.append(f"doctor: {done.stdout.strip()}")
    tally.campaigns += 1
    tally.labels += used
    tally.lost += len(lost)
    tally.twice += site.status()["labels_requested_twice"]
    tally.wrong += [f"{site.home.parent.name}: {line}" for line in found]


def show(tally: Tally) -> None:
    """Print the table by kind and the sums."""
    table = Table("fault", "injected", "while")
    for kind, count in sorted(tally.kinds.items()):
        often = tally.stages[kind].most_common()
        table.add_row(kind, str(count), ", ".join(f"{what} {times}" for what, times in often))
    console = Console()
    console.print(table)
    console.print(
        f"{tally.kinds.total()} faults of {len(tally.kinds)} kinds in {tally.campaigns} campaigns: "
        f"{tally.labels} labels, {tally.lost} lost, {tally.twice} made twice; "
        f"{tally.seconds / 60:.0f} min"
    )
    mended = ", ".join(f"{what} {count}" for what, count in tally.mended.most_common())
    console.print(f"resume was called {tally.resumed} times, and mended: {mended or 'nothing'}")
    console.print(
        "every hull is that of the undisturbed campaign"
        if not tally.wrong
        else "\n".join(tally.wrong)
    )


def main() -> None:
    """Inject faults into one campaign after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the campaigns, and for what was found")
    parser.add_argument("--faults", type=int, default=400)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    file = folder / "faults.json"
    tally = Tally.read(file)
    calm: dict[str, Site] = {}
    try:
        while tally.kinds.total() < arguments.faults:
            began, number = time.monotonic(), tally.campaigns + 1
            engine = list(LABELERS)[number % len(LABELERS)]
            if engine not in calm:
                discard(folder / f"calm-{engine}")  # it may be of an earlier version
                calm[engine] = new_site(folder / f"calm-{engine}", engine, {}, seconds=0.1)
                calm[engine].finish()
            rough = folder / f"rough-{number}"
            discard(rough)
            site = new_site(rough, engine, CHANCES[engine], mpi=number % 2 == 1, seconds=4.0)
            try:
                disturb(site, engine, random.Random(number), tally)
                site.finish()
                judge(site, calm[engine], tally)
            finally:
                close(site)
            tally.seconds += time.monotonic() - began
            tally.write(file)
            print(f"{number} campaigns, {tally.kinds.total()} faults", tally.wrong, flush=True)
    finally:
        for site in calm.values():
            close(site)
    show(tally)
    sys.exit(bool(tally.wrong))


def discard(folder: Path) -> None:
    """Remove a campaign of an earlier call."""
    if folder.exists():
        close(Site(folder, Path()))
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
