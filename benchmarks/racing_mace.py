"""The race of our training against ``mace_run_train``."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ase.io import write
from racing import TOKENS, Race, as_elements, counted, loss_of, n_edges, quiet, unweighted

from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.mace.network import copy_weights
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.trainer import Trainer
from al_charge.potentials.vocabulary import Vocabulary


def race_mace(settings: MaceSettings, frames: list[TrainingFrame], epochs: int, batch: int) -> Race:
    """Let ``mace_run_train`` and our trainer take turns."""
    with quiet():
        run_train = import_module("mace.cli.run_train")
        epochs_of_mace = import_module("mace.tools.train")
    training = TrainingSettings(epochs=10_000, batch_size=batch, schedule="constant")
    vocabulary = Vocabulary.of(TOKENS, charge_aware=True)
    race = Race(len(frames))

    def start(model: Any, loader: Any, loss: Any) -> None:
        potential = Potential.fresh(
            settings,
            vocabulary,
            mean_neighbours=float(model.interactions[0].avg_num_neighbors),
            seed=0,
        )
        theirs = [int(z) for z in model.atomic_numbers]
        rows = [theirs.index(TOKENS[token]) for token in vocabulary.tokens]
        copy_weights(model, potential.module.network, rows)
        race.trainer = Trainer(potential, training, unweighted(potential, frames), [], seed=0)
        per_batch = []
        for data in loader:
            found = model(data.to_dict(), training=True, compute_stress=True)
            per_batch.append(float(loss(pred=found, ref=data).detach()))
        edges = sum(item["edge_index"].shape[1] for item in loader.dataset)
        race.facts = {
            "weights": {"ours": counted(potential.module), "library": counted(model)},
            "edges": {"ours": n_edges(race.trainer), "library": edges},
            "loss": {"ours": loss_of(race.trainer), "library": float(np.mean(per_batch))},
        }

    original = epochs_of_mace.train_one_epoch

    def epoch(**arguments: Any) -> Any:
        if race.trainer is None:
            start(arguments["model"], arguments["data_loader"], arguments["loss_fn"])
        return race.lap(lambda: original(**arguments))

    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder) / "train.xyz", frames)
        write_file(Path(folder) / "valid.xyz", frames[:1])
        program = mace_arguments(Path(folder), settings, training, epochs)
        # The rest of its run, after the last epoch, tells nothing here.
        stop = mock.patch.object(run_train, "create_error_table", side_effect=SystemExit)
        with (
            quiet(),
            stop,
            mock.patch.object(sys, "argv", program),
            mock.patch.object(epochs_of_mace, "train_one_epoch", epoch),
            contextlib.suppress(SystemExit),
        ):
            run_train.main()
    return race


def write_file(path: Path, frames: list[TrainingFrame]) -> None:
    """Write labels under the names that ``mace_run_train`` looks for."""
    images = []
    for frame in frames:
        atoms = as_elements(frame)
        assert frame.stress is not None
        atoms.info["REF_energy"] = frame.energy
        atoms.info["REF_stress"] = frame.stress.ravel()
        atoms.set_array("REF_forces", frame.forces)
        images.append(atoms)
    write(path, images, format="extxyz")


def mace_arguments(
    folder: Path, settings: MaceSettings, training: TrainingSettings, epochs: int
) -> list[str]:
    """Return the command line that asks ``mace_run_train`` for what ours does."""
    options = {
        "name": "race",
        "work_dir": folder,
        "train_file": folder / "train.xyz",
        "valid_file": folder / "valid.xyz",
        "E0s": str(dict.fromkeys(TOKENS.values(), 0.0)),
        "model": "ScaleShiftMACE",
        "scaling": "no_scaling",
        "mean": 0.0,
        "std": 1.0,
        "interaction": "RealAgnosticResidualInteractionBlock",
        "interaction_first": "RealAgnosticResidualInteractionBlock",
        "num_channels": settings.channels,
        "max_L": settings.max_l,
        "max_ell": settings.max_ell,
        "correlation": settings.correlation,
        "num_interactions": settings.layers,
        "num_radial_basis": settings.radial,
        "r_max": float(settings.cutoff),
        "loss": "stress",
        "energy_weight": training.energy_weight,
        "forces_weight": training.force_weight,
        "stress_weight": training.stress_weight,
        "compute_stress": "True",
        "batch_size": training.batch_size,
        "valid_batch_size": 1,
        "optimizer": "adamw",
        "lr": training.learning_rate,
        "weight_decay": training.weight_decay,
        "clip_grad": training.gradient_clip,
        "ema_decay": training.averaging,
        "max_num_epochs": epochs,
        "default_dtype": training.precision,
        "device": "cpu",
        "plot": "False",
        "error_table": "PerAtomRMSE",
    }
    return ["mace_run_train", "--ema", *(f"--{name}={value}" for name, value in options.items())]
