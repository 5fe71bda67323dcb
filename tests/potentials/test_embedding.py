"""Redox sites as a potential sees them: axes, separation, and what is not installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from al_charge.errors import InputError
from al_charge.potentials.embedding import embed, principal_axes, separation, site_features
from al_charge.potentials.graph import find_neighbours
from al_charge.potentials.settings import PainnSettings
from al_charge.testing.potentials import small_salt, untrained

PAINN = PainnSettings(cutoff="4 A", channels=8, radial=6)
SALTS = [small_salt(seed) for seed in range(10)]


def test_principal_axes_are_those_of_the_covariance() -> None:
    values = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([5, 3, 1, 0.5, 0.2, 0.1])
    points, explained = principal_axes(values)
    sizes, vectors = np.linalg.eigh(np.cov(values.T))
    known = (values - values.mean(axis=0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(points), np.abs(known), atol=1e-9)
    assert explained == pytest.approx(sizes[-2:].sum() / sizes.sum())
    alike, nothing = principal_axes(np.ones((5, 3)))
    assert not alike.any()
    assert nothing is None


def test_separation_is_the_part_between_the_states() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(30, 4)), np.add(rng.normal(size=(20, 4)), [3, 0, 0, 0])
    values = np.vstack([one, two])
    within = ((one - one.mean(0)) ** 2).sum() + ((two - two.mean(0)) ** 2).sum()
    total = ((values - values.mean(0)) ** 2).sum()
    found = separation(values, ["Fe2+"] * 30 + ["Fe3+"] * 20)
    assert found == pytest.approx(1 - within / total)
    assert separation(values, ["Fe2+"] * 50) is None
    assert separation(np.ones((50, 4)), ["Fe2+"] * 30 + ["Fe3+"] * 20) is None


def test_features_are_those_of_each_redox_site() -> None:
    """In batches as one by one."""
    potential = untrained(PAINN)
    states, layers = site_features(potential, SALTS)
    assert states == ["Fe2+", "Fe3+"] * 10
    for number, atoms in enumerate(SALTS):
        alone = potential.module.features(
            potential.graph(atoms, find_neighbours(atoms, potential.reach))
        )
        for layer, single in zip(layers, alone, strict=True):
            np.testing.assert_allclose(
                layer[2 * number : 2 * number + 2], single.detach()[[2, 4]], atol=1e-10
            )


def test_only_a_charge_aware_potential_separates_at_the_start() -> None:
    aware = embed(untrained(PAINN), SALTS)
    assert [layer.number for layer in aware.layers] == [0, 1, 2]
    assert aware.layers[0].separation == pytest.approx(1.0)
    blind = embed(untrained(PAINN.model_copy(update={"charge_aware": False})), SALTS)
    assert blind.layers[0].separation is None
    assert blind.layers[2].separation is not None
    assert blind.states == aware.states


def test_umap_is_used_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand:
        def __init__(self, **options: Any) -> None:
            assert options == {"random_state": 0}

        def fit_transform(self, values: np.ndarray) -> np.ndarray:
            return values[:, :2].astype(np.float32)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Stand))
    found = embed(untrained(PAINN), SALTS, "umap")
    assert found.method == "umap"
    _, layers = site_features(untrained(PAINN), SALTS)
    np.testing.assert_allclose(found.layers[1].points, layers[1][:, :2], rtol=1e-6)
    assert found.layers[1].explained is None


def test_umap_is_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="umap-learn is not installed; run 'pip install"):
        embed(untrained(PAINN), SALTS, "umap")


def test_structures_without_redox_sites_are_refused() -> None:
    atoms = small_salt()
    iron = [2, 4]
    atoms = atoms[[i for i in range(8) if i not in iron]]
    with pytest.raises(InputError, match="no redox site"):
        embed(untrained(PAINN), [atoms])
