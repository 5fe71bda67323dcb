"""Size and times of a campaign of many labels and rounds: al-charge's database and its decisions.

    OMP_NUM_THREADS=1 python benchmarks/scale.py FOLDER -o scale.json

The campaign (olivine of 112 atoms, labels of four frames; with --static of 56 atoms and one frame)
is made in FOLDER, with an embedded server of its own there. Then everything is timed that people
and workers do with it. In the steps of the loop potentials predict at once: what remains is
reading, deciding and writing. The server's profiler tells which queries found no index.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bson
import numpy as np
from rich.console import Console
from rich.table import Table
from scale_data import FEWEST, IN_FULL, Maker, Size

REPEATS = 3
ROUNDS = 300
LABELS = 10_000


class Meter:
    """Times what is done, and notes the queries that looked at every document of a collection."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.records: list[dict[str, Any]] = []

    def time(self, what: str, act: Callable[[], Any], repeats: int = REPEATS) -> Any:
        """Do something some times; record the median of its wall and processor times, in s."""
        wall, cpu, found = [], [], None
        self.database.command("profile", 2)
        since = self.database.client.admin.command("hello")["localTime"]
        for _ in range(repeats):
            began, used = time.perf_counter(), time.process_time()
            found = act()
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
        self.database.command("profile", 0)
        ops = list(self.database["system.profile"].find({"ts": {"$gte": since}}))
        scans = {
            f"{op['ns'].split('.', 1)[1]} {op.get('command', {}).get('filter', '')}"[:160]
            for op in ops
            if "COLLSCAN" in str(op.get("planSummary", "")) and op.get("docsExamined", 0) > ROUNDS
        }
        record = {
            "what": what, "seconds": statistics.median(wall), "cpu": statistics.median(cpu),
            "queries": len(ops) / repeats, "without_index": sorted(scans),
            "load": os.getloadavg()[0],
        }  # fmt: skip
        self.records.append(record)
        print(
            time.strftime("%T"),
            f"{what}: {record['seconds']:.3f} s, {record['queries']:.0f} queries",
            *scans,
            flush=True,
        )
        return found


def make(folder: Path, size: Size, *, static: bool) -> None:
    """Make the campaign, unless it is there."""
    done = folder / "made"
    if not done.exists():
        began = time.perf_counter()
        Maker(size, folder, static=static).make()
        done.write_text(f"{time.perf_counter() - began:.0f} s\n", encoding="utf-8")


def sizes(database: Any) -> list[dict[str, Any]]:
    """Return documents, bytes and the largest document of every collection."""
    found = []
    for name in sorted(database.list_collection_names()):
        if name.startswith("system."):
            continue
        stats = database.command("collStats", name)
        largest = database[name].aggregate(
            [{"$group": {"_id": None, "most": {"$max": {"$bsonSize": "$$ROOT"}}}}]
        )
        found.append(
            {
                "collection": name, "documents": stats["count"], "bytes": stats["size"],
                "on_disk": stats["storageSize"], "indexes": stats["totalIndexSize"],
                "largest": next((one["most"] for one in largest), 0),
            }
        )  # fmt: skip
    return found


