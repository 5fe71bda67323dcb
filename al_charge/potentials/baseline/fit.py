"""The energy baseline: a linear least-squares fit before a network is trained.

It has a reference energy for every species and, if wanted, a spline for every pair of species.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from al_charge.potentials.baseline.pairs import PairFeatures, PairTerms
from al_charge.potentials.data.frames import TrainingFrame, groups_of
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.prediction import Prediction
from al_charge.potentials.vocabulary import Vocabulary

Array = NDArray[np.float64]

RIDGE = 1e-5
"""Penalty on squared reference energies relative to squared errors, both per atom.

In one host all configurations are neutral, so that counts of species depend on each other
linearly and plain least squares leaves some combinations of reference energies undetermined. The
penalty sets those to zero, and keeps combinations that the data barely determine small."""
ENERGY_ROWS, STRESS_ROWS = 300.0, 100.0
"""Weights of (eV/atom) and (eV/A^3) relative to (eV/A) in the fit of pair terms."""
SMOOTHNESS = 1.0
"""Penalty on second differences of a spline's coefficients."""
SMALLEST_PENALTY = 1e-6
"""Penalty on all coefficients, which fixes those that the frames leave undetermined."""
FORCE_SCALE = 0.1
"""eV/A. A frame's weight falls as its forces grow beyond this: geometries near relaxed ones matter
most."""


def fit_references(
    counts: NDArray[np.int64],
    energies: Array,
    weights: Array | None = None,
    *,
    ridge: float = RIDGE,
) -> Array:
    """Return the reference energy of every species by ridge regression.

    Parameters
    ----------
    counts
        Atoms of every species in every structure, shape (n_structures, n_species).
    energies
        eV per cell, shape (n_structures,).
    weights
        Of residuals, shape (n_structures,); one for all if None.
    ridge
        Penalty, as in ``RIDGE``.

    Returns
    -------
    ndarray, shape (n_species,)
        Reference energies, eV.
    """
    atoms = counts.sum(axis=1)
    fractions = counts / atoms[:, None]
    n_structures, n_species = counts.shape
    # The penalty as extra rows keeps the problem as well conditioned as the data are.
    weights = np.ones(n_structures) if weights is None else weights
    penalty = np.sqrt(ridge * np.sum(weights**2)) * np.eye(n_species)
    rows = np.concatenate([weights[:, None] * fractions, penalty])
    values = np.concatenate([weights * energies / atoms, np.zeros(n_species)])
    references: Array = np.linalg.lstsq(rows, values, rcond=None)[0]
    return references


def frame_weight(forces: Array) -> float:
    """Return the weight of a frame's residuals, which is one for a relaxed frame.

    Parameters
    ----------
    forces
        eV/angstrom, shape (n_atoms, 3).

    Returns
    -------
    float
        Between zero and one.
    """
    return float(FORCE_SCALE / (FORCE_SCALE + np.sqrt(np.mean(forces**2))))


@dataclass(frozen=True)
class Baseline:
    """Energies that are linear in their coefficients.

    Attributes
    ----------
    references
        Reference energy of every species in eV, shape (n_species,).
    pairs
        Splines of pairs; None for no such terms.
    """

    references: Array
    pairs: PairTerms | None = None

    @property
    def cutoff(self) -> float:
        """Cutoff radius in angstrom; zero without pair terms."""
        return 0.0 if self.pairs is None else self.pairs.cutoff

    def with_rows(self, rows: Sequence[int | None]) -> Baseline:
        """Return the baseline of a vocabulary whose species start as copies.

        Parameters
        ----------
        rows
            For each species of the new vocabulary the row here to copy; None gives zero.

        Returns
        -------
        Baseline
            Of as many species as there are rows.
        """
        references = np.array([0.0 if row is None else self.references[row] for row in rows])
        return Baseline(references, None if self.pairs is None else self.pairs.with_rows(rows))

    def plus(self, other: Baseline) -> Baseline:
        """Return the sum of two baselines of the same species.

        Parameters
        ----------
        other
            The baseline to add.

        Returns
        -------
        Baseline
            The sum.

        Raises
        ------
        AlChargeError
            If their pair terms have different cutoffs or numbers of intervals.
        """
        pairs = self.pairs or other.pairs
        if self.pairs is not None and other.pairs is not None:
            pairs = self.pairs.plus(other.pairs)
        return Baseline(self.references + other.references, pairs)


