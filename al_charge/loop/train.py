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
    """Return every frame of every label that may be learned from up to a round, in a fixed order.

    A label whose charge states are uncertain is learned from only by a potential that is told the
    moments.
    """
    labels = campaign.store.labels_of_campaign(campaign.name, up_to=round_number)
    spin = bool(getattr(campaign.spec.potential, "spin", False))
    return [
        frame
        for label in sorted(labels, key=lambda label: label.key)
        if usable(label) or (spin and label.comparable and label.moments is not None)
        for frame in frames_of(label, spin=spin)
    ]


def frames_of(label: LabelDoc, *, spin: bool) -> list[TrainingFrame]:
    """Return a label's frames to train on.

    The engine tells moments and charges of the last geometry. They are targets there alone; as the
    input of a spin-aware potential, an array of the structure, moments stand for all geometries.
    """
    from al_charge.potentials.frames import TrainingFrame

    last = len(label.frames) - 1
    moments = None if label.moments is None else np.array(label.moments)
    charges = None if label.bader is None else np.array(label.bader)
    structures = [label_atoms(label, frame) for frame in label.frames]
    for atoms in structures:
        if spin and moments is not None:
            atoms.set_array("moments", moments)
    return [
        TrainingFrame(
            atoms=atoms,
            energy=frame.energy,
            forces=np.array(frame.forces),
            stress=np.array(frame.stress) if frame.stress is not None else None,
            group=label.config_hash,
            moments=moments if number == last else None,
            charges=charges if number == last else None,
        )
        for number, (atoms, frame) in enumerate(zip(structures, label.frames, strict=True))
    ]


def label_atoms(label: LabelDoc, frame: FrameDoc) -> Atoms:
    """Return one frame of a label as Atoms under the species that the engine found."""
    atoms = Atoms(label.numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.set_array("host_site", np.array(label.host_site))
    set_species(atoms, list(label.resolved or _nearest_states(label)))
    return atoms


def _nearest_states(label: LabelDoc) -> list[str]:
    """Return for every atom the charge state whose window its moment is nearest to."""
    from al_charge.potentials.nearest_states import nearest_state

    assert label.moments is not None
    middles = {token: float(np.mean(window)) for token, window in label.windows.items()}
    sites = label.sites or [None] * len(label.requested)
    return [
        site or nearest_state(asked, abs(moment), middles)
        for site, asked, moment in zip(sites, label.requested, label.moments, strict=True)
    ]
