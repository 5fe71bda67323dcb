"""Features of compositions, and which prior scale each feature has."""

from __future__ import annotations

import numpy as np
import pytest

from al_charge.crystal.host import Host
from al_charge.surrogate.clusters import Clusters
from al_charge.surrogate.design import LENGTH, SCALES, groups_of, of_composition


def test_features_of_compositions_are_those_of_a_squared_exponential(olivine: Host) -> None:
    """Between its nodes as well, to far below what an energy is known to."""
    x = np.random.default_rng(0).uniform(0.0, 1.0, 40)
    found, line = of_composition(olivine, x)
    assert found[:, :2] == pytest.approx(line)
    assert line == pytest.approx(np.stack([np.ones(40), x - 0.5], axis=1))
    smooth = found[:, 2:]
    expected = np.exp(-((x[:, None] - x) ** 2) / (2 * LENGTH**2))
    assert smooth @ smooth.T == pytest.approx(expected, abs=1e-6)
    assert smooth.shape[1] < 20  # the others are noise


def test_each_feature_has_the_scale_of_its_kind(olivine: Host) -> None:
    clusters = Clusters(olivine, 5.0, 4.5)
    sizes = [len(corners) for corners, _ in clusters.kinds]
    assert set(sizes) >= {2, 3}
    n_smooth = 9
    groups, scales = groups_of(clusters, 2 + n_smooth + len(sizes) + 1)
    assert groups[:2].tolist() == [-1, -1]
    kinds = ["composition"] * n_smooth
    kinds += [{1: "sites", 2: "pairs", 3: "triplets"}[size] for size in sizes] + ["ewald"]
    assert [scales[group] for group in groups[2:]] == [SCALES[kind] for kind in kinds]
