"""Tensors and metadata in one safetensors file, replaced in one step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

_KEY = "al_charge"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and metadata to one file; a kill leaves the old file or the new one.

    Tensors are written as those of a CPU, so that a file can be read on any machine.

    Parameters
    ----------
    path
        Replaced in one step if it is there.
    tensors
        By name.
    facts
        Metadata, JSON-serialisable.
    """
    text = json.dumps(facts, sort_keys=True)
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(save(contiguous, metadata={_KEY: text}))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the contents of a checkpoint.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    tuple of dict and dict, or None
        Tensors and metadata; None if there is no such file or it cannot be read.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RecursionError):
        return None
    return (tensors, facts) if isinstance(facts, dict) else None
