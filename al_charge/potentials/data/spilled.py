"""Lists of which a bounded part is in memory and the rest in a temporary file."""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, overload

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from al_charge.errors import AlChargeError

T = TypeVar("T")

MEMORY_LIMIT = 512 * 1024 * 1024
"""Bytes of its items that a list keeps in memory by default."""


class Spilled(Sequence[T]):
    """A list of dataclasses of tensors; what exceeds a limit is kept in a file.

    An item that is read back has the same bits as the one that was given. The file lies where
    ``tempfile`` puts its files (the variable TMPDIR) and has no name, so that nothing of it is left
    however the process ends.

    Parameters
    ----------
    items
        Of one class, a dataclass of tensors, arrays, numbers, None and further such dataclasses.
    limit
        Bytes to keep in memory; ``MEMORY_LIMIT`` if None.

    Raises
    ------
    AlChargeError
        If the disk is full.
    """

    def __init__(self, items: Iterable[T], limit: int | None = None) -> None:
        room = MEMORY_LIMIT if limit is None else limit
        self._near: list[T] = []
        self._ends = array("q", [0])
        self._file: Any = None
        for item in items:
            room -= sum(value.nbytes for value in _tensors(item).values())
            if room >= 0 and self._file is None:
                self._near.append(item)
            else:
                self._append(item)
        if self._file is not None:
            self._file.flush()

    @property
    def on_disk(self) -> int:
        """Bytes that are kept in the file."""
        return self._ends[-1]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._near) + len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> list[T]: ...

    def __getitem__(self, place: int | slice) -> T | list[T]:
        """Return one item, or a list of several."""
        chosen = range(len(self))[place]
        return self._read(chosen) if isinstance(chosen, int) else [self._read(i) for i in chosen]

    def _append(self, item: T) -> None:
        content = safetensors.torch.save(_tensors(item))
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="al-charge-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
                self._like = item
            self._file.write(content)
        except OSError as error:
            raise AlChargeError(
                f"prepared training data cannot be written: {error.strerror}",
                where=tempfile.gettempdir(),
                remedy="set TMPDIR to a folder with more space",
            ) from error
        self._ends.append(self._ends[-1] + len(content))

    def _read(self, place: int) -> T:
        if place < len(self._near):
            return self._near[place]
        place -= len(self._near)
        start, end = self._ends[place], self._ends[place + 1]
        # Does not move the position in the file: several threads may read at once.
        content = os.pread(self._file.fileno(), end - start, start)
        found: T = _rebuilt(self._like, safetensors.torch.load(content), "")
        return found


def _tensors(item: Any, prefix: str = "") -> dict[str, Tensor]:
    """Return everything in a dataclass as tensors, by dotted names."""
    found: dict[str, Tensor] = {}
    for field in fields(item):
        name, value = f"{prefix}{field.name}", getattr(item, field.name)
        if is_dataclass(value):
            found |= _tensors(value, f"{name}.")
        elif isinstance(value, Tensor):
            found[name] = value.contiguous()
        elif isinstance(value, np.ndarray):
            found[name] = torch.from_numpy(np.ascontiguousarray(value))
        elif value is not None:
            found[name] = torch.tensor(value, dtype=torch.float64)
    return found


def _rebuilt(like: Any, tensors: dict[str, Tensor], prefix: str) -> Any:
    """Return a dataclass of the same structure as another, from tensors of its names."""
    values: dict[str, Any] = {}
    for field in fields(like):
        name, model = f"{prefix}{field.name}", getattr(like, field.name)
        if is_dataclass(model):
            values[field.name] = _rebuilt(model, tensors, f"{name}.")
        elif isinstance(model, np.ndarray):
            values[field.name] = tensors[name].numpy()
        elif isinstance(model, Tensor) or model is None:
            values[field.name] = tensors.get(name)
        else:
            values[field.name] = type(model)(tensors[name])
    return type(like)(**values)
