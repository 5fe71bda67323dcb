"""The GPAW labeler with a stand-in for the engine: what is asked and how answers are read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pydantic import ValidationError

from al_charge.crystal.configuration import to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.shells import distort_shells
from al_charge.errors import AlChargeError, InputError
from al_charge.labelers.gpaw.labeler import GpawLabeler, datasets, labeler, request
from al_charge.labelers.protocol import settings_hash
from al_charge.labelers.settings import GpawSettings

MOMENTS = {"Fe2+": 3.66, "Fe3+": 4.21}

STAND_IN = """
import json, pathlib
answer = json.loads(pathlib.Path("answer.json").read_text())
pathlib.Path("result.json").write_text(json.dumps(answer))
"""


@pytest.fixture
def atoms(olivine: Host) -> Atoms:
    """Olivine at x = 1/2 on its ideal sites."""
    return to_atoms(olivine, enumerate_distinct(olivine, 2)[0])


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script that copies a prepared answer in the place of GPAW."""
    monkeypatch.setattr(labeler, "command", lambda processes: [sys.executable, "-c", STAND_IN])
    monkeypatch.setattr(labeler, "gpaw_version", lambda: "26.7.0")
    monkeypatch.setattr(labeler, "datasets_identity", lambda: "gpaw-data 1.2.1")


def answer(atoms: Atoms, **changes: Any) -> dict[str, Any]:
    """Return what GPAW would answer if it found the charge states that were asked for."""
    return {
        "engine": "GPAW 26.7.0",
        "energy": -166.5,
        "free_energy": -166.6,
        "forces": np.full((len(atoms), 3), 0.1).tolist(),
        "moments": [MOMENTS.get(token, 0.05) for token in atoms.arrays["species"]],
        "steps": {"start": 9, "final": 12},
        "setups": {"Fe": "abc"},
    } | changes


def prepare(directory: Path, document: dict[str, Any]) -> Path:
    """Prepare a job folder with an answer."""
    (directory / "answer.json").write_text(json.dumps(document))
    return directory


def test_a_label_is_read_back(atoms: Atoms, tmp_path: Path) -> None:
    result = GpawLabeler(GpawSettings()).label(atoms, prepare(tmp_path, answer(atoms)))
    assert result.resolved == result.species == tuple(atoms.arrays["species"])
    (frame,) = result.frames
    assert (frame.energy, frame.stress) == (-166.5, None)
    assert np.array_equal(frame.positions, atoms.positions)
    assert np.array_equal(frame.forces, np.full((26, 3), 0.1))
    assert result.moments is not None
    assert result.moments.shape == (26,)
    assert result.details["start"] == "distorted shells"
    assert result.details["scf_steps"] == {"start": 9, "final": 12}
    assert json.loads(json.dumps(result.details)) == result.details


def test_lost_charge_order_makes_an_ambiguous_label(atoms: Atoms, tmp_path: Path) -> None:
    iron = np.flatnonzero(atoms.symbols == "Fe")
    moments = np.zeros(len(atoms))
    moments[iron] = 3.96
    prepare(tmp_path, answer(atoms, moments=moments.tolist()))
    result = GpawLabeler(GpawSettings()).label(atoms, tmp_path)
    assert result.resolved is None
    assert result.details["ambiguous_sites"] == iron.tolist()
    assert "fit no charge state" in result.details["resolution"]


def test_another_charge_order_is_kept_as_it_is(atoms: Atoms, tmp_path: Path) -> None:
    iron = np.flatnonzero(atoms.symbols == "Fe")
    document = answer(atoms)
    for i in iron:
        document["moments"][i] = 4.21 + 3.66 - document["moments"][i]
    result = GpawLabeler(GpawSettings()).label(atoms, prepare(tmp_path, document))
    assert result.resolved is not None
    assert result.resolved != result.species
    assert [result.resolved[i] for i in iron] == ["Fe3+", "Fe3+", "Fe2+", "Fe2+"]


