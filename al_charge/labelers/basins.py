"""Basins of a density on a grid, and the electrons in them, by the weight method.

The method is that of Yu and Trinkle, `J. Chem. Phys. 134, 064111 (2011)
<https://doi.org/10.1063/1.3553716>`_: the electrons of a point go to its higher neighbours, in
proportion to the area of the Voronoi facet between them and the slope across it, and on from
there until they are at a maximum. Taken from the lowest point to the highest, that is a triangular
system of linear equations, which scipy solves.
"""

from __future__ import annotations

import itertools

import numpy as np
from ase.geometry import get_distances, minkowski_reduce
from numpy.typing import NDArray
from scipy.sparse import csc_array, eye_array
from scipy.sparse.linalg import spsolve_triangular
from scipy.spatial import Voronoi

from al_charge.labelers.protocol import Array

BLOCK = 1_000_000
"""Points whose equations are solved at once, some GB of memory."""

OWN_MAXIMUM = 0.4
"""Angstrom from a nucleus within which a maximum of the density is the atom's own."""

RIPPLE = 0.4
"""Angstrom from a maximum between the atoms within which nothing is higher, or it is a ripple."""


def integrate_basins(
    density: Array, reference: Array, cell: Array, nuclei: Array
) -> tuple[Array, Array]:
    """Return the maxima of a density, and how much of another one their basins hold.

    Densities that a code has interpolated have ripples where they are low, with false maxima. What
    such a maximum holds goes on to a higher point near it.

    Parameters
    ----------
    density
        What is integrated, in 1/angstrom^3, shape (n1, n2, n3): values at the points
        (i/n1, j/n2, k/n3) of the periodic cell.
    reference
        The density whose basins are integrated, on the same grid.
    cell
        Lattice vectors in angstrom, shape (3, 3).
    nuclei
        Fractional coordinates of the atoms, shape (n_atoms, 3).

    Returns
    -------
    tuple
        Fractional coordinates of the maxima, points of the grid, shape (n_basins, 3), and the
        integral over the basin of each, shape (n_basins,).
    """
    shape = np.array(density.shape)
    spacing = cell / shape[:, None]
    facets, around = _neighbours(spacing)
    vicinity = _within(RIPPLE, spacing)
    height = reference.ravel()
    held = density.ravel() * abs(np.linalg.det(cell)) / density.size
    upwards = np.argsort(height, kind="stable")
    rank = np.empty(height.size, dtype=np.intp)
    rank[upwards] = np.arange(height.size)
    maxima = []
    for start in range(0, height.size, BLOCK):
        points = upwards[start : start + BLOCK]
        neighbours, shares = _flows(height, points, shape, facets, around)
        top = np.flatnonzero(shares.sum(axis=0) == 0)
        positions = np.stack(np.unravel_index(points[top], density.shape), axis=-1) @ spacing
        away = get_distances(positions, nuclei @ cell, cell=cell, pbc=True)[1].min(axis=1)
        stray = top[away > OWN_MAXIMUM]
        _send_on(height, points, stray, shape, vicinity, neighbours, shares)
        maxima.append(points[shares.sum(axis=0) == 0])
        to, of = rank[neighbours], np.broadcast_to(np.arange(len(points)), shares.shape)
        inside = (shares > 0) & (to < start + len(points))
        flows = csc_array(
            (-shares[inside], (to[inside] - start, of[inside])), shape=(len(points),) * 2
        )
        unit = eye_array(len(points), format="csc")
        held[points] = spsolve_triangular(
            (unit + flows).tocsc(), held[points], lower=True, unit_diagonal=True
        )
        above = (shares > 0) & ~inside
        np.add.at(held, neighbours[above], shares[above] * held[points][of[above]])
    found = np.concatenate(maxima)
    return np.stack(np.unravel_index(found, density.shape), axis=-1) / shape, held[found]


