"""Several processes that train one potential together, as ``torchrun`` starts them.

Every process holds the whole network and takes its part of each batch. Gradients are summed over
processes after the backward pass, so that the step is that of one process with the whole batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """Processes that train together, and which of them this one is; by default it is alone.

    Attributes
    ----------
    rank
        Its number, from zero.
    size
        How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Return the ranks of the process group that this process is in.

        Returns
        -------
        Ranks
            A single process if there is no group.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part of a sequence.

        Parameters
        ----------
        items
            The same in all processes.

        Returns
        -------
        sequence
            Empty if there are more processes than items and none is left for this one.
        """
        return items[self.rank :: self.size]

    def total(self, values: Tensor) -> Tensor:
        """Return sums over processes.

        Parameters
        ----------
        values
            Of the same shape in all processes.

        Returns
        -------
        Tensor
            Of that shape.
        """
        if self.size == 1:
            return values
        sums = values.clone()
        distributed.all_reduce(sums)
        return sums

    def agreed(self, value: Item) -> Item:
        """Return what the first process has.

        Parameters
        ----------
        value
            A small object of plain Python and tensors.

        Returns
        -------
        object
            That of the first process, in all of them.
        """
        if self.size == 1:
            return value
        values: list[Any] = [value]
        distributed.broadcast_object_list(values)
        found: Item = values[0]
        return found

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            distributed.barrier()

    def sum_gradients(self, weights: Sequence[nn.Parameter], numbers: Tensor) -> Tensor:
        """Replace gradients by their sums over processes, and sum some numbers as well.

        A weight that has no gradient in any process keeps none, so that the optimiser passes over
        it as it does in a single process.

        Parameters
        ----------
        weights
            All of one precision, on one device.
        numbers
            Shape (n,).

        Returns
        -------
        Tensor, shape (n,)
            Sums of the numbers over processes.
        """
        if self.size == 1:
            return numbers
        own = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        known = numbers.new_tensor([w.grad is not None for w in weights])
        # A single message: their number costs more than their size.
        sums = self.total(torch.cat([*(g.flatten() for g in own), known, numbers]))
        sizes = [*(g.numel() for g in own), len(known), len(numbers)]
        parts: tuple[Tensor, ...] = torch.split(sums, sizes)
        for weight, part, having in zip(weights, parts, parts[-2].tolist(), strict=False):
            weight.grad = part.view_as(weight).clone() if having else None
        return parts[-1]


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, if it did; all but the first print nothing.

    Parameters
    ----------
    device
        Where this process computes: messages go by NCCL between GPUs and by Gloo between CPUs.

    Yields
    ------
    Ranks
        The processes, and which of them this one is.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    try:
        ranks = Ranks.current()
        with contextlib.nullcontext() if ranks.first else _muted():
            yield ranks
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield
