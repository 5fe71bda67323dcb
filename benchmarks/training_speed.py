"""Time our training against the trainers of MACE and of CHGNet, side by side in one run.

The library's own training runs as it is: ``mace.cli.run_train``, the program behind
``mace_run_train``, on a file of labels, and ``chgnet.trainer.Trainer.train`` on ``StructureData``.
Each of them passes over its data in one function, and after every call of that function our
`Trainer` does an epoch on the same structures. So both take turns within one process, start-up
does not count, and a busy machine slows both alike. Times are CPU time of one thread; wall times
are in the JSON.

Both start from the same weights. Before the first epoch the losses on all structures are compared,
and the numbers of weights and edges are written down. Fe3+ is an element of its own to the library
too: the file calls it cobalt.

What the libraries' epochs do not do and ours does is counted against us: clipping of gradients and
a running mean of weights beside CHGNet's trainer, which has neither.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from ase import Atoms
from ase.io import write
from ase.units import GPa
from potential_speed import structure
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from al_charge.potentials.chgnet import pretrained
from al_charge.potentials.frames import TrainingFrame
from al_charge.potentials.loss import Batch, errors, join, prepare
from al_charge.potentials.mace import copy_weights
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import ChgnetSettings, MaceSettings, TrainingSettings
from al_charge.potentials.trainer import Trainer
from al_charge.potentials.vocabulary import Vocabulary

TOKENS = {"Fe2+": 26, "Fe3+": 27, "Na+": 11, "O2-": 8, "P5+": 15}
"""Atomic number that stands for a species in the library's run."""
WARM_UP = 2
"""Epochs that are not counted."""
MACE_CASES = {
    "MACE 16x0e+16x1o, correlation 2": MaceSettings(),
    "MACE 32x0e+32x1o, correlation 3, l 3": MaceSettings(channels=32, correlation=3, max_ell=3),
}


@dataclass
class Race:
    """Our trainer, which does an epoch after each of the library's.

    Attributes
    ----------
    structures
        Of one epoch.
    trainer
        Made when the library's network is there to copy.
    ours, theirs
        Seconds of each epoch: CPU time of this process, wall time.
    facts
        What was compared before the first epoch.
    """

    structures: int
    trainer: Trainer | None = None
    ours: list[tuple[float, float]] = field(default_factory=list)
    theirs: list[tuple[float, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def lap(self, theirs: Callable[[], Any]) -> Any:
        """Let the library do its epoch and then do ours; return what the library's gives."""
        assert self.trainer is not None
        result, spent = timed(theirs)
        self.theirs.append(spent)
        self.ours.append(timed(self.trainer.epoch)[1])
        return result

    def record(self, case: str) -> dict[str, Any]:
        """Return medians in milliseconds per structure and the ratio of CPU times."""
        ours, theirs = (1e3 * np.array(laps[WARM_UP:]) for laps in (self.ours, self.theirs))
        medians = {
            name: dict(zip(("cpu", "wall"), np.median(laps, axis=0) / self.structures, strict=True))
            for name, laps in (("ours", ours), ("library", theirs))
        }
        return {
            "case": case,
            "milliseconds": medians,
            "ratio": float(np.median(theirs[:, 0]) / np.median(ours[:, 0])),
            "ratios_of_laps": (theirs[:, 0] / ours[:, 0]).tolist(),
        } | self.facts


def timed(task: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """Return a task's result, and its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = task()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


def labelled(count: int) -> list[TrainingFrame]:
    """Return olivine structures of 56 atoms, both charge states in them, with random labels."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(count):
        atoms: Atoms = structure((1, 2, 1))
        atoms.rattle(0.05, seed=number)
        stress = rng.normal(scale=0.01, size=(3, 3))
        frames.append(
            TrainingFrame(
                atoms=atoms,
                energy=float(rng.normal()),
                forces=rng.normal(scale=0.3, size=(len(atoms), 3)),
                stress=(stress + stress.T) / 2,
                group=str(number),
                moments=rng.uniform(0.0, 4.0, size=len(atoms)),
            )
        )
    return frames


def unweighted(potential: Potential, frames: list[TrainingFrame]) -> list[Batch]:
    """Return frames for our trainer that all count alike, as in the libraries."""
    return [replace(b, weights=torch.ones_like(b.weights)) for b in prepare(potential, frames)]


def loss_of(trainer: Trainer) -> float:
    """Return the loss on all structures at once."""
    batch = join(trainer.used)
    found = errors(trainer.module, trainer.potential.scale, batch, training=True)
    return float(found.loss(trainer.settings).detach())


def as_elements(frame: TrainingFrame) -> Atoms:
    """Return a frame's atoms with an element for every species."""
    atoms = frame.atoms.copy()
    atoms.numbers = [TOKENS[str(token)] for token in frame.atoms.arrays["species"]]
    return atoms


def counted(module: torch.nn.Module) -> int:
    """Return how many weights are trained."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


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


def n_edges(trainer: Trainer) -> int:
    """Return the edges of all structures."""
    return sum(len(batch.graph.centres) for batch in trainer.used)


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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the libraries say to themselves."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
    logging.disable(logging.NOTSET)


def table(records: list[dict[str, Any]]) -> Table:
    """Return the records as a table."""
    result = Table(title="Training, CPU time of one thread per structure of 56 atoms and epoch")
    for heading in ("case", "ours", "library", "library / ours", "loss", "library's loss"):
        result.add_column(heading, justify="left" if heading == "case" else "right")
    for record in records:
        result.add_row(
            record["case"],
            f"{record['milliseconds']['ours']['cpu']:.1f} ms",
            f"{record['milliseconds']['library']['cpu']:.1f} ms",
            f"{record['ratio']:.2f}",
            f"{record['loss']['ours']:.5f}",
            f"{record['loss']['library']:.5f}",
        )
    return result


def main() -> None:
    """Race, print the table and write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = (*MACE_CASES, "CHGNet 0.3.0")
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--structures", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=9, help=f"the first {WARM_UP} do not count")
    parser.add_argument("--json", type=Path, default=Path("training_speed.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    frames = labelled(arguments.structures)
    records = []
    for case in arguments.case:
        if case in MACE_CASES:
            settings = MACE_CASES[case].model_copy(update={"pair_cutoff": 0.0})
            race = race_mace(settings, frames, arguments.epochs, arguments.batch_size)
        else:
            race = race_chgnet(frames, arguments.epochs, arguments.batch_size)
        records.append(race.record(case))
        Console().print(table(records[-1:]))
    document = {"batch": arguments.batch_size, "structures": len(frames), "records": records}
    arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
