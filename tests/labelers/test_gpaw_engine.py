"""The real GPAW on cells that take seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from al_charge.crystal.configuration import set_species
from al_charge.errors import AlChargeError
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.protocol import LabelResult
from al_charge.labelers.settings import GpawSettings

pytestmark = [
    pytest.mark.gpaw,
    pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed"),
]

COARSE: dict[str, Any] = {
    "basis": "sz(dzp)",
    "grid_spacing": "0.3 A",
    "hubbard_u": {"Mn": "3.9 eV"},
    "moment_windows": {"Mn2+": (4.2, 4.8), "Mn3+": (3.3, 4.0)},
}


def label(atoms: Atoms, directory: Path, **changes: Any) -> LabelResult:
    """Label a cell with settings that are quick and rough."""
    directory.mkdir()
    return GpawLabeler(GpawSettings.model_validate(COARSE | changes)).label(atoms, directory)


def manganese_oxide(second: str) -> Atoms:
    """Return four atoms of MnO; ``second`` is the state that is asked of the second Mn."""
    atoms = bulk("MnO", "rocksalt", a=4.44) * (2, 1, 1)
    set_species(atoms, ["Mn2+", "O2-", second, "O2-"])
    return atoms


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> LabelResult:
    """MnO as it is."""
    return label(manganese_oxide("Mn2+"), tmp_path_factory.mktemp("gpaw") / "plain")


def test_moments_tell_the_charge_states(plain: LabelResult) -> None:
    assert plain.moments is not None
    assert plain.resolved == ("Mn2+", "O2-", "Mn2+", "O2-")
    assert plain.moments[[0, 2]] == pytest.approx([4.4, 4.4], abs=0.15)
    assert np.abs(plain.moments[[1, 3]]).max() < 0.3
    assert plain.frames[0].forces == pytest.approx(np.zeros((4, 3)), abs=1e-3)  # by symmetry
    assert plain.engine.startswith("GPAW ")
    assert plain.details["start"] == "the geometry itself"
    assert set(plain.details["datasets"]) == {"Mn", "O"}


def test_a_steered_label_is_at_the_geometry_that_was_asked_for(
    plain: LabelResult, tmp_path: Path
) -> None:
    # One formula unit cannot hold Mn2+ and Mn3+ without the charge going somewhere: GPAW finds MnO
    # again, and since the start only made the first density, so must the energy be MnO's.
    steered = label(manganese_oxide("Mn3+"), tmp_path / "steered")
    assert steered.details["start"] == "distorted shells"
    assert set(steered.details["scf_steps"]) == {"start", "final"}
    assert steered.resolved == plain.resolved != steered.species
    assert steered.frames[0].energy == pytest.approx(plain.frames[0].energy, abs=2e-3)
    assert np.array_equal(steered.frames[0].positions, manganese_oxide("Mn3+").positions)


def test_forces_are_the_slope_of_the_energy(tmp_path: Path) -> None:
    def hydrogen(stretch: float) -> Atoms:
        atoms = Atoms("H2", positions=[(0, 0, 0), (0.8 + stretch, 0, 0)], cell=[4, 3, 3], pbc=True)
        set_species(atoms, ["H+", "H-"])
        return atoms

    step = 0.02
    tight = {"grid_spacing": "0.2 A", "density_tolerance": 1e-6}
    results = [label(hydrogen(s), tmp_path / f"{s}", **tight) for s in (-step, 0.0, step)]
    slope = (results[2].details["free_energy"] - results[0].details["free_energy"]) / (2 * step)
    assert results[1].frames[0].forces[1, 0] == pytest.approx(-slope, abs=0.05)


def test_a_metal_is_bound() -> None:
    settings = GpawSettings.model_validate(COARSE | {"metal_kpoints": 4})
    assert -3.0 < GpawLabeler(settings).metal_energy("Li") < -0.5


def test_a_run_that_does_not_converge_is_a_failure(tmp_path: Path) -> None:
    atoms = Atoms("O", positions=[(2, 2, 2)], cell=[4, 4, 4], pbc=True)
    set_species(atoms, ["O2-"])
    with pytest.raises(AlChargeError, match="SCF did not converge") as caught:
        label(atoms, tmp_path / "job", max_iterations=10, density_tolerance=1e-14)
    assert "output.log" in str(caught.value)