def _flows(
    height: Array,
    points: NDArray[np.intp],
    shape: NDArray[np.intp],
    facets: tuple[NDArray[np.intp], Array],
    around: tuple[NDArray[np.intp], Array],
) -> tuple[NDArray[np.intp], Array]:
    """Return neighbours of points and the share that goes to each, shape (n_neighbours, n_points).

    A point that is higher than those behind its facets, but not than all around it, is no maximum:
    all that it has goes up the steepest way. A maximum keeps what it has.
    """
    steps, weights = facets
    neighbours = _shifted(points, steps, shape)
    shares = np.maximum(height[neighbours] - height[points], 0) * weights[:, None]
    total = shares.sum(axis=0)
    shares /= np.where(total > 0, total, 1)
    stuck = np.flatnonzero(total == 0)
    _send_on(height, points, stuck, shape, around, neighbours, shares)
    return neighbours, shares


def _send_on(
    height: Array,
    points: NDArray[np.intp],
    which: NDArray[np.intp],
    shape: NDArray[np.intp],
    around: tuple[NDArray[np.intp], Array],
    neighbours: NDArray[np.intp],
    shares: Array,
) -> None:
    """Give all that some points have to the steepest of the points around, where one is higher."""
    steps, weights = around
    if not len(steps):
        return
    there = _shifted(points[which], steps, shape)
    slopes = (height[there] - height[points[which]]) * weights[:, None]
    best = slopes.argmax(axis=0)
    each = np.arange(len(which))
    rises = slopes[best, each] > 0
    neighbours[0, which[rises]] = there[best, each][rises]
    shares[0, which[rises]] = 1


def _shifted(
    points: NDArray[np.intp], steps: NDArray[np.intp], shape: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the points that lie some steps away, shape (n_steps, n_points)."""
    indices = np.stack(np.unravel_index(points, tuple(shape)), axis=-1)
    moved = (indices + steps[:, None]) % shape
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(moved, -1, 0)), tuple(shape)))


def _neighbours(
    spacing: Array,
) -> tuple[tuple[NDArray[np.intp], Array], tuple[NDArray[np.intp], Array]]:
    """Return steps to neighbours of a grid point, each with a weight for the slope towards it.

    First those behind the facets of the point's Voronoi cell, with area over distance, then the 26
    around it, with one over the distance. Both are taken along the shortest vectors of the grid.

    Parameters
    ----------
    spacing
        Vectors between neighbouring points in angstrom, shape (3, 3).
    """
    _, reduction = minkowski_reduce(spacing)
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ reduction
    positions = steps @ spacing
    centre = len(steps) // 2
    distances = np.linalg.norm(positions, axis=1)
    voronoi = Voronoi(positions)
    area = np.zeros(len(steps))
    for pair, corners in zip(voronoi.ridge_points, voronoi.ridge_vertices, strict=True):
        if centre in pair:
            area[pair.sum() - centre] = _area(voronoi.vertices[corners])
    others = np.arange(len(steps)) != centre
    behind = area > area.max() * 1e-9
    return (
        (steps[behind], area[behind] / distances[behind]),
        (steps[others], 1 / distances[others]),
    )


def _area(corners: Array) -> float:
    """Return the area of a flat polygon, whose corners come in order, shape (n, 3)."""
    edges = corners[1:] - corners[0]
    return float(np.linalg.norm(np.cross(edges[:-1], edges[1:]).sum(axis=0)) / 2)


def _within(radius: float, spacing: Array) -> tuple[NDArray[np.intp], Array]:
    """Return steps to the points within a radius in angstrom, with one over the distance."""
    most = np.ceil(radius * np.linalg.norm(np.linalg.inv(spacing), axis=0)).astype(int)
    steps = np.array(list(itertools.product(*(range(-n, n + 1) for n in most))))
    distances = np.linalg.norm(steps @ spacing, axis=1)
    inside = (distances <= radius) & (distances > 0)
    return steps[inside], 1 / distances[inside]
