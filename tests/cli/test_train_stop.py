"""`al-charge train` on devices, in several processes, and stopped by a batch system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from al_charge.potentials.model_file import read_members
from al_charge.testing.labelled import labelled, write_labels

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """Train for thirty short epochs."""
    data = write_labels(tmp_path / "labels.extxyz", [labelled(seed) for seed in range(10)])
    document = {
        "potential": {"kind": "painn", "channels": 4, "radial": 4, "pair_cutoff": "0 A"},
        "training": {"epochs": 30, "patience": 30, "checkpoint_every": 1, "precision": "float64"},
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return ["train", str(data), "MODEL", "--settings", str(tmp_path / "s.yaml")]


def test_told_to_end_it_writes_a_checkpoint_and_goes_on_from_it(
    command: list[str], run: Run, tmp_path: Path
) -> None:
    command[2] = str(tmp_path / "stopped")
    process = subprocess.Popen(
        [sys.executable, "-m", "al_charge", *command],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoint = tmp_path / "stopped.checkpoint-0"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    (line,) = [line for line in said.splitlines() if line.startswith("al-charge:")]
    assert line.startswith(f"al-charge: {command[2]}: stopped after ")
    assert line.endswith("steps; give the same command again to go on")
    assert checkpoint.exists() and not (tmp_path / "stopped").exists()
    assert run(*command)[0] == 0
    assert not checkpoint.exists()
    whole = [str(tmp_path / "whole") if word == command[2] else word for word in command]
    assert run(*whole, "--device", "cpu")[0] == 0
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "stopped").read_bytes()


@pytest.mark.slow
def test_two_processes_write_the_model_of_one(command: list[str], run: Run, tmp_path: Path) -> None:
    """A committee, to rounding; the first process alone speaks."""
    found = {}
    options = ["--members", "2", "--folds", "3", "--json", "--device", "cpu"]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    for name in ("together", "alone"):
        words = [*command[:2], str(tmp_path / name), *command[3:], *options]
        if name == "alone":
            code, out, err = run(*words)
        else:
            done = subprocess.run(
                [sys.executable, *launch, "-m", "al_charge", *words],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=300,
            )
            code, out, err = done.returncode, done.stdout, done.stderr
        assert code == 0, err
        found[name] = json.loads(out)
    assert not list(tmp_path.glob("*checkpoint*"))
    for ours, theirs in zip(found["together"]["history"], found["alone"]["history"], strict=True):
        assert ours[-1] == pytest.approx(theirs[-1], rel=1e-5)
    for name in found:
        assert len(read_members(tmp_path / name)[0]) == 2


def test_a_device_that_is_not_there_is_refused_before_anything_is_read(
    command: list[str], run: Run
) -> None:
    code, out, err = run(*command, "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith("al-charge: --device: torch finds ")
    assert err.strip().endswith("give cpu, cuda, or one GPU such as cuda:0")
