"""Lattice constants and volumes that the examples print, against the labels' own relaxed cells."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.image import imread

pytestmark = pytest.mark.slow


def test_lattice_constants_are_those_of_the_labels(run: Callable[..., str], model: Path) -> None:
    rows = re.findall(
        r"^(\w+) +(potential|relaxed labels)((?: +[\d.]+){3})",
        run("lattice_constants", model),
        re.M,
    )
    found = {
        (name, source): [float(word) for word in words.split()] for name, source, words in rows
    }
    assert len(found) == 4
    for name in ("FePO4", "NaFePO4"):
        assert found[name, "potential"] == pytest.approx(found[name, "relaxed labels"], rel=0.02)
    # PBE+U cells of the labels, from the output of the relaxations
    assert found["NaFePO4", "relaxed labels"] == pytest.approx([10.53, 6.42, 4.91], abs=0.005)


def test_volumes_are_those_of_the_labels(
    run: Callable[..., str], model: Path, tmp_path: Path
) -> None:
    plot = tmp_path / "volume.png"
    out = run("volume_change", model, "--plot", plot)
    rows = re.findall(r"^ +(\d\.\d\d) +([\d.]+) +([\d.]+)$", out, re.M)
    assert [float(x) for x, _, _ in rows] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for _, ours, label in rows:
        assert float(ours) == pytest.approx(float(label), rel=0.02)
    ours, label = (float(p) for p in re.findall(r"(?:potential|labels): \+([\d.]+) %", out))
    assert label == pytest.approx(100 * (82.95 / 73.41 - 1), abs=0.1)
    assert ours == pytest.approx(label, abs=2.0)
    assert imread(plot).std() > 0.05
