"""Lattice constants and volumes that the examples print, against the labels' own relaxed cells."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ase.io import read, write
from matplotlib.image import imread

DATA = Path(__file__).parents[2] / "examples" / "data" / "nafepo4_gpaw.extxyz"
pytestmark = [
    pytest.mark.slow,
    # SciPy's, where ASE takes the logarithm of a tiny strain
    pytest.mark.filterwarnings("ignore:logm result may be inaccurate:RuntimeWarning"),
]


def test_lattice_constants_are_those_of_the_labels(
    run: Callable[..., str], potential: Path
) -> None:
    rows = re.findall(
        r"^(\w+) +(potential|relaxed labels)((?: +[\d.]+){3})",
        run("lattice_constants", potential),
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
    run: Callable[..., str], potential: Path, tmp_path: Path
) -> None:
    labels = read(DATA, ":")
    ends, plot = tmp_path / "ends.extxyz", tmp_path / "volume.png"
    write(ends, [atoms for atoms in labels if atoms.info["x"] in (0.0, 1.0)])
    out = run("volume_change", potential, "--data", ends, "--plot", plot)
    rows = re.findall(r"^ +(\d\.\d\d) +([\d.]+) +([\d.]+)$", out, re.M)
    assert [float(x) for x, _, _ in rows] == [0.0, 1.0]
    for _, ours, label in rows:
        assert float(ours) == pytest.approx(float(label), rel=0.025)
    ours, label = (float(p) for p in re.findall(r"(?:potential|labels): \+([\d.]+) %", out))
    # what the labels' own relaxations ended with, in angstrom^3 per formula unit
    assert label == pytest.approx(100 * (82.95 / 73.41 - 1), abs=0.1)
    assert ours == pytest.approx(label, abs=3.0)
    assert imread(plot).std() > 0.05
