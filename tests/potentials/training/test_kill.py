"""A trainer that is killed goes on where it was, and ends where it would have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

EPOCHS, KILLED_AFTER = 30, 4
TRAINER = f"""
import hashlib, json, sys
from pathlib import Path
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.testing.potentials import teacher_frames

def digest(path):
    result = train(
        PainnSettings(channels=4, cutoff="4 A", radial=4),
        TrainingSettings(epochs={EPOCHS}, patience={EPOCHS}, checkpoint_every=1),
        teacher_frames(8), seed=3, fold=1, n_folds=4, checkpoint=Path(path),
        progress=lambda done, epochs, entry: print("epoch", path, done, flush=True),
    )
    found = hashlib.sha256()
    for name, value in sorted(result.potential.state()[1].items()):
        found.update(name.encode() + value.numpy().tobytes())
    found.update(json.dumps([result.history, result.held_out], sort_keys=True).encode())
    print("result", path, found.hexdigest(), flush=True)

for path in sys.argv[1:]:
    digest(path)
print("compiler", "torch._dynamo" in sys.modules)
"""


def trainer(folder: Path, *checkpoints: str) -> subprocess.Popen[str]:
    """Start a process that trains with one checkpoint file after the other."""
    return subprocess.Popen(
        [sys.executable, "-c", TRAINER, *checkpoints],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    with trainer(tmp_path, "killed") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["epoch", "killed", str(KILLED_AFTER)]:
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait(60) == -signal.SIGKILL
    assert (tmp_path / "killed").exists()

    with trainer(tmp_path, "killed", "undisturbed") as process:
        said = [line.split() for line in process.communicate(timeout=120)[0].splitlines()]
        assert process.returncode == 0
    epochs = {
        name: [int(line[2]) for line in said if line[:2] == ["epoch", name]]
        for name in ("killed", "undisturbed")
    }
    assert epochs["undisturbed"] == list(range(1, EPOCHS + 1))
    assert epochs["killed"] == list(range(epochs["killed"][0], EPOCHS + 1))
    assert KILLED_AFTER < epochs["killed"][0] < EPOCHS
    results = {line[1]: line[2] for line in said if line[0] == "result"}
    assert results["killed"] == results["undisturbed"]
    assert ["compiler", "False"] in said, "torch's compiler takes a second to import, for nothing"
