"""Which training a checkpoint belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from al_charge.potentials.data.frames import TrainingFrame, groups_of
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings


def identity_of(
    settings: PotentialSettings,
    training: TrainingSettings,
    frames: Sequence[TrainingFrame],
    numbers: list[int],
    warm_start: Potential | None,
) -> str:
    """Return a hash of everything that the result depends on.

    Parameters
    ----------
    settings, training
        What is trained, and how.
    frames
        All of them, in their order.
    numbers
        Seed, fold and number of folds.
    warm_start
        Potential to start from.
    """
    digest = hashlib.sha256()
    # How often checkpoints are written changes no result.
    facts = [
        version("al-charge"),  # which fits what is not in a checkpoint, the baseline, in its way
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
        told = atoms.arrays.get("moments")
        sites = [unknown if v is None else v for v in (told, frame.moments, frame.charges)]
        for values in (atoms.positions, atoms.cell, [frame.energy], frame.forces, stress, *sites):
            digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    if warm_start is not None:
        config, weights = warm_start.state()
        digest.update(json.dumps(config, sort_keys=True).encode())
        for name in sorted(weights):
            digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()
