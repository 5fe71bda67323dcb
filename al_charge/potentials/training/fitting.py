"""Training outside a campaign: one potential or several on the labels of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from al_charge.errors import InputError
from al_charge.potentials.committee import Committee, calibrate
from al_charge.potentials.data.frames import (
    TrainingFrame,
    fold_of,
    groups_of,
    last_indices,
    species_of,
)
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.potentials.vocabulary import Vocabulary

MemberProgress = Callable[[int, int, int, dict[str, float]], None]
"""Called with the member, the epoch just ended, the number of epochs, and the epoch's figures."""

CAN_LACK = ("stress", "moments", "charges")
"""What a frame may lack."""

_KEPT = ("charge_aware", "pair_cutoff", "pair_intervals", "pretrained", "foundation")
"""Settings in which a potential may differ from the one that it starts from."""


@dataclass(frozen=True)
class Fit:
    """What is trained, and how.

    Attributes
    ----------
    potential, training
        Settings.
    members
        How many potentials.
    seed
        Of fresh weights and of the order of frames; every member has its own that follows from it.
    folds
        Into how many parts groups are divided; each member holds out one to stop by. One: none.
    """

    potential: PotentialSettings
    training: TrainingSettings
    members: int
    seed: int
    folds: int


def fit(
    what: Fit,
    frames: Sequence[TrainingFrame],
    *,
    checkpoint: Path,
    parents: Sequence[Potential] = (),
    progress: MemberProgress | None = None,
    device: torch.device | None = None,
) -> tuple[list[Potential], dict[str, Any]]:
    """Train potentials one after the other.

    A training that was killed goes on when it is called again with the same inputs and ends with
    the same result.

    Parameters
    ----------
    what
        Settings.
    frames
        Labelled geometries.
    checkpoint
        Checkpoints of members are named after it and left there: ``delete_checkpoints``.
    parents
        Potentials to start from, one for all members or one for each.
    progress
        Called after each epoch.
    device
        Where to train; see ``train``.

    Returns
    -------
    potentials : list of Potential
        One for each member.
    training : dict
        How they were trained, JSON-serialisable; the history of every member among it.

    Raises
    ------
    InputError
        If a parent has another shape than the settings, is charge-aware where they are not, or
        there is another number of parents than members.
    UnfinishedError
        If SIGTERM came; what was done is in the checkpoints.
    """
    starts = _starts(what, frames, parents)
    results = []
    for member, path in enumerate(_checkpoints(checkpoint, what.members)):
        results.append(
            train(
                what.potential,
                what.training,
                frames,
                seed=int(np.random.default_rng([what.seed, member]).integers(2**31)),
                fold=member % what.folds,
                n_folds=what.folds,
                checkpoint=path,
                warm_start=starts[member],
                progress=None if progress is None else _of_member(progress, member),
                device=device,
            )
        )
    members = [result.potential for result in results]
    return members, _document(what, frames, results)


def delete_checkpoints(checkpoint: Path, members: int) -> None:
    """Delete the checkpoints of ``fit``, once its result is safe.

    Parameters
    ----------
    checkpoint
        As it was given to ``fit``.
    members
        How many potentials were trained.
    """
    for path in _checkpoints(checkpoint, members):
        path.unlink(missing_ok=True)


def held_out_groups(frames: Sequence[TrainingFrame], folds: int, member: int) -> int:
    """Return how many groups a member holds out.

    Parameters
    ----------
    frames
        Labelled geometries.
    folds
        Number of folds.
    member
        Its number, from zero.

    Returns
    -------
    int
        Zero where nothing would be left to train on.
    """
    groups = set(groups_of(frames))
    held = sum(fold_of(group, folds) == member % folds for group in groups)
    return 0 if folds == 1 or held == len(groups) else held


def _checkpoints(checkpoint: Path, members: int) -> list[Path]:
    return [checkpoint.with_name(f"{checkpoint.name}-{member}") for member in range(members)]


def _of_member(progress: MemberProgress, member: int) -> Callable[..., None]:
    def report(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        progress(member, epoch, epochs, figures)

    return report


def _starts(
    what: Fit, frames: Sequence[TrainingFrame], parents: Sequence[Potential]
) -> list[Potential | None]:
    """Return the potential that each member starts from.

    Raises
    ------
    InputError
        If a parent is of another shape than the settings, is charge-aware where they are not, or
        there is another number of parents than members.
    """
    if not parents:
        return [None] * what.members
    if len(parents) not in (1, what.members):
        raise InputError(
            f"it holds {len(parents)} potentials, not {what.members}",
            where="--from",
            remedy=f"give --members {len(parents)}",
        )
    starts = [_start(parent, what.potential, frames) for parent in parents]
    return [starts[member % len(starts)] for member in range(what.members)]


def _start(
    parent: Potential, settings: PotentialSettings, frames: Sequence[TrainingFrame]
) -> Potential:
    theirs, ours = (s.model_dump(mode="json") for s in (parent.settings, settings))
    for name in ("kind", *ours):
        if name not in _KEPT and theirs.get(name) != ours[name]:
            raise InputError(
                f"the model to start from has {name} {theirs.get(name)}, not {ours[name]}",
                where=f"--from, potential.{name}",
                remedy=f"set {name} to {theirs.get(name)}, or leave --from out",
            )
    if parent.vocabulary.charge_aware and not settings.charge_aware:
        raise InputError(
            "the model to start from is charge-aware, and a blind one cannot start from it",
            where="--from",
            remedy="leave --blind out, or start from a blind model",
        )
    if settings.charge_aware and not parent.vocabulary.charge_aware:
        return parent.with_vocabulary(Vocabulary.of(species_of(frames), charge_aware=True))
    return parent


def _document(
    what: Fit, frames: Sequence[TrainingFrame], results: Sequence[TrainingResult]
) -> dict[str, Any]:
    having = Counter(
        name for frame in frames for name in CAN_LACK if getattr(frame, name) is not None
    )
    return {
        "settings": what.training.model_dump(mode="json"),
        "seed": what.seed,
        "folds": what.folds,
        "frames": len(frames),
        "frames_with": {name: having[name] for name in CAN_LACK},
        "groups": len(set(groups_of(frames))),
        "history": [result.history for result in results],
        "held_out": [result.held_out for result in results],
        "spread_scale": _spread_scale(frames, results),
    }


def _spread_scale(frames: Sequence[TrainingFrame], results: Sequence[TrainingResult]) -> float:
    """Return the factor that makes a committee's spread as large as its held-out errors."""
    if len(results) == 1:
        return 1.0
    of_groups = groups_of(frames)
    last = {of_groups[place]: place for place in last_indices(frames)}
    groups = sorted({group for result in results for group in result.held_out})
    atoms = [frames[last[group]].atoms for group in groups]
    predicted = Committee([result.potential for result in results]).predict(atoms)
    spread = {g: p.spread / len(a) for g, p, a in zip(groups, predicted, atoms, strict=True)}
    held = [item for result in results for item in result.held_out.items()]
    return calibrate([error for _, error in held], [spread[group] for group, _ in held])
