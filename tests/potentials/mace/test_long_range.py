"""MACE with latent Ewald summation; with a stand-in where the package ``les`` is not installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core.structure import Structure

from al_charge.errors import InputError, NotInstalledError
from al_charge.loop.spec import load_spec
from al_charge.loop.submit import check_spec
from al_charge.potentials.committee import Committee
from al_charge.potentials.mace import MaceSettings, long_range
from al_charge.potentials.mace.foundation import mace_input, read_foundation, write_foundation
from al_charge.potentials.mace.long_range import ARGUMENTS, ewald_energies
from al_charge.potentials.networks.graph import build_graph
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.relaxation.batched_committee import BatchedCommittee
from al_charge.potentials.settings import TrainingSettings
from al_charge.potentials.training.train import train
from al_charge.potentials.vocabulary import Vocabulary
from al_charge.testing.potentials import (
    TOKENS,
    PotentialContract,
    moved,
    small_salt,
    teacher_frames,
    untrained,
)

INSTALLED = importlib.util.find_spec("les") is not None
SMALL = MaceSettings(cutoff="3.5 A", channels=4, max_ell=1, radial=4, long_range="les")
CHARGES = torch.tensor([0.9, -1.2, 1.4, -1.3, 1.9, -1.2, 0.8, -1.3], dtype=torch.float64)


def standin() -> ModuleType:
    """Return the stand-in, imported from its file."""
    file = Path(__file__).with_name("les_standin.py")
    spec = importlib.util.spec_from_file_location("les_standin", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def les(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package, or the stand-in in its place."""
    if not INSTALLED:
        module = standin()
        module.__spec__ = ModuleSpec("les", None)
        monkeypatch.setitem(sys.modules, "les", module)
    from les import Les

    return Les(les_arguments=ARGUMENTS)


@pytest.fixture
def settings(les: Any) -> MaceSettings:
    """Return the settings that the contract is for."""
    return SMALL


class TestContract(PotentialContract):
    """All of it."""


def energy(les: Any, atoms: Atoms, charges: torch.Tensor = CHARGES) -> float:
    """Return the energy of latent charges, eV."""
    vocabulary = Vocabulary.of(TOKENS, charge_aware=True)
    graph = build_graph(atoms, vocabulary, 3.0, dtype=torch.float64, long_range=True)
    (found,) = ewald_energies(les, charges, graph)
    return float(found)


def test_charges_have_the_energy_of_an_ewald_sum(les: Any) -> None:
    """Against pymatgen's parts in reciprocal space and of single charges."""
    atoms = small_salt()
    structure = Structure(
        atoms.cell.array, atoms.symbols, atoms.positions, coords_are_cartesian=True
    )
    structure.add_oxidation_state_by_site(CHARGES.tolist())
    ewald = EwaldSummation(structure, recip_space_cut=40.0, eta=0.5 / ARGUMENTS["sigma"] ** 2)
    expected = ewald.reciprocal_space_energy + ewald.point_energy
    unit = EwaldSummation.CONV_FACT * 2.0 * np.pi / standin().HALF_INVERSE_PERMITTIVITY
    assert unit * energy(les, atoms) == pytest.approx(expected, rel=1e-5)


def test_the_handedness_of_a_cell_does_not_matter(les: Any) -> None:
    atoms = small_salt()
    other = moved(atoms, atoms.positions, atoms.cell.array[[1, 0, 2]])
    assert np.linalg.det(other.cell.array) < 0.0
    assert energy(les, other) == pytest.approx(energy(les, atoms), rel=1e-12)


def test_energies_do_not_jump_as_the_cell_changes(les: Any) -> None:
    """Second differences along a strain: they would be meV with a coarser sum."""
    atoms = small_salt()
    found = []
    for strain in np.linspace(0.0, 0.03, 121):
        stretch = np.diag([1.0 + strain, 1.0 - 0.4 * strain, 1.0 + 0.7 * strain])
        found.append(energy(les, moved(atoms, atoms.positions @ stretch, atoms.cell @ stretch)))
    assert np.ptp(found) > 0.01
    assert np.abs(np.diff(found, 2)).max() < 1e-4


