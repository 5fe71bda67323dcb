"""The real GPAW on cells that take seconds."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from al_charge.crystal.configuration import set_species
from al_charge.errors import AlChargeError
from al_charge.labelers.dft import process
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
from al_charge.labelers.protocol import Reading, Relax

pytestmark = [
    pytest.mark.gpaw,
    pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed"),
    pytest.mark.usefixtures("forked_gpaw"),
]

ORBITALS: dict[str, Any] = {
    "basis": "sz(dzp)",
    "grid_spacing": "0.34 A",
    "xc": "LDA",  # without gradients a step takes a third less
    "kpoints": (1, 1, 1),
    "hubbard_u": {"Mn": "3.9 eV"},
    "energy_tolerance": "1e-4 eV",
    "density_tolerance": 1e-3,
    "moment_windows": {"Mn2+": (4.2, 4.8), "Mn3+": (3.3, 4.0)},
    "bader": False,
}
WAVES: dict[str, Any] = {
    "mode": "pw",
    "cutoff": "300 eV",
    "xc": "LDA",
    "kpoints": (1, 1, 3),
    "metal_kpoints": 4,
    "bader": False,
    "save_interval": "0 s",
}


def labeler(settings: dict[str, Any], **changes: Any) -> GpawLabeler:
    """Return a labeler that is quick and rough."""
    return GpawLabeler(GpawSettings.model_validate(settings | changes))


def label(
    engine: GpawLabeler, atoms: Atoms, folder: Path, relax: Relax = Relax.NONE, attempt: int = 0
) -> Reading:
    """Label a cell."""
    engine.prepare(atoms, folder, relax=relax, attempt=attempt)
    engine.run(folder)
    return engine.read(folder)


def manganese_oxide(second: str = "Mn2+") -> Atoms:
    """Return four atoms of MnO; ``second`` is the state that is asked of the second Mn."""
    atoms = bulk("MnO", "rocksalt", a=4.44) * (2, 1, 1)
    set_species(atoms, ["Mn2+", "O2-", second, "O2-"])
    return atoms


def lithium_hydride(push: float = 0.1) -> Atoms:
    """Return two atoms of LiH, one pushed away from its site by so many angstrom."""
    atoms = bulk("LiH", "rocksalt", a=4.0)
    atoms.positions[1] += [push, push / 2, 0]
    set_species(atoms, ["Li+", "H-"])
    return atoms


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a prepared job."""
    job = json.loads((folder / "input.json").read_text())
    change(job)
    (folder / "input.json").write_text(json.dumps(job))


def steps_so_far(folder: Path) -> int:
    """Return how many SCF steps a job that runs has recorded."""
    path = folder / "progress.json"
    return int(json.loads(path.read_text())["all_steps"]) if path.exists() else 0


