"""The epochs of one training, and its state between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from al_charge.potentials.checkpoint import read_checkpoint, write_checkpoint
from al_charge.potentials.loss import Batch, errors, join, joined, mean_errors
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings

WARM_UP = 0.05
"""Part of all steps over which the learning rate rises to its largest value."""
LAST_RATE = 0.01
"""Learning rate of the last step, as a part of the largest."""
VALIDATION_BATCH = 8
"""Held-out frames evaluated at once."""


class Trainer:
    """Trains a potential's network in place, one epoch at a time.

    The order of frames follows from the seed and the number of the epoch, so there is no random
    state to keep.

    Parameters
    ----------
    potential
        What to train.
    settings
        How.
    used, held
        Frames to train on and to validate with.
    seed
        Of the order of frames.
    """

    def __init__(
        self,
        potential: Potential,
        settings: TrainingSettings,
        used: Sequence[Batch],
        held: Sequence[Batch],
        seed: int,
    ) -> None:
        self.potential = potential
        self.settings = settings
        self.used = used
        self.held = joined(held, VALIDATION_BATCH) if held else []
        self.seed = seed
        # Makes losses of order one: the optimiser's own threshold is absolute.
        weights = torch.tensor([float(b.weights) for b in used], dtype=potential.dtype)
        mean_weight = float(weights.mean())
        self.unit = 1.0 / (mean_weight * potential.scale**2)
        self.module = potential.module
        robust = settings.loss == "huber"
        self.huber = settings.huber_delta * potential.scale if robust else math.inf
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.average = _copy(self.module.state_dict())
        self.best = _copy(self.average)
        self.best_loss = math.inf
        self.best_epoch = 0
        self.done = 0
        self.history: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or validation has not improved for too long."""
        stale = bool(self.held) and self.done - self.best_epoch >= self.settings.patience
        return self.done >= self.settings.epochs or stale

    def epoch(self) -> None:
        """Pass over all frames once, then validate the mean of the weights."""
        order = np.random.default_rng([self.seed, self.done]).permutation(len(self.used))
        size = self.settings.batch_size
        starts = range(0, len(order), size)
        losses = []
        for number, start in enumerate(starts):
            batch = join([self.used[i] for i in order[start : start + size]])
            progress = (self.done + number / len(starts)) / self.settings.epochs
            losses.append(self._step(batch, self._rate(progress) * self.settings.learning_rate))
        self.done += 1
        self._validate(float(np.mean(losses)))

    def _rate(self, progress: float) -> float:
        """Return the learning rate relative to the largest, after a short rise."""
        rise = min(1.0, progress / WARM_UP + LAST_RATE)
        if self.settings.schedule == "cosine":
            return rise * _cosine(progress)
        if self.settings.schedule == "plateau" and self.held:
            losses = [entry["held_out_loss"] for entry in self.history]
            return rise * max(LAST_RATE, 0.5 ** _standstills(losses, self.settings.patience // 2))
        return rise

    def _step(self, batch: Batch, rate: float) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        found = errors(self.module, self.potential.scale, batch, training=True, huber=self.huber)
        loss = found.loss(self.settings) * self.unit
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if value.is_floating_point():
                    self.average[name].lerp_(value, 1.0 - self.settings.averaging)
        return float(loss.detach())

    def _validate(self, training_loss: float) -> None:
        entry = {"epoch": float(self.done), "loss": training_loss}
        score = -float(self.done)
        if self.held:
            latest = _copy(self.module.state_dict())
            self.module.load_state_dict(self.average)
            entry |= mean_errors(self.module, self.potential.scale, self.held)
            self.module.load_state_dict(latest)
            score = entry["held_out_loss"] = (
                self.settings.energy_weight * entry["energy"] ** 2
                + self.settings.force_weight * entry["force"] ** 2
                + self.settings.stress_weight * entry["stress"] ** 2
                + self.settings.moment_weight * entry["moment"] ** 2
                + self.settings.charge_weight * entry["charge"] ** 2
            )
        self.history.append(entry)
        if score < self.best_loss:
            self.best_loss, self.best_epoch = score, self.done
            self.best = _copy(self.average)

    def best_potential(self) -> Potential:
        """Return the potential with the best weights so far."""
        self.module.load_state_dict(self.best)
        return self.potential

    def save(self, path: Path, identity: str) -> None:
        """Write everything that the next epoch depends on, and the best weights."""
        tensors = {
            f"{part}.{name}": value
            for part, state in (
                ("latest", self.module.state_dict()),
                ("average", self.average),
                ("best", self.best),
            )
            for name, value in state.items()
        }
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        facts = {
            "identity": identity,
            "done": self.done,
            "history": self.history,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
        }
        write_checkpoint(path, tensors, facts)

    def resume(self, path: Path, identity: str) -> bool:
        """Take over a checkpoint; return whether there was one of the same inputs."""
        found = read_checkpoint(path)
        if found is None or found[1].get("identity") != identity:
            return False
        tensors, facts = found
        self.module.load_state_dict(_part(tensors, "latest"))
        self.average, self.best = _part(tensors, "average"), _part(tensors, "best")
        state = self.optimizer.state_dict()
        state["state"] = _nested(_part(tensors, "optimizer"))
        self.optimizer.load_state_dict(state)
        self.done, self.history = facts["done"], facts["history"]
        self.best_loss, self.best_epoch = facts["best_loss"], facts["best_epoch"]
        return True


def _cosine(progress: float) -> float:
    """Return half a cosine from one to the last rate."""
    return LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _standstills(losses: Sequence[float], patience: int) -> int:
    """Return how often in a row of epochs no loss was better than before, ``patience`` of them."""
    count, waited, best = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited >= max(1, patience):
            count, waited = count + 1, 0
    return count


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _part(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _nested(flat: dict[str, Tensor]) -> dict[int, dict[str, Any]]:
    nested: dict[int, dict[str, Any]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        nested.setdefault(int(index), {})[key] = value
    return nested
