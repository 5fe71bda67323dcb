"""The cache of frames: the same frames, the same training, and never wrong ones."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from al_charge.errors import AlChargeError
from al_charge.potentials.data.frame_cache import AT_ONCE, cached_frames
from al_charge.potentials.data.frames import TrainingFrame, groups_of, split_frames
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.testing.potentials import teacher_frames

Frames = dict[str, list[TrainingFrame]]


@pytest.fixture(scope="module")
def labels() -> Frames:
    """Frames of twelve labels, some with stress, moments and charges, one with moments told."""
    frames = teacher_frames(12)
    found: Frames = {}
    rng = np.random.default_rng(0)
    for number in range(12):
        first, last = frames[2 * number : 2 * number + 2]
        sites = rng.normal(size=(2, len(last.atoms)))
        if number % 3 == 0:
            first = replace(first, stress=None)
            last = replace(last, moments=sites[0], charges=sites[1])
        if number == 5:
            for frame in (first, last):
                frame.atoms.set_array("moments", sites[0])
                frame.atoms.set_array("host_site", np.arange(len(last.atoms)))
        found[f"key {number}"] = [first, last]
    return found


class Source:
    """Hands out labels, and remembers which it was asked for."""

    def __init__(self, labels: Frames) -> None:
        self.labels = labels
        self.asked: list[str] = []

    def __call__(self, keys: Sequence[str]) -> Iterator[tuple[str, Sequence[TrainingFrame]]]:
        for key in keys:
            self.asked.append(key)
            yield key, self.labels[key]


def stamps(labels: Frames) -> dict[str, str]:
    return dict.fromkeys(labels, "1")


def flat(labels: Frames) -> list[TrainingFrame]:
    return [frame for frames in labels.values() for frame in frames]


def assert_same(found: Sequence[TrainingFrame], wanted: Sequence[TrainingFrame]) -> None:
    assert len(found) == len(wanted)
    assert list(groups_of(found)) == [frame.group for frame in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert (one.energy, one.group) == (other.energy, other.group)
        for name in ("forces", "stress", "moments", "charges"):
            here, there = getattr(one, name), getattr(other, name)
            assert (here is None) == (there is None)
            assert here is None or np.array_equal(here, there)
        assert set(one.atoms.arrays) == set(other.atoms.arrays)
        for name, values in other.atoms.arrays.items():
            assert one.atoms.arrays[name].dtype == values.dtype
            assert np.array_equal(one.atoms.arrays[name], values)
        assert np.array_equal(one.atoms.cell, other.atoms.cell)
        assert one.atoms.pbc.all()


def test_frames_come_back_bit_for_bit_and_only_once(labels: Frames, tmp_path: Path) -> None:
    source = Source(labels)
    found = cached_frames(tmp_path / "cache", stamps(labels), source)
    assert_same(found, flat(labels))
    assert_same(found[3:9], flat(labels)[3:9])
    assert_same(found[3:9][1:-1], flat(labels)[4:8])
    assert_same([found[-1]], [flat(labels)[-1]])
    with pytest.raises(IndexError):
        found[len(found)]
    again = cached_frames(tmp_path / "cache", stamps(labels), source)
    assert_same(again, flat(labels))
    assert source.asked == list(labels)


def test_a_later_round_adds_what_is_new(labels: Frames, tmp_path: Path) -> None:
    source = Source(labels)
    some = {key: labels[key] for key in ("key 7", "key 2")}
    assert_same(cached_frames(tmp_path, stamps(some), source), flat(some))
    assert_same(cached_frames(tmp_path, stamps(labels), source), flat(labels))
    assert sorted(source.asked) == sorted(labels)
    # The order is the caller's, and labels that are not wanted are left out.
    assert_same(cached_frames(tmp_path, stamps(some), source), flat(some))


def test_a_label_of_the_same_key_and_another_stamp_is_fetched_again(
    labels: Frames, tmp_path: Path
) -> None:
    """As after a database was deleted and its campaign run again."""
    cached_frames(tmp_path, stamps(labels), Source(labels))
    changed = dict(labels) | {"key 3": [replace(labels["key 3"][0], energy=-1.5)]}
    source = Source(changed)
    found = cached_frames(tmp_path, stamps(labels) | {"key 3": "2"}, source)
    assert_same(found, flat(changed))
    assert source.asked == ["key 3"]


@pytest.mark.parametrize("how", ["cut", "overwritten", "nonsense", "other layout"])
def test_a_damaged_cache_is_filled_again(how: str, labels: Frames, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    cached_frames(whole, stamps(labels), Source(labels))
    (name,) = (path.name for path in whole.glob("*.sqlite"))
    noticed = 0
    for seed in range(12):
        folder = tmp_path / f"{how}-{seed}"
        shutil.copytree(whole, folder)
        spoil(folder / name, how, random.Random(seed))
        source = Source(labels)
        assert_same(cached_frames(folder, stamps(labels), source), flat(labels))
        noticed += bool(source.asked)
        assert len(list(folder.glob("*.sqlite"))) == 1
    assert noticed == 12 or how == "overwritten"
    assert noticed > 6


def spoil(file: Path, how: str, rng: random.Random) -> None:
    size = file.stat().st_size
    if how == "cut":
        os.truncate(file, rng.randrange(1, size))
    elif how == "nonsense":
        file.write_bytes(rng.randbytes(size))
    elif how == "other layout":
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        with file.open("r+b") as stream:
            for _ in range(8):
                stream.seek(rng.randrange(size // 4096) * 4096 + rng.randrange(200))
                stream.write(rng.randbytes(8))


def test_damage_while_it_is_read_is_an_error(labels: Frames, tmp_path: Path) -> None:
    found = cached_frames(tmp_path, stamps(labels), Source(labels))
    (file,) = tmp_path.glob("*.sqlite")
    content = file.read_bytes()
    energies = np.array([frame.energy for frame in flat(labels)])
    place = content.index(energies[10].tobytes())
    with file.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"\x00\x01")
    with pytest.raises(AlChargeError, match=r"damaged while it was used; run it again"):
        [frame.energy for frame in found]
    assert_same(cached_frames(tmp_path, stamps(labels), Source(labels)), flat(labels))


FILL = """
import sys
from pathlib import Path
import numpy as np
from ase import Atoms
from al_charge.potentials.data.frame_cache import AT_ONCE, cached_frames
from al_charge.potentials.data.frames import TrainingFrame

