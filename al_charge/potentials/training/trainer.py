"""The epochs of one training, and its state between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.swa_utils import get_ema_multi_avg_fn

from al_charge.errors import AlChargeError
from al_charge.potentials.checkpoint import read_checkpoint, write_checkpoint
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.distributed import Ranks
from al_charge.potentials.training.loss import (
    Batch,
    Errors,
    counts,
    errors,
    join,
    mean_errors,
    rebatched,
)

WARM_UP = 0.05
"""Fraction of all steps over which the learning rate rises to its largest value."""
LAST_RATE = 0.01
"""Learning rate of the last step relative to the largest."""
VALIDATION_BATCH = 8
"""Held-out frames evaluated at once."""


def _never() -> bool:
    return False


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019), as in `torch.optim.AdamW`.

    The steps are those of torch's function. Its class imports torch's compiler, which takes more
    than a second in every process that trains, and compiles nothing here.

    Parameters
    ----------
    weights
        What is trained.
    weight_decay
        Per step and learning rate.

    Attributes
    ----------
    state
        Of each weight that has had a gradient, by its index: ``step``, and the running means
        ``exp_avg`` of its gradient and ``exp_avg_sq`` of the gradient squared.
    """

    def __init__(self, weights: Sequence[Tensor], weight_decay: float) -> None:
        self._weights = weights
        self._weight_decay = weight_decay
        self.state: dict[int, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights that have a gradient.

        Parameters
        ----------
        rate
            Learning rate.
        """
        moved = {i: w for i, w in enumerate(self._weights) if w.grad is not None}
        for index, weight in moved.items():
            if index not in self.state:
                self.state[index] = {
                    "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                    "exp_avg": torch.zeros_like(weight),
                    "exp_avg_sq": torch.zeros_like(weight),
                }
        states = [self.state[index] for index in moved]
        adamw(
            params=list(moved.values()),
            grads=[weight.grad for weight in moved.values() if weight.grad is not None],
            exp_avgs=[state["exp_avg"] for state in states],
            exp_avg_sqs=[state["exp_avg_sq"] for state in states],
            max_exp_avg_sqs=[],
            state_steps=[state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=self._weight_decay,
            eps=1e-8,
            maximize=False,
        )


class Trainer:
    """Trains a potential's network in place, where it is, one epoch at a time.

    The order of frames follows from the seed and the number of the epoch, so there is no random
    state to keep, and an epoch can go on at any of its steps.

    Parameters
    ----------
    potential
        What to train.
    settings
        How.
    used
        Frames to train on.
    held
        Frames to validate with.
    seed
        Of the order of frames.
    ranks
        Processes that train together; each has all frames and takes its part of every batch. This
        one alone if None.
    """

    def __init__(
        self,
        potential: Potential,
        settings: TrainingSettings,
        used: Sequence[Batch],
        held: Sequence[Batch],
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.potential = potential
        self.settings = settings
        self.ranks = ranks or Ranks()
        self.device = potential.device
        self.used = used
        self.held = rebatched(held, VALIDATION_BATCH) if held else []
        self.seed = seed
        # Makes losses of order one: the optimiser's own threshold is absolute.
        weights = torch.tensor([float(b.weights) for b in used], dtype=potential.dtype)
        mean_weight = float(weights.mean())
        self.unit = 1.0 / (mean_weight * potential.scale**2)
        self.module = potential.module
        self.weights = list(self.module.parameters())
        robust = settings.loss == "huber"
        self.huber = settings.huber_delta * potential.scale if robust else math.inf
        self.optimizer = AdamW(self.weights, settings.weight_decay)
        self.average = _copy(self.module.state_dict())
        self.best = _copy(self.average)
        self.best_loss = math.inf
        self.best_epoch = 0
        self.done = 0
        self.losses: list[float] = []  # of the steps of the epoch under way
        self.history: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or validation has not improved for ``patience`` of them."""
        stale = bool(self.held) and self.done - self.best_epoch >= self.settings.patience
        return self.done >= self.settings.epochs or stale

    def epoch(self, stop: Callable[[], bool] = _never) -> bool:
        """Go on with the epoch until all frames are used, then validate the mean of the weights.

        Parameters
        ----------
        stop
            Asked after each step whether to stop there.

        Returns
        -------
        bool
            Whether the epoch came to its end. If any process is to stop, all do at the same step.
        """
        order = np.random.default_rng([self.seed, self.done]).permutation(len(self.used))
        size = self.settings.batch_size
        starts = range(0, len(order), size)
        for number in range(len(self.losses), len(starts)):
            progress = (self.done + number / len(starts)) / self.settings.epochs
            rate = self._rate(progress) * self.settings.learning_rate
            chosen = order[starts[number] : starts[number] + size].tolist()
            loss, stopping = self._step(chosen, rate, stop)
            self.losses.append(loss)
            if stopping:
                return False
        losses, self.losses = self.losses, []
        self.done += 1
        self._validate(float(np.mean(losses)))
        return True

    def _rate(self, progress: float) -> float:
        """Return the learning rate relative to the largest, after a short rise."""
        rise = min(1.0, progress / WARM_UP + LAST_RATE)
        if self.settings.schedule == "cosine":
            return rise * _cosine(progress)
        if self.settings.schedule == "plateau" and self.held:
            losses = [entry["held_out_loss"] for entry in self.history]
            return rise * max(LAST_RATE, 0.5 ** _plateaus(losses, self.settings.patience // 2))
        return rise

    def _step(
        self, chosen: Sequence[int], rate: float, stop: Callable[[], bool]
    ) -> tuple[float, bool]:
        """Train on some frames; return their loss, and whether a process is to stop."""
        own = [self.used[i] for i in self.ranks.part(chosen)]
        loss = self._loss(join(own).to(self.device) if own else None)
        self.module.zero_grad()
        if own:
            loss.backward()
        numbers = torch.stack([loss.detach(), loss.new_tensor(stop())])
        loss_of_all, stopping = self.ranks.sum_gradients(self.weights, numbers).tolist()
        torch.nn.utils.clip_grad_norm_(self.weights, self.settings.gradient_clip)
        self.optimizer.step(rate)
        real = {k: v for k, v in self.module.state_dict().items() if v.is_floating_point()}
        # All weights at once: for each a GPU would be started anew.
        mean = get_ema_multi_avg_fn(self.settings.averaging)
        mean([self.average[name] for name in real], list(real.values()), 0)
        return loss_of_all, stopping > 0.0

    def _loss(self, batch: Batch | None) -> Tensor:
        """Return this process's part of the loss of a step, whose frames all processes share."""
        parts = None
        if self.ranks.size > 1:
            nothing = torch.zeros(3, dtype=torch.int64, device=self.device)
            own = nothing if batch is None else counts(batch)
            # Means over a part are weighted with it, so that parts add up to the mean of all.
            parts = (own / self.ranks.total(own).clamp(min=1)).to(self.potential.dtype)
        if batch is None:
            return torch.zeros((), dtype=self.potential.dtype, device=self.device)
        found = errors(self.module, self.potential.scale, batch, training=True, huber=self.huber)
        if parts is not None:
            found = found.times(*parts)
        return found.loss(self.settings) * self.unit

    def _validate(self, training_loss: float) -> None:
        entry = {"epoch": float(self.done), "loss": training_loss}
        score = -float(self.done)
        if self.held:
            latest = _copy(self.module.state_dict())
            self.module.load_state_dict(self.average)
            found = mean_errors(
                self.module,
                self.potential.scale,
                self.held,
                device=self.device,
                ranks=self.ranks,
            )
            self.module.load_state_dict(latest)
            squares = Errors(**{name: error**2 for name, error in found.items()})
            entry |= found | {"held_out_loss": squares.loss(self.settings)}
            # All processes decide by the errors of one.
            entry = self.ranks.agreed(entry)
            score = entry["held_out_loss"]
        self.history.append(entry)
        if score < self.best_loss:
            self.best_loss, self.best_epoch = score, self.done
            self.best = _copy(self.average)

    def best_potential(self) -> Potential:
        """Return the potential with the best weights so far.

        Returns
        -------
        Potential
            The one that was given, changed.
        """
        self.module.load_state_dict(self.best)
        return self.potential

    def save(self, path: Path, identity: str) -> None:
        """Write everything that the next step depends on, and the best weights.

        Parameters
        ----------
        path
            Of the checkpoint; only the first process writes it.
        identity
            Hash of the inputs of the training.
        """
        if not self.ranks.first:
            return
        tensors = {
            f"{part}.{name}": value
            for part, state in (
                ("latest", self.module.state_dict()),
                ("average", self.average),
                ("best", self.best),
            )
            for name, value in state.items()
        }
        for index, state in self.optimizer.state.items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        facts = {
            "identity": identity,
            "done": self.done,
            "losses": self.losses,
            "history": self.history,
            "best_loss": self.best_loss,
            "best_epoch": self.best_epoch,
        }
        write_checkpoint(path, tensors, facts)

    def resume(self, path: Path, identity: str) -> bool:
        """Continue from a checkpoint of the same inputs, if there is one.

        Parameters
        ----------
        path
            Of the checkpoint; only the first process reads it.
        identity
            Hash of the inputs of the training.

        Returns
        -------
        bool
            Whether there was one.

        Raises
        ------
        AlChargeError
            If processes that are to train together have different inputs.
        """
        differs = torch.tensor([self.ranks.agreed(identity) != identity], device=self.device)
        if self.ranks.total(differs.long()) > 0:  # so that all processes raise it
            raise AlChargeError(
                "the processes were given different data or settings",
                where="training",
                remedy="start all of them with the same files and versions",
            )
        found = self.ranks.agreed(read_checkpoint(path) if self.ranks.first else None)
        if found is None or found[1].get("identity") != identity:
            return False
        tensors = {name: value.to(self.device) for name, value in found[0].items()}
        facts = found[1]
        self.module.load_state_dict(_part(tensors, "latest"))
        self.average, self.best = _part(tensors, "average"), _part(tensors, "best")
        self.optimizer.state = _nested(_part(tensors, "optimizer"))
        self.done, self.history = facts["done"], facts["history"]
        self.losses = facts.get("losses", [])
        self.best_loss, self.best_epoch = facts["best_loss"], facts["best_epoch"]
        return True


def _cosine(progress: float) -> float:
    """Return half a cosine from one to the last rate."""
    return LAST_RATE + (1.0 - LAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * progress))


def _plateaus(losses: Sequence[float], patience: int) -> int:
    """Return how often the loss did not improve for ``patience`` epochs."""
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
