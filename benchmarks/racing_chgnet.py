"""The race of our training against CHGNet's trainer."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from ase.units import GPa
from racing import TOKENS, Race, as_elements, counted, loss_of, n_edges, quiet, unweighted
from torch.utils.data import DataLoader

from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.chgnet.pretrained import pretrained
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.trainer import Trainer
from al_charge.potentials.vocabulary import Vocabulary


def race_chgnet(frames: list[TrainingFrame], epochs: int, batch: int) -> Race:
    """Let CHGNet's trainer and ours take turns, from the published weights."""
    from chgnet.data.dataset import StructureData, collate_graphs
    from chgnet.model.model import CHGNet
    from chgnet.trainer import Trainer as LibraryTrainer
    from pymatgen.io.ase import AseAtomsAdaptor

    settings = ChgnetSettings(pair_cutoff="0 A")
    training = TrainingSettings(
        epochs=10_000,
        batch_size=batch,
        schedule="constant",
        energy_weight=1.0,
        stress_weight=0.1 / GPa**2,
    )
    vocabulary = Vocabulary.of(TOKENS, charge_aware=True)
    race = Race(len(frames))
    with quiet():
        model = CHGNet.load(use_device="cpu", verbose=False)
        data = StructureData(
            [AseAtomsAdaptor.get_structure(as_elements(frame)) for frame in frames],
            [frame.energy / len(frame.atoms) for frame in frames],
            [frame.forces for frame in frames],
            # It takes VASP's sign and unit, kbar.
            stresses=[-10.0 * frame.stress / GPa for frame in frames],
            magmoms=[frame.moments for frame in frames],
            graph_converter=model.graph_converter,
        )
        library = LibraryTrainer(
            model,
            targets="efsm",
            optimizer="AdamW",
            weight_decay=training.weight_decay,
            learning_rate=training.learning_rate,
            energy_loss_ratio=training.energy_weight,
            force_loss_ratio=training.force_weight,
            stress_loss_ratio=0.1,
            mag_loss_ratio=training.moment_weight,
            epochs=epochs,
            use_device="cpu",
        )
        loader = DataLoader(data, batch_size=batch, shuffle=True, collate_fn=collate_graphs)
    potential = pretrained(settings, vocabulary)
    numbers = torch.tensor([TOKENS[token] for token in vocabulary.tokens])
    rows = model.atom_embedding.embedding.weight.detach()[numbers - 1]
    with torch.no_grad():
        potential.module.network.atom_embedding.embedding.weight.copy_(rows)
    references = model.composition_model.fc.weight.detach()[0, numbers - 1]
    potential.baseline = replace(potential.baseline, references=references.double().numpy())
    race.trainer = Trainer(potential, training, unweighted(potential, frames), [], seed=0)
    graphs, targets = collate_graphs([data[k] for k in range(len(data))])
    for graph in graphs:
        graph.atom_frac_coord.requires_grad = True
    found = library.criterion(targets, model(graphs, task="efsm"))
    race.facts = {
        "weights": {
            "ours": counted(potential.module),
            "library": counted(model),
            "library_rows_of_other_elements": (94 - len(vocabulary)) * settings.channels,
        },
        "edges": {
            "ours": n_edges(race.trainer),
            "library": sum(len(graph.atom_graph) for graph in graphs),
        },
        "loss": {"ours": loss_of(race.trainer), "library": float(found["loss"].detach())},
    }
    original = library._train

    def epoch(*arguments: Any) -> Any:
        return race.lap(lambda: original(*arguments))

    held = DataLoader(data, batch_size=1, sampler=[0], collate_fn=collate_graphs)
    with (
        quiet(),
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(library, "_train", epoch),
    ):
        library.train(loader, held, save_dir=folder)
    return race