def frame(key, number):
    atoms = Atoms("Fe30", np.zeros((30, 3)), cell=np.eye(3), pbc=True)
    atoms.set_array("species", np.array(["Fe2+"] * 30, dtype="U16"))
    return TrainingFrame(atoms, int(key) + 0.1 * number, np.ones((30, 3)), None, key)

def fetch(keys):
    print("fetching", len(keys), flush=True)
    for key in keys:
        if key == str(2 * AT_ONCE - 1):
            print("the second transaction is next", flush=True)
        yield key, [frame(key, 0), frame(key, 1)]

found = cached_frames(Path(sys.argv[1]), {str(k): "1" for k in range(200)}, fetch)
print("energies", repr([frame.energy for frame in found]), flush=True)
"""


def filler(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FILL, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_fillers_and_two_at_once(tmp_path: Path) -> None:
    """One is killed while it writes; two then fill the rest at once, and fetch nothing twice."""
    with filler(tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline().split() == ["fetching", "200"]
        assert first.stdout.readline().startswith("the second")
        first.send_signal(signal.SIGKILL)
    with filler(tmp_path) as one, filler(tmp_path) as other:
        said = [process.communicate(timeout=120)[0].split("\n", 1) for process in (one, other)]
    wanted = [key + 0.1 * number for key in range(200) for number in (0, 1)]
    fetched = [int(lines[0].split()[1]) for lines in said if lines[0].startswith("fetching")]
    # Every transaction is there in full or not at all, the first one in any case.
    assert len(fetched) < 2
    assert not fetched or 200 - fetched[0] in (AT_ONCE, 2 * AT_ONCE, 3 * AT_ONCE)
    for lines in said:
        (line,) = (line for line in "\n".join(lines).splitlines() if line.startswith("energies"))
        assert line == f"energies {wanted!r}"


def test_what_is_refused_is_not_taken_for_damage(
    labels: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "a.sqlite").mkdir()
    with pytest.raises(AlChargeError, match="cannot be written: unable to open database file"):
        cached_frames(tmp_path / "cache", stamps(labels), Source(labels))


def _train(frames: Sequence[TrainingFrame], checkpoint: Path, **start: object) -> TrainingResult:
    return train(
        PainnSettings(channels=4, cutoff="4 A", radial=4),
        TrainingSettings(epochs=2, patience=2, precision="float32"),
        frames,
        seed=3,
        fold=1,
        n_folds=4,
        checkpoint=checkpoint,
        **start,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("warm", [False, True])
def test_training_from_a_cache_is_bit_for_bit_that_from_a_list(
    warm: bool, labels: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With next to nothing in memory, too, and the identity by which a checkpoint is found."""
    start = {}
    if warm:
        start["warm_start"] = _train(flat(labels)[:8], tmp_path / "parent").potential
    cached = cached_frames(tmp_path / "cache", stamps(labels), Source(labels))
    results = [_train(flat(labels), tmp_path / "list", **start)]
    results.append(_train(cached, tmp_path / "cached", **start))
    monkeypatch.setattr("al_charge.potentials.data.spilled.MEMORY_LIMIT", 20_000)
    results.append(_train(cached, tmp_path / "spilled", **start))
    first = results[0]
    assert first.held_out
    for other in results[1:]:
        assert (other.history, other.held_out) == (first.history, first.held_out)
        for one, two in zip(first.potential.state(), other.potential.state(), strict=True):
            assert one.keys() == two.keys()
        weights, others = first.potential.state()[1], other.potential.state()[1]
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    files = [(tmp_path / name).read_bytes() for name in ("list", "cached", "spilled")]
    assert files[0] == files[1] == files[2]


def test_splits_of_a_cache_are_those_of_a_list(labels: Frames, tmp_path: Path) -> None:
    cached = cached_frames(tmp_path, stamps(labels), Source(labels))
    parts = split_frames(cached, fold=1, n_folds=3)
    for found, wanted in zip(parts, split_frames(flat(labels), fold=1, n_folds=3), strict=True):
        assert_same(found, wanted)
    used, held = (set(groups_of(part)) for part in parts)
    assert held and not used & held
