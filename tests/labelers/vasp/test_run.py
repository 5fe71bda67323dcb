"""Jobs from inputs to readings, with custodian and a stand-in for VASP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.host import Host
from al_charge.crystal.shells import charge_order_contrast
from al_charge.errors import AlChargeError, CrashedError
from al_charge.labelers.dft import process
from al_charge.labelers.files import BADER, read_json, write_json
from al_charge.labelers.labelling import make_label
from al_charge.labelers.protocol import Reading, Relax
from al_charge.labelers.vasp import run, stages
from al_charge.labelers.vasp.labeler import VaspLabeler

# pymatgen, inside custodian, about POTCARs that are headers only, and about runs that fail.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

Make = Callable[..., VaspLabeler]
Fill = Callable[[Host, int], Atoms]


def start(labeler: VaspLabeler, folder: Path) -> None:
    """Run a job in this process, which has imported everything already."""
    write_json(folder / stages.LAUNCH, labeler._launch())
    run.run_stages(folder)


def label(labeler: VaspLabeler, atoms: Atoms, folder: Path, **job: Any) -> Reading:
    """Prepare, run and read."""
    labeler.prepare(atoms, folder, **{"relax": Relax.NONE, "attempt": 0} | job)
    start(labeler, folder)
    return labeler.read(folder)


@pytest.fixture
def half_filled(olivine: Host, fill: Fill) -> Atoms:
    """Two Fe2+ and two Fe3+ on ideal sites, the atoms in no order."""
    atoms = fill(olivine, 2)
    order = np.random.default_rng(3).permutation(len(atoms))
    return atoms[order]


def test_atoms_come_back_in_their_own_order(
    standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
) -> None:
    standin.tell(energy=-4.0, moments=[float(i) for i in range(26)])
    reading = label(labeler(shell_distortion="0 A"), half_filled, tmp_path / "job")
    assert np.allclose(reading.frames[0].positions, half_filled.positions, atol=1e-6)
    assert reading.moments is not None
    # Blocks of Na, Fe, P, O, each in the order of the job's atoms; forces go with the place too.
    blocks = [half_filled.symbols.search(element) for element in ("Na", "Fe", "P", "O")]
    place = np.argsort(np.concatenate(blocks))
    assert reading.moments.tolist() == place.tolist()
    assert reading.frames[0].forces[:, 0] == pytest.approx(0.001 * (place + 1))
    stress = reading.frames[0].stress
    assert stress is not None
    assert stress[2, 2] == pytest.approx(-30 * 0.1 / 160.21766, rel=1e-5)


def test_a_label_is_steered_and_stays_at_its_geometry(
    standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
) -> None:
    standin.tell(
        check={
            "start": {"NUPDOWN": "18.0", "LAECHG": "False"},
            "static": {"ISTART": "1", "ICHARG": "1", "NUPDOWN": "18.0", "NSW": "0"},
        }
    )
    vasp = labeler()
    reading = label(vasp, half_filled, tmp_path / "job")
    assert standin.starts() == ["start", "static"]
    assert len(reading.frames) == 1
    assert np.allclose(reading.frames[0].positions, half_filled.positions, atol=1e-6)
    assert reading.details["start"] == "shells distorted by 0.060 A"
    assert [attempt.changed for attempt in reading.attempts] == [
        "start: shells distorted by 0.060 A",
        "static: from the stage before",
    ]
    from ase.io import read

    begun = read(tmp_path / "job" / "start" / "POSCAR")
    species = sorted(half_filled.arrays["species"], key=lambda s: "Na Fe P O".index(s[0]))
    assert len(species) == len(begun)
    moved = np.linalg.norm(
        begun.get_scaled_positions()
        - half_filled[_poscar_order(half_filled)].get_scaled_positions(),
        axis=1,
    )
    assert 0 < np.count_nonzero(moved > 1e-4) <= 16  # anions only


def _poscar_order(atoms: Atoms) -> list[int]:
    return [int(i) for element in ("Na", "Fe", "P", "O") for i in atoms.symbols.search(element)]


def test_every_try_steers_harder(
    standin: Any, labeler: Make, half_filled: Atoms, olivine: Host, fill: Fill, tmp_path: Path
) -> None:
    contrasts = []
    for attempt in range(3):
        folder = tmp_path / f"{attempt}"
        labeler().prepare(half_filled, folder, relax=Relax.NONE, attempt=attempt)
        from ase.io import read

        begun = read(folder / "start" / "POSCAR")
        begun.set_array("species", half_filled.arrays["species"][_poscar_order(half_filled)])
        contrasts.append(charge_order_contrast(begun))
    assert contrasts[0] < contrasts[1] < contrasts[2]
    # Where all sites are in one state there is nothing to steer.
    labeler().prepare(fill(olivine, 4), tmp_path / "full", relax=Relax.NONE, attempt=1)
    assert not (tmp_path / "full" / "start").exists()


def test_a_relaxation_ends_with_a_single_point(
    standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
) -> None:
    standin.tell(
        check={
            "relax": {"ISIF": "3", "IBRION": "2", "NSW": "99", "EDIFFG": "-0.02", "ISTART": "1"},
            "static": {"NSW": "0", "IBRION": "-1", "ISTART": "1"},
        }
    )
    reading = label(labeler(), half_filled, tmp_path / "job", relax=Relax.CELL)
    assert standin.starts() == ["start", "relax", "static"]
    assert len(reading.frames) == 4
    assert np.allclose(reading.frames[0].positions, half_filled.positions, atol=1e-6)
    # The single point is at the geometry that the relaxation found.
    assert np.allclose(reading.frames[2].positions, reading.frames[3].positions, atol=1e-6)
    assert not np.allclose(reading.frames[0].positions, reading.frames[3].positions, atol=1e-6)
    assert reading.converged


def test_the_same_job_is_kept_and_another_one_replaces_it(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    standin.tell(moments=[1.7, 0.2])
    label(labeler(), nickel_oxide, tmp_path / "job")
    (tmp_path / "job" / BADER).touch()
    labeler(timeout="90 s").prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    assert stages.is_done(tmp_path / "job" / "static") and (tmp_path / "job" / BADER).exists()
    labeler(cutoff="500 eV").prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    assert not stages.is_done(tmp_path / "job" / "static")
    assert not (tmp_path / "job" / BADER).exists()


def test_what_custodian_mends_is_recorded(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    standin.tell(
        moments=[1.7, 0.2],
        faults={"static": ["say BRMIX: very serious problems", "say BRMIX: very serious problems"]},
    )
    reading = label(labeler(kpoints=[3, 3, 3]), nickel_oxide, tmp_path / "job")
    assert [attempt.outcome for attempt in reading.attempts] == [
        "VaspErrorHandler: brmix",
        "VaspErrorHandler: brmix",
        "converged",
    ]
    assert reading.attempts[1].changed == "INCAR ISTART = 1"
    assert reading.attempts[2].changed == "INCAR IMIX = 1"
    assert reading.unusable == ""  # how the density is mixed changes no energy


def test_a_change_that_breaks_comparability_is_named(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    brmix = "say BRMIX: very serious problems"
    standin.tell(moments=[1.7, 0.2], faults={"static": [brmix, brmix, brmix]})
    reading = label(labeler(kpoints=[4, 4, 4]), nickel_oxide, tmp_path / "job")
    assert reading.unusable == "the k-point grid is 4 4 4 off Gamma instead of 4 4 4"
    assert "KPOINTS generation_style = Monkhorst" in reading.attempts[3].changed


def test_an_empty_density_is_named_and_made_again(
    standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
) -> None:
    standin.tell(faults={"start": ["empty CHGCAR"]})
    with pytest.raises(CrashedError, match=r"start/CHGCAR: the file is empty"):
        label(labeler(), half_filled, tmp_path / "job")
    label(labeler(), half_filled, tmp_path / "job")
    assert standin.starts() == ["start", "start", "static"]  # made again where there is space


def test_electrons_that_do_not_converge_are_a_failure(
    standin: Any, labeler: Make, nickel_oxide: Atoms, tmp_path: Path
) -> None:
    standin.tell(faults={"static": ["no SCF"] * 9})
    with pytest.raises(AlChargeError, match="UnconvergedErrorHandler: Unconverged"):
        label(labeler(), nickel_oxide, tmp_path / "job")


def test_an_interrupted_job_goes_on(
    standin: Any, labeler: Make, half_filled: Atoms, tmp_path: Path
) -> None:
    vasp = labeler()
    standin.tell(faults={"static": ["die"]})
    with pytest.raises(AlChargeError):
        label(vasp, half_filled, tmp_path / "job")
    assert standin.starts() == ["start", "static"]
    reading = label(vasp, half_filled, tmp_path / "job")
    assert standin.starts() == ["start", "static", "static"]
    assert len(reading.attempts) == 3
    assert reading.attempts[2].changed == "static: from where the interrupted run stopped"
    assert "ISTART = 1" in (tmp_path / "job" / "static" / "INCAR").read_text()


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_damaged_output_of_a_finished_job_is_made_again(
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(process, "run", lambda _, folder, timeout: run.run_stages(folder))
    vasp = labeler()
    whole = label(vasp, nickel_oxide, tmp_path / "job")
    (file,) = (tmp_path / "job" / "static").glob(f"{name}*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CrashedError, match=name):
        vasp.read(tmp_path / "job")
    vasp.run(tmp_path / "job")
    assert standin.starts() == ["static", "static"]
    assert read_json(tmp_path / "job" / BADER)["refused"] == "not asked for"
    vasp.run(tmp_path / "job")
    assert standin.starts() == ["static", "static"]
    assert vasp.read(tmp_path / "job").frames[-1].energy == whole.frames[-1].energy


def test_the_driver_tries_until_the_order_is_found(
    standin: Any,
    labeler: Make,
    half_filled: Atoms,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vasp = labeler()
    monkeypatch.setattr(vasp, "run", lambda folder: start(vasp, folder))
    ordered = half_filled[_poscar_order(half_filled)].arrays["species"]
    moments = {"Fe2+": 3.75, "Fe3+": 4.33}
    standin.tell(moments=[moments.get(str(token), 0.0) for token in ordered])
    result = make_label(vasp, half_filled, tmp_path / "found")
    assert result.resolved == result.species
    assert standin.starts() == ["start", "static"]
    # All alike: kept under what it is, which nobody can tell.
    standin.tell(moments=[4.0 if str(token)[:2] == "Fe" else 0.0 for token in ordered])
    result = make_label(vasp, half_filled, tmp_path / "lost")
    assert result.resolved is None
    assert len(standin.starts()) == 6
    assert len(result.attempts) == 6


def test_the_metal_has_the_same_functional(
    standin: Any, labeler: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metal = {"GGA": "Pe", "ENCUT": "520.0", "LASPH": "True", "ISMEAR": "1", "SIGMA": "0.2"}
    standin.tell(
        energy=-1.3, check={"relax": metal | {"ISIF": "3"}, "static": metal | {"ISTART": "1"}}
    )
    vasp = labeler()
    monkeypatch.setattr(vasp, "run", lambda folder: start(vasp, folder))
    energy = vasp.metal_energy("Na", tmp_path / "metal")
    assert energy == pytest.approx(-1.299)
    assert standin.starts() == ["relax", "static"]
    text = (tmp_path / "metal" / "static" / "INCAR").read_text()
    assert "LDAU" not in text
    assert "NUPDOWN" not in text
    assert "MAGMOM" not in text
