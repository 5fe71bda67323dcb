"""Which training a checkpoint belongs to: a hash of its inputs."""

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
    """Return a hash of everything that the result of a training depends on.

    Parameters
    ----------
    settings
        Of the potential.
    training
        Of its training.
    frames
        All of them, in their order.
    numbers
        Seed, fold and number of folds.
    warm_start
        Potential to start from, or None.

    Returns
    -------
    str
        SHA-256, hexadecimal.
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
