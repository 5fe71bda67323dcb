"""Labels of the Born olivine, and which of them each round of a scenario has."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from al_charge.crystal.configuration import Configuration, set_species, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.symmetry import canonical_hash
from al_charge.labelers import make_labeler
from al_charge.labelers.labelling import make_label
from al_charge.loop.spec import CampaignSpec
from al_charge.potentials.data.frames import TrainingFrame

FIRST, MORE = 20, 16
"""Labels of the first round, and new ones of every round after it."""
FEW_IONS = 3
"""Of eight sites: what the first labels of ``shift`` have at most."""
WRONG = 1.5
"""Factor of energies and forces that are wrong."""

Label = list[TrainingFrame]
Round = list[Label]


@dataclass(frozen=True)
class Job:
    """What a worker process needs to label a configuration."""

    spec: CampaignSpec
    host: Host

    def label(self, config: Configuration) -> Label:
        """Return the frames of one configuration's label."""
        atoms = to_atoms(self.host, config)
        with tempfile.TemporaryDirectory() as folder:
            result = make_label(make_labeler(self.spec.labeler), atoms, Path(folder))
        assert result.resolved is not None
        frames = []
        for frame in result.reading.frames:
            moved = atoms.copy()
            moved.set_cell(frame.cell)
            moved.positions = frame.positions
            set_species(moved, list(result.resolved))
            group = canonical_hash(self.host, config)
            frames.append(TrainingFrame(moved, frame.energy, frame.forces, frame.stress, group))
        return frames


def pool(spec: CampaignSpec, size: int, processes: int) -> list[Label]:
    """Return labels of configurations drawn from all compositions in turn."""
    host = Host.from_spec(spec.host)
    rng = np.random.default_rng(0)
    by_composition = [list(enumerate_distinct(host, n)) for n in host.ion_counts]
    for configurations in by_composition:
        rng.shuffle(configurations)  # type: ignore[arg-type]
    turns = [c for k in range(size) for own in by_composition for c in own[k : k + 1]][:size]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        return workers.map(Job(spec, host).label, turns, chunksize=4)


def rounds_of(scenario: str, labels: list[Label], rounds: int) -> list[Round]:
    """Return the labels that each round of a scenario trains on."""
    sizes = [FIRST + MORE * k for k in range(rounds)]
    if scenario == "campaign":
        return [labels[:size] for size in sizes]
    if scenario == "jump":
        return [labels[:FIRST], labels[: sizes[-1]]]
    if scenario == "shift":
        poor = [label for label in labels if ions_of(label) <= FEW_IONS]
        rich = [label for label in labels if ions_of(label) > FEW_IONS]
        return [(poor + rich)[:size] for size in sizes]
    if scenario in ("wrong scale", "wrong charges"):
        spoil = scaled if scenario == "wrong scale" else exchanged
        wrong = [spoil(label) for label in labels]
        return [(wrong if k < 2 else labels)[:size] for k, size in enumerate(sizes)]
    raise ValueError(scenario)


def ions_of(label: Label) -> int:
    """Return how many working ions a label has."""
    return int(np.sum(label[0].atoms.arrays["species"] == "Na+"))


def scaled(label: Label) -> Label:
    """Return a label whose energies, forces and stress are too large."""
    return [
        replace(
            frame,
            energy=WRONG * frame.energy,
            forces=WRONG * frame.forces,
            stress=None if frame.stress is None else WRONG * frame.stress,
        )
        for frame in label
    ]


def exchanged(label: Label) -> Label:
    """Return a label with the charge states of iron exchanged."""
    other = {"Fe2+": "Fe3+", "Fe3+": "Fe2+"}
    frames = []
    for frame in label:
        atoms = frame.atoms.copy()
        species = [str(token) for token in atoms.arrays["species"]]
        set_species(atoms, [other.get(token, token) for token in species])
        frames.append(replace(frame, atoms=atoms))
    return frames
