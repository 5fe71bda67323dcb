"""The key of a static label holds its geometry; here, how a file's decimals still tell it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.errors import InputError
from al_charge.loop.campaign import KEY_DIGITS, key_of, rounded_geometry

Array = NDArray[np.float64]

DECIMALS = 8
"""Of positions in an extended XYZ file, angstrom. A key has fewer, `KEY_DIGITS`; but a coordinate
that is written half-way between two roundings was above or below it."""
MOST_TIES = 16
"""Such coordinates of a label whose roundings are all tried, where a file does not tell them."""


def rounding_of(positions: Array) -> list[tuple[int, int, float]]:
    """Return which coordinates a file tells with too few decimals to round them like a key.

    Parameters
    ----------
    positions
        angstrom, shape (n_atoms, 3).

    Returns
    -------
    list of tuple
        Atom, axis and rounded coordinate of each.
    """
    written = np.array([[float(f"{x:.{DECIMALS}f}") for x in row] for row in positions])
    rounded = np.round(positions, KEY_DIGITS)
    differ = np.argwhere(np.round(written, KEY_DIGITS) != rounded)
    return [(int(i), int(j), float(rounded[i, j])) for i, j in differ]


def checked_geometry(
    key: str,
    config_hash: str,
    settings_hash: str,
    atoms: Atoms,
    rounding: Iterable[tuple[int, int, float]] | None,
) -> Array:
    """Return the positions of a static label so that they have its key.

    Parameters
    ----------
    key
        Of the label.
    config_hash
        Of the configuration that was requested.
    settings_hash
        Of the labeler's settings.
    atoms
        The geometry that was requested, as a file tells it.
    rounding
        What `rounding_of` found when the file was written; None if the file does not say.

    Returns
    -------
    ndarray, shape (n_atoms, 3)
        angstrom; to `DECIMALS` those of the file.

    Raises
    ------
    InputError
        If the key is not that of the configuration, the settings and the geometry, or the file does
        not have the decimals to tell.
    """
    for positions in _roundings(atoms.positions) if rounding is None else [atoms.positions]:
        tried = np.array(positions)
        for atom, axis, rounded in rounding or ():
            tried[atom, axis] = _nudged(tried[atom, axis], rounded - tried[atom, axis])
        if key_of(config_hash, settings_hash, rounded_geometry(tried, atoms.cell.array)) == key:
            return tried
    raise InputError("its key is not that of its configuration, settings and geometry")


def _roundings(positions: Array) -> Iterator[Array]:
    """Yield positions that are written alike, but rounded differently."""
    ties = np.argwhere(np.abs(positions * 10**KEY_DIGITS % 1 - 0.5) < 1e-4)
    if len(ties) > MOST_TIES:
        raise InputError(
            f"{len(ties)} of its coordinates have too few decimals to check its key",
            remedy="export it again",
        )
    for signs in product((-1, 1), repeat=len(ties)):
        tried = positions.copy()
        for (atom, axis), sign in zip(ties, signs, strict=True):
            tried[atom, axis] = _nudged(positions[atom, axis], sign)
        yield tried


def _nudged(coordinate: float, direction: float) -> float:
    """Return a coordinate that is written alike, a little higher or lower."""
    return float(coordinate + 0.2 * np.sign(direction) * 10.0**-DECIMALS)
