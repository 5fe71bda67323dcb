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

from al_charge.crystal.configuration import set_species, to_atoms
from al_charge.crystal.enumeration import enumerate_distinct
from al_charge.crystal.host import Host
from al_charge.crystal.shells import distort_shells
from al_charge.crystal.valence import Windows
from al_charge.errors import AlChargeError, CrashedError, InputError
from al_charge.labelers.gpaw import labeler
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.plugin import GpawPlugin
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import Attempt, Relax, settings_hash

MOMENTS = {"Fe2+": 3.66, "Fe3+": 4.21}

STAND_IN = """
import hashlib, json, pathlib
job = json.loads(pathlib.Path("input.json").read_text())
known = pathlib.Path("../answer.json")
answer = json.loads(known.read_text()) if known.exists() else {}
moments = {"Fe2+": 3.66, "Fe3+": 4.21}
n = len(job["numbers"])
frame = {
    "positions": job["positions"],
    "cell": job["cell"],
    "energy": -166.5,
    "free_energy": -166.6,
    "forces": [[0.1] * 3] * n if job["forces"] else None,
    "stress": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6] if job["stress"] else None,
    "moments": [moments.get(token, 0.05) for token in job.get("species", [""] * n)],
    "total_moment": 18.0,
} | answer.pop("frame", {})
result = {
    "job": hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16],
    "engine": "GPAW 26.7.0",
    "frames": [frame],
    "setups": {"Fe": "abc"},
    "attempts": [{"changed": "mixer msr1", "outcome": "converged after 12 steps"}],
    "scf_steps": 21,
    "wall_time": 70.0,
    "cores": 1,
} | answer
for name in answer.get("lacks", []):
    del result[name]
pathlib.Path("result.json").write_text(json.dumps(result))
pathlib.Path("runs").open("a").write("run ")
"""