def test_the_start_is_distorted_only_where_the_geometry_lacks_the_order(
    atoms: Atoms, tmp_path: Path
) -> None:
    ordered = distort_shells(atoms, 0.12)
    result = GpawLabeler(GpawSettings()).label(ordered, prepare(tmp_path, answer(atoms)))
    document = json.loads((tmp_path / "input.json").read_text())
    assert document["start_positions"] is None
    assert result.details["start"] == "the geometry itself"
    assert result.details["shell_contrast"] > 0.08
    GpawLabeler(GpawSettings()).label(atoms, tmp_path)
    document = json.loads((tmp_path / "input.json").read_text())
    start = distort_shells(atoms, 0.06).positions
    np.testing.assert_allclose(document["start_positions"], start)
    np.testing.assert_allclose(document["positions"], atoms.positions)


def test_steering_can_be_switched_off(atoms: Atoms, tmp_path: Path) -> None:
    settings = GpawSettings.model_validate({"shell_distortion": "0 A"})
    GpawLabeler(settings).label(atoms, prepare(tmp_path, answer(atoms)))
    assert json.loads((tmp_path / "input.json").read_text())["start_positions"] is None


def test_the_request_says_what_the_settings_say(atoms: Atoms) -> None:
    settings = GpawSettings.model_validate(
        {"hubbard_u": {"Fe": "4.5 eV", "Mn": "3.9 eV"}, "kpoints": [1, 2, 2], "mixer": "pulay"}
    )
    parameters = request.single_point(settings, atoms, None)["parameters"]
    assert parameters["setups"] == {"Fe": ":d,4.5"}  # there is no Mn to put a U on
    assert parameters["kpts"] == {"size": [1, 2, 2], "gamma": True}
    assert parameters["mixer"]["name"] == "pulay"
    assert (parameters["mode"], parameters["basis"], parameters["xc"]) == ("lcao", "dzp", "PBE")


def test_initial_moments_shrink_together(atoms: Atoms) -> None:
    moments = request.initial_moments(atoms, 4.0)
    species = atoms.arrays["species"]
    np.testing.assert_allclose(moments[species == "Fe3+"], 4.0)
    np.testing.assert_allclose(moments[species == "Fe2+"], 3.2)
    np.testing.assert_allclose(moments[atoms.symbols == "O"], 0.0)
    assert atoms.get_initial_magnetic_moments().max() == 5.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"energy": float("nan")}, "no finite energy"),
        ({"forces": [[0.0, 0.0, 0.0]]}, "no finite energy and forces"),
        ({"moments": [0.0]}, "1 moments for 26 atoms"),
    ],
)
def test_senseless_results_are_failures(
    atoms: Atoms, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    prepare(tmp_path, answer(atoms, **changes))
    with pytest.raises(AlChargeError, match=reason):
        GpawLabeler(GpawSettings()).label(atoms, tmp_path)


def test_incomplete_results_are_failures(atoms: Atoms, tmp_path: Path) -> None:
    prepare(tmp_path, {"energy": -1.0})
    with pytest.raises(AlChargeError, match="the result lacks engine, forces, free_energy"):
        GpawLabeler(GpawSettings()).label(atoms, tmp_path)


def test_an_old_result_is_never_taken_for_a_new_one(
    atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "result.json").write_text(json.dumps(answer(atoms)))
    monkeypatch.setattr(labeler, "command", lambda processes: [sys.executable, "-c", "pass"])
    with pytest.raises(AlChargeError, match="no readable result"):
        GpawLabeler(GpawSettings()).label(atoms, tmp_path)


def test_a_folder_that_cannot_be_written_is_a_failure(atoms: Atoms, tmp_path: Path) -> None:
    with pytest.raises(AlChargeError, match="cannot run GPAW: No such file or directory"):
        GpawLabeler(GpawSettings()).label(atoms, tmp_path / "absent")


def test_species_that_cannot_be_read_back_are_refused_before_the_run(
    atoms: Atoms, tmp_path: Path
) -> None:
    settings = GpawSettings(moment_windows={"Mn2+": (4.2, 4.8)})
    with pytest.raises(InputError, match=r"no moment window for Fe2\+"):
        GpawLabeler(settings).label(atoms, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_metal_energy_is_per_atom_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atoms: Atoms
) -> None:
    folder = tmp_path / "metal"
    folder.mkdir()
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(folder))
    prepare(folder, answer(atoms, energy=-2.6, forces=None))
    assert GpawLabeler(GpawSettings()).metal_energy("Mg") == pytest.approx(-1.3)  # two atoms
    assert not folder.exists()
    with pytest.raises(InputError, match="metallic Xx"):
        GpawLabeler(GpawSettings()).metal_energy("Xx")


