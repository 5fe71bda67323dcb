"""Ewald sum of point charges in a periodic cell: energy, gradient and virial.

Written here because no installed library gives all three at the accuracy and speed that hundreds
of relaxations need. The reciprocal sum runs over a full box of wave vectors, so that structure
factors and their derivatives are matrix products over the three reciprocal directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import constants
from scipy.special import erfc

Array = NDArray[np.float64]

COULOMB = constants.e / (4e-10 * np.pi * constants.epsilon_0)
"""e^2 / (4 pi epsilon_0) in eV angstrom."""


@dataclass(frozen=True)
class Splitting:
    """How the sum is split between real and reciprocal space.

    The result does not depend on it beyond the size of the neglected terms, which is about
    exp(-reach^2) relative to the interaction of neighbours.

    Attributes
    ----------
    real_cutoff
        Largest distance in the real-space sum, angstrom.
    reach
        Product of width parameter and cut-off, in both spaces.
    """

    real_cutoff: float = 7.0
    reach: float = 5.2

    @property
    def alpha(self) -> float:
        """Inverse width of the screening Gaussians, 1/angstrom."""
        return self.reach / self.real_cutoff

    @property
    def reciprocal_cutoff(self) -> float:
        """Largest wave number that must be summed, 1/angstrom."""
        return 2.0 * self.alpha * self.reach


def self_energy(charges: Array, alpha: float) -> float:
    """Return the energy of every charge with its own screening Gaussian.

    Parameters
    ----------
    charges
        e, shape (n_atoms,).
    alpha
        Inverse width of the Gaussians, 1/angstrom.

    Returns
    -------
    float
        eV.
    """
    return float(-COULOMB * alpha / np.sqrt(np.pi) * np.sum(charges**2))


def real_space_pairs(distances: Array, products: Array, alpha: float) -> tuple[Array, Array]:
    """Return the energy and derivative of screened pairs.

    Parameters
    ----------
    distances
        angstrom, shape (n_pairs,).
    products
        Product of the two charges in e^2, shape (n_pairs,).
    alpha
        Inverse width, 1/angstrom.

    Returns
    -------
    energy : numpy.ndarray
        eV, shape (n_pairs,).
    slope : numpy.ndarray
        Derivative by the distance, eV/angstrom, shape (n_pairs,).
    """
    scaled = COULOMB * products / distances
    energy = scaled * erfc(alpha * distances)
    gaussian = scaled * (2.0 * alpha / np.sqrt(np.pi)) * np.exp(-((alpha * distances) ** 2))
    return energy, -energy / distances - gaussian


def reciprocal_space(
    fractional: Array, cell: Array, charges: Array, splitting: Splitting
) -> tuple[float, Array, Array]:
    """Return the reciprocal-space sum of a neutral cell.

    Parameters
    ----------
    fractional
        Fractional coordinates, shape (n_atoms, 3).
    cell
        Lattice vectors as rows, angstrom, shape (3, 3).
    charges
        e, shape (n_atoms,), summing to zero.
    splitting
        Width and cut-offs.

    Returns
    -------
    energy : float
        eV.
    gradient : ndarray, shape (n_atoms, 3)
        Derivative by Cartesian positions, eV/angstrom.
    virial : ndarray, shape (3, 3)
        Derivative by a homogeneous strain, eV.
    """
    volume = abs(float(np.linalg.det(cell)))
    reciprocal: Array = np.asarray(2.0 * np.pi * np.linalg.inv(cell).T, dtype=np.float64)
    # |component n_i| of any vector within the cut-off is at most cut-off * |a_i| / 2 pi.
    limits = splitting.reciprocal_cutoff * np.linalg.norm(cell, axis=1) / (2.0 * np.pi)
    n = np.ceil(limits).astype(int)
    ranges = [np.arange(0, n[0] + 1), np.arange(-n[1], n[1] + 1), np.arange(-n[2], n[2] + 1)]
    vectors = _box(ranges, reciprocal)
    weights, squares = _weights(vectors, volume, splitting.alpha)

    phases = [np.exp(2j * np.pi * np.outer(fractional[:, i], ranges[i])) for i in range(3)]
    first = phases[0] * charges[:, None]
    shape = (len(charges), -1)
    rest = (phases[1][:, :, None] * phases[2][:, None, :]).reshape(shape)
    factors = first.T @ rest
    spectrum = (weights * np.abs(factors) ** 2).ravel()

    pull = (weights * factors.conj()).T
    sums = [(first * ranges[0] * (rest @ pull)).sum(axis=1)]
    for axis in (1, 2):
        steps = ranges[1][:, None] if axis == 1 else ranges[2][None, :]
        weighted = rest * np.broadcast_to(steps, (len(ranges[1]), len(ranges[2]))).ravel()
        sums.append((first * (weighted @ pull)).sum(axis=1))
    gradient = -2.0 * np.imag(np.array(sums).T) @ reciprocal

    flat = vectors.reshape(-1, 3)
    outer = (flat * (spectrum * _virial_factor(squares.ravel(), splitting.alpha))[:, None]).T @ flat
    return float(spectrum.sum()), gradient, outer - spectrum.sum() * np.eye(3)


def _box(ranges: list[NDArray[np.int64]], reciprocal: Array) -> Array:
    """Return the wave vectors of the half box, shape (n_first, n_second * n_third, 3)."""
    parts = [np.multiply.outer(r, b) for r, b in zip(ranges, reciprocal, strict=True)]
    vectors = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :]
    return np.asarray(vectors.reshape(len(ranges[0]), -1, 3))


def _weights(vectors: Array, volume: float, alpha: float) -> tuple[Array, Array]:
    """Return the weight of every |structure factor|^2 in eV/e^2, and the squared wave numbers."""
    squares = np.einsum("hki,hki->hk", vectors, vectors)
    squares[0, squares.shape[1] // 2] = np.inf  # the origin, which a neutral cell leaves out
    weights = COULOMB * 2.0 * np.pi / volume * np.exp(-squares / (4.0 * alpha**2)) / squares
    weights[1:] *= 2.0  # the half of the box that is left out
    return weights, squares


def _virial_factor(squares: Array, alpha: float) -> Array:
    return 2.0 / squares + 1.0 / (2.0 * alpha**2)
