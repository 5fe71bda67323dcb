"""Basins of the weight method, against baderkit, loops over points and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial import KDTree

from al_charge.labelers import basins
from al_charge.labelers.basins import integrate_basins
from al_charge.labelers.protocol import Array

OBLIQUE = np.array([[4.0, 0.0, 0.0], [1.9, 4.5, 0.0], [-0.7, 1.6, 5.0]])
NUCLEI = np.array([[0.1, 0.2, 0.9], [0.55, 0.7, 0.45], [0.9, 0.65, 0.95]])
WIDTHS = (0.7, 0.5, 0.9)
ELECTRONS = (9, 5, 12)


def overlapping(shape: tuple[int, int, int]) -> Array:
    """Return three Gaussians that overlap in an oblique cell."""
    points = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    density = np.zeros(shape)
    for centre, width, electrons in zip(NUCLEI, WIDTHS, ELECTRONS, strict=True):
        for image in itertools.product((-2, -1, 0, 1, 2), repeat=3):
            away = ((points - centre + image) @ OBLIQUE) ** 2
            density += electrons * np.exp(-away.sum(axis=-1) / (2 * width**2)) / width**3
    return density


def everywhere(shape: tuple[int, ...]) -> Array:
    """Return atoms at all points of a grid: no maximum is between the atoms."""
    return np.array(list(np.ndindex(shape))) / shape


def test_basins_are_those_of_baderkit() -> None:
    # baderkit 0.10.2: WeightMethod, persistence_tol=0.05, no vacuum
    maxima = [[0.5, 0.642857, 0.4375], [0.833333, 0.571429, 0.9375], [0.083333, 0.214286, 0.875]]
    electrons = [88.0639115014, 141.0916688339, 180.3342782535]
    density = overlapping((12, 14, 16))
    found, held = integrate_basins(density, density, OBLIQUE, NUCLEI)
    order = held.argsort()
    np.testing.assert_allclose(held[order], electrons, atol=1e-9)
    # baderkit moves them off the grid
    assert (np.abs((found[order] - maxima) * density.shape) < 1 + 1e-3).all()


def one_by_one(density: Array, reference: Array, cell: Array) -> dict[tuple[int, ...], float]:
    """Return what each maximum of a rectangular grid gets, point after point from the lowest."""
    shape = density.shape
    spacing = np.diag(cell) / shape
    held = density * np.prod(spacing)
    maxima = {}
    for point in sorted(np.ndindex(shape), key=lambda at: reference[at]):
        around = [s for s in itertools.product((-1, 0, 1), repeat=3) if any(s)]
        there = [tuple((np.array(point) + step) % shape) for step in around]
        rises = np.array([reference[at] - reference[point] for at in there])
        lengths = np.array([np.linalg.norm(step * spacing) for step in around])
        faces = [np.prod(spacing[np.array(s) == 0]) if sum(map(abs, s)) == 1 else 0 for s in around]
        flows = np.maximum(rises, 0) * faces / lengths
        if not flows.any():
            flows = np.zeros(26)
            flows[(rises / lengths).argmax()] = rises.max() > 0
        if flows.any():
            for at, share in zip(there, flows / flows.sum(), strict=True):
                held[at] += share * held[point]
        else:
            maxima[point] = held[point]
    return maxima


@pytest.mark.parametrize("block", [7, 60, 1000])
def test_electrons_go_up_point_after_point(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basins, "BLOCK", block)
    rng = np.random.default_rng(5)
    density, reference = rng.random((2, 5, 6, 7))
    cell = np.diag([2.0, 3.3, 2.8])
    expected = one_by_one(density, reference, cell)
    maxima, held = integrate_basins(density, reference, cell, everywhere(density.shape))
    found = {
        tuple(np.rint(at * density.shape).astype(int)): q
        for at, q in zip(maxima, held, strict=True)
    }
    assert found.keys() == expected.keys()
    for at, electrons in expected.items():
        assert found[at] == pytest.approx(electrons, abs=1e-12)
    assert held.sum() == pytest.approx(density.mean() * np.linalg.det(cell), abs=1e-12)


def test_the_surface_between_equal_atoms_is_halfway() -> None:
    shape = (16, 12, 12)
    x, y, z = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in shape), indexing="ij")
    reference = np.cos(2 * x) + np.cos(y) + np.cos(z)
    maxima, held = integrate_basins(1 + np.cos(x), reference, np.diag([4.0, 3.0, 2.0]), NUCLEI)
    order = maxima[:, 0].argsort()
    np.testing.assert_allclose(maxima[order], [[0, 0, 0], [0.5, 0, 0]])
    # on the grid: 1 + cos x from -1/4 to 1/4 of the edge, its end points shared
    steps = np.cos(2 * np.pi * np.arange(-4, 5) / 16)
    half = 24 * (7 + 2 / 2 + steps.sum()) / 16
    np.testing.assert_allclose(held[order], [half, 24 - half], atol=1e-9)


@pytest.mark.parametrize(
    "cell", [np.diag([1.0, 1.0, 1.0]), OBLIQUE, [[1, 0, 0], [5.3, 1, 0], [-2.2, 7.4, 2]]]
)
def test_facets_close_around_a_point(cell: Array) -> None:
    (steps, weights), (around, nearness) = basins._neighbours(np.asarray(cell, dtype=float))
    vectors = steps @ cell
    # for facets with their middle halfway to the neighbour, which a lattice's are (Gauss)
    tensor = np.einsum("f,fi,fj->ij", weights, vectors, vectors) / 2
    np.testing.assert_allclose(tensor, np.linalg.det(cell) * np.eye(3), atol=1e-9)
    lattice = np.array(list(itertools.product(range(-40, 41), repeat=3))) @ cell
    near = KDTree(lattice).query(np.zeros(3), 7)[0][1:]
    lengths = 1 / nearness
    assert len(around) == 26
    np.testing.assert_allclose(np.sort(lengths)[:6], near, atol=1e-9)
    within, nearness = basins._within(1.5 * near[0], np.asarray(cell, dtype=float))
    near = [at for at in np.linalg.norm(lattice, axis=1) if 0 < at <= 1.5 * near[0]]
    np.testing.assert_allclose(np.sort(np.linalg.norm(within @ cell, axis=1)), np.sort(near))
    np.testing.assert_allclose(np.sort(1 / nearness), np.sort(near))


def test_a_point_below_one_across_an_edge_is_no_maximum() -> None:
    reference = np.zeros((6, 6, 6))
    reference[2, 2, 2], reference[3, 3, 2] = 1, 2
    maxima, held = integrate_basins(
        np.where(reference == 1, 6.0**3, 0), reference, np.eye(3), everywhere((6, 6, 6))
    )
    assert held[(maxima == [0.5, 0.5, 1 / 3]).all(axis=1)] == pytest.approx(1)
    assert not (maxima == 1 / 3).all(axis=1).any()


def test_the_hand_of_the_lattice_is_no_matter() -> None:
    density = overlapping((6, 7, 8))
    _, held = integrate_basins(density, density, OBLIQUE, NUCLEI)
    np.testing.assert_allclose(integrate_basins(density, density, -OBLIQUE, NUCLEI)[1], held)


def test_points_as_high_as_their_neighbours_keep_what_they_have() -> None:
    density = np.ones((4, 5, 6))
    maxima, held = integrate_basins(density, density, OBLIQUE, NUCLEI)
    assert len(np.unique(maxima, axis=0)) == density.size
    np.testing.assert_allclose(held, np.linalg.det(OBLIQUE) / density.size)


@pytest.mark.parametrize(
    ("x", "cell", "kept"), [(0.7, 3.8, False), (0.7, 4.1, True), (0.95, 3.8, True)]
)
def test_a_ripple_between_the_atoms_is_no_maximum(x: float, cell: float, kept: bool) -> None:
    # a point that rises above those next to it, but not above one two steps of 0.19 or 0.205 A away
    shape = (20, 6, 6)
    away = np.abs((np.arange(20) / 20 + 0.45) % 1 - 0.5)
    reference = np.broadcast_to(np.exp(-5 * away)[:, None, None], shape).copy()
    reference[:, 3, 3] *= 1.1
    at = round(20 * x), 3, 3
    reference[at] *= 1.3
    density = np.zeros(shape)
    density[at] = 7
    maxima, held = integrate_basins(
        density, reference, np.diag([cell, 3.0, 3.0]), np.array([[0.05, 0.5, 0.5]])
    )
    found = (np.abs(maxima - np.array(at) / shape) < 1e-9).all(axis=1)
    assert found.sum() == kept
    assert held[found].sum() == pytest.approx(kept * 7 * cell * 9 / 720)
    assert held.sum() == pytest.approx(7 * cell * 9 / 720)
