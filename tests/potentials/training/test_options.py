"""Losses, schedules and precision of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import huber

from al_charge.potentials.painn import CpainnSettings, PainnSettings
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.distributed import Ranks
from al_charge.potentials.training.loss import errors, join, mean_errors, prepare
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.potentials.training.trainer import AdamW, Trainer
from al_charge.testing.potentials import teacher_frames, untrained

SMALL = PainnSettings(cutoff="4 A", channels=8, radial=6, pair_cutoff="0 A")


def _train(folder: Path, *, n_folds: int = 1, **options: Any) -> TrainingResult:
    return train(
        SMALL,
        TrainingSettings(**{"epochs": 6, "learning_rate": 0.02, "averaging": 0.0} | options),
        teacher_frames(4),
        seed=2,
        fold=0,
        n_folds=n_folds,
        checkpoint=folder / "checkpoint",
    )


def test_huber_counts_large_errors_linearly() -> None:
    """Against SciPy's, which is half of it; stress and small errors are squared as before."""
    potential = untrained(SMALL)
    frames = teacher_frames(1)
    batch = join(prepare(potential, frames))
    predictions = potential.predict([frame.atoms for frame in frames])
    delta = 0.4
    of_energy, of_force = [], []
    for frame, prediction, weight in zip(frames, predictions, batch.weights, strict=True):
        energy = (prediction.energy - frame.energy) / len(frame.atoms)
        of_energy.append(float(weight) * 2 * huber(delta, energy))
        of_force.append(float(weight) * np.mean(2 * huber(delta, prediction.forces - frame.forces)))
        assert np.abs(prediction.forces - frame.forces).max() > delta
    found = errors(potential.module, potential.scale, batch, huber=delta)
    assert float(found.energy) == pytest.approx(np.mean(of_energy), rel=1e-9)
    assert float(found.force) == pytest.approx(np.mean(of_force), rel=1e-9)
    plain = errors(potential.module, potential.scale, batch)
    wide = errors(potential.module, potential.scale, batch, huber=1e6)
    assert float(found.force) < float(plain.force) == float(wide.force)
    assert float(found.stress) == float(plain.stress)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_precision(precision: str, tmp_path: Path) -> None:
    """Of every weight, kept in the state."""
    result = _train(tmp_path, precision=precision)
    dtype = getattr(torch, precision)
    assert result.potential.dtype == dtype
    config, weights = result.potential.state()
    assert config["dtype"] == precision
    assert all(w.dtype == dtype for name, w in weights.items() if name.startswith("module."))


def _trainer(schedule: str, losses: list[float]) -> Trainer:
    potential = untrained(SMALL)
    frames = prepare(potential, teacher_frames(2))
    settings = TrainingSettings(schedule=schedule, patience=4, epochs=100)
    trainer = Trainer(potential, settings, frames[:2], frames[2:], seed=0)
    trainer.history = [{"held_out_loss": loss} for loss in losses]
    trainer.done = len(losses)
    return trainer


@pytest.mark.parametrize(
    ("schedule", "losses", "rate"),
    [
        ("constant", [3.0, 3.0, 3.0, 3.0, 3.0], 1.0),
        ("plateau", [3.0, 2.0, 1.0, 0.9, 0.8], 1.0),
        ("plateau", [3.0, 2.0, 2.0, 2.0], 0.5),  # half of the patience is two epochs
        ("plateau", [3.0, 2.0, 2.0, 2.0, 2.5, 2.1, 1.0], 0.25),
        ("cosine", [3.0, 2.0], 0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * 0.5))),
    ],
)
def test_schedules(schedule: str, losses: list[float], rate: float) -> None:
    """Of the learning rate in mid-training, relative to its largest."""
    assert _trainer(schedule, losses)._rate(0.5) == pytest.approx(rate)


def test_every_schedule_begins_with_a_rise() -> None:
    """The optimiser's first steps know nothing of the gradients' sizes."""
    for schedule in ("cosine", "plateau", "constant"):
        trainer = _trainer(schedule, [])
        assert trainer._rate(0.0) < 0.05
        assert trainer._rate(0.02) < trainer._rate(0.05)


def test_steps_are_those_of_adamw_in_torch() -> None:
    """Bit for bit, with a rate that changes and a weight without a gradient at first."""

    def weights() -> list[torch.nn.Parameter]:
        random = torch.Generator().manual_seed(1)
        return [torch.nn.Parameter(torch.randn(n, 3, generator=random)) for n in (7, 5)]

    ours, theirs = weights(), weights()
    optimizer = AdamW(ours, weight_decay=0.2)
    reference = torch.optim.AdamW(theirs, weight_decay=0.2, fused=True)
    random = torch.Generator().manual_seed(2)
    for rate in (0.03, 0.02, 0.01, 0.005):
        for index in (0, 1) if rate < 0.02 else (0,):
            gradient = torch.randn(ours[index].shape, generator=random)
            ours[index].grad, theirs[index].grad = gradient, gradient.clone()
        reference.param_groups[0]["lr"] = rate
        optimizer.step(rate)
        reference.step()
    assert all(map(torch.equal, ours, theirs))
    kept = reference.state_dict()["state"]
    assert optimizer.state.keys() == kept.keys() == {0, 1}
    for index, state in optimizer.state.items():
        assert state.keys() == kept[index].keys()
        assert all(torch.equal(state[key], kept[index][key]) for key in state)


def test_errors_of_moments_are_over_the_sites_that_have_one() -> None:
    """Frames without moments make the error of moments no smaller."""
    potential = untrained(CpainnSettings(cutoff="3.5 A", channels=4, radial=4))
    frames = teacher_frames(4)
    size = len(frames[0].atoms)
    told = replace(frames[0], moments=np.linspace(0.0, 4.0, size))
    batches = prepare(potential, [told, *(replace(f, moments=None) for f in frames[1:])])
    found = mean_errors(
        potential.module, potential.scale, batches, device=potential.device, ranks=Ranks()
    )
    (predicted,) = potential.predict([told.atoms])
    assert predicted.moments is not None and told.moments is not None
    off = predicted.moments - np.abs(told.moments)
    weight = float(batches[0].weights)
    assert found["moment"] == pytest.approx(np.sqrt(weight * np.mean(off**2)), rel=1e-6)
    assert found["charge"] == 0.0
