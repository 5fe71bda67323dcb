"""The published run of NiO in the place of VASP, through custodian and through atomate2's own test.

Both check the inputs before they give the outputs.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ase import Atoms

from al_charge.labelers.files import write_json
from al_charge.labelers.protocol import Relax
from al_charge.labelers.vasp import run, stages
from al_charge.labelers.vasp.labeler import VaspLabeler

Make = Callable[..., VaspLabeler]

# pymatgen, inside custodian and atomate2, about POTCARs that are headers only.
pytestmark = pytest.mark.filterwarnings("ignore::Warning")

INCAR: dict[str, Any] = {"ISMEAR": -5, "EDIFF": 1e-4, "ALGO": "Fast", "NELM": 100}
AS_RECORDED: dict[str, Any] = {"incar": INCAR, "kpoints": [3, 3, 3], "fixed_moment": False}


def test_through_custodian(
    recorded_nickel_oxide: Path,
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
) -> None:
    standin.tell(
        copy=str(recorded_nickel_oxide),
        check={"static": {"LDAUU": "6.2 0.0", "LDAUL": "2 -1", "MAGMOM": "1*2.0 1*0.0"}},
    )
    vasp = labeler(**AS_RECORDED)
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    write_json(tmp_path / "job" / stages.LAUNCH, vasp._launch())
    run.run_stages(tmp_path / "job")
    reading = vasp.read(tmp_path / "job")
    assert reading.frames[-1].energy == pytest.approx(-4.52549041, abs=1e-8)
    assert reading.moments is not None
    assert reading.moments.tolist() == [0.903, 1.122]
    assert reading.details["hubbard_u"]["Ni"] == 6.2
    assert reading.unusable == ""
    assert [attempt.outcome for attempt in reading.attempts] == ["converged"]


def test_wrong_inputs_are_refused(
    recorded_nickel_oxide: Path,
    standin: Any,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
) -> None:
    standin.tell(copy=str(recorded_nickel_oxide), check={"static": {"ENCUT": "520.0"}})
    vasp = labeler(**AS_RECORDED, cutoff="400 eV")
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    write_json(tmp_path / "job" / stages.LAUNCH, vasp._launch())
    with pytest.raises(Exception, match=r"ENCUT is 400\.0 and not 520\.0"):
        run.run_stages(tmp_path / "job")


@pytest.fixture
def reference(recorded_nickel_oxide: Path, tmp_path: Path) -> Path:
    """The published run in the layout of atomate2's tests, with the inputs that are due."""
    inputs, outputs = tmp_path / "reference" / "inputs", tmp_path / "reference" / "outputs"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    (inputs / "INCAR").write_text(
        "ALGO = Fast\nEDIFF = 1e-04\nENCUT = 520\nGGA = PE\nIBRION = -1\nISMEAR = -5\nISPIN = 2\n"
        "ISYM = 0\nLAECHG = .FALSE.\nLASPH = .TRUE.\nLCHARG = .TRUE.\nLDAU = .TRUE.\n"
        "LDAUJ = 0 0\nLDAUL = 2 -1\nLDAUPRINT = 1\nLDAUTYPE = 2\nLDAUU = 6.2 0\nLMAXMIX = 4\n"
        "LORBIT = 12\nLREAL = .FALSE.\nLWAVE = .TRUE.\nMAGMOM = 2.0 0.0\nNELM = 100\nNSW = 0\n"
        "PREC = Accurate\nSIGMA = 0.05\n"
    )
    (inputs / "KPOINTS").write_text("NiO\n0\nGamma\n3 3 3\n")
    (inputs / "POTCAR.spec").write_text("Ni_pv\nO\n")
    shutil.copy(recorded_nickel_oxide / "POSCAR.gz", inputs)
    for name in ("OUTCAR", "vasprun.xml", "CONTCAR"):
        data = gzip.decompress((recorded_nickel_oxide / f"{name}.gz").read_bytes())
        (outputs / name).write_bytes(data)
    return tmp_path / "reference"


@pytest.fixture
def atomate2_vasp(reference: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """atomate2's stand-in, which runs in the place of custodian."""
    import jobflow
    from atomate2.utils.testing.vasp import monkeypatch_vasp
    from atomate2.vasp import run as atomate2_run

    monkeypatch.setattr(jobflow.CURRENT_JOB, "job", SimpleNamespace(name="NiO"))
    monkeypatch.setattr(run, "_run_custodian", lambda *_: atomate2_run.run_vasp())
    yield from monkeypatch_vasp(monkeypatch, reference.parent)


def test_through_atomate2s_own_test(
    atomate2_vasp: Any,
    reference: Path,
    potcars: Path,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
) -> None:
    atomate2_vasp({"NiO": reference.name})
    vasp = labeler(**AS_RECORDED, command="true")
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    write_json(tmp_path / "job" / stages.LAUNCH, vasp._launch())
    run.run_stages(tmp_path / "job")
    reading = vasp.read(tmp_path / "job")
    assert reading.frames[-1].energy == pytest.approx(-4.52549041, abs=1e-8)
    assert reading.unusable == ""


def test_atomate2s_own_test_finds_a_wrong_tag(
    atomate2_vasp: Any,
    reference: Path,
    potcars: Path,
    labeler: Make,
    nickel_oxide: Atoms,
    tmp_path: Path,
) -> None:
    atomate2_vasp({"NiO": reference.name})
    vasp = labeler(**AS_RECORDED, hubbard_u={"Ni": "6 eV"}, command="true")
    vasp.prepare(nickel_oxide, tmp_path / "job", relax=Relax.NONE, attempt=0)
    write_json(tmp_path / "job" / stages.LAUNCH, vasp._launch())
    with pytest.raises(ValueError, match="INCAR value of LDAUU is inconsistent"):
        run.run_stages(tmp_path / "job")
