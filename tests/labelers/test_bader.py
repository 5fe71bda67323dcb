"""Basins of densities whose charges are known, and grids and files that have to be refused."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from al_charge.errors import AlChargeError
from al_charge.labelers.bader import (
    CONVERGED,
    TOLERANCE,
    from_aeccar,
    from_density,
    from_gpaw,
)
from al_charge.labelers.protocol import Array
from al_charge.labelers.vasp_density import read_vasp_density

WATER = Path(__file__).parents[3] / "shared" / "data" / "vasp_H2O_bader"


@pytest.fixture
def pair() -> Atoms:
    """Return two atoms far apart in an oblique cell with three different edges."""
    cell = [[5.0, 0.0, 0.0], [1.2, 6.0, 0.0], [-0.7, 0.9, 8.0]]
    return Atoms("OMg", scaled_positions=[[0.1, 0.2, 0.95], [0.55, 0.7, 0.45]], cell=cell, pbc=True)


def gaussians(
    atoms: Atoms, shape: tuple[int, ...], electrons: list[float], widths: list[float]
) -> Array:
    """Return periodic Gaussians on the atoms that hold the given electrons, in 1/angstrom^3."""
    steps = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    points = np.stack(steps, axis=-1)
    density = np.zeros(shape)
    for centre, count, width in zip(atoms.get_scaled_positions(), electrons, widths, strict=True):
        reach = 1 if width < 0.6 else 2
        for image in np.ndindex((2 * reach + 1,) * 3):
            away = (points - centre + np.array(image) - reach) @ atoms.cell.array
            density += (
                count
                * np.exp(-(away**2).sum(axis=-1) / (2 * width**2))
                / (2 * np.pi * width**2) ** 1.5
            )
    return density


def write_density(path: Path, density: Array, atoms: Atoms) -> None:
    """Write a density as VASP does: after a POSCAR, times the volume, five values per line."""
    structure = io.StringIO()
    write(structure, atoms, format="vasp", direct=True)
    values = (density * atoms.get_volume()).ravel(order="F")
    lines = [
        " ".join(f"{value:.11E}" for value in values[at : at + 5])
        for at in range(0, len(values), 5)
    ]
    head = structure.getvalue().rstrip() + "\n\n" + " ".join(map(str, density.shape)) + "\n"
    text = head + "\n".join(lines) + "\naugmentation occupancies 1 8\n 0.1E+00\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


@pytest.fixture
def run(tmp_path: Path, pair: Atoms) -> Path:
    """Return the folder of a VASP run whose ions have 6.8 of 6 and 1.2 of 2 valence electrons."""
    shape = (20, 24, 32)
    write_density(tmp_path / "AECCAR0.gz", gaussians(pair, shape, [2, 10], [0.3, 0.3]), pair)
    valence = gaussians(pair, shape, [6.8, 1.2], [0.5, 0.4])
    write_density(tmp_path / "AECCAR2", valence, pair)
    write_density(tmp_path / "CHGCAR", valence, pair)
    return tmp_path


def test_separate_gaussians_keep_their_electrons(pair: Atoms) -> None:
    density = gaussians(pair, (30, 36, 48), [9.2, 10.8], [0.5, 0.35])
    charges = from_density(density, pair, pair.numbers)
    np.testing.assert_allclose(charges.net, [-1.2, 1.2], atol=2e-3)
    np.testing.assert_array_equal(charges.electrons, [8, 12])
    assert abs(charges.net.sum()) < 1e-6


def test_charges_come_in_the_order_of_the_atoms(pair: Atoms) -> None:
    density = gaussians(pair, (20, 24, 32), [9.2, 10.8], [0.5, 0.4])
    density *= (20 + 0.9 * TOLERANCE * len(pair)) / 20
    forth = from_density(density, pair, pair.numbers)
    moved = pair[[1, 0]]
    moved.positions += moved.cell[2] - moved.cell[0]
    back = from_density(density, moved, moved.numbers)
    np.testing.assert_allclose(back.net, forth.net[::-1], atol=1e-6)
    np.testing.assert_array_equal(back.electrons, [12, 8])


def test_valence_is_integrated_in_the_basins_of_the_reference(pair: Atoms) -> None:
    shape = (20, 24, 32)
    hollow = gaussians(pair, shape, [7, 0], [0.5, 1]) + gaussians(pair, shape, [0, 1], [1, 1e9])
    core = gaussians(pair, shape, [2, 10], [0.4, 0.4])
    pseudo = hollow + gaussians(pair, shape, [0, 1], [1, 0.5])
    charges = from_density(pseudo, pair, [6, 2], reference=pseudo + core)
    np.testing.assert_allclose(charges.net, [-1, 1], atol=5e-3)


@pytest.mark.parametrize("excess", [1.1, -1.1])
def test_the_sum_decides_at_a_hundredth_per_atom(pair: Atoms, excess: float) -> None:
    density = gaussians(pair, (20, 24, 32), [9, 11], [0.5, 0.4])
    density *= (20 + excess * TOLERANCE * len(pair)) / 20
    with pytest.raises(
        AlChargeError, match=r"20x24x32 .* electrons instead of 20\.000.*higher grid"
    ):
        from_density(density, pair, pair.numbers)


def test_a_core_that_falls_between_the_points_is_refused(pair: Atoms) -> None:
    density = gaussians(pair, (20, 24, 32), [9, 11], [0.5, 0.05])
    with pytest.raises(AlChargeError) as caught:
        from_density(density, pair, pair.numbers, where="job 7")
    assert "instead of 20.000" in str(caught.value)
    assert str(caught.value).startswith("job 7: ")
    assert "grid" in caught.value.remedy


@pytest.mark.parametrize("change", ["shape", "nan", "flat"])
def test_what_is_no_density_is_refused(pair: Atoms, change: str) -> None:
    density = np.full((8, 8, 8), 20 / pair.get_volume())
    reference = density
    if change == "shape":
        reference = density[:-1]
    elif change == "nan":
        density = density.copy()
        density[0, 0, 0] = np.nan
    else:
        density = density[0]
    with pytest.raises(AlChargeError, match=r"do not match|NaN or infinite") as caught:
        from_density(density, pair, pair.numbers, reference=reference, where="job 7")
    assert caught.value.where == "job 7"


def test_an_atom_without_a_maximum_is_refused(pair: Atoms) -> None:
    density = gaussians(pair, (20, 24, 32), [20, 0], [0.5, 0.5])
    with pytest.raises(AlChargeError, match=r"^job 7: .* no maximum at atom 1 \(Mg\)"):
        from_density(density, pair, pair.numbers, where="job 7")


def test_a_maximum_between_the_atoms_is_refused(pair: Atoms) -> None:
    three = pair + Atoms("H", positions=[pair.cell.cartesian_positions([0.1, 0.7, 0.2])])
    density = gaussians(three, (20, 24, 32), [8, 11, 1], [0.5, 0.4, 0.4])
    with pytest.raises(AlChargeError, match=r"with 1\.\d+ electrons lies .* from the nearest atom"):
        from_density(density, pair, pair.numbers)


def save(path: Path, pair: Atoms, electrons: list[float], rough: list[float]) -> Path:
    """Write what the GPAW process writes; the coarse grid's electrons are ``rough``."""
    fine = gaussians(pair, (20, 24, 32), electrons, [0.5, 0.45])
    coarse = gaussians(pair, (10, 12, 16), rough, [0.5, 0.45])
    coarse *= sum(rough) / (coarse.mean() * pair.get_volume())
    np.savez(path, density=fine, coarse=coarse)
    return path


