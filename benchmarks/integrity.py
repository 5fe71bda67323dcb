"""Random edits of stored data: how many `al-charge doctor --deep` finds, and how long it takes.

    OMP_NUM_THREADS=1 python benchmarks/integrity.py FOLDER [--labels 10000] [--edits 100]

The campaign is made in FOLDER as for `scale.py`, with an embedded server of its own there. Another
process, `random_edits.py`, edits documents and chunks of GridFS of all kinds; it knows nothing of
checksums. What it edited stays so: every run needs a campaign of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from al_charge.fw.doctor import Finding
    from al_charge.store.mongo import Store

EDITOR = Path(__file__).with_name("random_edits.py")
ROUNDS = 300


def names_of_findings(store: Store) -> dict[tuple[str, str], str]:
    """Return where findings tell damage, by collection and ``_id`` of every document and chunk."""
    from al_charge.store.documents import DOCUMENTS
    from al_charge.store.files import NAMED_FILES

    names: dict[tuple[str, str], str] = {}
    for document in DOCUMENTS:
        kind = document.collection.removesuffix("s").replace("_", " ")
        for stored in store.database[document.collection].find({}, {"_id": 1}):
            names[document.collection, stored["_id"]] = f"{kind} {stored['_id']}"
    for named in NAMED_FILES:
        owners = {
            str(named.in_document(stored)): f"{named.kind} {stored['_id']}"
            for stored in store.database[named.document.collection].find({}, {named.field: 1})
        }
        for name, field in (("files", "_id"), ("chunks", "files_id")):
            collection = f"{named.bucket}.{name}"
            for stored in store.database[collection].find({}, {field: 1}):
                if (owner := owners.get(str(stored[field]))) is not None:
                    names[collection, str(stored["_id"])] = owner
    return names


def edited(database: str, uri: str, number: int, seed: int) -> list[dict[str, str]]:
    """Let another process edit a database."""
    command = [sys.executable, str(EDITOR), database, str(number), "--seed", str(seed)]
    done = subprocess.run(command, input=uri, text=True, stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def missed(
    edits: Iterable[dict[str, str]], names: dict[tuple[str, str], str], findings: list[Finding]
) -> list[dict[str, str]]:
    """Return the edits that no finding tells."""
    told = {one.where for one in findings if one.kind.startswith(("damaged", "half-written"))}
    return [one for one in edits if names.get((one["collection"], one["_id"])) not in told]


def main() -> None:
    """Make, look, edit, look again, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("integrity.json"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["AL_CHARGE_HOME"] = str((options.folder / "home").absolute())
    from scale import make
    from scale_data import Size

    from al_charge.fw.doctor import Scene, look
    from al_charge.fw.launchpad import connect_launchpad, store_of
    from al_charge.store.embedded import EmbeddedServer

    try:
        make(options.folder, Size(options.rounds, options.labels, (1, 2, 2)), static=False)
        launchpad = connect_launchpad(None)
        store = store_of(launchpad)
        document: dict[str, Any] = {"labels": options.labels, "seconds": {}}
        runs = options.folder / "runs"
        for name, deep in (("a sample", False), ("deep", True)):
            scene = Scene(launchpad, store, None, runs=runs, wait=False, deep=deep)
            began, used = time.perf_counter(), time.process_time()
            before = look(scene)
            seconds = (time.perf_counter() - began, time.process_time() - used)
            document["seconds"][name] = seconds
            print(f"{name}: {seconds[0]:.1f} s, {seconds[1]:.1f} s of this process", flush=True)
            assert [one for one in before if one.kind.startswith("damaged")] == []
        names = names_of_findings(store)
        uri = EmbeddedServer().start().uri("admin")
        edits = edited(store.database.name, uri, options.edits, options.seed)
        left = missed(edits, names, look(scene))
        document |= {"edits": edits, "missed": left}
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        show(document)
    finally:
        EmbeddedServer().stop()


def show(document: dict[str, Any]) -> None:
    """Print the table by collection and the sum."""
    made = Counter((one["collection"], one["edit"]) for one in document["edits"])
    lost = Counter((one["collection"], one["edit"]) for one in document["missed"])
    table = Table("collection", "edit", "made", "found")
    for kind, count in sorted(made.items()):
        table.add_row(*kind, str(count), str(count - lost[kind]))
    Console().print(table)
    print(f"found {made.total() - lost.total()} of {made.total()}")


if __name__ == "__main__":
    main()
