"""The command that runs GPAW, and what is said where GPAW or MPI is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from al_charge.errors import InputError
from al_charge.labelers.gpaw import labeler


def missing(package: str) -> str:
    """Stand in for a package that is not installed."""
    raise PackageNotFoundError(package)


def test_one_process_runs_without_mpi() -> None:
    assert labeler.command(1) == [sys.executable, "-m", "al_charge.labelers.gpaw.run"]


def test_several_processes_run_under_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/mpi/{name}")
    start = labeler.command(4)
    assert start[:3] == ["/opt/mpi/mpiexec", "-n", "4"]
    assert start[-1] == "al_charge.labelers.gpaw.run"


def test_mpi_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match="no mpiexec on PATH for 4 processes"):
        labeler.command(4)


def test_gpaw_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeler, "version", missing)
    with pytest.raises(InputError, match="GPAW is not installed"):
        labeler.gpaw_version()


def test_datasets_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeler, "version", missing)
    monkeypatch.delenv("GPAW_SETUP_PATH", raising=False)
    with pytest.raises(InputError, match="GPAW has no PAW datasets"):
        labeler.datasets_identity()


def test_datasets_of_another_folder_have_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labeler, "version", lambda package: "1.2.1")
    monkeypatch.delenv("GPAW_SETUP_PATH", raising=False)
    assert labeler.datasets_identity() == "gpaw-data 1.2.1"
    monkeypatch.setenv("GPAW_SETUP_PATH", str(tmp_path))
    empty = labeler.datasets_identity()
    (tmp_path / "Fe.PBE").write_text("dataset")
    assert len({empty, labeler.datasets_identity(), "gpaw-data 1.2.1"}) == 3


def test_its_processes_load_nothing_that_only_campaigns_need() -> None:
    """Every rank of every label would wait for it."""
    code = (
        f"import sys, {labeler.command(1)[-1]}; "
        "print({'pymatgen', 'pydantic', 'al_charge.labelers.gpaw.plugin'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout == "set()\n"
