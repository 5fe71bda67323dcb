"""SIGTERM ends a training where it can go on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from al_charge.errors import UnfinishedError
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.stopping import heeding_signals
from al_charge.testing.potentials import teacher_frames

EPOCHS = 4


def trained(checkpoint: Path, progress: Any = None) -> TrainingResult:
    return train(
        PainnSettings(cutoff="4 A", channels=4, radial=4, pair_cutoff="0 A"),
        TrainingSettings(epochs=EPOCHS, batch_size=2, checkpoint_every=100),
        teacher_frames(4),
        seed=1,
        fold=0,
        n_folds=4,
        checkpoint=checkpoint,
        progress=progress,
    )


@pytest.mark.parametrize(
    ("epoch", "done"), [(2, "2 epochs and 1 steps"), (EPOCHS, f"{EPOCHS} epochs and 0 steps")]
)
def test_a_stopped_training_ends_with_the_same_bits(epoch: int, done: str, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch, or when all but the result was there."""
    before = signal.getsignal(signal.SIGTERM)
    epochs = []

    def stop(number: int, _epochs: int, _figures: dict[str, float]) -> None:
        epochs.append(number)
        if number == epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(UnfinishedError, match=f"stopped after {done}") as stopped:
        trained(tmp_path / "stopped", stop)
    assert stopped.value.where == str(tmp_path / "stopped")
    assert signal.getsignal(signal.SIGTERM) is before
    later: list[int] = []
    resumed = trained(tmp_path / "stopped", lambda number, *_: later.append(number))
    assert epochs + later == list(range(1, EPOCHS + 1))
    whole = trained(tmp_path / "whole")
    assert resumed.history == whole.history
    assert resumed.held_out == whole.held_out
    first, second = resumed.potential.state()[1], whole.potential.state()[1]
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_another_version_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may fit the baseline, which is in no checkpoint, in another way."""
    seen: list[int] = []
    for version in ("0.0.1", "0.0.1", "0.0.2"):
        monkeypatch.setattr(
            "al_charge.potentials.training.train.version", lambda _, now=version: now
        )
        trained(tmp_path / "checkpoint", lambda number, *_: seen.append(number))
    assert seen == 2 * list(range(1, EPOCHS + 1))


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    handlers: list[Any] = []

    def look() -> None:
        with heeding_signals() as stop:
            handlers.append((signal.getsignal(signal.SIGTERM), stop()))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [(before, False)]


def test_a_process_that_ignores_sigterm_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with heeding_signals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop()
    finally:
        signal.signal(signal.SIGTERM, before)
