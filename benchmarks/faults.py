"""Small campaigns into which faults are injected, until there were enough of every kind.

    python benchmarks/faults.py FOLDER [--faults 200]

Each campaign has to end with the hull, label for label, of one that was left alone. Nothing helps
it but `al-charge campaign resume` and a new worker where the worker is gone, as a queue would start
one. In every campaign 3 runs of the engine in 10 fail. Prints a table and writes ``faults.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_kinds import BETWEEN, FROM_WITHIN, KINDS, look, stage
from rich.console import Console
from rich.table import Table

from al_charge.cli.campaign_file import templates_folder
from al_charge.store.attempts import METAL
from al_charge.testing.site import ENDED, NAME, Site

FAILING = "0.2 0.1"
"""Shares of runs of the engine that are killed, and whose output is cut off."""
IMPATIENT = "20 90"
"""Seconds after which a silent process is replaced, and one that hangs ends."""
DISK_MB = 200
PER_CAMPAIGN = 15
LONGEST_START = 60.0
"""s; after so long the fault comes whatever runs."""


@dataclass
class Tally:
    """What was injected, and what came of it.

    Attributes
    ----------
    kinds
        How often, by kind.
    stages
        What the campaigns were doing then, by kind.
    resumed
        How often `resume` was called and a worker started.
    wrong
        In what campaigns differ from the undisturbed one; empty, if all is well.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    resumed: int = 0
    campaigns: int = 0
    labels: int = 0
    lost: int = 0
    twice: int = 0
    wrong: list[str] = field(default_factory=list)


def new_site(folder: Path, environment: dict[str, str]) -> Site:
    """Make a site and submit its campaign; its jobs' files lie on a small disk, if we may."""
    program = [sys.executable, str(Path(__file__).with_name("faulty_worker.py"))]
    site = Site(folder, templates_folder() / "hosts" / "NaFePO4.cif", program, environment)
    (site.home / "runs").mkdir(parents=True)
    if os.geteuid() == 0:
        options = ["-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(site.home / "runs")]
        subprocess.run(["mount", *options], check=False, capture_output=True)
    site.run("campaign", "submit", str(site.file))
    return site


def close(site: Site) -> None:
    """Stop a site and give its disk back."""
    site.stop()
    if os.path.ismount(site.home / "runs"):
        subprocess.run(["umount", "-l", str(site.home / "runs")], check=True)


def disturb(site: Site, deck: list[str], rng: random.Random, tally: Tally) -> None:
    """Inject faults until the campaign has ended or there were enough for one campaign."""
    for _ in range(PER_CAMPAIGN):
        _keep_working(site, tally)
        _wait_for_work(site)
        time.sleep(rng.uniform(0.0, 4.0))
        if site.status()["state"] in ENDED:
            return
        kind = deck.pop() if deck else ""
        if not deck:
            deck += rng.sample(list(KINDS), len(KINDS))
        during = stage(site)
        if kind and KINDS[kind](site, rng):
            tally.kinds[kind] += 1
            tally.stages[kind][during] += 1


def _keep_working(site: Site, tally: Tally) -> None:
    """Resume the campaign and start a worker where there is none."""
    if site.worker is not None and site.worker.poll() is None:
        return
    if tally.campaigns or site.worker is not None:
        tally.resumed += 1
    site.end_worker()
    site.run("campaign", "resume", NAME)
    site.start_worker()


def _wait_for_work(site: Site) -> None:
    """Wait for a task to run: a worker takes seconds to start."""
    deadline = time.monotonic() + LONGEST_START
    while time.monotonic() < deadline and stage(site) == BETWEEN:
        time.sleep(0.2)


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


def document(tally: Tally, log: Path, seconds: float) -> dict[str, Any]:
    """Return what is written to ``faults.json``.

    Parameters
    ----------
    log
        Notes of the faults from within.
    """
    within = Counter(FROM_WITHIN[path.name.split("-")[0]] for path in log.iterdir())
    kinds = tally.kinds + within
    return {
        "faults": kinds.total(),
        "kinds": {
            kind: {"injected": count, "during": dict(tally.stages[kind]) or {"label": count}}
            for kind, count in sorted(kinds.items())
        },
        "campaigns": tally.campaigns,
        "labels": tally.labels,
        "labels_lost": tally.lost,
        "labels_made_twice": tally.twice,
        "resumed": tally.resumed,
        "wrong": tally.wrong,
        "seconds": seconds,
    }


def show(found: dict[str, Any]) -> None:
    """Print the table by kind and the sums."""
    table = Table("fault", "injected", "while")
    for kind, told in found["kinds"].items():
        often = sorted(told["during"].items(), key=lambda item: -item[1])
        table.add_row(kind, str(told["injected"]), "; ".join(f"{w} {n}" for w, n in often))
    console = Console()
    console.print(table)
    sums = ("faults", "campaigns", "labels", "labels_lost", "labels_made_twice", "resumed")
    console.print(", ".join(f"{name.replace('_', ' ')} {found[name]}" for name in sums))
    console.print(
        "every hull is that of the undisturbed campaign"
        if not found["wrong"]
        else "\n".join(found["wrong"])
    )


def main() -> None:
    """Inject faults into one campaign after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for the campaigns")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("faults.json"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    tally, deck = Tally(), rng.sample(list(KINDS), len(KINDS))
    began = time.monotonic()
    folder = arguments.folder.absolute()
    log = folder / "log"
    log.mkdir(parents=True)
    calm = new_site(folder / "calm", {})
    calm.finish()
    while tally.kinds.total() + len(list(log.iterdir())) < arguments.faults:
        faults = {"FAULT_DFT": FAILING, "FAULT_LOG": str(log), "FAULT_SILENT": IMPATIENT}
        site = new_site(folder / f"rough-{tally.campaigns + 1}", faults)
        try:
            disturb(site, deck, rng, tally)
            site.finish()
            judge(site, calm, tally)
        finally:
            close(site)
        found = document(tally, log, time.monotonic() - began)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{tally.campaigns} campaigns, {found['faults']} faults", tally.wrong, flush=True)
    close(calm)
    show(found)
    sys.exit(bool(tally.wrong))


if __name__ == "__main__":
    main()
