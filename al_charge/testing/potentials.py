"""The contract of potentials, whatever their network.

Subclass ``PotentialContract`` in a test module under a name that starts with ``Test``, and give it
a fixture or parameter ``settings``: small settings of the network, with which an epoch takes well
under a second. pytest collects the tests. They use a cell of eight atoms, in double precision where
derivatives are compared. ``tests/potentials/test_contract.py`` is an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.spatial.transform import Rotation

from al_charge.crystal.species import TOKEN_DTYPE
from al_charge.errors import InputError
from al_charge.potentials.baseline.fit import Baseline
from al_charge.potentials.baseline.pairs import PairTerms
from al_charge.potentials.data.frames import TrainingFrame
from al_charge.potentials.device import choose_device
from al_charge.potentials.networks.neighbours import find_neighbours
from al_charge.potentials.painn import PainnSettings
from al_charge.potentials.potential import Potential
from al_charge.potentials.settings import PotentialSettings, TrainingSettings
from al_charge.potentials.training.train import TrainingResult, train
from al_charge.potentials.vocabulary import Vocabulary

Array = NDArray[np.float64]

TOKENS = ("Na+", "O2-", "Fe2+", "O2-", "Fe3+", "O2-", "Na+", "P5+")
PAIR_CUTOFF, PAIR_INTERVALS = 4.5, 9


def small_salt(seed: int = 0) -> Atoms:
    """Return eight atoms on a rattled, sheared lattice, with both charge states of iron.

    Parameters
    ----------
    seed
        Seed of the random displacements.

    Returns
    -------
    Atoms
        The structure, with an array ``species``.
    """
    grid = np.stack(np.meshgrid(*[[0, 1]] * 3), axis=-1).reshape(-1, 3)
    symbols = [token.rstrip("+-0123456789") for token in TOKENS]
    atoms = Atoms(symbols, 2.2 * grid, cell=[4.4] * 3, pbc=True)
    atoms.rattle(0.1, seed=seed)
    atoms.set_cell(np.array([[4.4, 0.1, 0.0], [0.0, 4.5, 0.2], [0.1, 0.0, 4.3]]), scale_atoms=True)
    atoms.set_array("species", np.array(TOKENS, dtype=TOKEN_DTYPE))
    return atoms


def untrained(settings: PotentialSettings, *, seed: int = 0) -> Potential:
    """Return a potential for the small salt with random weights and random pair terms.

    Parameters
    ----------
    settings
        Settings of the network.
    seed
        Seed of weights and pair terms.

    Returns
    -------
    Potential
        In double precision.
    """
    vocabulary = Vocabulary.of(TOKENS, charge_aware=settings.charge_aware)
    rng = np.random.default_rng(seed)
    n = len(vocabulary)
    table: Array = rng.normal(size=(n, n, PAIR_INTERVALS + 3))
    table[:, :, -3:] = 0.0
    pairs = PairTerms(PAIR_CUTOFF, table + table.transpose(1, 0, 2))
    potential = Potential.fresh(
        settings,
        vocabulary,
        mean_neighbours=20.0,
        seed=seed,
        baseline=Baseline(rng.normal(size=n), pairs),
        scale=1.3,
    )
    potential.module.to(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # A fresh network may give zero, which would pass every test.
        for weight in potential.module.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return potential


def teacher_frames(n_groups: int = 6) -> list[TrainingFrame]:
    """Return training frames labelled by a potential with random weights.

    Parameters
    ----------
    n_groups
        Number of groups; each has two frames.

    Returns
    -------
    list of TrainingFrame
        Small salts with energies (eV), forces (eV/angstrom) and stresses (eV/angstrom^3).
    """
    teacher = untrained(PainnSettings(channels=8, cutoff="4 A"), seed=11)
    frames = []
    for group in range(n_groups):
        for k in range(2):
            atoms = small_salt(seed=10 * group + k)
            (label,) = teacher.predict([atoms])
            frames.append(
                TrainingFrame(atoms, label.energy, label.forces, label.stress, f"group {group}")
            )
    return frames


def swapped_iron(atoms: Atoms) -> Atoms:
    """Return a small salt with the charge states of its two irons exchanged.

    Parameters
    ----------
    atoms
        A small salt; it is left as it is.

    Returns
    -------
    Atoms
        A copy with the other charge order.
    """
    other: Atoms = atoms.copy()
    species = other.arrays["species"]
    species[[2, 4]] = species[[4, 2]]
    return other


def moved(atoms: Atoms, positions: Array, cell: Array | None = None) -> Atoms:
    """Return a structure with other positions.

    Parameters
    ----------
    atoms
        The structure; it is left as it is.
    positions
        Cartesian positions, shape (n_atoms, 3), angstrom.
    cell
        Lattice vectors as rows, shape (3, 3), angstrom; as before if None.

    Returns
    -------
    Atoms
        The changed copy.
    """
    other: Atoms = atoms.copy()
    if cell is not None:
        other.set_cell(cell)
    other.positions = positions
    return other


def energies(potential: Potential, structures: Sequence[Atoms]) -> Array:
    """Return the energies of structures.

    Parameters
    ----------
    potential
        The potential.
    structures
        Structures with an array ``species``.

    Returns
    -------
    ndarray, shape (n_structures,)
        Energies of the cells, eV.
    """
    return np.array([p.energy for p in potential.predict(structures)])


_UNCHANGED: dict[str, Potential] = {}


def _unchanged(settings: PotentialSettings) -> Potential:
    """Return an untrained potential that no test changes: some take a second to build."""
    if repr(settings) not in _UNCHANGED:
        _UNCHANGED[repr(settings)] = untrained(settings)
    return _UNCHANGED[repr(settings)]


class _KilledError(Exception):
    pass


class PotentialContract:
    """Tests that every potential must pass."""

    def test_a_new_species_changes_no_energy(self, settings: PotentialSettings) -> None:
        """Rows of absent species do not enter, and a new charge state starts from its element."""
        potential, atoms = _unchanged(settings), small_salt()
        larger = potential.extend(["Fe4+", "Mn2+"])
        assert len(larger.vocabulary) > len(potential.vocabulary)
        np.testing.assert_allclose(
            energies(larger, [atoms]), energies(potential, [atoms]), rtol=0, atol=1e-10
        )
        if settings.charge_aware:
            kin = atoms.copy()
            kin.arrays["species"][4] = "Fe4+"
            np.testing.assert_allclose(
                energies(larger, [kin]), energies(potential, [atoms]), rtol=0, atol=1e-10
            )

    def test_a_charge_aware_child_starts_as_its_blind_parent(
        self, settings: PotentialSettings
    ) -> None:
        """Before training, all charge states of an element are alike."""
        parent = _unchanged(settings.model_copy(update={"charge_aware": False}))
        child = parent.with_vocabulary(Vocabulary.of(TOKENS, charge_aware=True))
        both = [small_salt(), swapped_iron(small_salt())]
        np.testing.assert_allclose(
            energies(child, both), energies(parent, both), rtol=0, atol=1e-10
        )

    def test_only_a_charge_aware_potential_tells_charge_orders_apart(
        self, settings: PotentialSettings
    ) -> None:
        """Exchange Fe2+ and Fe3+ at fixed positions."""
        first, second = energies(_unchanged(settings), [small_salt(), swapped_iron(small_salt())])
        assert (abs(first - second) > 1e-3) == settings.charge_aware
        assert settings.charge_aware or first == second

    def test_rotation_and_translation(self, settings: PotentialSettings) -> None:
        """The energy is invariant; forces and stress rotate with the structure."""
        potential, atoms = _unchanged(settings), small_salt()
        turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
        shifted = atoms.positions + np.array([0.2, 1.7, -3.0])
        other = moved(atoms, shifted @ turn.T, atoms.cell @ turn.T)
        first, second = potential.predict([atoms, other])
        assert abs(first.energy - second.energy) < 1e-9
        np.testing.assert_allclose(second.forces, first.forces @ turn.T, atol=1e-9)
        np.testing.assert_allclose(second.stress, turn @ first.stress @ turn.T, atol=1e-10)

    def test_permutation(self, settings: PotentialSettings) -> None:
        """Neither the order of the atoms nor the periodic image of one matters."""
        potential, atoms = _unchanged(settings), small_salt()
        order = np.random.default_rng(3).permutation(len(atoms))
        other = atoms[order]
        other.positions = other.positions + np.array([[1, -2, 0]] * len(atoms)) @ atoms.cell
        first, second = potential.predict([atoms, other])
        assert abs(first.energy - second.energy) < 1e-9
        np.testing.assert_allclose(second.forces, first.forces[order], atol=1e-9)

    def test_only_crystals_are_predicted(self, settings: PotentialSettings) -> None:
        """A structure that is not periodic along every axis is refused, not made so."""
        atoms = small_salt()
        for pbc in (False, (True, True, False)):
            atoms.pbc = pbc
            with pytest.raises(InputError, match="not periodic along every axis"):
                _unchanged(settings).predict([atoms])

    def test_forces_are_derivatives(self, settings: PotentialSettings) -> None:
        """Forces agree with central differences and sum to zero."""
        potential, atoms = _unchanged(settings), small_salt()
        (prediction,) = potential.predict([atoms])
        step = 1e-4
        for atom, axis in ((0, 0), (2, 1), (7, 2)):
            shift = np.zeros_like(atoms.positions)
            shift[atom, axis] = step
            low, high = energies(
                potential, [moved(atoms, atoms.positions + s * shift) for s in (-1, 1)]
            )
            force = prediction.forces[atom, axis]
            assert abs((low - high) / (2 * step) - force) < 1e-6 * max(1.0, abs(force))
        assert np.abs(prediction.forces.sum(axis=0)).max() < 1e-9

    def test_stress_is_the_derivative_by_strain(self, settings: PotentialSettings) -> None:
        """The stress agrees with central differences per volume, and is symmetric."""
        potential, atoms = _unchanged(settings), small_salt()
        (prediction,) = potential.predict([atoms])
        step = 1e-5
        for i, j in ((0, 0), (2, 2), (0, 1), (1, 2)):
            strain = np.zeros((3, 3))
            strain[i, j] += step / 2
            strain[j, i] += step / 2
            low, high = energies(
                potential,
                [
                    moved(atoms, atoms.positions @ f, atoms.cell @ f)
                    for f in (np.eye(3) - strain, np.eye(3) + strain)
                ],
            )
            found = (high - low) / (2 * step) / atoms.get_volume()
            assert abs(found - prediction.stress[i, j]) < 1e-6
        np.testing.assert_allclose(prediction.stress, prediction.stress.T, atol=1e-12)

    def test_size_extensive(self, settings: PotentialSettings) -> None:
        """Twice the cell has twice the energy and the same forces and stress."""
        potential, atoms = _unchanged(settings), small_salt()
        first, second = potential.predict([atoms, atoms.repeat((1, 2, 1))])
        assert abs(second.energy - 2 * first.energy) < 1e-9
        np.testing.assert_allclose(second.forces[: len(atoms)], first.forces, atol=1e-9)
        np.testing.assert_allclose(second.stress, first.stress, atol=1e-10)

    def test_batches_give_what_single_structures_give(self, settings: PotentialSettings) -> None:
        """Structures in one batch do not interact."""
        potential = _unchanged(settings)
        structures = [small_salt(), small_salt(1).repeat((2, 1, 1)), swapped_iron(small_salt(2))]
        for together, atoms in zip(potential.predict(structures), structures, strict=True):
            (alone,) = potential.predict([atoms])
            assert abs(together.energy - alone.energy) < 1e-9
            np.testing.assert_allclose(together.forces, alone.forces, atol=1e-9)
            np.testing.assert_allclose(together.stress, alone.stress, atol=1e-10)

    def test_neighbour_lists_may_reach_farther(self, settings: PotentialSettings) -> None:
        """Pairs beyond the cutoff contribute nothing, so that neighbour lists can be reused."""
        potential, atoms = _unchanged(settings), small_salt()
        wide = find_neighbours(atoms, potential.neighbour_cutoff + 1.0)
        (first,), (second,) = potential.predict([atoms]), potential.predict([atoms], [wide])
        assert abs(first.energy - second.energy) < 1e-10
        np.testing.assert_allclose(second.forces, first.forces, atol=1e-10)

    def test_saved_and_loaded_bit_for_bit(
        self, settings: PotentialSettings, tmp_path: Path
    ) -> None:
        """A file of safetensors restores the potential exactly, in single precision."""
        potential, atoms = _unchanged(settings).to(torch.float32), small_salt()
        config, weights = potential.state()
        save_file(weights, tmp_path / "weights.safetensors")
        again = Potential.from_state(config, load_file(tmp_path / "weights.safetensors"))
        (first,), (second,) = potential.predict([atoms]), again.predict([atoms])
        assert first.energy == second.energy
        assert np.array_equal(first.forces, second.forces)
        assert np.array_equal(first.stress, second.stress)
        assert again.settings == potential.settings

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    def test_a_gpu_computes_what_a_cpu_computes(self, settings: PotentialSettings) -> None:
        """In double precision, also for a vocabulary that is extended on the GPU."""
        potential, atoms = _unchanged(settings), small_salt()
        on_gpu = potential.to(device=choose_device("cuda")).extend(["Fe4+", "Mn2+"])
        (known,), (found,) = potential.predict([atoms]), on_gpu.predict([atoms])
        assert abs(found.energy - known.energy) < 1e-5
        np.testing.assert_allclose(found.forces, known.forces, atol=1e-5)

    def test_training_lowers_the_error(self, settings: PotentialSettings, tmp_path: Path) -> None:
        """Without pair terms the network has to learn most of the energy."""
        result = _train(settings, tmp_path / "a", epochs=20, n_folds=1, pair_cutoff=0.0)
        losses = [entry["loss"] for entry in result.history]
        assert losses[-1] < 0.7 * losses[0]

    def test_training_resumes_bit_for_bit(
        self, settings: PotentialSettings, tmp_path: Path
    ) -> None:
        """Training killed between checkpoints and run again ends as if it had not been killed."""

        def kill(epoch: int, epochs: int, figures: dict[str, float]) -> None:
            if epoch == 3:
                raise _KilledError

        whole = _train(settings, tmp_path / "whole")
        with pytest.raises(_KilledError):
            _train(settings, tmp_path / "killed", progress=kill)
        assert (tmp_path / "killed").exists()
        resumed = _train(settings, tmp_path / "killed")
        assert resumed.history == whole.history
        assert resumed.held_out == whole.held_out and whole.held_out
        first, second = whole.potential.state(), resumed.potential.state()
        assert first[0] == second[0]
        assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def _train(
    settings: PotentialSettings,
    checkpoint: Path,
    *,
    epochs: int = 5,
    n_folds: int = 3,
    pair_cutoff: float = PAIR_CUTOFF,
    progress: Any = None,
) -> TrainingResult:
    return train(
        settings.model_copy(update={"pair_cutoff": pair_cutoff, "pair_intervals": PAIR_INTERVALS}),
        TrainingSettings(epochs=epochs, checkpoint_every=2, learning_rate=0.02, averaging=0.5),
        teacher_frames(),
        seed=4,
        fold=0,
        n_folds=n_folds,
        checkpoint=checkpoint,
        progress=progress,
    )