def fit_baseline(
    vocabulary: Vocabulary,
    frames: Sequence[TrainingFrame],
    *,
    pair_cutoff: float,
    pair_intervals: int,
    known: Sequence[Prediction] | None = None,
    weights: Array | None = None,
) -> Baseline:
    """Fit reference energies and pair terms to frames.

    Parameters
    ----------
    vocabulary
        Species to distinguish.
    frames
        Labelled geometries.
    pair_cutoff
        Cutoff radius of pair terms in angstrom; zero for none.
    pair_intervals
        Intervals of a spline.
    known
        What is accounted for already, one prediction per frame; nothing if None.
    weights
        Of the frames' residuals, shape (n_frames,); one for all if None.

    Returns
    -------
    Baseline
        Of the vocabulary's species.
    """
    nothing = Prediction(0.0, np.zeros(3), np.zeros((3, 3)))
    done = known or [nothing] * len(frames)
    counts = np.empty((len(frames), len(vocabulary)), dtype=np.int64)
    left = np.empty(len(frames))
    for k, (frame, prediction) in enumerate(zip(frames, done, strict=True)):
        counts[k] = _counts(vocabulary, frame.atoms)
        left[k] = frame.energy - prediction.energy
    weights = np.ones(len(frames)) if weights is None else weights
    best = _best_indices(frames, weights)
    references = fit_references(counts[best], left[best], weights[best])
    if pair_cutoff == 0.0:
        return Baseline(references)
    features = PairFeatures(len(vocabulary), pair_cutoff, pair_intervals)
    size = features.size + len(vocabulary)
    matrix = SMALLEST_PENALTY * np.eye(size)
    matrix[: features.size, : features.size] += SMOOTHNESS * features.penalty()
    vector = np.zeros(size)
    nearest = np.full(features.n_pairs, pair_intervals)
    for frame, prediction, energy, count, weight in zip(
        frames, done, left - counts @ references, counts, weights, strict=True
    ):
        species = vocabulary.index(frame.atoms.arrays["species"])
        pairs = find_neighbours(frame.atoms, pair_cutoff)
        of_pairs = features.rows(frame.atoms, pairs, species)
        rows, values = _equations(frame, of_pairs, prediction, energy, count)
        rows, values = weight * rows, weight * values
        matrix += rows.T @ rows
        vector += rows.T @ values
        nearest = np.minimum(nearest, features.nearest(frame.atoms, pairs, species))
    solution = np.linalg.solve(matrix, vector).astype(np.float64)
    return Baseline(
        references + solution[features.size :],
        features.terms(solution[: features.size], nearest),
    )


def _best_indices(frames: Sequence[TrainingFrame], weights: Array) -> list[int]:
    """Return the index of the frame of largest weight in every group, the last of equal ones."""
    best: dict[str, int] = {}
    for place, group in enumerate(groups_of(frames)):
        if group not in best or weights[place] >= weights[best[group]]:
            best[group] = place
    return list(best.values())


def _equations(
    frame: TrainingFrame,
    of_pairs: tuple[Array, Array, Array],
    known: Prediction,
    energy: float,
    counts: NDArray[np.int64],
) -> tuple[Array, Array]:
    """Return rows and right-hand sides of one frame, weighted."""
    of_energy, of_forces, of_stress = of_pairs
    on_energy = ENERGY_ROWS / len(frame.atoms)
    rows = [np.concatenate([of_energy, counts])[None] * on_energy, _padded(of_forces, len(counts))]
    values = [np.array([energy * on_energy]), (frame.forces - known.forces).ravel()]
    if frame.stress is not None:
        rows.append(_padded(of_stress, len(counts)) * STRESS_ROWS)
        values.append((frame.stress - known.stress).ravel() * STRESS_ROWS)
    # Ten times as large, which the penalties above were tuned for.
    weight = frame_weight(frame.forces) / FORCE_SCALE
    return weight * np.concatenate(rows), weight * np.concatenate(values)


def _padded(rows: Array, columns: int) -> Array:
    return np.pad(rows, ((0, 0), (0, columns)))


def _counts(vocabulary: Vocabulary, atoms: Atoms) -> NDArray[np.int64]:
    """Return how often each row of the vocabulary occurs, shape (n_species,)."""
    return np.bincount(vocabulary.index(atoms.arrays["species"]), minlength=len(vocabulary))
