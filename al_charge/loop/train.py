"""Train: one member of a round's committee on the campaign's labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from al_charge.crystal.configuration import set_species
from al_charge.errors import AlChargeError
from al_charge.loop.campaign import Campaign
from al_charge.loop.committee import load_member
from al_charge.loop.energies import usable
from al_charge.store.documents import FrameDoc, LabelDoc, ModelDoc

if TYPE_CHECKING:
    from al_charge.potentials.frames import TrainingFrame

FOLDS_PER_MEMBER = 2
"""Labels are divided into this many parts per member; each member holds out one part of its own."""


def train_member(campaign: Campaign, round_number: int, member: int, directory: Path) -> None:
    """Train and store one member, unless an earlier run has done so.

    It starts from the same member of the round before, and, after a kill, from its own last
    checkpoint in ``directory``.
    """
    from safetensors.torch import save

    from al_charge.potentials.training import train

    store = campaign.store
    if store.has_model(campaign.name, round_number, member):
        return
    started = time.monotonic()
    frames = training_frames(campaign, round_number)
    if not frames:
        raise AlChargeError(
            f"round {round_number} has no usable label to train on",
            where=campaign.name,
            remedy="see 'al-charge campaign status' for why labels failed",
        )
    directory.mkdir(parents=True, exist_ok=True)

    def report(epoch: int, epochs: int, _: dict[str, float]) -> None:
        store.set_progress(campaign.name, round_number, f"train {member}", epoch, epochs)

    result = train(
        campaign.spec.potential,
        campaign.spec.training,
        frames,
        seed=int(campaign.rng("train", member).integers(2**31)),
        fold=member,
        n_folds=FOLDS_PER_MEMBER * campaign.spec.committee.size,
        checkpoint=directory / "checkpoint",
        warm_start=load_member(campaign, round_number - 1, member) if round_number else None,
        progress=report,
    )
    config, weights = result.potential.state()
    store.put_model(
        ModelDoc(
            campaign=campaign.name,
            round=round_number,
            member=member,
            config=config,
            metrics=result.history[-1],
            history=result.history,
            held_out=result.held_out,
        ),
        save(weights),
    )
    store.add_stage_seconds(campaign.name, round_number, "train", time.monotonic() - started)


def training_frames(campaign: Campaign, round_number: int) -> list[TrainingFrame]:
    """Return every frame of every certain label up to a round, in a fixed order."""
    from al_charge.potentials.frames import TrainingFrame

    labels = campaign.store.labels_of_campaign(campaign.name, up_to=round_number)
    return [
        TrainingFrame(
            atoms=label_atoms(label, frame),
            energy=frame.energy,
            forces=np.array(frame.forces),
            stress=np.array(frame.stress) if frame.stress is not None else None,
            group=label.config_hash,
        )
        for label in sorted(labels, key=lambda label: label.key)
        if usable(label)
        for frame in label.frames
    ]


def label_atoms(label: LabelDoc, frame: FrameDoc) -> Atoms:
    """Return one frame of a label as Atoms under the species that the engine found."""
    assert label.resolved is not None
    atoms = Atoms(label.numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.set_array("host_site", np.array(label.host_site))
    set_species(atoms, list(label.resolved))
    return atoms
