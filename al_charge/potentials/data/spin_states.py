"""Which labels are in the spin states that are usual for their charge states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.vocabulary import Vocabulary

Array = NDArray[np.float64]

USUAL = 0.2
"""Bohr magnetons; sites of one spin state are as far apart as that in other surroundings."""


def typical_moments(vocabulary: Vocabulary, frames: Sequence[TrainingFrame]) -> Array:
    """Return the median moment of every species, shape (n_species,); zero where none is known.

    Unlike a mean it is that of the usual spin state, whichever others there are.
    """
    found: list[list[Array]] = [[] for _ in range(len(vocabulary))]
    for frame in frames:
        if frame.moments is not None:
            rows = vocabulary.index(frame.atoms.arrays["species"])
            for row in np.unique(rows):
                found[row].append(np.abs(frame.moments[rows == row]))
    return np.array([np.median(np.concatenate(values)) if values else 0.0 for values in found])


def spin_weights(vocabulary: Vocabulary, frames: Sequence[TrainingFrame], typical: Array) -> Array:
    """Return the weight of every frame where moments are not looked at, shape (n_frames,).

    One energy cannot be right for two spin states: what is told no moments is to be that of the
    usual ones. The weight falls with the largest distance of a site's moment from the typical one.
    It is one for frames whose structure tells no moments.

    Parameters
    ----------
    typical
        Moment of every species, Bohr magnetons, shape (n_species,).
    """
    weights = np.ones(len(frames))
    for k, frame in enumerate(frames):
        told = frame.atoms.arrays.get("moments")
        if told is not None:
            usual = typical[vocabulary.index(frame.atoms.arrays["species"])]
            off = float(np.max(np.abs(np.abs(told) - usual)))
            weights[k] = 1.0 / (1.0 + (off / USUAL) ** 2)
    return weights
