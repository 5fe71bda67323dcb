"""Train: one member of a round's committee on the campaign's labels."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.committee import load_member, missing, predict_labels
from al_charge.loop.labelled_frames import cached_labels, learnable
from al_charge.potentials.plugin import POTENTIALS
from al_charge.store.documents import ModelDoc
from al_charge.store.fields import now
from al_charge.store.labels import SUMMARY

if TYPE_CHECKING:
    from al_charge.potentials.data.frames import TrainingFrame
    from al_charge.potentials.potential import Potential

_log = logging.getLogger("al_charge.loop")

FOLDS_PER_MEMBER = 2
"""Parts that labels are divided into, per member; each member holds out a part of its own."""

FRESH = "fresh"
"""In the document of a model: trained from the weights of its settings, not from another model."""


def train_member(
    campaign: Campaign, round_number: int, member: int, directory: Path, cache: Path
) -> None:
    """Train and store one member, unless an earlier run has done so.

    Training starts from the same member of the round before and, after a kill, continues from its
    last checkpoint. A member that has learnt every label already is taken over unchanged: training
    it again would only change its predictions at random.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round whose committee it belongs to.
    member
        Its number, from 0.
    directory
        Folder of the checkpoint.
    cache
        Folder of the campaign's frames on this machine, shared by members and rounds.

    Raises
    ------
    AlChargeError
        If there is no label to train on.
    UnfinishedError
        If the model that it starts from was lost, and is trained again.
    """
    from safetensors.torch import save

    from al_charge.potentials.training.train import train

    store = campaign.store
    if store.models.has(campaign.name, round_number, member):
        return
    started = time.monotonic()
    usable = _usable_keys(campaign, round_number)  # those that come meanwhile are not learnt
    if _is_taken_over(campaign, round_number, member, usable):
        _log.info("%s round %d: potential %d knows all labels", campaign.name, round_number, member)
        return
    frames = training_frames(campaign, round_number, cache)
    if not frames:
        raise AlChargeError(
            f"round {round_number} has no usable label to train on",
            where=campaign.name,
            remedy="see 'al-charge campaign status' for why labels failed",
        )
    directory.mkdir(parents=True, exist_ok=True)

    def report(epoch: int, epochs: int, _: dict[str, float]) -> None:
        store.rounds.set_progress(campaign.name, round_number, f"train {member}", epoch, epochs)

    start, parent = start_of(campaign, round_number, member)
    result = train(
        campaign.spec.potential,
        campaign.spec.training,
        frames,
        seed=int(campaign.rng("train", member).integers(2**31)),
        fold=member,
        n_folds=FOLDS_PER_MEMBER * campaign.spec.committee.size,
        checkpoint=directory / "checkpoint",
        warm_start=parent,
        progress=report,
    )
    config, weights = result.potential.state()
    store.models.put(
        ModelDoc(
            campaign=campaign.name,
            round=round_number,
            member=member,
            config=config,
            metrics=result.history[-1],
            history=result.history,
            held_out=result.held_out,
            start=start,
        ),
        save(weights),
        predict_labels(campaign, result.potential, usable),
    )
    store.rounds.add_seconds(campaign.name, round_number, "train", time.monotonic() - started)


def _usable_keys(campaign: Campaign, round_number: int) -> list[str]:
    """Return the keys, sorted, of the labels up to a round that may be on a hull."""
    labels = campaign.store.labels.read(
        SUMMARY, campaign=campaign.name, up_to=round_number, refused=False
    )
    return [label.key for label in labels]


def _is_taken_over(
    campaign: Campaign, round_number: int, member: int, usable: Sequence[str]
) -> bool:
    """Take a member over from the round before if it has learnt all; return whether it has.

    Its predictions tell which usable labels it has learnt. Labels that are of use to potentials
    with moments alone have none, so one of these two rounds is a reason to train.
    """
    models, spec = campaign.store.models, campaign.spec.potential
    before = models.get(campaign.name, round_number - 1, member)
    if before is None:
        return False
    parent, weights = before
    predictions = models.predictions(parent)
    spin = POTENTIALS.of(spec).reads_moments(spec)
    others = campaign.store.labels.read(
        SUMMARY, campaign=campaign.name, up_to=round_number, refused=True
    )
    new = any(
        learnable(label, spin=spin, aware=spec.charge_aware)
        and (label.used is None or label.used >= round_number - 1)
        for label in others
    )
    if new or set(usable) != predictions.keys():
        return False
    taken = {"round": round_number, "start": parent.doc_id, "history": [], "created": now()}
    models.put(parent.model_copy(update=taken), weights, predictions)
    return True


def training_frames(campaign: Campaign, round_number: int, cache: Path) -> Sequence[TrainingFrame]:
    """Return the frames that a round trains on: all of every suitable label up to it.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Last round whose labels count.
    cache
        Folder of the campaign's frames on this machine.

    Returns
    -------
    sequence of TrainingFrame
        In an order that does not change; read from the cache when needed.
    """
    potential = campaign.spec.potential
    spin, aware = POTENTIALS.of(potential).reads_moments(potential), potential.charge_aware
    summaries = campaign.store.labels.read(SUMMARY, campaign=campaign.name, up_to=round_number)
    wanted = [summary for summary in summaries if learnable(summary, spin=spin, aware=aware)]
    orders = {summary.key: campaign.cells.order_of(summary) for summary in wanted}
    return cached_labels(campaign.store, wanted, cache, spin=spin, orders=orders)


def start_of(campaign: Campaign, round_number: int, member: int) -> tuple[str, Potential | None]:
    """Return the model that the training of a member starts from.

    That is the same member of the round before, however much the labels have grown or changed: its
    energy baseline is fitted again, and a training from scratch gets no further in as many epochs;
    docs/decisions/0070-warm-start.md has the figures.

    Parameters
    ----------
    campaign
        The campaign.
    round_number
        Round whose committee the member belongs to.
    member
        Its number, from 0.

    Returns
    -------
    str
        Id of the model, or `FRESH`.
    Potential or None
        The model; None in the first round.

    Raises
    ------
    UnfinishedError
        If the round before has lost it.
    """
    if not round_number:
        return FRESH, None
    parent = load_member(campaign, round_number - 1, member)
    if parent is None:
        raise missing(campaign, round_number - 1, member)
    return ModelDoc.id_of(campaign.name, round_number - 1, member), parent
