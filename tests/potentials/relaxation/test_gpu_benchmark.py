"""The benchmark for a GPU, small and on the CPU: it runs, and says what it found."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from al_charge.crystal.host import Host
from al_charge.potentials.committee import Committee
from al_charge.potentials.painn import CpainnSettings
from al_charge.potentials.relaxation.one_by_one import Relaxed
from al_charge.testing.potentials import small_salt, untrained

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu as module  # type: ignore[import-not-found, unused-ignore]

    return module


@pytest.mark.skipif(
    importlib.util.find_spec("torch_sim") is None, reason="torch-sim is not installed"
)
@pytest.mark.filterwarnings("ignore:logm result may be inaccurate")
def test_everything_runs_small_on_a_cpu(
    gpu: ModuleType, olivine: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    gpu.main(["--small", "--device", "cpu", "--json", str(path)])
    found = json.loads(path.read_text())
    printed = capsys.readouterr().out
    assert printed.startswith("device: CPU") and "times serial ASE" in printed
    assert [one["potential"] for one in found["training"]] == list(gpu.SMALL.potentials)
    assert all(one["seconds_per_step"] > 0.0 < one["peak_mib"] for one in found["training"])
    (cell,) = found["relaxations"]
    batch, ase = cell["records"]
    assert (batch["relaxations"], ase["relaxations"]) == (2, 1)
    assert batch["unconverged"] == ase["unconverged"] == 0
    assert (batch["charge_order_checked"], batch["charge_order_drifted"]) == (2, 0)
    assert cell["compared"] == 1
    assert cell["largest_difference"] < 5e-3  # at forces of 0.1 eV/A
    assert cell["times_ase"] == pytest.approx(batch["per_second"] / ase["per_second"])
    assert batch["per_second"] == pytest.approx(2 / batch["seconds"])
    assert found["left_out"] == []
    assert [row["target"] for row in found["targets"]] == [30.0, 1e-3, 1.0]


def test_without_time_cases_are_named_and_left_out(
    gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu, "SECONDS", -1.0)
    gpu.main(["--small", "--device", "cpu", "--json", str(tmp_path / "gpu.json")])
    printed = capsys.readouterr().out
    assert "left out for want of time: training of mace" in printed
    assert "relaxation of 1x1x1" in printed


def _cell(sites: int, times: float, rate: float, off: float | None, checked: int) -> dict[str, Any]:
    batch = {"per_second": rate, "relaxations": 4, "charge_order_checked": checked}
    return {"sites": sites, "records": [batch], "times_ase": times, "largest_difference": off}


@pytest.mark.parametrize(
    ("times", "rate", "off", "checked", "met"),
    [
        (30.0, 100.0, 0.001, 4, [True, True, True, True]),
        (29.9, 99.0, 0.0011, 3, [False, False, False, False]),
        (31.0, 101.0, None, 4, [True, True, False, True]),  # nothing was compared
    ],
)
def test_targets_stand_beside_the_figures(
    gpu: ModuleType, times: float, rate: float, off: float | None, checked: int, met: list[bool]
) -> None:
    rows = gpu.targets_of({"relaxations": [_cell(56, times, rate, off, checked)]})
    assert [row["met"] for row in rows] == met
    assert [row["found"] for row in rows][:2] == [times, rate]
    other = gpu.targets_of({"relaxations": [_cell(168, times, rate, off, checked)]})
    assert [row["met"] for row in other] == [met[0], *met[2:]]  # the rate is one of 56 sites


def test_rates_and_drifted_orders(gpu: ModuleType) -> None:
    """Two structures of 8 atoms, 10 and 30 evaluations, in two seconds; one has flipped."""
    potential = untrained(CpainnSettings(cutoff="3.5 A", channels=4, radial=4))
    potential.site_means = {"moments": {"Fe2+": 3.7, "Fe3+": 4.3}}
    atoms: Atoms = small_salt()
    iron = [str(token) for token in atoms.arrays["species"]]
    kept = np.array([potential.site_means["moments"].get(token, 0.0) for token in iron])
    flipped = np.where(kept > 4.0, 3.7, np.where(kept > 0.0, 4.3, 0.0))
    assert (kept > 0.0).any()
    results = [
        Relaxed(atoms, -1.0, 0.0, converged, steps, moments=moments, charges=None)
        for converged, steps, moments in ((True, 10, kept), (False, 30, flipped))
    ]
    use = gpu.Use(seconds=2.0)
    found = gpu.relaxed_record("batch", results, use, Committee([potential]))
    assert found["per_second"] == 1.0
    assert found["us_per_atom_and_step"] == pytest.approx(2e6 / (8 * 40))
    assert (found["evaluations"], found["unconverged"]) == (20.0, 1)
    assert (found["charge_order_checked"], found["charge_order_drifted"]) == (2, 1)
