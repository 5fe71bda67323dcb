"""k-point grids by density, for a crystal in cells of different size."""

from __future__ import annotations

import importlib.util
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.vasp.inputs import Kpoints

from al_charge.crystal.configuration import set_species
from al_charge.crystal.parent import read_structure
from al_charge.labelers.dft.kpoints import are_alike, density_of, kpoint_grid
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.labelling import make_label
from al_charge.labelers.vasp.settings import VaspSettings

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
DEFAULT = 64.0


def layered() -> Atoms:
    """The hexagonal cell of LiCoO2."""
    return AseAtomsAdaptor.get_atoms(read_structure(HOSTS / "licoo2.cif"))


CRYSTALS = {
    "layers": layered,
    "rhombohedral layers": lambda: bulk("Bi", "rhombohedral", a=4.99, alpha=33.0),
    "rock salt": lambda: bulk("NiO", "rocksalt", a=4.17),
    "cubic": lambda: bulk("NiO", "rocksalt", a=4.17, cubic=True),
    "orthorhombic": lambda: Atoms("Fe", cell=[10.4, 6.2, 4.9], pbc=True),
}


@pytest.fixture(params=CRYSTALS)
def crystal(request: pytest.FixtureRequest) -> Atoms:
    return CRYSTALS[request.param]()


@pytest.mark.parametrize("settings", [GpawSettings(), VaspSettings()])
def test_both_engines_take_a_density_by_default(
    settings: GpawSettings | VaspSettings, crystal: Atoms
) -> None:
    structure = AseAtomsAdaptor.get_structure(crystal)
    theirs: Any = Kpoints.automatic_density_by_vol(structure, DEFAULT, force_gamma=True)
    assert settings.kpoints is None
    assert settings.grid(crystal) == theirs.kpts[0]
    assert settings.hashed_kpoints() == {"density": DEFAULT}
    given = settings.model_copy(update={"kpoints": (2, 3, 4)})
    assert given.grid(crystal) == (2, 3, 4)
    assert given.hashed_kpoints() == [2, 3, 4]


def test_axes_that_are_alike_have_as_many_divisions() -> None:
    """Else the grid has not the symmetry of a hexagonal cell, which one centred on Gamma has."""
    for density in (1.0, 8.0, 27.0, 64.0, 500.0):
        first, second, _ = kpoint_grid(layered(), density)
        assert first == second


@pytest.mark.parametrize("density", [8.0, 27.0, DEFAULT, 200.0])
def test_the_grid_of_a_doubled_cell(density: float, crystal: Atoms) -> None:
    """It is that of the cell where its divisions are even, else that of one division less."""
    grid = kpoint_grid(crystal, density)
    for axis in range(3):
        repeats = [1, 1, 1]
        repeats[axis] = 2
        double = crystal.repeat(repeats)
        found = kpoint_grid(double, density)
        expected = tuple(max(n // m, 1) for n, m in zip(grid, repeats, strict=True))
        assert found == expected
        if grid[axis] % 2 == 0:
            assert are_alike(grid, crystal.cell.array, found, double.cell.array)
        assert density_of(found, double.cell.array) == pytest.approx(
            prod(found) * double.get_volume() / (2 * np.pi) ** 3
        )


@pytest.mark.parametrize("density", [27.0, DEFAULT])
def test_density_of_a_grid_is_the_one_asked_for_but_for_rounding_down(
    density: float, crystal: Atoms
) -> None:
    grid = kpoint_grid(crystal, density)
    least = density * prod(n / (n + 1) for n in grid)
    assert least < density_of(grid, crystal.cell.array) < 1.02 * density


def test_grids_that_are_alike(crystal: Atoms) -> None:
    cell = crystal.cell.array
    strained = cell @ np.diag([1.03, 0.98, 1.02])
    turned = make_supercell(crystal, [[1, 1, 0], [0, 1, 0], [0, 0, 1]]).cell.array
    assert are_alike((4, 4, 4), cell, (4, 4, 4), strained)
    assert are_alike((4, 4, 4), cell, (4, 4, 4), turned)
    for axis in range(3):
        repeats = np.ones(3, dtype=int)
        repeats[axis] = 2
        double = cell * repeats[:, None]
        assert are_alike((4, 4, 4), cell, tuple(4 // repeats), double)
        assert not are_alike((4, 4, 4), cell, (4, 4, 4), double)
    for other in ((4, 4, 3), (3, 4, 4), (5, 5, 4), (1, 1, 1)):
        assert not are_alike((4, 4, 4), cell, other, cell)


@pytest.mark.slow
@pytest.mark.gpaw
@pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed")
def test_one_order_has_one_energy_in_one_and_in_two_cells(tmp_path: Path) -> None:
    """LiCoO2, of which a cell along a has an odd number of divisions and two have no equal grid."""
    cell = AseAtomsAdaptor.get_atoms(read_structure(HOSTS / "licoo2.cif").get_primitive_structure())
    species = {"Li": "Li+", "Co": "Co3+,spin=0", "O": "O2-"}
    settings = GpawSettings(
        basis="sz(dzp)",
        grid_spacing="0.3 A",
        kpoint_density=27.0,
        hubbard_u={},
        energy_tolerance="1e-5 eV",
        moment_windows={"Co3+,spin=0": (0.0, 0.3)},
        bader=False,
    )
    engine = GpawLabeler(settings)
    energies = []
    for units in (1, 2):
        atoms = cell.repeat((units, 1, 1))
        set_species(atoms, [species[symbol] for symbol in atoms.get_chemical_symbols()])
        result = make_label(engine, atoms, tmp_path / str(units))
        assert result.resolved == result.species
        energies.append(result.reading.frames[-1].energy / units)
    grids = [settings.grid(cell.repeat((units, 1, 1))) for units in (1, 2)]
    assert grids == [(7, 7, 4), (3, 7, 4)]
    assert energies[0] == pytest.approx(energies[1], abs=0.002)