@pytest.fixture
def atoms(olivine: Host) -> Atoms:
    """Olivine at x = 1/2 on its ideal sites."""
    return to_atoms(olivine, enumerate_distinct(olivine, 2)[0])


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script that answers at once in the place of GPAW."""
    monkeypatch.setattr(labeler, "command", lambda processes: [sys.executable, "-c", STAND_IN])
    monkeypatch.setattr(labeler, "gpaw_version", lambda: "26.7.0")
    monkeypatch.setattr(labeler, "datasets_identity", lambda: "gpaw-data 1.2.1")


def engine(**settings: Any) -> GpawLabeler:
    """Return a labeler without Bader charges, for which the stand-in has no density."""
    return GpawLabeler(GpawSettings.model_validate({"bader": False} | settings))


def answer(folder: Path, **changes: Any) -> None:
    """Have the stand-in answer something else in the folders of a label."""
    folder.mkdir(exist_ok=True)
    (folder / "answer.json").write_text(json.dumps(changes))


def job_of(
    one: GpawLabeler, atoms: Atoms, folder: Path, relax: Relax = Relax.NONE, attempt: int = 0
) -> dict[str, Any]:
    """Return what is asked of GPAW."""
    one.prepare(atoms, folder, relax=relax, attempt=attempt)
    document = json.loads((folder / "input.json").read_text())
    assert isinstance(document, dict)
    return document


def test_results_in_atomic_orbitals_are_said_to_be_trials() -> None:
    assert "for trials" in GpawPlugin().remark(GpawSettings())
    assert GpawPlugin().remark(GpawSettings(mode="pw")) == ""


def test_a_label_is_read_back(atoms: Atoms, tmp_path: Path) -> None:
    result = make_label(engine(), atoms, tmp_path)
    assert result.resolved == result.species == tuple(atoms.arrays["species"])
    reading = result.reading
    (frame,) = reading.frames
    assert (frame.energy, frame.stress) == (-166.5, None)
    assert np.array_equal(frame.positions, atoms.positions)
    assert np.array_equal(frame.forces, np.full((26, 3), 0.1))
    assert reading.moments is not None
    assert reading.moments.shape == (26,)
    assert reading.details["start"] == "shells distorted by 0.06 A"
    assert reading.details["scf_steps"] == 21
    assert (reading.engine, reading.wall_time, reading.cores) == ("GPAW 26.7.0", 70.0, 1)
    assert reading.attempts == (Attempt("mixer msr1", "converged after 12 steps"),)
    assert json.loads(json.dumps(reading.details)) == reading.details


def test_plane_waves_have_a_stress(atoms: Atoms, tmp_path: Path) -> None:
    assert not engine().gives_stress
    one = engine(mode="pw")
    assert one.gives_stress
    (frame,) = make_label(one, atoms, tmp_path).reading.frames
    assert frame.stress is not None
    np.testing.assert_allclose(frame.stress, [[0.1, 0.6, 0.5], [0.6, 0.2, 0.4], [0.5, 0.4, 0.3]])


def test_a_job_that_has_ended_is_not_run_again(atoms: Atoms, tmp_path: Path) -> None:
    for _ in range(2):
        make_label(engine(), atoms, tmp_path)
    assert (tmp_path / "try-0" / "runs").read_text() == "run "


def test_lost_charge_order_is_steered_harder_and_then_kept_as_ambiguous(
    atoms: Atoms, tmp_path: Path
) -> None:
    iron = np.flatnonzero(atoms.symbols == "Fe")
    moments = np.zeros(len(atoms))
    moments[iron] = 3.96
    answer(tmp_path, frame={"moments": moments.tolist()})
    result = make_label(engine(), atoms, tmp_path)
    assert result.resolved is None
    assert result.audit.ambiguous == tuple(iron)
    starts = [
        json.loads((tmp_path / f"try-{k}" / "input.json").read_text())["about"]["start"]
        for k in range(3)
    ]
    assert starts == [f"shells distorted by {a:g} A" for a in (0.06, 0.09, 0.15)]
    assert len(result.attempts) == 3


def test_windows_of_the_settings_come_before_those_of_the_campaign(
    atoms: Atoms, tmp_path: Path
) -> None:
    species = [str(token) for token in atoms.arrays["species"]]
    reading = make_label(engine(), atoms, tmp_path).reading
    calibrated = Windows({"Fe2+": (3.0, 3.5), "Fe3+": (4.0, 4.5)})
    assert engine().audit(reading, species, calibrated).ambiguous
    given = engine(moment_windows={"Fe2+": (3.6, 3.7), "Fe3+": (4.2, 4.3)})
    assert given.audit(reading, species, calibrated).species == tuple(species)


def test_the_start_is_distorted_where_the_geometry_lacks_the_order_or_has_lost_it(
    atoms: Atoms, tmp_path: Path
) -> None:
    ordered = distort_shells(atoms, 0.12)
    first = job_of(engine(), ordered, tmp_path)
    assert first["start_positions"] is None
    assert first["about"]["start"] == "the geometry itself"
    assert first["about"]["shell_contrast"] > 0.08
    for attempt, amplitude in ((1, 0.09), (2, 0.15)):
        harder = job_of(engine(), ordered, tmp_path, attempt=attempt)
        expected = distort_shells(ordered, amplitude).positions
        np.testing.assert_allclose(harder["start_positions"], expected)
        np.testing.assert_allclose(harder["positions"], ordered.positions)
    plain = job_of(engine(), atoms, tmp_path)
    np.testing.assert_allclose(plain["start_positions"], distort_shells(atoms, 0.06).positions)
    np.testing.assert_allclose(plain["positions"], atoms.positions)


def test_a_relaxation_that_lost_the_order_begins_at_the_distorted_shells(
    atoms: Atoms, tmp_path: Path
) -> None:
    one = engine(mode="pw")
    first = job_of(one, atoms, tmp_path, Relax.CELL)
    np.testing.assert_allclose(first["positions"], atoms.positions)
    assert first["relax"] == {"cell": True, "fmax": 0.05, "max_steps": 100}
    second = job_of(one, atoms, tmp_path, Relax.IONS, attempt=1)
    assert second["relax"]["cell"] is False
    assert second["start_positions"] is None
    np.testing.assert_allclose(second["positions"], distort_shells(atoms, 0.09).positions)


def test_the_hardest_steering_holds_the_total_moment_at_the_start(
    atoms: Atoms, tmp_path: Path
) -> None:
    document = job_of(engine(), atoms, tmp_path, attempt=2)
    assert sum(document["moments"]) == pytest.approx(18)  # two Fe3+ and two Fe2+
    species = np.array(atoms.arrays["species"])
    assert np.array(document["moments"])[species == "Fe3+"] == pytest.approx([4, 4])
    for rung in document["rungs"]:
        first, *_, last = rung["stages"]
        assert first["at_start"]
        assert first["parameters"]["occupations"] == {
            "name": "fermi-dirac",
            "width": 0.02,
            "fixmagmom": True,
        }
        assert "occupations" not in last["parameters"]
        assert not last["at_start"]


def test_every_rung_ends_with_the_settings_that_were_asked_for(
    atoms: Atoms, tmp_path: Path
) -> None:
    for mode in ("lcao", "pw"):
        document = job_of(engine(mode=mode, smearing="0.1 eV"), atoms, tmp_path / mode)
        assert document["parameters"]["occupations"] == {"name": "fermi-dirac", "width": 0.1}
        assert len(document["rungs"]) == 4
        assert len({rung["changed"] for rung in document["rungs"]}) == 4
        for rung in document["rungs"]:
            how = set(rung["stages"][-1]["parameters"])
            assert how <= {"mixer", "maxiter", "nbands", "eigensolver"}
    assert len(job_of(engine(scf_ladder=False), atoms, tmp_path)["rungs"]) == 1


def test_steering_can_be_switched_off(atoms: Atoms, tmp_path: Path) -> None:
    one = engine(shell_distortion="0 A")
    assert job_of(one, atoms, tmp_path)["start_positions"] is None
    assert one.tries == 1
    assert engine(tries=2).tries == 2


def test_the_request_says_what_the_settings_say(atoms: Atoms, tmp_path: Path) -> None:
    one = engine(hubbard_u={"Fe": "4.5 eV", "Mn": "3.9 eV"}, kpoints=[1, 2, 2], mixer="pulay")
    document = job_of(one, atoms, tmp_path)
    parameters = document["parameters"]
    assert parameters["setups"] == {"Fe": ":d,4.5"}  # there is no Mn to put a U on
    assert parameters["kpts"] == {"size": [1, 2, 2], "gamma": True}
    assert document["rungs"][0]["stages"][-1]["parameters"]["mixer"]["name"] == "pulay"
    assert parameters["mode"] == {"name": "lcao"}
    assert (parameters["basis"], parameters["h"], parameters["xc"]) == ("dzp", 0.22, "PBE")
    # Atoms are kept apart; k and -k are one, of which a single k-point has none.
    assert parameters["symmetry"] == {"point_group": False}
    gamma = job_of(engine(kpoints=[1, 1, 1]), atoms, tmp_path)["parameters"]
    assert gamma["symmetry"] == "off" and gamma["kpts"]["size"] == [1, 1, 1]
    waves = job_of(engine(mode="pw", cutoff="500 eV"), atoms, tmp_path)["parameters"]
    assert waves["mode"] == {"name": "pw", "ecut": 500.0}
    assert waves["convergence"]["eigenstates"] == 1e-6
    assert not {"basis", "h"} & set(waves)


def test_initial_moments_shrink_together(atoms: Atoms, tmp_path: Path) -> None:
    moments = np.array(job_of(engine(), atoms, tmp_path)["moments"])
    species = atoms.arrays["species"]
    np.testing.assert_allclose(moments[species == "Fe3+"], 4.0)
    np.testing.assert_allclose(moments[species == "Fe2+"], 3.2)
    np.testing.assert_allclose(moments[atoms.symbols == "O"], 0.0)
    assert atoms.get_initial_magnetic_moments().max() == 5.0


def test_antiferromagnetic_moments_have_both_signs(atoms: Atoms, tmp_path: Path) -> None:
    one = engine(magnetic_order="antiferromagnetic", fixed_moment=True)
    document = job_of(one, atoms, tmp_path)
    iron = np.array(document["moments"])[atoms.symbols == "Fe"]
    assert sorted(np.sign(iron)) == [-1, -1, 1, 1]
    assert document["parameters"]["occupations"]["fixmagmom"] is True
    assert sum(document["moments"]) == pytest.approx(round(sum(document["moments"])))


def test_moments_and_the_total_moment_by_hand(atoms: Atoms, tmp_path: Path) -> None:
    species = atoms.arrays["species"]
    document = job_of(engine(moments={"Fe3+": 4.5}), atoms, tmp_path / "free")
    moments = np.array(document["moments"])
    np.testing.assert_allclose(moments[species == "Fe3+"], 4.5)
    np.testing.assert_allclose(moments[species == "Fe2+"], 3.2)
    assert "fixmagmom" not in document["parameters"]["occupations"]
    held = job_of(engine(moments={"Fe3+": 4.5}, total_moment=12), atoms, tmp_path / "held")
    moments = np.array(held["moments"])
    np.testing.assert_allclose(moments[species == "Fe3+"], 4.5)
    assert moments.sum() == pytest.approx(12)
    assert held["parameters"]["occupations"]["fixmagmom"] is True


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"frame": {"energy": float("nan")}}, "missing, NaN or infinite"),
        ({"frame": {"forces": [[0.0, 0.0, 0.0]]}}, "energy or forces are missing"),
        ({"frame": {"moments": [0.0]}}, "moments have shape"),
        ({"frame": {"moments": None}}, "moments have shape"),
        ({"lacks": ["engine"]}, "truncated or damaged"),
        ({"frames": []}, "truncated or damaged"),
        ({"job": "another"}, "another job"),
    ],
)
def test_senseless_results_are_failures(
    atoms: Atoms, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    answer(tmp_path, **changes)
    one = engine()
    one.prepare(atoms, tmp_path / "job", relax=Relax.NONE, attempt=0)
    with pytest.raises(AlChargeError, match=reason) as caught:
        one.run(tmp_path / "job")
        one.read(tmp_path / "job")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", '{"job": "ab', "[1, 2]", "\x00\x00"])
def test_truncated_results_are_failures(atoms: Atoms, tmp_path: Path, content: str) -> None:
    one = engine()
    one.prepare(atoms, tmp_path, relax=Relax.NONE, attempt=0)
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(AlChargeError, match=r"result\.json: the file is truncated or damaged"):
        one.read(tmp_path)


def test_refused_charges_leave_the_label(atoms: Atoms, tmp_path: Path) -> None:
    one, job = engine(bader=True), tmp_path / "job"
    one.prepare(atoms, job, relax=Relax.NONE, attempt=0)
    np.savez(job / "density.npz", density=np.ones((4, 4, 4)), coarse=np.ones((4, 4, 4)))
    one.run(job)
    reading = one.read(job)
    assert reading.bader is None
    assert "too similar to judge the charges by" in reading.bader_refused
    (job / "bader.json").unlink()
    with pytest.raises(AlChargeError, match=r"bader\.json: cannot read"):
        one.read(job)


def test_a_missing_density_is_no_property_of_the_label(atoms: Atoms, tmp_path: Path) -> None:
    with pytest.raises(CrashedError, match=r"density\.npz: it is missing"):
        make_label(engine(bader=True), atoms, tmp_path)


def test_an_old_result_is_never_taken_for_a_new_one(
    atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_label(engine(), atoms, tmp_path)
    old = (tmp_path / "try-0" / "result.json").read_text()
    one, moved = engine(), atoms.copy()
    moved.positions[0] += 0.1
    one.prepare(moved, tmp_path / "try-0", relax=Relax.NONE, attempt=0)
    assert {path.name for path in (tmp_path / "try-0").iterdir()} == {"input.json", "engine.lock"}
    (tmp_path / "try-0" / "result.json").write_text(old)
    monkeypatch.setattr(labeler, "command", lambda processes: [sys.executable, "-c", "pass"])
    with pytest.raises(AlChargeError, match="GPAW computed another job"):
        one.run(tmp_path / "try-0")


def test_a_folder_that_cannot_be_written_is_a_failure(atoms: Atoms, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AlChargeError, match=r"cannot write: Not a directory"):
        engine().prepare(atoms, tmp_path / "file" / "job", relax=Relax.NONE, attempt=0)


def test_a_full_disk_is_one_line(
    atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "raise OSError(28, 'No space left on device', 'unfinished-state.gpw')"
    monkeypatch.setattr(labeler, "command", lambda processes: [sys.executable, "-c", full])
    one = engine()
    one.prepare(atoms, tmp_path, relax=Relax.NONE, attempt=0)
    with pytest.raises(AlChargeError, match="No space left on device") as caught:
        one.run(tmp_path)
    assert "\n" not in str(caught.value)


def test_species_and_metals_that_cannot_be_computed_are_refused() -> None:
    with pytest.raises(InputError, match="GPAW has no PAW dataset for Pu"):
        engine().check(["Na+", "Pu4+"], "Na")
    with pytest.raises(InputError, match="metallic Xx"):
        engine().check(["Fe2+"], "Xx")
    engine().check(["Na+", "Fe2+", "Fe3+", "O2-"], "Na")


def test_a_cell_is_relaxed_by_plane_waves_alone(atoms: Atoms, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gives no stress, so it cannot relax a cell"):
        engine().prepare(atoms, tmp_path, relax=Relax.CELL, attempt=0)
    with pytest.raises(ValidationError, match="which only mode: pw gives"):
        GpawSettings.model_validate({"relax": "cell"})


def metal_frames(energies: list[float]) -> list[dict[str, Any]]:
    """Return frames of a metal at five volumes."""
    scales = (0.97, 0.985, 1.0, 1.015, 1.03)
    return [
        {
            "positions": [[0.0] * 3] * 2,
            "cell": (np.eye(3) * 3 * scale).tolist(),
            "energy": energy,
            "free_energy": energy,
            "forces": None,
            "stress": None,
            "moments": [0.0, 0.0],
            "total_moment": 0.0,
        }
        for scale, energy in zip(scales, energies, strict=True)
    ]


def test_metal_energy_is_the_lowest_per_atom(tmp_path: Path) -> None:
    volumes = [27 * scale**3 for scale in (0.97, 0.985, 1.0, 1.015, 1.03)]
    energies = [-2.6 + 0.01 * (volume - 27.3) ** 2 for volume in volumes]
    answer(tmp_path, frames=metal_frames(energies))
    one = engine(metal_kpoints=6, fixed_moment=True)
    assert one.metal_energy("Mg", tmp_path / "metal") == pytest.approx(-1.3)  # two atoms
    document = json.loads((tmp_path / "metal" / "input.json").read_text())
    assert document["parameters"]["kpts"] == {"size": [6, 6, 6], "gamma": True}
    assert document["parameters"]["setups"] == {}
    assert "fixmagmom" not in document["parameters"]["occupations"]
    assert (document["moments"], document["forces"]) == (None, False)
    answer(tmp_path, frames=metal_frames([energy - 1.0 for energy in energies]))
    assert one.metal_energy("Mg", tmp_path / "metal") == pytest.approx(-1.3)  # not asked again
    assert (tmp_path / "metal" / "runs").read_text() == "run "


def test_a_metal_without_a_minimum_is_a_failure(tmp_path: Path) -> None:
    answer(tmp_path, frames=metal_frames([-1.0, -1.1, -1.2, -1.3, -1.4]))
    with pytest.raises(AlChargeError, match="no minimum near its experimental volume"):
        engine().metal_energy("Mg", tmp_path / "metal")


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("lcao", {"mode": "pw"}),
        ("pw", {"cutoff": "600 eV"}),
        ("lcao", {"basis": "szp(dzp)"}),
        ("lcao", {"grid_spacing": "0.2 A"}),
        ("lcao", {"xc": "LDA"}),
        ("lcao", {"hubbard_u": {"Fe": "5.2 eV"}}),
        ("lcao", {"smearing": "0.1 eV"}),
        ("lcao", {"kpoints": [1, 2, 2]}),
        ("lcao", {"metal_kpoints": 10}),
        ("lcao", {"magnetic_order": "antiferromagnetic"}),
        ("lcao", {"fixed_moment": True}),
        ("lcao", {"energy_tolerance": "1e-5 eV"}),
        ("lcao", {"density_tolerance": 1e-5}),
        ("pw", {"eigenstates_tolerance": 1e-7}),
    ],
)
def test_every_physical_setting_changes_the_hash(mode: str, changes: dict[str, Any]) -> None:
    changed = engine(**({"mode": mode} | changes))
    assert settings_hash(changed) != settings_hash(engine(mode=mode))


def test_version_and_datasets_change_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings_hash(engine())
    monkeypatch.setattr(labeler, "gpaw_version", lambda: "26.8.0")
    between = settings_hash(engine())
    monkeypatch.setattr(labeler, "datasets_identity", lambda: "gpaw-data 1.3")
    after = settings_hash(engine())
    assert len({before, between, after}) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"mixer": "pulay"},
        {"scf_ladder": False},
        {"max_iterations": 50},
        {"relax": "ions"},
        {"fmax": "0.1 eV/A"},
        {"max_steps": 10},
        {"shell_distortion": "0.1 A"},
        {"tries": 1},
        {"bader": True},
        {"processes": 2},
        {"timeout": "1 h"},
        {"save_interval": "1 h"},
        {"cutoff": "600 eV"},  # in the atomic-orbital mode
        {"moment_windows": {"Fe2+": (3.4, 3.8), "Fe3+": (4.0, 4.5)}},
    ],
)
def test_the_way_to_the_result_does_not_change_the_hash(changes: dict[str, Any]) -> None:
    assert settings_hash(engine(**changes)) == settings_hash(engine())


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hubbard_u", {"Xx": "1 eV"}, "'Xx' is not an element"),
        ("hubbard_u", {"Fe": "-1 eV"}, "U of Fe is negative"),
        ("hubbard_u", {"Fe": 5.3}, "with its unit"),
        ("moment_windows", {"Fe2+": (3, 4.1), "Fe3+": (4, 5)}, "overlap"),
        ("moment_windows", {"Fee": (3, 4)}, "moment_windows"),
        ("grid_spacing", "0.22 eV", "not a unit of length"),
        ("mode", "fd", "lcao"),
        ("cutoff", 700.0, "with its unit"),
        ("tries", 4, "less than or equal to 3"),
    ],
)
def test_bad_settings_are_refused(field: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GpawSettings.model_validate({field: value})


def test_settings_survive_json() -> None:
    settings = GpawSettings.model_validate({"hubbard_u": {"Mn": "3.9 eV"}, "timeout": "2 h"})
    assert GpawSettings.model_validate_json(settings.model_dump_json()) == settings


def test_a_total_moment_of_nothing_is_held_with_two_spins(atoms: Atoms, tmp_path: Path) -> None:
    """GPAW computes one spin where no atom has a moment, and then can fix no total moment."""
    assert "spinpol" not in job_of(engine(fixed_moment=True), atoms, tmp_path)["parameters"]
    low = ["Fe2+,spin=0" if t.startswith("Fe") else t for t in atoms.arrays["species"].tolist()]
    set_species(atoms, low)
    job = job_of(engine(fixed_moment=True), atoms, tmp_path)
    assert not any(job["moments"])
    assert job["parameters"]["spinpol"] is True
    assert "spinpol" not in job_of(engine(), atoms, tmp_path)["parameters"]
