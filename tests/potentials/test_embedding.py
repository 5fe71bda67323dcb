"""Redox sites as a potential sees them: axes, separation, and what is not installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from al_charge.errors import InputError
from al_charge.potentials.embedding import embed, principal_axes, separation, site_features
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.painn import PainnSettings
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
            potential.graph(atoms, find_neighbours(atoms, potential.neighbour_cutoff))
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


def test_tsne_keeps_neighbours_together_and_draws_the_same_twice() -> None:
    salts = [small_salt(seed) for seed in range(24)]
    found = embed(untrained(PAINN), salts, "tsne")
    assert found.method == "tsne"
    first = found.layers[0]
    assert first.points.shape == (48, 2)
    assert first.explained is None
    # Before the first layer all sites of one state have the same features.
    states = np.array(found.states)
    distances = np.linalg.norm(first.points[:, None] - first.points, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (states[distances.argmin(axis=1)] == states).all()
    again = embed(untrained(PAINN), salts, "tsne")
    np.testing.assert_array_equal(again.layers[2].points, found.layers[2].points)


def test_tsne_of_a_few_sites_is_refused() -> None:
    with pytest.raises(InputError, match="4 redox sites are too few for t-SNE"):
        embed(untrained(PAINN), SALTS[:2], "tsne")


def test_scikit_learn_is_asked_for_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(InputError, match="scikit-learn is not installed; run 'pip install"):
        embed(untrained(PAINN), SALTS, "tsne")


def test_structures_without_redox_sites_are_refused() -> None:
    atoms = small_salt()
    iron = [2, 4]
    atoms = atoms[[i for i in range(8) if i not in iron]]
    with pytest.raises(InputError, match="no redox site"):
        embed(untrained(PAINN), [atoms])
