"""Truths that are no sums of pairs: every configuration of a supercell, relaxed by a stored MACE.

    python benchmarks/rehearsal_truth.py HOST model     # trains the potential, if it is not there
    python benchmarks/rehearsal_truth.py HOST relax     # relaxes what is missing; may be stopped
    python benchmarks/rehearsal_truth.py HOST points    # energies without relaxation, in minutes

The potential is a charge-aware MACE without pair terms. With the GPAW labels in `examples/data`
alone, 58 frames of olivine NaxFePO4, it does not keep a crystal together. So CHGNet is fine-tuned
on them first, from its published weights and charge-aware, and labels strained and rattled
configurations of two cells; MACE is trained on the GPAW frames and on those. The other host,
layered O3-NaxVO2, has a handful of labels, so that nearly everything there comes from CHGNet. What
the two say of the materials is neither DFT nor checked against it, and need not be: it is smooth,
of many bodies, and depends on the charge states, and its hull can be known exactly.

Configurations start where a campaign's do, on sites between both end members. `relax` goes through
the rehearsal labeler as a campaign would. `points` leaves out MACE: single points of the fine-tuned
CHGNet, which is of many bodies as well. Files with energies are those of `born_truth`.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from awareness_data import GPAW_CAMPAIGN, GPAW_LABELS
from born_truth import DATA, Truth, run, tell
from exhaustive_hull import Job
from typing_extensions import override

from al_charge.crystal.configuration import Configuration, ion_count, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.interpolation import interpolated_host, match_empty
from al_charge.crystal.parent import read_structure
from al_charge.crystal.shells import SHELL_DISTORTION, distort_shells
from al_charge.labelers.protocol import Relax
from al_charge.loop.spec import CampaignSpec, load_spec
from al_charge.potentials.chgnet import ChgnetSettings
from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.mace import MaceSettings
from al_charge.potentials.model_file import write_model
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.rehearsal.settings import ModelSettings

EXAMPLES = Path(__file__).parents[1] / "examples"
SEED = 1
TEACHER = ChgnetSettings(pair_cutoff="0 A")
TEACHING = TrainingSettings(epochs=16, learning_rate=1e-3)
STUDENT = MaceSettings(cutoff="4 A", pair_cutoff="0 A")
LEARNING = TrainingSettings(epochs=24, energy_weight=1000.0)
"""With the usual weight of energies, 10, mixed configurations of the 28-atom cell come out 24 to 60
meV per formula unit above the line between the end members: a hull that every method finds."""
OF_EACH, DRAWN, OF_DRAWN = 12, 60, 2
"""Geometries of each configuration of the small cell; configurations of the large one, and
geometries of each of them."""
STRAIN, SHEAR = 0.025, 0.01
"""Standard deviations of the three stretches and of all components of a strain."""
RATTLE = (0.02, 0.12)
"""Range of the standard deviation of displacements in a geometry, angstrom."""


@dataclass(frozen=True)
class Source:
    """Where a host and its labels are.

    Attributes
    ----------
    campaign, labels
        Files of GPAW's campaign.
    cells
        Supercells whose configurations are trained on: all of the first, and some of the second,
        which are those that `relax` takes.
    """

    name: str
    campaign: Path
    labels: Path
    cells: tuple[tuple[int, int, int], tuple[int, int, int]]

    @property
    def model(self) -> Path:
        """The file with the weights."""
        return DATA / f"{self.name}_rehearsal.safetensors"

    @property
    def teacher(self) -> Path:
        """That with the weights of CHGNet."""
        return DATA / f"{self.name}_teacher.safetensors"


SOURCES = {
    source.name: source
    for source in (
        Source("nafepo4", GPAW_CAMPAIGN, GPAW_LABELS, ((1, 1, 1), (1, 2, 1))),
        Source(
            "navo2",
            EXAMPLES / "hosts" / "gpaw" / "navo2.yaml",
            EXAMPLES / "data" / "navo2_gpaw.extxyz",
            ((2, 2, 1), (3, 3, 1)),
        ),
    )
}


@dataclass(frozen=True)
class Starts(Job):
    """A host whose configurations start on sites between both end members."""

    @override
    def start(self, config: Configuration) -> Atoms:
        atoms = to_atoms(between(self.spec, self.host, ion_count(self.host, config)), config)
        return distort_shells(atoms, SHELL_DISTORTION)


def between(spec: CampaignSpec, host: Host, n_ions: int) -> Host:
    """Return the host in the cell and with the sites of a composition."""
    full = read_structure(spec.host.structure)
    assert spec.host.empty_structure is not None
    empty = match_empty(full, read_structure(spec.host.empty_structure), spec.host.working_ion)
    return interpolated_host(host, full, empty, n_ions)


def job_of(source: Source, supercell: tuple[int, int, int], relax: Relax = Relax.CELL) -> Starts:
    """Return a host in a supercell, labelled by a stored potential: CHGNet for single points."""
    spec = load_spec(source.campaign)
    host = spec.host.model_copy(update={"supercell": supercell})
    model = source.teacher if relax is Relax.NONE else source.model
    labeler = ModelSettings(model=model, relax=relax)
    return Starts(spec.model_copy(update={"host": host, "labeler": labeler}), Host.from_spec(host))


def geometries(source: Source) -> Iterator[tuple[str, Atoms]]:
    """Yield strained and rattled geometries, each with the name of its configuration."""
    rng = np.random.default_rng(SEED)
    for cell, number, each in zip(source.cells, (None, DRAWN), (OF_EACH, OF_DRAWN), strict=True):
        job = job_of(source, cell)
        configs = [c for n in job.host.ion_counts for c in enumerate_distinct(job.host, n)]
        chosen = range(len(configs)) if number is None else rng.permutation(len(configs))[:number]
        for place in chosen:
            start = job.start(configs[place])
            for _ in range(each):
                atoms = start.copy()
                strain = np.diag(rng.normal(scale=STRAIN, size=3))
                shear = rng.normal(scale=SHEAR, size=(3, 3))
                strain += (shear + shear.T) / 2.0
                atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                sizes = rng.uniform(*RATTLE) * rng.normal(size=atoms.positions.shape)
                atoms.positions += sizes
                yield f"{'x'.join(map(str, cell))} {place}", atoms


def trained(
    settings: PotentialSettings,
    training: TrainingSettings,
    frames: Sequence[TrainingFrame],
    checkpoint: Path,
) -> Potential:
    """Return a potential trained on all frames; a training that was stopped goes on."""
    return train(
        settings,
        training.model_copy(update={"patience": training.epochs}),
        frames,
        seed=SEED,
        fold=0,
        n_folds=1,
        checkpoint=checkpoint,
        progress=lambda epoch, epochs, found: print(epoch, epochs, found, flush=True),
        device=torch.device("cpu"),
    ).potential


def make_teacher(source: Source, folder: Path) -> Potential:
    """Train the teacher on the GPAW labels."""
    labelled = read_dataset(source.labels, Reading()).frames
    return trained(TEACHER, TEACHING, labelled, folder / f"{source.name}-teacher")


def make_model(source: Source, folder: Path) -> None:
    """Train the teacher and the student, and write the student."""
    labelled = read_dataset(source.labels, Reading()).frames
    frames = [replace(frame, moments=None) for frame in labelled]
    teacher = make_teacher(source, folder)
    taught = list(geometries(source))
    for (name, atoms), found in zip(
        taught, teacher.predict_each(atoms for _, atoms in taught), strict=True
    ):
        frames.append(TrainingFrame(atoms, found.energy, found.forces, found.stress, name))
    student = trained(STUDENT, LEARNING, frames, folder / f"{source.name}-student")
    DATA.mkdir(exist_ok=True)
    write_model(source.model, [student])


def main() -> None:
    """Train, or relax what is missing and say what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", choices=SOURCES)
    parser.add_argument("what", choices=("model", "relax", "points"))
    parser.add_argument("--supercell", type=int, nargs=3, help="instead of the second trained on")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="for checkpoints"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = SOURCES[arguments.host]
    if arguments.what == "model":
        if not source.model.is_file():
            make_model(source, arguments.folder)
        return
    supercell = tuple(arguments.supercell or source.cells[1])
    points = arguments.what == "points"
    if points and not source.teacher.is_file():
        write_model(source.teacher, [make_teacher(source, arguments.folder)])
    kind = "points" if points else "rehearsal"
    path = DATA / f"{source.name}_{kind}_{'x'.join(map(str, supercell))}.npz"
    job = job_of(source, supercell, Relax.NONE if points else Relax.CELL)
    truth = Truth.begin(path, supercell, job.host)
    run(truth, job, path, arguments.processes)
    tell(truth, job.host)


if __name__ == "__main__":
    main()
