"""Two processes of torchrun train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.painn import CpainnSettings
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.distributed import Ranks, process_group
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.testing.potentials import teacher_frames

EPOCHS = 2
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from al_charge.errors import AlChargeError, UnfinishedError
from al_charge.potentials.training.distributed import process_group

tests, folder = sys.argv[1:]
sys.path.insert(0, tests)
from test_distributed import trained

def interrupt(done, epochs, figures):
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)

with process_group(torch.device("cpu")) as ranks:
    said = {}
    result = trained(Path(folder, "whole"))
    said["history"] = result.history
    said["held_out"] = result.held_out
    try:
        trained(Path(folder, "stopped"), progress=interrupt)
    except UnfinishedError as stop:
        said["stopped"] = str(stop)
    again = trained(Path(folder, "stopped"))
    said["same"] = again.history == result.history
    try:
        trained(Path(folder, "other"), seed=ranks.rank)
    except AlChargeError as error:
        said["refused"] = str(error)
    print("muted by all but the first")
weights = result.potential.state()[1]
said["same"] &= all(torch.equal(weights[k], v) for k, v in again.potential.state()[1].items())
save_file(weights, f"{folder}/weights-{ranks.rank}")
Path(folder, f"said-{ranks.rank}").write_text(json.dumps(said))
"""


def frames() -> list[TrainingFrame]:
    """Return frames of which some lack moments and charges, as labels do."""
    rng = np.random.default_rng(3)
    labelled = []
    for number, frame in enumerate(teacher_frames(5)):
        if number % 3 == 0:
            frame = replace(frame, moments=rng.uniform(3.0, 5.0, len(frame.atoms)))
        if number % 2 == 0:
            frame = replace(frame, charges=rng.normal(size=len(frame.atoms)))
        labelled.append(frame)
    return labelled


def trained(checkpoint: Path, *, seed: int = 2, progress: Any = None) -> TrainingResult:
    """Train on batches that two processes cannot share evenly; the last is of one frame."""
    return train(
        CpainnSettings(cutoff="4 A", channels=4, radial=4, pair_cutoff="0 A"),
        TrainingSettings(epochs=EPOCHS, batch_size=3, precision="float64", averaging=0.5),
        frames(),
        seed=seed,
        fold=0,
        n_folds=3,
        checkpoint=checkpoint,
        progress=progress,
    )


def test_a_process_alone_is_no_group() -> None:
    with process_group(torch.device("cpu")) as ranks:
        assert ranks == Ranks() == Ranks.current()
        assert ranks.first and list(ranks.part([1, 2, 3])) == [1, 2, 3]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained together."""
    folder = tmp_path_factory.mktemp("together")
    (folder / "script.py").write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [sys.executable, *launch, "script.py", str(Path(__file__).parent), str(folder)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "muted by all but the first\n"
    return folder


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one(together: Path, tmp_path: Path) -> None:
    """Weights, figures and held-out errors, to rounding."""
    alone = trained(tmp_path / "checkpoint")
    assert len(alone.potential.state()[1]) > 10
    first, second = (load_file(together / f"weights-{rank}") for rank in range(2))
    for name, value in alone.potential.state()[1].items():
        assert torch.equal(first[name], second[name])
        np.testing.assert_allclose(first[name], value, rtol=1e-5, atol=1e-9)
    for rank in range(2):
        said = json.loads((together / f"said-{rank}").read_text())
        assert said["held_out"] == pytest.approx(alone.held_out, rel=1e-5)
        assert len(said["history"]) == EPOCHS
        for ours, theirs in zip(said["history"], alone.history, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)
            assert theirs["moment"] > 0 and theirs["charge"] > 0


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_step(together: Path) -> None:
    """And what goes on from there ends with the same bits."""
    for rank in range(2):
        said = json.loads((together / f"said-{rank}").read_text())
        assert "stopped after 1 epochs and 1 steps" in said["stopped"]
        assert said["same"]


@pytest.mark.slow
def test_processes_with_different_inputs_are_refused(together: Path) -> None:
    for rank in range(2):
        said = json.loads((together / f"said-{rank}").read_text())
        assert said["refused"].startswith(
            "training: the processes were given different data or settings"
        )