def test_energy_and_forces_are_those_of_mace(settings: MaceSettings) -> None:
    """Of its own forward pass; its stress lacks what the cell itself contributes."""
    ours, atoms = untrained(settings), small_salt()
    (prediction,) = ours.predict([atoms])
    base = ours.predict_baseline(atoms, find_neighbours(atoms, ours.neighbour_cutoff))
    inputs = mace_input(atoms, ours) | {"pbc": torch.tensor([[True] * 3])}
    theirs = ours.module.get_submodule("network")(inputs)
    assert abs(theirs["les_energy"].item()) > 0.01
    assert prediction.energy - base.energy == pytest.approx(
        ours.scale * theirs["energy"].item(), rel=1e-9
    )
    np.testing.assert_allclose(
        prediction.forces - base.forces, ours.scale * theirs["forces"].detach().numpy(), atol=1e-9
    )


def test_ions_see_each_other_beyond_the_cutoff(settings: MaceSettings) -> None:
    """Two ions that are farther apart than any message goes."""
    atoms = Atoms("FeO", [[1.0, 1.0, 1.0], [10.0, 1.0, 1.0]], cell=[20.0] * 3, pbc=True)
    atoms.set_array("species", np.array(["Fe3+", "O2-"]))
    farther = moved(atoms, atoms.positions + np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    changes = []
    for how in ("none", "les"):
        potential = untrained(settings.model_copy(update={"long_range": how}))
        first, second = potential.predict([atoms, farther])
        changes.append(abs(second.energy - first.energy))
    assert changes[0] < 1e-10
    assert changes[1] > 1e-6


def test_a_foundation_model_without_latent_charges_is_refused(
    settings: MaceSettings, tmp_path: Path
) -> None:
    """Its energies would not be those that training starts from."""
    blind = {"charge_aware": False}
    local = settings.model_copy(update={**blind, "long_range": "none"})
    write_foundation(tmp_path / "local", untrained(local))
    with pytest.raises(InputError, match="has long_range none, not les"):
        read_foundation(tmp_path / "local", settings, TOKENS)
    write_foundation(tmp_path / "les", untrained(settings.model_copy(update=blind)))
    child = read_foundation(tmp_path / "les", settings, TOKENS)
    assert child.vocabulary.charge_aware and child.long_range


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the package."""
    monkeypatch.setattr(long_range, "find_spec", lambda _: None)


def test_where_it_is_not_installed_training_is_refused(not_installed: None, tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match="'les', which is not installed") as refused:
        train(
            SMALL,
            TrainingSettings(epochs=1),
            teacher_frames(2),
            seed=0,
            fold=0,
            n_folds=1,
            checkpoint=tmp_path / "checkpoint",
        )
    assert "or set long_range: none" in refused.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_where_it_is_not_installed_a_campaign_is_refused(not_installed: None) -> None:
    file = Path(__file__).parents[3] / "workflows" / "nafepo4_born.yaml"
    spec = load_spec(file)
    check_spec(spec)
    with pytest.raises(NotInstalledError, match="which is not installed"):
        check_spec(spec.model_copy(update={"potential": SMALL}))


@pytest.mark.skipif(not INSTALLED, reason="needs the package les")
def test_the_stand_in_computes_what_the_package_does(les: Any) -> None:
    ours = standin().Les(les_arguments=ARGUMENTS)
    for seed in range(3):
        atoms = small_salt(seed)
        assert energy(les, atoms) == pytest.approx(energy(ours, atoms), rel=1e-9)


def test_a_batch_on_tensors_sees_positions_and_cells(settings: MaceSettings) -> None:
    """As the committee that relaxes one by one does."""
    committee = Committee([untrained(settings)])
    structures = [small_salt(0), small_salt(1)]
    found = BatchedCommittee(committee, structures, torch.device("cpu")).evaluate(
        torch.arange(16),
        torch.as_tensor(np.concatenate([atoms.positions for atoms in structures])),
        torch.as_tensor(np.array([atoms.cell.array for atoms in structures])),
        torch.repeat_interleave(torch.arange(2), 8),
    )
    for k, expected in enumerate(committee.predict(structures)):
        assert float(found.energy[k]) == pytest.approx(expected.energy, abs=1e-9)
        np.testing.assert_allclose(found.forces[8 * k : 8 * k + 8], expected.forces, atol=1e-9)
        np.testing.assert_allclose(found.stress[k], expected.stress, atol=1e-9)