def kill_after(folder: Path, ready: Callable[[], bool], sent: signal.Signals) -> int:
    """Run a prepared job, send it a signal when it is time, and return its exit status."""
    with (folder / "output.log").open("wb") as log:
        engine = subprocess.Popen(
            [sys.executable, "-m", "al_charge.labelers.gpaw.run"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    try:
        end = time.monotonic() + 120
        while not ready():
            assert engine.poll() is None, (folder / "output.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        engine.send_signal(sent)
        return engine.wait(60)
    finally:
        engine.kill()


@pytest.fixture
def own_process(forked_gpaw: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have GPAW's jobs done by new processes, as they are outside the tests."""
    monkeypatch.setattr(process, "run", forked_gpaw)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the jobs below share their folders."""
    return tmp_path_factory.mktemp("gpaw")


@pytest.fixture(scope="module")
def plain(forked_gpaw: Callable[..., None], folder: Path) -> Reading:
    """MnO as it is."""
    return label(labeler(ORBITALS), manganese_oxide(), folder / "plain")


@pytest.fixture(scope="module")
def hydride(forked_gpaw: Callable[..., None], folder: Path) -> Reading:
    """LiH off its sites, with the charges of its atoms."""
    return label(labeler(WAVES, bader=True), lithium_hydride(), folder / "hydride")


def test_moments_tell_the_charge_states(plain: Reading, folder: Path) -> None:
    assert plain.moments is not None
    species = ["Mn2+", "O2-", "Mn2+", "O2-"]
    audit = labeler(ORBITALS).audit(plain, species, None)
    assert audit.species == tuple(species)
    assert plain.moments[[0, 2]] == pytest.approx([4.4, 4.4], abs=0.15)
    assert np.abs(plain.moments[[1, 3]]).max() < 0.3
    (frame,) = plain.frames
    assert frame.forces == pytest.approx(np.zeros((4, 3)), abs=1e-3)  # by symmetry
    assert frame.stress is None
    assert plain.engine.startswith("GPAW ")
    assert plain.details["start"] == "the geometry itself"
    assert set(plain.datasets) == {"Mn", "O"}
    assert plain.cores == 1
    (attempt,) = plain.attempts
    assert attempt.changed == "mixer msr1"
    assert attempt.outcome == f"converged after {plain.details['scf_steps']} steps"
    assert (folder / "plain" / "gpaw.txt").read_text().count("\nAtoms  #") == 1, "begun twice"


def test_a_steered_label_is_at_the_geometry_that_was_asked_for(
    plain: Reading, folder: Path
) -> None:
    # One formula unit cannot hold Mn2+ and Mn3+ without the charge going somewhere: GPAW finds MnO
    # again, and since the start only made the first density, so must the energy be MnO's.
    atoms = manganese_oxide("Mn3+")
    steered = label(labeler(ORBITALS), atoms, folder / "steered", attempt=2)
    assert steered.details["start"] == "shells distorted by 0.15 A"
    assert steered.moments == pytest.approx(plain.moments, abs=0.02)
    assert steered.frames[0].energy == pytest.approx(plain.frames[0].energy, abs=2e-3)
    assert np.array_equal(steered.frames[0].positions, atoms.positions)


def test_antiferromagnetic_moments_stay_so(folder: Path) -> None:
    engine = labeler(ORBITALS, magnetic_order="antiferromagnetic", fixed_moment=True)
    found = label(engine, manganese_oxide(), folder / "antiferromagnetic")
    assert found.moments is not None
    assert found.moments[0] == pytest.approx(-found.moments[2], abs=0.05)
    assert found.moments[0] > 4.0
    assert found.details["total_moment"] == pytest.approx(0.0, abs=1e-3)


def test_forces_and_stress_are_the_slope_of_the_energy(hydride: Reading, folder: Path) -> None:
    step, atoms, rng = 0.02, lithium_hydride(), np.random.default_rng(3)
    moves = rng.normal(size=(2, 3))
    shear = np.array([[0, 0.5, 0], [0.5, 0, 0.2], [0, 0.2, 0]])  # keeps the volume, so the basis
    energies = []
    for sign in (-1, 1):
        changed = lithium_hydride()
        changed.set_cell(atoms.cell.array @ (np.eye(3) + sign * step * shear), scale_atoms=True)
        changed.positions += sign * step * moves
        found = label(labeler(WAVES), changed, folder / f"slope{sign}")
        energies.append(found.details["free_energy"])
    (frame,) = hydride.frames
    assert frame.stress is not None
    expected = frame.stress.ravel() @ shear.ravel() * atoms.get_volume()
    expected -= frame.forces.ravel() @ moves.ravel()
    assert (energies[1] - energies[0]) / (2 * step) == pytest.approx(expected, abs=0.03)
    assert abs(expected) > 0.1


def test_bader_charges_are_found_and_their_density_is_not_kept(
    hydride: Reading, folder: Path
) -> None:
    assert hydride.bader is not None, hydride.bader_refused
    assert hydride.bader.net == pytest.approx([0.83, -0.83], abs=0.06)
    assert hydride.bader.electrons.tolist() == [3, 1]
    assert not list((folder / "hydride").glob("*.npz"))
    assert not list((folder / "hydride").glob("*.gpw"))


def test_a_relaxed_cell_has_the_energy_of_a_fresh_calculation(folder: Path) -> None:
    engine = labeler(WAVES, fmax="0.2 eV/A", kpoints=(2, 2, 2))
    relaxed = label(engine, lithium_hydride(), folder / "relaxed", Relax.CELL)
    first, last = relaxed.frames[0], relaxed.frames[-1]
    assert np.array_equal(first.positions, lithium_hydride().positions)
    assert last.energy < first.energy
    assert np.linalg.norm(last.forces, axis=1).max() < 0.2
    assert last.stress is not None
    volume = abs(np.linalg.det(last.cell))
    assert np.abs(last.stress).max() * volume / 2 < 0.2
    assert volume != pytest.approx(lithium_hydride().get_volume(), rel=1e-3)
    again = lithium_hydride()
    again.set_cell(last.cell)
    again.positions = last.positions
    fresh = label(engine, again, folder / "fresh")
    assert fresh.frames[0].energy == pytest.approx(last.energy, abs=2e-4)


def test_a_killed_relaxation_goes_on_from_its_last_geometry(folder: Path) -> None:
    # So far off, and to so little force, that much is left to do when it is killed.
    engine, atoms, job = labeler(WAVES, fmax="0.002 eV/A"), lithium_hydride(0.3), folder / "killed"
    engine.prepare(atoms, job, relax=Relax.IONS, attempt=0)
    lines = job / "frames.jsonl"
    kill_after(
        job, lambda: lines.exists() and len(lines.read_text().splitlines()) >= 2, signal.SIGKILL
    )
    with lines.open("a") as file:
        file.write('{"positions": [[0.0')  # as if it had been killed while it wrote
    before = steps_so_far(job)
    engine.run(job)
    found = engine.read(job)
    whole = label(engine, atoms, folder / "whole", Relax.IONS)
    assert found.frames[-1].energy == pytest.approx(whole.frames[-1].energy, abs=5e-4)
    assert np.array_equal(found.frames[0].positions, atoms.positions)
    assert np.linalg.norm(found.frames[-1].forces, axis=1).max() < 0.002
    assert found.attempts[0].outcome.startswith("interrupted after")
    assert found.attempts[1].changed == "from the saved state"
    assert 0 < before < found.details["scf_steps"]


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75)])
def test_an_scf_goes_on_from_its_saved_state(
    hydride: Reading, folder: Path, sent: signal.Signals, status: int
) -> None:
    engine, job = labeler(WAVES), folder / sent.name
    engine.prepare(lithium_hydride(), job, relax=Relax.NONE, attempt=0)
    assert kill_after(job, lambda: steps_so_far(job) >= 5, sent) == status
    assert (job / "state.gpw").exists()
    engine.run(job)
    found = engine.read(job)
    assert found.frames[0].energy == pytest.approx(hydride.frames[0].energy, abs=1e-4)
    assert found.frames[0].forces == pytest.approx(hydride.frames[0].forces, abs=2e-3)
    first, second = found.attempts
    assert first.outcome.startswith("interrupted after")
    assert second.changed == "from the saved state"
    assert int(second.outcome.split()[2]) < hydride.details["scf_steps"]


WORKER = """
import sys
from pathlib import Path
from al_charge.labelers.gpaw.labeler import GpawLabeler
from al_charge.labelers.gpaw.settings import GpawSettings
GpawLabeler(GpawSettings(processes=2)).run(Path(sys.argv[1]))
"""


def test_ranks_that_were_left_behind_are_ended_by_the_next_start_which_goes_on(
    hydride: Reading,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    leave_engines: Callable[..., None],
    left_in: Callable[[Path], list[psutil.Process]],
) -> None:
    if not hasattr(importlib.import_module("_gpaw"), "Communicator"):
        pytest.skip("GPAW was built without MPI")
    for name in ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM", "MCA_rmaps_base_oversubscribe"):
        monkeypatch.setenv(f"OMPI_{name}", "1")
    engine, job = labeler(WAVES, processes=2), folder / "ranks"
    engine.prepare(lithium_hydride(), job, relax=Relax.NONE, attempt=0)
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(job)])
    end = time.monotonic() + 120
    while steps_so_far(job) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(left_in(job)) >= 4  # guard, mpiexec and ranks
    leave_engines(worker, "gpaw.run")
    engine.run(job)
    assert left_in(job) == []
    found = engine.read(job)
    assert found.cores == 2
    assert found.attempts[1].changed == "from the saved state"
    assert found.frames[0].energy == pytest.approx(hydride.frames[0].energy, abs=1e-4)
    assert found.frames[0].forces == pytest.approx(hydride.frames[0].forces, abs=2e-3)


def test_a_damaged_state_is_not_continued_from(hydride: Reading, folder: Path) -> None:
    engine, job = labeler(WAVES), folder / "damaged"
    engine.prepare(lithium_hydride(), job, relax=Relax.NONE, attempt=0)
    kill_after(job, lambda: steps_so_far(job) >= 2, signal.SIGKILL)
    (job / "state.gpw").write_bytes((job / "state.gpw").read_bytes()[:1000])
    engine.run(job)
    found = engine.read(job)
    assert found.attempts[1].changed == "started again"
    assert found.frames[0].energy == pytest.approx(hydride.frames[0].energy, abs=1e-5)


@pytest.mark.usefixtures("own_process")
def test_a_run_out_of_time_says_how_it_goes_on(folder: Path) -> None:
    job = folder / "late"
    # The request to stop is there when GPAW comes to its first step, however slow that is.
    with pytest.raises(AlChargeError, match="saved state; run it again to continue"):
        label(labeler(WAVES, timeout="0.01 s"), lithium_hydride(), job)
    assert label(labeler(WAVES), lithium_hydride(), job).attempts[1].outcome.startswith("conv")


def test_the_ladder_is_climbed_and_written_down(hydride: Reading, folder: Path) -> None:
    engine, job = labeler(WAVES), folder / "ladder"
    engine.prepare(lithium_hydride(), job, relax=Relax.NONE, attempt=0)

    def hinder(document: dict[str, Any]) -> None:
        for rung in document["rungs"][:2]:
            rung["stages"][-1]["parameters"]["maxiter"] = 3

    edit(job, hinder)
    engine.run(job)
    found = engine.read(job)
    assert [attempt.outcome for attempt in found.attempts[:2]] == [
        "not converged after 3 steps"
    ] * 2
    assert [attempt.changed for attempt in found.attempts] == [
        "mixer pulay",
        "mixer msr1",
        "mixer pulay with beta 0.05, smearing 0.2 eV to start with",
    ]
    assert found.attempts[2].outcome.startswith("converged after")
    # The wider occupations were for the start alone.
    assert found.frames[0].energy == pytest.approx(hydride.frames[0].energy, abs=1e-4)


@pytest.mark.usefixtures("own_process")
def test_an_scf_that_no_attempt_converges_is_a_failure(folder: Path) -> None:
    engine, job = labeler(WAVES, density_tolerance=1e-14), folder / "job"
    engine.prepare(lithium_hydride(), job, relax=Relax.NONE, attempt=0)

    def hinder(document: dict[str, Any]) -> None:
        for stage in (stage for rung in document["rungs"] for stage in rung["stages"]):
            stage["parameters"]["maxiter"] = 4

    edit(job, hinder)
    steps = []
    for _ in range(2):  # it is not done again
        with pytest.raises(AlChargeError, match="SCF did not converge after 4 attempts") as caught:
            engine.run(job)
        steps.append(steps_so_far(job))
    line = str(caught.value)
    assert "mixer msr1: not converged after 4 steps" in line
    assert "output.log" in line
    assert 0 < steps[0] == steps[1]


def test_a_metal_is_bound_at_its_own_volume(folder: Path) -> None:
    engine = labeler(WAVES, xc="PBE")  # LDA's lithium is too small for the volumes that are tried
    energy = engine.metal_energy("Li", folder / "metal")
    frames = engine.read(folder / "metal").frames
    assert len(frames) == 5
    assert energy <= min(frame.energy for frame in frames) + 1e-3
    assert -3.0 < energy < -1.0


class _ElasticEngine:
    """Energies of a classical metal in the engine's place, to see the steps alone."""

    def evaluate(self, atoms: Atoms) -> dict[str, Any]:
        copy = atoms.copy()
        copy.calc = EMT()
        return {
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
            "energy": copy.get_potential_energy(),
            "forces": copy.get_forces().tolist(),
            "stress": copy.get_stress().tolist(),
        }


def strained_copper() -> Atoms:
    """Return eight atoms of copper off their sites, in a cell that is not cubic."""
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.set_cell(atoms.cell * np.array([[1.03], [0.98], [1.01]]), scale_atoms=True)
    atoms.rattle(0.08, seed=1)
    return atoms


@pytest.fixture(scope="module")
def copper_at_rest() -> float:
    """The energy at the minimum that ASE's FIRE finds, in eV."""
    atoms = strained_copper()
    atoms.calc = EMT()
    FIRE(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-3, steps=2000)
    return float(atoms.get_potential_energy())


@pytest.mark.parametrize("interrupted", ["", "between steps", "while it writes", "at once"])
def test_ions_and_cell_end_where_another_optimiser_ends(
    copper_at_rest: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    """At rest within the limits, at the minimum that ASE's FIRE finds; also when it goes on."""
    from al_charge.labelers.gpaw.journal import Journal
    from al_charge.labelers.gpaw.relaxation import relax

    monkeypatch.chdir(tmp_path)
    atoms = strained_copper()
    engine: Any = _ElasticEngine()
    job = {"cell": True, "fmax": 0.02, "max_steps": 200}
    frames: list[dict[str, Any]] = []
    if interrupted:
        with pytest.raises(AlChargeError, match="not converged after 3 steps"):
            relax(engine, atoms, job | {"max_steps": 3}, frames, Journal(writes=False))
        assert len(frames) == 4
        (hessian,) = tmp_path.glob("*hessian.json")
        whole = hessian.read_bytes()
        kept = {"between steps": len(whole), "while it writes": len(whole) // 2, "at once": 0}
        hessian.write_bytes(whole[: kept[interrupted]])
    last = relax(engine, atoms, job, frames, Journal(writes=False))[-1]
    assert np.linalg.norm(last["forces"], axis=1).max() < 0.02
    assert np.abs(last["stress"]).max() < 0.02 * len(atoms) / atoms.get_volume()
    assert last["energy"] == pytest.approx(copper_at_rest, abs=2e-3)
