"""Time our training against the trainers of MACE and of CHGNet, side by side in one run.

The library's own training runs as it is: ``mace.cli.run_train``, the program behind
``mace_run_train``, on a file of labels, and ``chgnet.trainer.Trainer.train`` on ``StructureData``.
Each of them passes over its data in one function, and after every call of that function our
`Trainer` does an epoch on the same structures. So both take turns within one process, start-up
does not count, and a busy machine slows both alike. Times are CPU time of one thread; wall times
are in the JSON.

Both start from the same weights. Before the first epoch the losses on all structures are compared,
and the numbers of weights and edges are written down. Fe3+ is an element of its own to the library
too: the file calls it cobalt.

What the libraries' epochs do not do and ours does is counted against us: clipping of gradients and
a running mean of weights beside CHGNet's trainer, which has neither.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from racing import WARM_UP, labelled
from racing_chgnet import race_chgnet
from racing_mace import race_mace
from rich.console import Console
from rich.table import Table

from al_charge.potentials.mace import MaceSettings

MACE_CASES = {
    "MACE 16x0e+16x1o, correlation 2": MaceSettings(),
    "MACE 32x0e+32x1o, correlation 3, l 3": MaceSettings(channels=32, correlation=3, max_ell=3),
}


def table(records: list[dict[str, Any]]) -> Table:
    """Return the records as a table."""
    result = Table(title="Training, CPU time of one thread per structure of 56 atoms and epoch")
    for heading in ("case", "ours", "library", "library / ours", "loss", "library's loss"):
        result.add_column(heading, justify="left" if heading == "case" else "right")
    for record in records:
        result.add_row(
            record["case"],
            f"{record['milliseconds']['ours']['cpu']:.1f} ms",
            f"{record['milliseconds']['library']['cpu']:.1f} ms",
            f"{record['ratio']:.2f}",
            f"{record['loss']['ours']:.5f}",
            f"{record['loss']['library']:.5f}",
        )
    return result


def main() -> None:
    """Race, print the table and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = (*MACE_CASES, "CHGNet 0.3.0")
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--structures", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=9, help=f"the first {WARM_UP} do not count")
    parser.add_argument("--json", type=Path, default=Path("training_speed.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = labelled(arguments.structures)
    records = []
    for case in arguments.case:
        if case in MACE_CASES:
            settings = MACE_CASES[case].model_copy(update={"pair_cutoff": 0.0})
            race = race_mace(settings, frames, arguments.epochs, arguments.batch_size)
        else:
            race = race_chgnet(frames, arguments.epochs, arguments.batch_size)
        records.append(race.record(case))
        Console().print(table(records[-1:]))
    document = {"batch": arguments.batch_size, "structures": len(frames), "records": records}
    arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
