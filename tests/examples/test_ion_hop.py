"""The barrier of a hop: a potential's against that of the model that labelled it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from ase.mep import NEB
from matplotlib.image import imread
from numpy.typing import NDArray

from al_charge.cli.main import main
from al_charge.crystal.structure_file import load_structure
from al_charge.labelers.born.model import BornModel
from al_charge.potentials.data.dataset import Reading, read_dataset
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train

pytestmark = [
    pytest.mark.slow,
    # SciPy's, where ASE takes the logarithm of a tiny strain
    pytest.mark.filterwarnings("ignore:logm result may be inaccurate:RuntimeWarning"),
]

ROOT = Path(__file__).parents[2]
DATA = ROOT / "examples" / "data" / "nafepo4_gpaw.extxyz"
STATES = {"Na": "Na+", "Fe": "Fe2+", "P": "P5+", "O": "O2-"}
SMALL = PainnSettings(
    cutoff="4 A", channels=8, layers=1, radial=8, pair_cutoff="6 A", pair_intervals=12
)
TRAINING = TrainingSettings(epochs=30, batch_size=4)


class Born(Calculator):
    """The labeler's model itself."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert isinstance(self.atoms, Atoms)
        model = BornModel([str(token) for token in self.atoms.arrays["species"]])
        found = model.evaluate(self.atoms.positions, self.atoms.cell.array)
        self.results = {
            "energy": found.energy,
            "free_energy": found.energy,
            "forces": found.forces,
            "stress": found.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }


def labelled(structures: Sequence[Atoms], name: str) -> list[TrainingFrame]:
    frames = []
    for number, atoms in enumerate(structures):
        atoms = atoms.copy()
        atoms.calc = Born()
        frames.append(
            TrainingFrame(
                atoms=atoms,
                energy=atoms.get_potential_energy(),
                forces=atoms.get_forces(),
                stress=atoms.get_stress(voigt=False),
                group=f"{name}-{number}",
            )
        )
    return frames


def shaken(atoms: Atoms, number: int, distance: float, rng: np.random.Generator) -> list[Atoms]:
    """Return copies with moved atoms and strained cells."""
    copies = []
    for _ in range(number):
        copy = atoms.copy()
        copy.rattle(distance, rng=rng)
        strain = rng.normal(scale=0.01, size=(3, 3))
        copy.set_cell(copy.cell.array @ (np.eye(3) + strain + strain.T), scale_atoms=True)
        copies.append(copy)
    return copies


def trained(frames: list[TrainingFrame], folder: Path) -> Potential:
    torch.set_num_threads(1)
    checkpoint = folder / f"checkpoint-{len(frames)}"
    return train(
        SMALL, TRAINING, frames, seed=1, fold=0, n_folds=1, checkpoint=checkpoint
    ).potential


def profile(path: Sequence[Atoms]) -> NDArray[np.float64]:
    energies = np.array([atoms.get_potential_energy() for atoms in path])
    return energies - energies[0]


def olivine() -> Atoms:
    atoms = read(ROOT / "workflows" / "hosts" / "NaFePO4.cif")
    assert isinstance(atoms, Atoms)
    host = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
    host.set_array("species", np.array([STATES[symbol] for symbol in host.symbols]))
    return host


@pytest.mark.parametrize("repeat", [(1, 1, 1), (1, 2, 1), (1, 3, 2)])
def test_the_hole_is_as_far_from_both_sites(
    ion_hop: ModuleType, repeat: tuple[int, int, int]
) -> None:
    """In larger cells, too: then the ends are mirror images."""
    before, after = ion_hop.ends(olivine().repeat(repeat))
    hole = before.arrays["species"].tolist().index("Fe3+")
    hopping = np.linalg.norm(after.positions - before.positions, axis=1).argmax()
    distances = [atoms.get_distance(hole, hopping, mic=True) for atoms in (before, after)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-6)
    assert distances[0] < 3.6
    energies = []
    for atoms in (before, after):
        atoms.calc = Born()
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-6)


