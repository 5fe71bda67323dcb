"""Usual spin states of charge states, and weights of frames in others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from al_charge.crystal.species import charge_of
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.vocabulary import Vocabulary

Array = NDArray[np.float64]

MOMENT_WIDTH = 0.2
"""Bohr magnetons: sites of one spin state differ by less than 0.1, two states by 0.3 or more."""


def typical_moments(vocabulary: Vocabulary, frames: Sequence[TrainingFrame]) -> Array:
    """Return the median moment of every species.

    Unlike the mean it is that of the usual spin state, whatever others there are.

    Parameters
    ----------
    vocabulary
        Species to distinguish.
    frames
        Labelled geometries.

    Returns
    -------
    ndarray, shape (n_species,)
        Bohr magnetons; NaN where unknown.
    """
    medians = _medians(
        (vocabulary.index(frame.atoms.arrays["species"]), frame.moments) for frame in frames
    )
    return np.array([medians.get(row, np.nan) for row in range(len(vocabulary))])


def spin_weights(frames: Sequence[TrainingFrame]) -> Array:
    """Return the weight of every frame in fits that do not see moments.

    One energy cannot be right for two spin states: a fit without moments is to give that of the
    usual ones. The weight falls with the largest distance of a cation's moment from the median of
    its charge state, over all frames; the largest weight is one. Anions do not count: their moments
    are induced by the cations.

    Parameters
    ----------
    frames
        At least one; those whose structure has no array ``moments`` count as usual.

    Returns
    -------
    ndarray, shape (n_frames,)
        Between zero and one.
    """
    given = [(frame.atoms.arrays["species"], frame.atoms.arrays.get("moments")) for frame in frames]
    medians = _medians(given)
    weights = np.ones(len(frames))
    for place, (species, moments) in enumerate(given):
        if moments is not None:
            cations = [k for k, token in enumerate(species) if charge_of(str(token)) >= 0]
            usual = [medians[species[k]] for k in cations]
            distance = np.max(np.abs(np.abs(moments[cations]) - usual), initial=0.0)
            weights[place] = 1.0 / (1.0 + (distance / MOMENT_WIDTH) ** 2)
    return np.asarray(weights / weights.max())


def _medians(labels: Iterable[tuple[NDArray[np.generic], Array | None]]) -> dict[object, float]:
    """Return the median size of the moments of every kind of atom."""
    found: dict[object, list[Array]] = defaultdict(list)
    for kinds, moments in labels:
        if moments is not None:
            for kind in np.unique(kinds):
                found[kind].append(np.abs(moments[kinds == kind]))
    return {kind: float(np.median(np.concatenate(values))) for kind, values in found.items()}
