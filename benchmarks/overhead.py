"""What al-charge's workers cost beside the work: Fireworks per second, and idle time.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py FOLDER -o overhead.json

Rate: rounds whose products all exist are run again by the loop of a worker, and by FireWorks' own
``rapidfire`` on the same LaunchPad, in turns; and, as the least that FireWorks can take, workflows
of the same shape whose tasks do nothing. Idle time: eight worker processes make labels that take
a minute, of which they sleep all but the Born model's fraction of a second, as if a DFT code ran
elsewhere; what is counted is the time from the end of one to the start of the next on the same
worker, while others wait. Everything is made in FOLDER, with an embedded server of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import al_charge.fw  # noqa: F401  # first: FireWorks reads its settings when it is imported

# isort: split
from fireworks import (
    FiretaskBase,
    FWAction,
    FWorker,
    LaunchPad,
    Workflow,
    explicit_serialize,
)
from fireworks.core.rocket_launcher import rapidfire
from fireworks.utilities import fw_serializers
from rich.console import Console
from rich.table import Table

FOLDER, SECONDS = "AL_CHARGE_BENCHMARK_FOLDER", "AL_CHARGE_BENCHMARK_SECONDS"
REPEATS = 7
NAME = "scale"
UNGUARDED = fw_serializers.load_object


@explicit_serialize
class NothingTask(FiretaskBase):  # type: ignore[misc]
    """A task that does nothing."""

    def run_task(self, fw_spec: Mapping[str, Any]) -> FWAction:
        """Do nothing."""
        return FWAction()


def sleep_in_labels() -> None:
    """In a worker process: let labels take a while, and write down when each began and ended."""
    from al_charge.labelers.born.labeler import BornLabeler

    compute = BornLabeler.run

    def run(self: BornLabeler, directory: Path) -> None:
        began = time.time()
        time.sleep(float(os.environ[SECONDS]))
        compute(self, directory)
        line = json.dumps({"pid": os.getpid(), "began": began, "ended": time.time()})
        with (Path(os.environ[FOLDER]) / "labels.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    BornLabeler.run = run  # type: ignore[method-assign]


if __name__ == "__mp_main__":  # what a worker process finds instead of "__main__"
    sleep_in_labels()


def rates(launchpad: LaunchPad, folder: Path) -> dict[str, list[float]]:
    """Return Fireworks per second of each way to run them, in turns."""
    from al_charge.fw.launchpad import store_of
    from al_charge.fw.tasks import round_workflow
    from al_charge.fw.worker import _work
    from al_charge.loop.campaign import open_campaign

    campaign = open_campaign(store_of(launchpad), NAME)
    uri = launchpad.host
    bare = LaunchPad(host=uri, name=launchpad.name, uri_mode=True, strm_lvl="CRITICAL")
    categories = ["cpu", "dft", "gpu"]
    fworker = FWorker("bare", categories, {"spec.campaign": NAME}, {"runs": str(folder / "runs")})
    guarded = fw_serializers.load_object
    runs = folder / "runs"
    runs.mkdir(exist_ok=True)

    def ours() -> None:
        _work(launchpad, NAME, runs, categories, True)

    def rapid() -> None:
        rapidfire(bare, fworker, m_dir=str(runs), nlaunches=count, strm_lvl="CRITICAL")

    def nothing(workflow: Workflow) -> Workflow:
        for firework in workflow.fws:
            firework.tasks = [NothingTask()]
        return workflow

    found: dict[str, list[float]] = defaultdict(list)
    ways: dict[str, tuple[Callable[[], None], bool]] = {
        "al-charge": (ours, False), "rapidfire": (rapid, False),
        "rapidfire, nothing": (rapid, True),
    }  # fmt: skip
    for repeat in range(REPEATS + 1):
        for name, (run, empty) in ways.items():
            workflow = round_workflow(campaign, 1)
            count = len(workflow.fws)
            launchpad.add_wf(nothing(workflow) if empty else workflow)
            fw_serializers.load_object = UNGUARDED if empty else guarded
            began = time.perf_counter()
            run()
            rate = count / (time.perf_counter() - began)
            left = launchpad.fireworks.count_documents(
                {"fw_id": {"$in": [fw.fw_id for fw in workflow.fws]}, "state": {"$ne": "COMPLETED"}}
            )
            if left:
                raise SystemExit(f"{name}: {left} Fireworks were not run")
            if repeat:  # the first one imports
                found[name].append(rate)
    fw_serializers.load_object = guarded
    return dict(found)


def idle(launchpad: LaunchPad, maker: Any, workers: int, labels: int) -> dict[str, Any]:
    """Return how long workers were idle between labels, and the length of labels, in s."""
    from al_charge.fw.pool import WorkerPool
    from al_charge.fw.tasks import ensure_round
    from al_charge.fw.worker import _work
    from al_charge.loop.rounds import open_round

    number = maker.size.rounds
    open_round(maker.campaign, number)
    candidates = maker.candidates(number, labels)
    reasons = {one.doc_id: "wanted" for one in candidates[:labels]}
    maker.store.rounds.record_selection(NAME, number, reasons)
    ensure_round(launchpad, maker.campaign, number)
    runs = maker.folder / "runs"
    _work(launchpad, NAME, runs, ["cpu"], True)
    with WorkerPool(
        None, NAME, runs, processes=workers, categories=["dft"], until_idle=True
    ) as pool:
        pool.wait()
    lines = (maker.folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()
    by_worker: dict[int, list[dict[str, float]]] = defaultdict(list)
    for one in map(json.loads, lines):
        by_worker[one["pid"]].append(one)
    gaps = [
        after["began"] - before["ended"]
        for made in by_worker.values()
        for before, after in pairwise(sorted(made, key=lambda one: one["began"]))
    ]
    lengths = [one["ended"] - one["began"] for made in by_worker.values() for one in made]
    busy = sum(lengths)
    return {
        "workers": len(by_worker), "labels": len(lengths), "label": statistics.median(lengths),
        "gaps": gaps, "share": sum(gaps) / (sum(gaps) + busy),
    }  # fmt: skip


def main() -> None:
    """Make a small campaign, measure both, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--labels", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a label")
    parser.add_argument("-o", "--output", type=Path, default=Path("overhead.json"))
    options = parser.parse_args()
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=False)
    os.environ |= {
        "AL_CHARGE_HOME": str(folder / "home"), FOLDER: str(folder), SECONDS: str(options.seconds)
    }  # fmt: skip
    sys.path.insert(0, str(Path(__file__).parent))
    from scale_data import Maker, Size

    from al_charge.store.embedded import EmbeddedServer

    try:
        maker = Maker(Size(3, 3 * options.labels, (1, 2, 2)), folder, static=False)
        maker.make()
        # Nothing of the rounds that have run is left to do.
        maker.launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "COMPLETED"}})
        document: dict[str, Any] = {
            "load": os.getloadavg(),
            "rates": rates(maker.launchpad, folder),
        }
        document["idle"] = idle(maker.launchpad, maker, options.workers, options.labels)
        options.output.write_text(json.dumps(document, indent=1), encoding="utf-8")
        show(document)
    finally:
        EmbeddedServer().stop()


def show(document: dict[str, Any]) -> None:
    """Print both tables."""
    console = Console()
    rapid = document["rates"]["rapidfire"]
    table = Table("", "Fireworks per second", "ratio to rapidfire")
    for name, found in document["rates"].items():
        ratios = [one / other for one, other in zip(found, rapid, strict=True)]
        table.add_row(
            name, f"{statistics.median(found):.1f}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )  # fmt: skip
    console.print(table)
    found = document["idle"]
    console.print(
        f"{found['workers']} workers, {found['labels']} labels of {found['label']:.1f} s: idle for "
        f"{statistics.median(found['gaps']):.2f} s between two (at most {max(found['gaps']):.2f}), "
        f"{100 * found['share']:.2f} % of the time; load {document['load'][0]:.1f}"
    )


if __name__ == "__main__":
    main()
