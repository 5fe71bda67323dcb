"""`al-charge converge` with the real GPAW: lithium hydride with half of its lithium, 4 atoms."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import bulk

from al_charge.labelers.convergence import series
from al_charge.labelers.gpaw import GpawPlugin
from al_charge.loop.spec import load_spec
from al_charge.loop.trial import trial_structures

pytestmark = [
    pytest.mark.gpaw,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("gpaw") is None, reason="GPAW is not installed"),
    pytest.mark.usefixtures("forked_gpaw"),
]

CELL = """data_lih
_cell_length_a 2.9
_cell_length_b 2.9
_cell_length_c 5.8
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Li1 Li 0.0 0.0 0.0
Li2 Li 0.5 0.5 0.27
H1 H 0.5 0.5 0.0
H2 H 0.0 0.0 0.29
"""
CAMPAIGN = """name: lih
host: {structure: lih.cif, working_ion: Li, redox: {H: [-1, 0]}, fixed: {}}
labeler:
  kind: gpaw
  mode: pw
  cutoff: 250 eV
  kpoints: [1, 1, 1]
  metal_kpoints: 4
  smearing: 0.2 eV
  shell_distortion: 0 A
  energy_tolerance: 1e-3 eV
  density_tolerance: 0.01
  eigenstates_tolerance: 1e-4
potential: {kind: painn}
"""
Run = Callable[..., tuple[int, str, str]]


def energy(atoms: Atoms, cutoff: float, kpoints: int = 1) -> float:
    """Return the energy that GPAW itself gives, in eV."""
    from gpaw import GPAW

    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.calc = GPAW(
        mode={"name": "pw", "ecut": cutoff},
        xc="PBE",
        kpts={"size": (kpoints,) * 3, "gamma": True},
        occupations={"name": "fermi-dirac", "width": 0.2},
        convergence={"energy": 1e-4, "density": 1e-3, "eigenstates": 1e-6},
        txt=None,
    )
    return float(atoms.get_potential_energy())


def test_gpaw_is_converged_and_asked_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lih.cif").write_text(CELL)
    file = tmp_path / "lih.yaml"
    file.write_text(CAMPAIGN)
    assert [one.name for one in GpawPlugin().convergence_parameters(load_spec(file).labeler)] == [
        "cutoff",
        "k-points",
        "smearing",
        "k-points of the metal",
    ]
    two = (series("cutoff", "cutoff", (200, 250), "eV"),)
    monkeypatch.setattr(GpawPlugin, "convergence_parameters", lambda *_: two)
    monkeypatch.chdir(tmp_path)
    code, out, err = run("converge", str(file), "--tolerance", "50 meV", "--json")
    found = json.loads(out)
    rough, tight = found["settings"][0]["tried"]
    assert "10 of 10 calculations" in err
    # 24 mV are more than the 10 of the default; the energies converge sooner.
    assert (code, found["proposal"]) == (1, {"cutoff": "250 eV"})
    assert 0.001 < rough["errors"]["difference"] + rough["errors"]["formation"] < 0.010
    assert 0.010 < rough["errors"]["voltage"] < 0.050
    trial = trial_structures(load_spec(file), own_cell=True)
    first, second, least, most = (energy(atoms, 250) / 2 for atoms in trial.atoms.values())
    assert tight["difference"] == pytest.approx(second - first, abs=2e-3)
    assert tight["formation"] == pytest.approx(first - (least + most) / 2, abs=2e-3)
    metal = min(energy(bulk("Li", a=3.51 * scale), 250, 4) for scale in (0.97, 0.985, 1.0))
    assert tight["voltage"] == pytest.approx(metal - (most - least), abs=0.01)
    # Other tolerances need no other energies.
    monkeypatch.setattr("al_charge.loop.trial.make_label", None)
    arguments = ("--tolerance", "50 meV", "--voltage-tolerance", "50 mV")
    code, out, _ = run("converge", str(file), *arguments)
    assert code == 0
    assert "labeler: {cutoff: 200 eV}" in out