def growth(database: Any, rounds: int) -> list[dict[str, Any]]:
    """Return the size of documents that belong to a round, in the first rounds and the last."""
    found = []
    numbers = {"rounds": "number", "models": "round", "proposals": "round",
               "workflows": "metadata.round"}  # fmt: skip
    for name, field in numbers.items():
        row: dict[str, Any] = {"collection": name}
        for number in (1, rounds // 2, rounds - 2):
            documents = database[name].find({field: number})
            row[str(number)] = max((len(bson.encode(one)) for one in documents), default=0)
        found.append(row)
    return found


def stand_in_potentials() -> None:
    """Let potentials predict at once; the energy tells configurations apart and is right."""
    from al_charge.potentials.potential import Potential
    from al_charge.potentials.relaxation import one_by_one

    def predict(self: Potential, structures: Any, *_: Any, **__: Any) -> list[Any]:
        return [
            SimpleNamespace(
                energy=-16 * 130.0 - 5.0 * int((atoms.numbers == 11).sum()) + seed % 97 * 1e-3,
                forces=np.zeros((len(atoms), 3)), stress=np.zeros((3, 3)),
                moments=None, charges=None,
            )
            for atoms, seed in zip(structures, range(id(self) % 89, 10**9), strict=False)
        ]  # fmt: skip

    def relax(committee: Any, structures: Any, **_: Any) -> list[Any]:
        return [
            one_by_one.Relaxed(atoms, one.energy, 0.1, True, 1, None, None)
            for atoms, one in zip(structures, predict(committee, structures), strict=True)
        ]

    Potential.predict = predict  # type: ignore[method-assign,assignment]
    Potential.predict_each = predict  # type: ignore[method-assign,assignment]
    one_by_one.relax = relax  # type: ignore[assignment]


def look_at_page(folder: Path, launchpad: Any, meter: Meter) -> None:
    """Time the live page once it has read every label."""
    from al_charge.serve.access import LOOPBACK
    from al_charge.serve.app import create_app
    from al_charge.serve.source import Source

    app = create_app(Source(None, folder / "runs", lambda *_: launchpad), "token", LOOPBACK)
    reader = app.test_client()
    reader.get("/?token=token")

    def refresh() -> bytes:
        time.sleep(1.1)  # what was told a second ago is told again
        page: bytes = reader.get("/campaign?name=scale").data
        return page

    while b"have been read" in refresh():
        pass
    meter.time("live page, 1.1 s of rest included", refresh)


def measure(folder: Path, meter: Meter) -> None:
    """Time everything, and last of all the next round, which changes the database."""
    from fireworks import FWAction, FWorker

    from al_charge.api.hull import hull_result
    from al_charge.api.voltage import voltage_result
    from al_charge.fw.doctor import CHECKS, Scene, look
    from al_charge.fw.launchpad import connect_launchpad, store_of
    from al_charge.fw.repair import repair
    from al_charge.fw.status import blocking_failure, status_document
    from al_charge.fw.tasks import ensure_round
    from al_charge.loop.assess import assess
    from al_charge.loop.campaign import open_campaign
    from al_charge.loop.committee import load_member, predict_labels
    from al_charge.loop.label_document import windows_for
    from al_charge.loop.label_filter import labels_where
    from al_charge.loop.propose import propose
    from al_charge.loop.rounds import current_round
    from al_charge.loop.select import select_candidates
    from al_charge.loop.train import training_frames
    from al_charge.report.export import export
    from al_charge.report.labels import labels_document
    from al_charge.store.labels import SUMMARY

    launchpad = connect_launchpad(None)
    store = store_of(launchpad)
    last = store.rounds.last("scale")
    assert last is not None
    number = last.number

    def campaign() -> Any:
        return open_campaign(store, "scale")

    look_at = Scene(launchpad, store, "scale", runs=folder / "runs", wait=False)
    meter.time("open the campaign and its host", lambda: campaign().host)
    meter.time("state of the campaign", lambda: store.campaigns.get("scale").state)
    meter.time("is it stuck", lambda: blocking_failure(launchpad, "scale"))
    meter.time("status", lambda: status_document(launchpad, campaign()))
    opened = campaign()
    meter.time("hull, first time", lambda: hull_result(opened), 1)
    meter.time("hull again", lambda: hull_result(opened))
    meter.time("voltage again", lambda: voltage_result(opened))
    meter.time("hull of an earlier round", lambda: hull_result(opened, number // 2), 1)
    for where in ("x = 1/2 and Fe2+ >= 4", "Fe2+ >= 4", "above_hull < 0.02"):
        meter.time(f"labels where {where}", lambda text=where: labels_where(opened, text))
    look_at_page(folder, launchpad, meter)
    meter.time("labels", lambda: labels_document(campaign()))
    meter.time("summaries of labels", lambda: list(store.labels.read(SUMMARY, campaign="scale")))
    target = folder / "labels.extxyz"
    meter.time(
        "export, last frames",
        lambda: export(campaign(), target, last=True, usable_only=True, force=True), 1,
    )  # fmt: skip
    meter.time(
        "windows of one label",
        lambda: windows_for(campaign(), number, str(campaign().host.composition(5))),
    )
    meter.time(
        "frames to train on, first time",
        lambda: training_frames(campaign(), number, folder / "cache"), 1,
    )  # fmt: skip
    meter.time("frames to train on", lambda: training_frames(campaign(), number, folder / "cache"))
    meter.time(
        "submit again", lambda: ensure_round(launchpad, campaign(), current_round(campaign()))
    )
    meter.time("resume", lambda: repair(launchpad, campaign(), wait=False), 1)
    meter.time("doctor", lambda: look(look_at, CHECKS), 1)

    stand_in_potentials()
    assess_id = launchpad.fireworks.find_one({"spec.campaign": "scale", "state": "READY"})["fw_id"]
    member = load_member(campaign(), number, 0)
    assert member is not None
    meter.time(
        "read labels to predict them",
        lambda: predict_labels(campaign(), member, sorted(store.labels.uses("scale"))),
        1,
    )
    fworker = FWorker(name="1@node@0.00", query={"spec.campaign": "scale"})
    _, launch_id = meter.time("take a Firework", lambda: launchpad.checkout_fw(fworker, "/"), 1)
    meter.time("assess", lambda: assess(campaign(), number, folder / "metal"), 1)
    meter.time("add the next round", lambda: ensure_round(launchpad, campaign(), number + 1), 1)
    meter.time("give a Firework back", lambda: launchpad.complete_launch(launch_id, FWAction()), 1)
    assert launchpad.fireworks.find_one({"fw_id": assess_id})["state"] == "COMPLETED"
    edge = 1 if campaign().static_labels else FEWEST
    first, *others = campaign().host.ion_counts[edge:-edge]
    meter.time("propose one composition", lambda: propose(campaign(), number + 1, first), 1)
    for n_ions in others:
        propose(campaign(), number + 1, n_ions)
    meter.time("select", lambda: select_candidates(campaign(), number + 1), 1)


def main() -> None:
    """Make, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--labels", type=int, default=LABELS)
    parser.add_argument("--static", action="store_true", help="labels of one geometry, 56 atoms")
    parser.add_argument("-o", "--output", type=Path, default=Path("scale.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["AL_CHARGE_HOME"] = str((options.folder / "home").absolute())
    from al_charge.store.connection import connect
    from al_charge.store.embedded import EmbeddedServer

    supercell = (1, 2, 1) if options.static else (1, 2, 2)
    size = Size(options.rounds, options.labels, supercell)
    try:
        make(options.folder, size, static=options.static)
        database = connect(None)
        document: dict[str, Any] = {
            "rounds": size.rounds, "labels": size.labels, "static": options.static,
            "full_rounds": IN_FULL, "collections": sizes(database),
            "growth": growth(database, size.rounds),
        }  # fmt: skip
        meter = Meter(database)
        measure(options.folder, meter)
        document["times"] = meter.records
        options.output.write_text(json.dumps(document, indent=1), encoding="utf-8")
        show(document)
    finally:
        EmbeddedServer().stop()


def show(document: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    table = Table("collection", "documents", "MB", "MB on disk", "largest (kB)")
    for one in document["collections"]:
        table.add_row(
            one["collection"], str(one["documents"]), f"{one['bytes'] / 1e6:.1f}",
            f"{(one['on_disk'] + one['indexes']) / 1e6:.1f}", f"{one['largest'] / 1e3:.1f}",
        )  # fmt: skip
    console.print(table)
    rounds = [key for key in document["growth"][0] if key != "collection"]
    table = Table("largest (kB) in round", *rounds)
    for one in document["growth"]:
        table.add_row(one["collection"], *(f"{one[key] / 1e3:.1f}" for key in rounds))
    console.print(table)
    table = Table("what", "s", "CPU s", "queries", "without an index")
    for one in document["times"]:
        table.add_row(
            one["what"], f"{one['seconds']:.3f}", f"{one['cpu']:.3f}", f"{one['queries']:.0f}",
            "\n".join(one["without_index"]),
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