def test_gpaw_charges_that_do_not_depend_on_the_grid(pair: Atoms, tmp_path: Path) -> None:
    charges = from_gpaw(save(tmp_path / "d.npz", pair, [9.2, 10.8], [9.2, 10.8]), pair)
    np.testing.assert_allclose(charges.net, [-1.2, 1.2], atol=2e-3)
    np.testing.assert_array_equal(charges.electrons, [8, 12])


def test_gpaw_charges_that_depend_on_the_grid_are_refused(pair: Atoms, tmp_path: Path) -> None:
    off = CONVERGED + 0.1
    path = save(tmp_path / "d.npz", pair, [9.2, 10.8], [9.2 - off, 10.8 + off])
    with pytest.raises(AlChargeError, match=r"20x24x32 .* 10x12x16.*higher grid refinement") as no:
        from_gpaw(path, pair)
    assert no.value.where == str(path)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "keys", "alike", "plain"])
def test_gpaw_files_that_are_no_densities(pair: Atoms, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "d.npz"
    density = np.ones((4, 4, 4))
    np.savez(path, density=density, coarse=density)
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "keys":
        np.savez(path, density=density)
    elif damage == "plain":
        with path.open("wb") as file:
            np.save(file, density)
    with pytest.raises(AlChargeError, match=r"missing|no densities|too similar") as caught:
        from_gpaw(path, pair)
    assert caught.value.where == str(path)


class Harmful:
    """What a pickle runs when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_reading_densities_runs_nothing(pair: Atoms, tmp_path: Path) -> None:
    path, made = tmp_path / "d.npz", tmp_path / "made"
    np.savez(path, density=np.array([Harmful(made)], dtype=object), coarse=np.ones((2, 2, 2)))
    with pytest.raises(AlChargeError, match="no densities"):
        from_gpaw(path, pair)
    assert not made.exists()


def test_basins_of_a_vasp_run_are_those_of_all_electrons(run: Path, pair: Atoms) -> None:
    # The ion's one valence electron is spread over the cell; only its core has a maximum.
    shape = (20, 24, 32)
    spread = gaussians(pair, shape, [7, 0], [0.5, 1]) + 1 / pair.get_volume()
    for name in ("AECCAR2", "CHGCAR"):
        write_density(run / name, spread, pair)
    core = gaussians(pair, shape, [2, 10], [0.3, 0.3])
    expected = from_density(spread, pair, [6, 2], reference=spread + core)
    np.testing.assert_allclose(from_aeccar(run, pair, [6, 2]).net, expected.net, atol=5e-3)


def test_a_chgcar_with_other_electrons_than_the_atoms_is_named(run: Path, pair: Atoms) -> None:
    valence = gaussians(pair, (20, 24, 32), [6.9, 1.2], [0.5, 0.4])
    write_density(run / "CHGCAR", valence, pair)
    with pytest.raises(AlChargeError, match=r"holds 8\.100 electrons instead of 8\.000") as caught:
        from_aeccar(run, pair, [6, 2])
    assert caught.value.where == str(run / "CHGCAR")


def test_vasp_charges(run: Path, pair: Atoms) -> None:
    charges = from_aeccar(run, pair, [6, 2])
    np.testing.assert_allclose(charges.net, [-0.8, 0.8], atol=5e-3)
    np.testing.assert_array_equal(charges.electrons, [6, 2])
    (run / "CHGCAR").unlink()
    other = from_aeccar(run, pair[[1, 0]], [2, 6])
    np.testing.assert_allclose(other.net, charges.net[::-1], atol=1e-4)


@pytest.mark.parametrize("name", ["AECCAR0.gz", "AECCAR2", "CHGCAR"])
@pytest.mark.parametrize("damage", ["empty", "truncated", "header", "stars"])
def test_damaged_vasp_files(run: Path, pair: Atoms, name: str, damage: str) -> None:
    path = run / name
    raw = path.read_bytes()
    text = gzip.decompress(raw) if name.endswith(".gz") else raw
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    else:
        cut = text[:90] if damage == "header" else text.replace(b"E-0", b"***", 1)
        path.write_bytes(gzip.compress(cut) if name.endswith(".gz") else cut)
    with pytest.raises(AlChargeError, match=r"zero bytes|damaged or truncated") as caught:
        from_aeccar(run, pair, [6, 2])
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["AECCAR0", "AECCAR2"])
def test_missing_vasp_files(run: Path, pair: Atoms, name: str) -> None:
    for path in run.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(AlChargeError, match=rf"{name}: it is missing.*LAECHG"):
        from_aeccar(run, pair, [6, 2])


def test_vasp_files_on_different_grids(run: Path, pair: Atoms) -> None:
    write_density(run / "CHGCAR", gaussians(pair, (10, 12, 16), [6, 2], [0.6, 0.6]), pair)
    with pytest.raises(AlChargeError, match=r"CHGCAR: its grid \(10, 12, 16\) differs"):
        from_aeccar(run, pair, [6, 2])


@pytest.mark.parametrize("change", ["element", "position", "cell", "number"])
def test_vasp_files_of_other_atoms(run: Path, pair: Atoms, change: str) -> None:
    other = pair.copy()
    if change == "element":
        other.symbols[0] = "S"
    elif change == "position":
        other.positions[0, 0] += 0.2
    elif change == "cell":
        other.set_cell(other.cell.array * 1.01, scale_atoms=True)
    else:
        other += Atoms("H", positions=[[0, 0, 0]])
    with pytest.raises(
        AlChargeError, match=r"AECCAR0.gz: its structure .* is not the requested one"
    ):
        from_aeccar(run, other, [6] * len(other))


def test_vasp_valence_that_is_not_on_the_grid(run: Path, pair: Atoms) -> None:
    with pytest.raises(
        AlChargeError, match=r"holds 8\.000 .* 14\.000.*20\.000 instead of 20.*NGXF"
    ):
        from_aeccar(run, pair, [6, 8])


def test_vasp_values_and_their_order(tmp_path: Path, pair: Atoms) -> None:
    density = np.random.default_rng(3).random((2, 3, 4))
    write_density(tmp_path / "CHGCAR", density, pair)
    found, atoms = read_vasp_density(tmp_path / "CHGCAR")
    np.testing.assert_allclose(found, density, rtol=1e-9)
    assert list(atoms.symbols) == ["O", "Mg"]


@pytest.mark.skipif(not WATER.exists(), reason="the published densities are not here")
def test_the_published_water_is_refused() -> None:
    water = read(WATER / "POSCAR")
    assert isinstance(water, Atoms)
    with pytest.raises(AlChargeError) as caught:
        from_aeccar(WATER, water, [1, 1, 6])
    line = str(caught.value)
    assert "holds 14.456 electrons instead of 8.000" in line
    assert "AECCAR0 + AECCAR2 hold 271.640 instead of 10" in line
    assert "NGXF" in line