def test_the_metal_is_asked_for_with_its_own_k_points(atoms: Atoms) -> None:
    document = request.metal(GpawSettings(metal_kpoints=6), Atoms("Na", cell=[3, 3, 3], pbc=True))
    assert document["parameters"]["kpts"] == {"size": [6, 6, 6], "gamma": True}
    assert document["parameters"]["setups"] == {}
    assert (document["moments"], document["forces"]) == (None, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"basis": "szp(dzp)"},
        {"grid_spacing": "0.2 A"},
        {"xc": "LDA"},
        {"hubbard_u": {"Fe": "5.2 eV"}},
        {"smearing": "0.1 eV"},
        {"kpoints": [1, 2, 2]},
        {"metal_kpoints": 10},
        {"energy_tolerance": "1e-6 eV"},
        {"density_tolerance": 1e-5},
    ],
)
def test_every_physical_setting_changes_the_hash(changes: dict[str, Any]) -> None:
    changed = GpawLabeler(GpawSettings.model_validate(changes))
    assert settings_hash(changed) != settings_hash(GpawLabeler(GpawSettings()))


def test_version_and_datasets_change_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings_hash(GpawLabeler(GpawSettings()))
    monkeypatch.setattr(labeler, "gpaw_version", lambda: "26.8.0")
    between = settings_hash(GpawLabeler(GpawSettings()))
    monkeypatch.setattr(labeler, "datasets_identity", lambda: "gpaw-data 1.3")
    after = settings_hash(GpawLabeler(GpawSettings()))
    assert len({before, between, after}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"mixer": "pulay"},
        {"shell_distortion": "0.1 A"},
        {"processes": 2},
        {"timeout": "1 h"},
        {"moment_windows": {"Fe2+": (3.4, 3.8), "Fe3+": (4.0, 4.5)}},
    ],
)
def test_the_way_to_the_result_does_not_change_the_hash(changes: dict[str, Any]) -> None:
    changed = GpawLabeler(GpawSettings.model_validate(changes))
    assert settings_hash(changed) == settings_hash(GpawLabeler(GpawSettings()))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hubbard_u", {"Xx": "1 eV"}, "'Xx' is no element"),
        ("hubbard_u", {"Fe": "-1 eV"}, "U of Fe is negative"),
        ("hubbard_u", {"Fe": 5.3}, "with its unit"),
        ("moment_windows", {"Fe2+": (3, 4.1), "Fe3+": (4, 5)}, "overlap"),
        ("moment_windows", {"Fee": (3, 4)}, "moment_windows"),
        ("grid_spacing", "0.22 eV", "no unit of length"),
        ("mode", "pw", "lcao"),
    ],
)
def test_bad_settings_are_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GpawSettings.model_validate({field: value})


def test_settings_survive_json() -> None:
    settings = GpawSettings.model_validate({"hubbard_u": {"Mn": "3.9 eV"}, "timeout": "2 h"})
    assert GpawSettings.model_validate_json(settings.model_dump_json()) == settings


def test_datasets_of_another_folder_have_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "version", lambda package: "1.2.1")
    monkeypatch.delenv("GPAW_SETUP_PATH", raising=False)
    assert datasets.datasets_identity() == "gpaw-data 1.2.1"
    monkeypatch.setenv("GPAW_SETUP_PATH", str(tmp_path))
    empty = datasets.datasets_identity()
    (tmp_path / "Fe.PBE").write_text("dataset")
    assert len({empty, datasets.datasets_identity(), "gpaw-data 1.2.1"}) == 3
