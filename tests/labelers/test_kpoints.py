"""k-point grids by spacing, for a crystal in cells of different size."""

from __future__ import annotations

import importlib.util
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from pymatgen.core.structure import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from al_charge.crystal.configuration import set_species
from al_charge.crystal.parent import read_structure
from al_charge.labelers.dft.kpoints import are_alike, kpoint_grid, spacing_of
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.labelling import make_label
from al_charge.labelers.vasp.settings import VaspSettings

HOSTS = Path(__file__).parents[1] / "cases" / "hosts"
DEFAULT = 0.3


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
def test_both_engines_take_a_spacing_by_default(
    settings: GpawSettings | VaspSettings, crystal: Atoms
) -> None:
    """By the rule of VASP's KSPACING, on lengths of the reciprocal cell that pymatgen computes."""
    lengths = np.array(
        Structure(crystal.cell.array, ["H"], [[0, 0, 0]]).lattice.reciprocal_lattice.abc
    )
    assert settings.kpoints is None
    assert settings.grid(crystal) == tuple(np.ceil(lengths / DEFAULT).astype(int).tolist())
    assert settings.hashed_kpoints() == {"spacing": DEFAULT}
    given = settings.model_copy(update={"kpoints": (2, 3, 4)})
    assert given.grid(crystal) == (2, 3, 4)
    assert given.hashed_kpoints() == [2, 3, 4]


def test_vasp_keeps_the_density_of_stored_campaigns(crystal: Atoms) -> None:
    from pymatgen.io.vasp.inputs import Kpoints  # slow, and each process collects all tests

    settings = VaspSettings(kpoint_density=64.0)
    structure = AseAtomsAdaptor.get_structure(crystal)
    theirs: Any = Kpoints.automatic_density_by_vol(structure, 64.0, force_gamma=True)
    assert settings.grid(crystal) == theirs.kpts[0]
    assert settings.hashed_kpoints() == {"density": 64.0}
    assert settings.model_copy(update={"kpoints": (1, 2, 3)}).grid(crystal) == (1, 2, 3)


def test_axes_that_are_alike_have_as_many_divisions() -> None:
    """Else the grid has not the symmetry of a hexagonal cell, which one centred on Gamma has."""
    for spacing in (0.1, 0.25, 0.3, 0.4, 1.0):
        first, second, _ = kpoint_grid(layered(), spacing)
        assert first == second


@pytest.mark.parametrize("spacing", [0.2, DEFAULT, 0.4, 1.0])
def test_the_grid_of_a_repeated_cell(spacing: float, crystal: Atoms) -> None:
    """It is that of the cell where its divisions can be shared out, and else finer."""
    grid = kpoint_grid(crystal, spacing)
    for axis, times in product(range(3), (2, 3)):
        repeats = np.ones(3, dtype=int)
        repeats[axis] = times
        larger = crystal.repeat(repeats)
        found = kpoint_grid(larger, spacing)
        assert found == tuple(-(-n // m) for n, m in zip(grid, repeats.tolist(), strict=True))
        assert spacing_of(found, larger.cell.array) <= spacing + 1e-12
        if grid[axis] % times == 0:
            assert are_alike(grid, crystal.cell.array, found, larger.cell.array)
            exact = spacing_of(grid, crystal.cell.array)
            assert spacing_of(found, larger.cell.array) == pytest.approx(exact)


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
@pytest.mark.usefixtures("forked_gpaw")
@pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed")
def test_one_order_has_one_energy_in_one_and_in_two_cells(tmp_path: Path) -> None:
    """LiH, of which a cell has an odd number of divisions and two have no equal grid."""
    cell = bulk("LiH", "rocksalt", a=4.0)
    settings = GpawSettings(
        mode="pw",
        cutoff="200 eV",
        xc="LDA",
        kpoint_spacing=0.6,
        energy_tolerance="1e-4 eV",
        density_tolerance=1e-3,
        eigenstates_tolerance=1e-3,
        bader=False,
    )
    engine = GpawLabeler(settings)
    energies = []
    for units in (1, 2):
        atoms = cell.repeat((1, 1, units))
        set_species(atoms, ["Li+", "H-"] * units)
        result = make_label(engine, atoms, tmp_path / str(units))
        assert result.resolved == result.species
        energies.append(result.reading.frames[-1].energy / units)
    grids = [settings.grid(cell.repeat((1, 1, units))) for units in (1, 2)]
    assert grids == [(5, 5, 5), (5, 5, 3)]  # (5, 5, 1) is off by 90 meV
    assert energies[0] == pytest.approx(energies[1], abs=0.002)
