"""Lists that keep what goes beyond a limit in a file."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from al_charge.errors import AlChargeError
from al_charge.potentials.data.spilled import Spilled


@dataclass(frozen=True)
class Inner:
    numbers: torch.Tensor
    reals: torch.Tensor


@dataclass(frozen=True)
class Item:
    inner: Inner
    energy: float
    forces: NDArray[np.float64]
    moments: NDArray[np.float64] | None = None


def item(seed: int) -> Item:
    rng = np.random.default_rng(seed)
    inner = Inner(
        torch.tensor(rng.integers(9, size=seed % 5)),
        torch.tensor(rng.normal(size=(3, 4)), dtype=torch.float32).T,
    )
    forces = rng.normal(size=(seed + 1, 3))
    forces[0, 0] = np.nan
    return Item(inner, rng.normal(), forces)


def assert_same(one: Item, other: Item) -> None:
    assert type(one.energy) is float
    assert one.energy == other.energy
    assert one.moments is None
    assert np.array_equal(one.forces, other.forces, equal_nan=True)
    for field in fields(Inner):
        here, there = getattr(one.inner, field.name), getattr(other.inner, field.name)
        assert here.dtype == there.dtype and torch.equal(here, there)


@pytest.mark.parametrize("limit", [0, 2000, 10**9])
def test_items_are_the_same_wherever_they_are(limit: int) -> None:
    items = [item(seed) for seed in range(20)]
    kept = Spilled(iter(items), limit)
    assert len(kept) == 20
    assert (kept.on_disk > 0) == (limit < 10**9)
    for found, wanted in zip(kept, items, strict=True):
        assert_same(found, wanted)
    assert_same(kept[-1], items[-1])
    for found, wanted in zip(kept[3:17:5], items[3:17:5], strict=True):
        assert_same(found, wanted)
    with pytest.raises(IndexError):
        kept[20]
    assert len(Spilled([], limit)) == 0


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(AlChargeError, match=r"gone: prepared training data.*set TMPDIR"):
        Spilled([item(1)], 0)


GROWTH = """
import resource, sys
import torch
from al_charge.potentials.data.spilled import Spilled
sys.path.insert(0, sys.argv[1])
from test_spilled import Inner

def items(n):
    for k in range(n):
        yield Inner(torch.arange(10_000) + k, torch.full((10_000,), float(k)))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

few = Spilled(items(200), 20_000_000)
before = peak()
many = Spilled(items(2000), 20_000_000)
total = sum(float(inner.reals[0]) for inner in many)
print(before, peak(), many.on_disk, total)
"""


def test_memory_does_not_grow_with_what_is_kept() -> None:
    """2000 items of 120 kB, of which 20 MB are to stay: the process grows by those 20 MB."""
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, on_disk, total = map(float, done.stdout.split())
    assert on_disk > 200e6
    assert total == sum(range(2000))
    assert after - before < 60
