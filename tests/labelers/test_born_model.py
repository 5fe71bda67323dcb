"""The ionic model: Ewald sum, derivatives, invariances, parameters."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.analysis.ewald import EwaldSummation

from al_charge.crystal.configuration import configuration, to_atoms, to_structure
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.born.ewald import Splitting
from al_charge.labelers.born.model import BornModel, Evaluation
from al_charge.labelers.born.parameters import CHARGE_SCALE, PAIRS, SHORT_RANGE_CUTOFF
from al_charge.labelers.born.short_range import pair_term

Array = NDArray[np.float64]


def disturbed(host: Host, n_ions: int, seed: int) -> Atoms:
    """Return a random configuration, rattled, strained and sheared."""
    rng = np.random.default_rng(seed)
    choices = enumerate_distinct(host, n_ions)
    atoms = to_atoms(host, choices[rng.integers(len(choices))])
    atoms.positions += rng.normal(scale=0.08, size=atoms.positions.shape)
    deformation = np.eye(3) + rng.normal(scale=0.03, size=(3, 3))
    atoms.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    return atoms


def species_of(atoms: Atoms) -> list[str]:
    return [str(token) for token in atoms.arrays["species"]]


def evaluate(atoms: Atoms) -> Evaluation:
    return BornModel(species_of(atoms)).evaluate(atoms.positions, atoms.cell.array)


@pytest.mark.parametrize(("n_ions", "seed"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)])
def test_electrostatic_energy_and_forces_are_pymatgens(
    olivine: Host, n_ions: int, seed: int
) -> None:
    atoms = disturbed(olivine, n_ions, seed)
    model = BornModel(species_of(atoms), pairs={})
    ours = model.evaluate(atoms.positions, atoms.cell.array)
    theirs = EwaldSummation(to_structure(atoms), acc_factor=15, compute_forces=True)
    assert ours.energy == pytest.approx(CHARGE_SCALE**2 * theirs.total_energy, abs=1e-6)
    np.testing.assert_allclose(ours.forces, CHARGE_SCALE**2 * theirs.forces, atol=1e-6)


@pytest.mark.parametrize("splitting", [Splitting(6.0, 5.2), Splitting(9.0, 5.2), Splitting(7.0, 6)])
def test_the_split_of_the_ewald_sum_changes_nothing(olivine: Host, splitting: Splitting) -> None:
    atoms = disturbed(olivine, 2, 7)
    model = BornModel(species_of(atoms), splitting)
    other = model.evaluate(atoms.positions, atoms.cell.array)
    reference = evaluate(atoms)
    assert other.energy == pytest.approx(reference.energy, abs=1e-9)
    np.testing.assert_allclose(other.forces, reference.forces, atol=1e-9)
    np.testing.assert_allclose(other.stress, reference.stress, atol=1e-10)


@pytest.mark.parametrize(("n_ions", "seed"), [(1, 11), (2, 12), (3, 13)])
def test_forces_are_derivatives_of_the_energy(olivine: Host, n_ions: int, seed: int) -> None:
    atoms = disturbed(olivine, n_ions, seed)
    model = BornModel(species_of(atoms))
    forces = model.evaluate(atoms.positions, atoms.cell.array).forces
    numerical = np.zeros_like(forces)
    for index in np.ndindex(*forces.shape):
        step = np.zeros_like(forces)
        step[index] = 1e-4
        energies = [
            model.evaluate(atoms.positions + sign * step, atoms.cell.array).energy
            for sign in (1, -1)
        ]
        numerical[index] = -(energies[0] - energies[1]) / 2e-4
    scale = np.abs(forces).max()
    np.testing.assert_allclose(numerical, forces, rtol=1e-5, atol=1e-7 * scale)


@pytest.mark.parametrize(("n_ions", "seed"), [(0, 21), (1, 22), (2, 23), (3, 24), (4, 25)])
def test_stress_is_the_derivative_by_strain(olivine: Host, n_ions: int, seed: int) -> None:
    atoms = disturbed(olivine, n_ions, seed)
    model = BornModel(species_of(atoms))
    stress = model.evaluate(atoms.positions, atoms.cell.array).stress
    numerical = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * 5e-5
            strain[b, a] += sign * 5e-5
            moved = atoms.positions @ strain, atoms.cell.array @ strain
            energies.append(model.evaluate(*moved).energy)
        numerical[a, b] = (energies[0] - energies[1]) / 2e-4 / atoms.get_volume()
    np.testing.assert_allclose(stress, stress.T, atol=1e-14)
    np.testing.assert_allclose(numerical, stress, rtol=1e-5, atol=1e-8)


def test_a_kept_pair_list_gives_what_a_new_one_gives(olivine: Host) -> None:
    atoms = disturbed(olivine, 2, 31)
    kept = BornModel(species_of(atoms))
    rng = np.random.default_rng(0)
    for _ in range(12):
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        strain = np.eye(3) + rng.normal(scale=0.004, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        assert kept.evaluate(atoms.positions, atoms.cell.array).energy == pytest.approx(
            evaluate(atoms).energy, abs=1e-10
        )


def test_translation_rotation_and_wrapping_change_nothing(olivine: Host) -> None:
    atoms = disturbed(olivine, 2, 41)
    reference = evaluate(atoms)
    moved = atoms.copy()
    moved.translate([0.37, -4.2, 1.9])
    assert evaluate(moved).energy == pytest.approx(reference.energy, abs=1e-9)
    moved.wrap()
    assert evaluate(moved).energy == pytest.approx(reference.energy, abs=1e-9)

    rotation, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation, scale_atoms=False)
    turned.positions = atoms.positions @ rotation
    result = evaluate(turned)
    assert result.energy == pytest.approx(reference.energy, abs=1e-9)
    np.testing.assert_allclose(result.forces, reference.forces @ rotation, atol=1e-9)
    np.testing.assert_allclose(result.stress, rotation.T @ reference.stress @ rotation, atol=1e-11)


def test_a_repeated_cell_has_the_energy_so_many_times(olivine: Host) -> None:
    atoms = disturbed(olivine, 2, 51)
    reference = evaluate(atoms)
    doubled = evaluate(atoms.repeat((1, 2, 1)))
    assert doubled.energy == pytest.approx(2 * reference.energy, abs=1e-8)
    np.testing.assert_allclose(doubled.stress, reference.stress, atol=1e-10)
    np.testing.assert_allclose(doubled.forces[: len(atoms)], reference.forces, atol=1e-9)


def test_charge_order_changes_the_energy_at_fixed_positions(olivine: Host) -> None:
    energies = [
        evaluate(to_atoms(olivine, configuration(olivine, [1, -1, -1, 1, *states]))).energy
        for states in ([2, 2, 3, 3], [2, 3, 2, 3], [2, 3, 3, 2])
    ]
    gaps = np.diff(sorted(energies))
    assert (gaps > 0.005).all()
    assert gaps.max() > 0.5


def test_fe2_and_fe3_are_different_ions_to_oxygen() -> None:
    distance = np.array([2.0])
    two, three = (pair_term(PAIRS[f"Fe{charge}+", "O2-"], distance)[0] for charge in (2, 3))
    assert abs(two[0] - three[0]) > 0.1


@pytest.mark.parametrize("pair", sorted(PAIRS))
def test_every_short_range_term_is_smooth_and_ends_at_the_cutoff(pair: tuple[str, str]) -> None:
    distances = np.linspace(1.6, SHORT_RANGE_CUTOFF + 0.5, 4001)
    energy, slope = pair_term(PAIRS[pair], distances)
    assert not energy[distances >= SHORT_RANGE_CUTOFF].any()
    assert not slope[distances >= SHORT_RANGE_CUTOFF].any()
    nearer, further = (pair_term(PAIRS[pair], distances + h)[0] for h in (-1e-5, 1e-5))
    numerical = (further - nearer) / 2e-5
    np.testing.assert_allclose(slope, numerical, rtol=1e-5, atol=1e-8)


def test_species_without_parameters_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"Co3\+, Mn2\+.*it knows .*Fe2\+, Fe3\+"):
        BornModel(["Mn2+", "Co3+", "O2-"])


def test_a_charged_cell_is_refused() -> None:
    with pytest.raises(InputError, match=r"\+1 e"):
        BornModel(["Na+", "Fe2+", "O2-"])


def test_ions_that_run_into_each_other_are_an_error() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])
    with pytest.raises(AlChargeError, match="collapsed"):
        BornModel(["Fe2+", "O2-"]).evaluate(positions, 6.0 * np.eye(3))
