"""Pair correlations: equal for images, and counted right on a chain that can be done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure

from al_charge.crystal.configuration import Configuration, configuration
from al_charge.crystal.correlations import pair_correlations
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import VACANCY, Host
from al_charge.crystal.host_spec import HostSpec
from al_charge.crystal.symmetry import permutations

V = VACANCY


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_images_share_them(any_host: Host, seed: int) -> None:
    rng = np.random.default_rng(seed)
    configs = enumerate_distinct(any_host, int(rng.choice(any_host.ion_counts)))
    config = configs[rng.integers(len(configs))]
    group = permutations(any_host)
    image = Configuration(tuple(config.as_array()[group[rng.integers(len(group))]].tolist()))
    expected = pair_correlations(any_host, config)
    assert pair_correlations(any_host, image) == pytest.approx(expected, abs=1e-12)


def test_most_configurations_differ(olivine_doubled: Host) -> None:
    configs = [c for n in range(9) for c in enumerate_distinct(olivine_doubled, n)]
    features = np.array([pair_correlations(olivine_doubled, config) for config in configs])
    assert len(np.unique(features.round(9), axis=0)) > 0.8 * len(configs)


def test_fractions_of_each_shell_sum_to_one(vanadium: Host) -> None:
    features = pair_correlations(vanadium, enumerate_distinct(vanadium, 2)[0])
    n_shells = round(features.sum() ** 2)
    assert features.sum() == pytest.approx(np.sqrt(n_shells))
    assert features.min() >= 0


def test_a_chain_by_hand(tmp_path: Path) -> None:
    # Na every 3 A along a, Fe far beside; other shells of Na-Na along b and c are beyond 7 A.
    structure = Structure(
        Lattice.orthorhombic(3.0, 12.0, 12.0),
        ["Na", "Fe", "O"],
        [[0.0, 0.0, 0.0], [0.0, 0.7, 0.7], [0.0, 0.0, 0.5]],
    )
    path = tmp_path / "POSCAR"
    structure.to(filename=str(path))
    spec = HostSpec(
        structure=path,
        working_ion="Na",
        redox={"Fe": (1, 2)},
        fixed={"O": -2},
        supercell=(4, 1, 1),
    )
    host = Host.from_spec(spec)
    apart = pair_correlations(host, configuration(host, [1, V, 1, V, 1, 1, 2, 2]))
    beside = pair_correlations(host, configuration(host, [1, 1, V, V, 1, 1, 2, 2]))
    # Na-Na at 3 A: none against one in four; at 6 A: half against none.
    changed = np.abs(apart - beside) > 1e-12
    n_shells = round(apart.sum() ** 2)
    values = {
        (round(a * np.sqrt(n_shells), 6), round(b * np.sqrt(n_shells), 6))
        for a, b in zip(apart[changed], beside[changed], strict=True)
    }
    assert {(0.0, 0.25), (1.0, 0.5), (0.5, 0.0), (0.0, 1.0)} <= values