def test_labels_where_the_hop_goes_mend_its_barrier(ion_hop: ModuleType, tmp_path: Path) -> None:
    """A potential of minima alone knows no saddle; some labels on the way, and it is Born's."""
    rng = np.random.default_rng(0)
    host = olivine()
    exact = ion_hop.hop(host, Born)
    barrier = profile(exact).max()
    before, after = exact[0], exact[-1]
    # The iron with the hole lies on the mirror plane between the ends.
    np.testing.assert_allclose(profile(exact), profile(exact)[::-1], atol=0.01)
    assert before.arrays["species"].tolist().count("Fe3+") == 1
    moves = after.positions - before.positions
    hopping = np.linalg.norm(moves, axis=1).argmax()
    assert before.symbols[hopping] == "Na"
    # One site further along b, and nowhere else.
    half = before.cell.lengths()[1] / 2
    np.testing.assert_allclose(np.abs(moves[hopping]), [0.0, half, 0.0], atol=0.1)

    frames = labelled(
        [before, *shaken(before, 8, 0.06, rng), *shaken(host, 8, 0.06, rng)], "minima"
    )
    ignorant = trained(frames, tmp_path)
    saddle = exact[len(exact) // 2]
    energies = [p.energy for p in ignorant.predict([before, saddle])]
    assert abs(energies[1] - energies[0] - profile(exact)[len(exact) // 2]) > 0.5

    straight = [before.copy() for _ in range(len(exact) - 1)] + [after.copy()]
    NEB(straight, method="improvedtangent").interpolate("idpp", mic=True)
    between = straight[1:-1]
    moved = [copy for atoms in between for copy in shaken(atoms, 2, 0.05, rng)]
    frames += labelled([*between, *moved], "straight")
    first = ion_hop.hop(host, trained(frames, tmp_path).calculator)
    frames += labelled(first[1:-1], "first path")
    found = ion_hop.hop(host, trained(frames, tmp_path).calculator)
    assert profile(found).max() == pytest.approx(barrier, abs=0.05)
    assert profile(found)[-1] == pytest.approx(0.0, abs=0.002)


def test_images_of_a_path_are_labelled_and_learned_from(
    run: Callable[..., str], committee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the example's path through ``al-charge label`` to a file to train on."""
    monkeypatch.chdir(tmp_path)
    out = run("ion_hop", committee, "--plot", "hop.png", "--images", "hop")
    barrier, difference = re.findall(r"barrier: ([\d.]+) eV; the ends differ by (\S+) meV", out)[0]
    rows = re.findall(r"^ +(\d) +(-?[\d.]+) +([\d.]+)$", out, re.M)
    assert len(rows) == 7
    assert max(float(energy) for _, energy, _ in rows) == pytest.approx(float(barrier), abs=0.006)
    assert abs(float(difference)) < 5.0
    assert imread("hop.png").std() > 0.05

    atoms, _ = load_structure(Path("hop/3.extxyz"))
    with pytest.raises(SystemExit) as exit_:
        main(["label", "hop/3.extxyz", "--engine", "born", "--relax", "none"])
    assert exit_.value.code == 0
    file = next(tmp_path.rglob("label.json"))
    run("add_labels", DATA, file, "--group", "hop", "--output", "both.extxyz")
    found = read_dataset(Path("both.extxyz"), Reading())
    before = read_dataset(DATA, Reading())
    assert len(found.frames) == len(before.frames) + 1
    added = found.frames[-1]
    assert added.group == "hop"
    species = [str(token) for token in atoms.arrays["species"]]
    assert added.atoms.arrays["species"].tolist() == species
    exact = BornModel(species).evaluate(atoms.positions, atoms.cell.array)
    assert added.energy == pytest.approx(exact.energy, abs=1e-6)
    np.testing.assert_allclose(added.forces, exact.forces, atol=1e-6)
    assert added.stress is not None
    np.testing.assert_allclose(added.stress, exact.stress, atol=1e-6)
    assert found.frames[0].energy == pytest.approx(before.frames[0].energy, abs=1e-6)


def test_ambiguous_labels_are_not_added(run: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "label.json"
    file.write_text(json.dumps({"certain": False, "unusable": "", "reasons": ["Fe 3 is at 4.0"]}))
    with pytest.raises(SystemExit, match="Fe 3 is at"):
        run("add_labels", DATA, file, "--group", "hop", "--output", tmp_path / "both.extxyz")
