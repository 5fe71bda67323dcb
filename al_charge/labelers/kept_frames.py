"""Which geometries of a relaxation a label keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BETWEEN = 3
"""Geometries kept between the first and the last one, at most."""


def kept_frames(energies: Sequence[float]) -> list[int]:
    """Choose the first and the last geometry of a relaxation, and some between.

    Those between are evenly spaced in the square root of the energy still to be gained, which near
    a minimum is the distance from it.

    Parameters
    ----------
    energies
        Energy of each geometry in order, eV.

    Returns
    -------
    list of int
        Indices, ascending.
    """
    first, last = energies[0], energies[-1]
    ends = {0, len(energies) - 1}
    if len(ends) == 1 or first <= last:
        return sorted(ends)
    left = np.sqrt(np.maximum(np.array(energies) - last, 0.0) / (first - last))
    wanted = np.linspace(1.0, 0.0, BETWEEN + 2)[1:-1]
    return sorted(ends | {int(np.abs(left - fraction).argmin()) for fraction in wanted})
