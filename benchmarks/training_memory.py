"""Memory of a training, frames in a list and in a cache, side by side: al-charge's data pipeline.

    python benchmarks/training_memory.py --json training_memory.json

Every case is a process of its own that trains a small PaiNN for one epoch on frames of 28 atoms.
With the cache, 4 MiB of prepared frames stay in memory and the rest goes to the disk; a list keeps
everything. Told are the largest resident memory, less that of the same process after a training on
20 frames, the processor's time relative to the list's, and whether the weights agree bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.potentials.data import spilled
from al_charge.potentials.data.frame_cache import cached_frames
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train

OLIVINE = Path(__file__).parents[1] / "workflows" / "hosts" / "NaFePO4.cif"
PER_LABEL = 10
"""Frames of one label."""
LIMIT = 4 * 1024 * 1024
"""Bytes of prepared frames in memory, where they may go to the disk."""


def frames_of(label: int, host: Host) -> list[TrainingFrame]:
    """Return frames of a label: a rattled olivine with random results."""
    config = enumerate_distinct(host, 2)[0]
    found = []
    for number in range(PER_LABEL):
        rng = np.random.default_rng([label, number])
        atoms = to_atoms(host, config)
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        forces = rng.normal(scale=0.3, size=atoms.positions.shape)
        energy = float(rng.normal(-190.0, 0.1))
        found.append(TrainingFrame(atoms, energy, forces, np.zeros((3, 3)), f"group {label}"))
    return found


def peak() -> float:
    """Return the largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(how: str, n_frames: int) -> dict[str, Any]:
    """Train in this process and return what it took."""
    host = Host.from_spec(
        HostSpec(structure=OLIVINE, working_ion="Na", redox={"Fe": (2, 3)}, fixed={"P": 5, "O": -2})
    )
    labels = [str(label) for label in range(n_frames // PER_LABEL)]
    warm = [frame for label in range(2) for frame in frames_of(label, host)]

    def fetch(keys: Sequence[str]) -> Iterator[tuple[str, list[TrainingFrame]]]:
        for key in keys:
            yield key, frames_of(int(key), host)

    frames: Sequence[TrainingFrame]
    with tempfile.TemporaryDirectory() as folder:
        run(warm, Path(folder) / "warm")
        before = peak()
        if how == "cache":
            spilled.MEMORY_LIMIT = LIMIT
            frames = cached_frames(Path(folder) / "cache", dict.fromkeys(labels, ""), fetch)
        else:
            spilled.MEMORY_LIMIT = sys.maxsize
            frames = [frame for _, found in fetch(labels) for frame in found]
        started = time.process_time()
        digest = run(frames, Path(folder) / "checkpoint")
        seconds = time.process_time() - started
    return {
        "how": how, "frames": n_frames, "growth_MiB": peak() - before, "seconds": seconds,
        "weights": digest,
    }  # fmt: skip


def run(frames: Sequence[TrainingFrame], checkpoint: Path) -> str:
    """Train for one epoch and return a hash of the weights."""
    result = train(
        PainnSettings(channels=4, radial=4),
        TrainingSettings(epochs=1, batch_size=8),
        frames,
        seed=1,
        fold=0,
        n_folds=10,
        checkpoint=checkpoint,
    )
    digest = hashlib.sha256(json.dumps(result.history).encode())
    for name, value in sorted(result.potential.state()[1].items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Run every case in a process of its own, in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[200, 400, 800])
    parser.add_argument("--json", type=Path, default=Path("training_memory.json"))
    parser.add_argument("--case", nargs=2, metavar=("HOW", "FRAMES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        how, frames = arguments.case
        print(json.dumps(measure(how, int(frames))))
        return
    records = []
    for frames in arguments.frames:
        for how in ("list", "cache"):
            command = [sys.executable, __file__, "--case", how, str(frames)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            records.append(json.loads(done.stdout))
    table = Table("frames", "list (MiB)", "cache (MiB)", "time, cache / list", "same weights")
    for one, other in zip(records[::2], records[1::2], strict=True):
        table.add_row(
            str(one["frames"]), f"{one['growth_MiB']:.0f}", f"{other['growth_MiB']:.0f}",
            f"{other['seconds'] / one['seconds']:.2f}",
            "yes" if one["weights"] == other["weights"] else "no",
        )  # fmt: skip
    Console().print(table)
    document = {"limit_bytes": LIMIT, "atoms": 28, "records": records}
    arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
