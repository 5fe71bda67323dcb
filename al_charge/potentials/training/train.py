"""Training one potential: resumable and deterministic; the best weights by validation are kept."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from al_charge.errors import AlChargeError, UnfinishedError
from al_charge.potentials.baseline.fit import fit_baseline, frame_weight
from al_charge.potentials.data.frames import (
    Subset,
    TrainingFrame,
    groups_of,
    last_indices,
    species_of,
    split_frames,
)
from al_charge.potentials.data.spilled import Spilled
from al_charge.potentials.data.spin_states import spin_weights, typical_moments
from al_charge.potentials.device import choose_device
from al_charge.potentials.drift import site_means, updated
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.plugin import POTENTIALS
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.distributed import Ranks
from al_charge.potentials.training.loss import prepare
from al_charge.potentials.training.trainer import Trainer
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.stopping import heeding_signals

Array = NDArray[np.float64]

Progress = Callable[[int, int, dict[str, float]], None]
"""Called with the epoch just ended, the number of epochs, and that epoch's figures."""

SMALLEST_SCALE = 0.01
"""Least eV per unit of the network's output, for frames with hardly any force."""

_log = logging.getLogger("al_charge.potentials")


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes
    ----------
    potential
        The best by validation; the last where nothing was held out.
    history
        One entry per epoch: learning rate, training loss, and root mean squared errors on held-out
        frames, named as in `al_charge.potentials.training.loss.Errors`.
    held_out
        Predicted minus true energy in eV/atom of the last frame of every held-out group.
    """

    potential: Potential
    history: list[dict[str, float]]
    held_out: dict[str, float]


def train(
    settings: PotentialSettings,
    training: TrainingSettings,
    frames: Sequence[TrainingFrame],
    *,
    seed: int,
    fold: int,
    n_folds: int,
    checkpoint: Path,
    warm_start: Potential | None = None,
    progress: Progress | None = None,
    device: torch.device | None = None,
) -> TrainingResult:
    """Train one potential.

    The result depends on the inputs alone. A training that was killed goes on from its last
    checkpoint when it is called again with the same inputs, and ends with the same result: on a
    CPU bit for bit, on a GPU sums have no fixed order. A checkpoint of other inputs is not used.
    SIGTERM ends the training after the step under way, with a checkpoint.

    In a process group the processes share the work, and each of them gets the result.

    Parameters
    ----------
    settings
        Of the potential.
    training
        Of its training.
    frames
        Labelled geometries; frames of one group are consecutive, in the order of its relaxation.
    seed
        Of fresh weights and of the order of frames.
    fold
        Which fold of the groups is held out, from zero.
    n_folds
        Number of folds.
    checkpoint
        File to keep checkpoints in; its folder exists.
    warm_start
        Potential to start from instead of fresh weights; extended with species that it lacks.
    progress
        Called after each epoch.
    device
        Where to train, and where the result is: `al_charge.potentials.device.choose_device`'s
        choice if None.

    Returns
    -------
    TrainingResult
        The potential, its history and its held-out errors.

    Raises
    ------
    AlChargeError
        If there is no frame or no such fold, or processes have different inputs.
    UnfinishedError
        If SIGTERM came; what was done is in the checkpoint.
    """
    if not frames:
        raise AlChargeError("there is no frame to train on", where="training")
    plugin = POTENTIALS.of(settings)
    used, held = split_frames(frames, fold=fold, n_folds=n_folds)
    if warm_start is None:
        warm_start = plugin.start(settings, species_of(frames))
    device = device or choose_device()
    potential = _start(settings, frames, used, seed, warm_start, device)
    potential.module.to(getattr(torch, training.precision))
    trainer = Trainer(
        potential,
        training,
        prepare(potential, used),
        prepare(potential, held),
        seed,
        Ranks.current(),
    )
    identity = _identity(settings, training, frames, [seed, fold, n_folds], warm_start)
    if trainer.resume(checkpoint, identity):
        _log.info("training resumes after epoch %d of %d", trainer.done, training.epochs)
    with heeding_signals() as stop:
        stopped = False
        while not trainer.finished:
            stopped = not trainer.epoch(stop)
            if stopped:
                break
            if trainer.finished or trainer.done % training.checkpoint_every == 0:
                trainer.save(checkpoint, identity)
            if progress is not None:
                progress(trainer.done, training.epochs, trainer.history[-1])
        if stopped or trainer.ranks.agreed(stop()):
            trainer.save(checkpoint, identity)
            raise _stopped(trainer, checkpoint)
    best = trainer.best_potential()
    return TrainingResult(best, trainer.history, _residuals(best, held))


def _identity(
    settings: PotentialSettings,
    training: TrainingSettings,
    frames: Sequence[TrainingFrame],
    numbers: list[int],
    warm_start: Potential | None,
) -> str:
    """Return a hash of everything that the result depends on, for checkpoints to be known by.

    ``numbers`` are the seed, the fold and the number of folds.
    """
    digest = hashlib.sha256()
    # How often checkpoints are written changes no result.
    facts = [
        version(
            "al-charge"
        ),  # the baseline is not in a checkpoint: each release may fit it differently
        settings.model_dump(mode="json"),
        training.model_dump(mode="json", exclude={"checkpoint_every"}),
        numbers,
        list(groups_of(frames)),
    ]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for frame in frames:
        atoms = frame.atoms
        stress = np.full((3, 3), np.nan) if frame.stress is None else frame.stress
        digest.update(" ".join(atoms.arrays["species"]).encode())
        unknown = np.full(len(atoms), np.nan)
        given = atoms.arrays.get("moments")
        sites = [unknown if v is None else v for v in (given, frame.moments, frame.charges)]
        for values in (atoms.positions, atoms.cell, [frame.energy], frame.forces, stress, *sites):
            digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    if warm_start is not None:
        config, weights = warm_start.state()
        digest.update(json.dumps(config, sort_keys=True).encode())
        for name in sorted(weights):
            digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def _stopped(trainer: Trainer, checkpoint: Path) -> UnfinishedError:
    return UnfinishedError(
        f"stopped after {trainer.done} epochs and {len(trainer.losses)} steps",
        where=str(checkpoint),
        remedy="run the same training again to continue from there",
    )


def _start(
    settings: PotentialSettings,
    frames: Sequence[TrainingFrame],
    used: Sequence[TrainingFrame],
    seed: int,
    warm_start: Potential | None,
    device: torch.device,
) -> Potential:
    """Return the potential before its first epoch, with the energy baseline of its frames."""
    species = species_of(frames)
    fit = partial(
        fit_baseline,
        frames=used,
        pair_cutoff=float(settings.pair_cutoff),
        pair_intervals=settings.pair_intervals,
        weights=spin_weights(used) if POTENTIALS.of(settings).reads_moments(settings) else None,
    )
    if warm_start is not None:
        potential = warm_start.extend(species)
        potential.module.to(device)
        typical = typical_moments(potential.vocabulary, used)
        potential.typical_moments = np.where(np.isnan(typical), potential.typical_moments, typical)
        potential.site_means = updated(potential.site_means, site_means(used))
        known = Spilled(potential.predict_each(frame.atoms for frame in used))
        potential.baseline = potential.baseline.plus(fit(potential.vocabulary, known=known))
        return potential
    vocabulary = Vocabulary.of(species, charge_aware=settings.charge_aware)
    potential = Potential.fresh(
        settings,
        vocabulary,
        mean_neighbours=_mean_neighbours(used, float(settings.cutoff)),
        seed=seed,
        typical_moments=np.nan_to_num(typical_moments(vocabulary, used)),
        site_means=site_means(used),
    )
    potential.module.start_heads(
        *(
            torch.as_tensor(_site_means(vocabulary, used, name), dtype=potential.dtype)
            for name in ("moments", "charges")
        )
    )
    known = Spilled(potential.predict_prior(frame.atoms) for frame in used)
    potential.baseline = fit(vocabulary, known=known)
    potential.scale = _scale(potential, used)
    potential.module.to(device)
    return potential


def _site_means(vocabulary: Vocabulary, frames: Sequence[TrainingFrame], name: str) -> Array:
    """Return the mean over atoms of every species, shape (n_species,); zero where none is known."""
    sums, counts = np.zeros(len(vocabulary)), np.zeros(len(vocabulary))
    for frame in frames:
        values = getattr(frame, name)
        if values is not None:
            rows = vocabulary.index(frame.atoms.arrays["species"])
            values = np.abs(values) if name == "moments" else values
            sums += np.bincount(rows, values, minlength=len(vocabulary))
            counts += np.bincount(rows, minlength=len(vocabulary))
    means: Array = sums / np.maximum(counts, 1)
    return means


def _scale(potential: Potential, frames: Sequence[TrainingFrame]) -> float:
    """Return the weighted root mean square of the forces after the baseline, in eV/A."""
    squares, weights = [], []
    for frame in frames:
        pairs = find_neighbours(frame.atoms, potential.neighbour_cutoff)
        left = frame.forces - potential.predict_baseline(frame.atoms, pairs).forces
        squares.append(np.mean(left**2))
        weights.append(frame_weight(frame.forces) ** 2)
    return max(float(np.sqrt(np.average(squares, weights=weights))), SMALLEST_SCALE)


def _mean_neighbours(frames: Sequence[TrainingFrame], cutoff: float) -> float:
    """Return pairs per atom within the cutoff, over the last frame of every group."""
    last = Subset(frames, last_indices(frames))
    pairs = sum(len(find_neighbours(frame.atoms, cutoff).centres) for frame in last)
    return pairs / sum(len(frame.atoms) for frame in last)


def _residuals(potential: Potential, held: Sequence[TrainingFrame]) -> dict[str, float]:
    """Return predicted minus true energy (eV/atom) of the last frame of every group."""
    last = Subset(held, last_indices(held))
    predictions = potential.predict_each(frame.atoms for frame in last)
    return {
        frame.group: (prediction.energy - frame.energy) / len(frame.atoms)
        for frame, prediction in zip(last, predictions, strict=True)
    }
